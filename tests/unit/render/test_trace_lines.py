"""Trace lines for people: columns under their titles, units of time, causes, and names that would move the cursor."""

import re
from typing import Any

import pytest
from bpf_events import SERVER
from hypothesis import given
from hypothesis import strategies as st
from smallworld import SmallWorld
from test_events import row, transition  # the same made-up rows

from sstrace.dialect import NEWEST, dialect
from sstrace.model import AF_INET, AF_INET6, STATE_TEXT, Owner, Show, State
from sstrace.render.ends import Ends
from sstrace.render.trace import TraceText

ENDS = Ends(Show(numeric=True), dialect(NEWEST), SmallWorld())
HEADER = TraceText(0, ENDS).header(0)


def line(of: Any = None, *, ends: Ends = ENDS, **fields: Any) -> str:
    return TraceText(0, ends).state(transition(of, **fields))


def column(text: str, title: str) -> str:
    """What stands under a title: from its first character (or, for right-aligned columns, up to its last) on."""
    start = HEADER.index(title)
    return text[start:].split(" ", 1)[0]


def test_the_header() -> None:
    assert re.sub(r"UTC\S*", "", HEADER).split() == [
        "Time",
        "From",
        "To",
        "Held",
        "Local",
        "Address:Port",
        "Peer",
        "Address:Port",
        "Process",
    ]


def test_columns_stand_under_their_titles() -> None:
    text = line(row(owners=(Owner(b"curl", 12, 3),)), held_ns=1500)
    assert re.match(r"\d\d:\d\d:\d\d\.\d{6} ", text)
    assert column(text, "Local Address:Port") == "127.0.0.1:40000"
    assert column(text, "Peer Address:Port") == "127.0.0.2:443"
    assert column(text, "Process") == "curl/12/3"
    assert column(text, "To") == "ESTAB"
    assert text[: HEADER.index("From") + len("From")].endswith("SYN-SENT")
    assert text[: HEADER.index("Held") + len("Held")].endswith("2us")


@pytest.mark.parametrize("old", range(1, 14))
@pytest.mark.parametrize("new", range(1, 14))
def test_every_pair_of_states_keeps_the_columns(old: int, new: int) -> None:
    text = line(old=old, new=new)
    assert f"{STATE_TEXT[old]} -> {STATE_TEXT[new]} " in text
    assert column(text, "Local Address:Port") == "127.0.0.1:40000"


def test_no_line_ends_in_blanks() -> None:
    assert line() == line().rstrip()
    assert line().endswith(" -")


def test_a_state_that_began_unseen_has_no_time() -> None:
    assert line(held_ns=None)[: HEADER.index("Held") + len("Held")].endswith(" -")


@given(st.integers(0, 2**62))
def test_no_time_widens_the_column(nanoseconds: int) -> None:
    text = line(held_ns=nanoseconds)
    if nanoseconds < 10**9 * 3600 * 24 * 365 * 10:
        assert column(text, "Local Address:Port") == "127.0.0.1:40000"


def test_a_time_found_by_looking_is_marked() -> None:
    assert " ~1.5ms " in line(held_ns=1_500_000, approximate=True)


def test_ports_that_are_not_known_are_stars() -> None:
    assert " 127.0.0.1:* " in line(row(sport=0))


def test_ipv6_addresses_stand_in_brackets() -> None:
    text = line(row(family=AF_INET6, src=bytes(15) + b"\1", dst=bytes(10) + b"\xff\xff" + SERVER))
    assert " [::1]:40000 " in text
    assert " [::ffff:127.0.0.2]:443" in text


@pytest.mark.parametrize(
    ("fields", "local", "peer"),
    [
        ({"ifindex": 7}, "127.0.0.1%eth0:40000", "127.0.0.2:443"),
        ({"ifindex": 9}, "127.0.0.1%if9:40000", "127.0.0.2:443"),
        ({"src": b"\xfe\x80" + bytes(13) + b"\1", "sport": 90, "dst": bytes(16), "dport": 0, "ifindex": 7},
         "[fe80::1]%eth0:90", "*:*"),
        ({"src": bytes(16), "sport": 22, "dst": bytes(16), "dport": 0}, "*:22", "*:*"),
        ({"src": bytes(16), "sport": 22, "dst": bytes(16), "dport": 0, "v6only": False}, "*:22", "*:*"),
        ({"src": bytes(16), "sport": 22, "dst": bytes(16), "dport": 0, "v6only": True}, "[::]:22", "[::]:*"),
        ({"src": bytes(16), "sport": 22, "dst": bytes(16), "dport": 0, "v6only": True, "ifindex": 1},
         "[::]%lo:22", "[::]:*"),
        ({"src": bytes(16), "sport": 22, "dst": bytes(16), "dport": 0, "ifindex": 1}, "*%lo:22", "*:*"),
        ({"src": bytes(4), "sport": 22, "dst": bytes(4), "dport": 0, "ifindex": 1}, "0.0.0.0%lo:22", "0.0.0.0:*"),
    ],
)  # fmt: skip
def test_both_ends_are_what_ss_prints(fields: dict[str, Any], local: str, peer: str) -> None:
    family = AF_INET6 if len(fields.get("src", b"")) == 16 else AF_INET
    assert line(row(family=family, **fields)).split()[5:7] == [local, peer]


