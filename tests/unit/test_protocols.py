"""The list of protocols: it agrees with the system's numbers, with the BPF programs, and with itself."""

import re
import socket
from importlib import import_module
from pathlib import Path

import pytest

from sstrace import protocols
from sstrace.model import ALL_STATES, Table
from sstrace.protocols import OF_TABLE, PROTOCOLS, RAW, SHOWN
from sstrace.render.ndjson import line_maker

BPF = Path(__file__).resolve().parents[2] / "bpf"


def test_every_table_has_a_protocol() -> None:
    assert set(OF_TABLE) == set(Table)


@pytest.mark.parametrize("name", ["TCP", "UDP", "SCTP", "ICMPV6", "RAW", "MPTCP", "DCCP"])
def test_numbers_are_the_systems(name: str) -> None:
    if not hasattr(socket, f"IPPROTO_{name}"):
        pytest.skip(f"this Python knows no IPPROTO_{name}")
    assert getattr(protocols, f"IPPROTO_{name}") == getattr(socket, f"IPPROTO_{name}")


def test_names_and_numbers_are_unambiguous() -> None:
    assert len({each.netid for each in PROTOCOLS}) == len(PROTOCOLS)
    inet = [each for each in PROTOCOLS if each.family is protocols.INET]
    assert len({each.number for each in inet}) == len(inet)


def test_raw_sockets_are_asked_for_under_another_number_than_their_own() -> None:
    assert protocols.NUMBER_OF_NETID["raw"] == 0
    assert protocols.DIAG_PROTOCOL[Table.RAW] == 255
    assert 255 not in protocols.NETID_OF_NUMBER  # ss prints ??? of what the kernel does not name
    assert {protocols.TABLE_OF_NUMBER[number] for number in (0, 58, 255)} == {Table.RAW}


def test_reported_protocols_are_those_that_the_programs_let_through() -> None:
    programs = "".join((BPF / file).read_text() for file in ("sstrace.bpf.c", "datagrams.bpf.c"))
    named = dict(re.findall(r"\bIPPROTO_(\w+) = (\d+)", programs))
    assert {name.lower(): int(number) for name, number in named.items()} == {
        each.netid: each.number for each in PROTOCOLS if each.reported and each.number != RAW
    }


@pytest.mark.parametrize("family", [family.name for family in protocols.FAMILIES if family is not protocols.INET])
def test_what_belongs_to_a_family_is_found_by_its_name(family: str) -> None:
    diag = import_module(f"sstrace.wire.{family}_diag")
    assert diag.dump_request(ALL_STATES)
    assert diag.decode(b"").rows == []
    assert hasattr(import_module(f"sstrace.render.{family}"), f"{family.capitalize()}Cells")
    assert line_maker(family).types


def test_tables_are_shown_in_the_order_of_ss() -> None:
    """main() of ss.c, iproute2 6.1 to 7.3."""
    names = " ".join(OF_TABLE[tables[0]].table.name.lower().partition("_")[0] for tables in SHOWN)
    assert names == "netlink packet unix raw udp tcp dccp sctp vsock tipc xdp mptcp"
    assert sorted(table for tables in SHOWN for table in tables) == list(Table)