def test_services_have_names_without_n() -> None:
    named = Ends(Show(), dialect(NEWEST), SmallWorld())
    ends = line(row(sport=22, dport=53, ifindex=7), ends=named).split()[5:7]
    assert ends == ["127.0.0.1%eth0:ssh", "127.0.0.2:domain"]
    assert line(row(sport=22, dport=443), ends=named).split()[5:7] == ["127.0.0.1:ssh", "127.0.0.2:443"]


@given(st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=15))
def test_any_device_gives_one_printable_line(name: str) -> None:
    names = SmallWorld()
    names.ifname = lambda index: name  # type: ignore[method-assign]
    assert line(row(ifindex=7), ends=Ends(Show(), dialect(NEWEST), names)).isprintable()


def test_long_addresses_push_but_never_touch() -> None:
    text = line(row(family=AF_INET6, src=b"\xfd" * 16, dst=b"\xfe" * 16))
    assert "[fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd]:40000 [fefe:" in text


@pytest.mark.parametrize(
    ("fields", "end"),
    [
        ({"cause": "fin-by-us"}, " [fin-by-us]"),
        ({"cause": "refused", "err": 111}, " [refused ECONNREFUSED]"),
        (
            {"cause": "timeout-connect", "err": 110, "retransmits": 6},
            " [timeout-connect ETIMEDOUT after 6 retransmits]",
        ),
        ({"cause": "killed", "err": 9999}, " [killed 9999]"),
        ({"retransmits": 2}, " [2 retransmits]"),
        ({}, " -"),
    ],
)
def test_why_it_closed(fields: dict[str, Any], end: str) -> None:
    assert line(new=int(State.CLOSE), **fields).endswith(end)


@pytest.mark.parametrize(
    ("comm", "text"),
    [
        (b"python3", "python3/1"),
        ("grüß".encode(), "grüß/1"),
        (b"a b", "a b/1"),
        (b"\x1b[2J", "\\x1b[2J/1"),
        (b"two\nlines", "two\\nlines/1"),
        (b"\xff\xfe", "\\xff\\xfe/1"),
        ("\u202egnp.exe".encode(), "\\u202egnp.exe/1"),
        (b"", "/1"),
    ],
)
def test_names_of_processes_cannot_move_the_cursor(comm: bytes, text: str) -> None:
    assert line(row(owners=(Owner(comm, 1, None),))).endswith(text)


@given(st.binary(max_size=16))
def test_any_name_gives_one_printable_line(comm: bytes) -> None:
    assert line(row(owners=(Owner(comm, 1, 2),))).isprintable()


def test_owners_are_separated_by_commas() -> None:
    assert line(row(owners=(Owner(b"a", 1, 2), Owner(b"b", 3, None)))).endswith(" a/1/2,b/3")


def test_who_only_holds_the_listener_is_marked() -> None:
    owners = Owner(b"a", 1, None), Owner(b"b", 3, None)
    writer = TraceText(0, ENDS)
    for source, text in (("listener", " ~a/1,~b/3"), ("close", " a/1,b/3"), ("listener", " ~a/1,~b/3")):
        assert writer.state(transition(row(owners=owners, owner_source=source))).endswith(text)


def test_losses_and_repairs() -> None:
    text = TraceText(0, ENDS)
    assert text.gap(1, 42, 1_000_000_000, 1_002_000_000).endswith(" 42 events of CPU 1 were lost within 2.0ms")
    assert text.gap(1, 1, 1_000_000_000, 1_002_000_000).endswith(" 1 event of CPU 1 was lost within 2.0ms")
    assert text.gap(1, 42, 0, 1_002_000_000).endswith(" 42 events of CPU 1 were lost within an unknown time")
    assert text.resync(5, (1, 2, 3)).endswith("table compared with the kernel: 1 socket added, 2 removed, 3 corrected")
