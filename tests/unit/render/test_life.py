"""A line about the whole life of a connection, as wide as the terminal."""

from typing import Any

import pytest
from smallworld import SmallWorld
from test_events import row, transition  # the same made-up rows

from sstrace.causes import CAUSES
from sstrace.dialect import NEWEST, dialect
from sstrace.fields import NOTHING, Reported
from sstrace.model import AF_INET6, Owner, Show, State
from sstrace.render.ends import Ends
from sstrace.render.life import LifeText
from sstrace.render.width import amount, shortened
from sstrace.render.writers import TextWriter

ENDS = Ends(Show(numeric=True), dialect(NEWEST), SmallWorld())
CARRIED = Reported(bytes_sent=12_345, bytes_received=0, retrans=3, rtt_us=41_000)
NGINX = Owner(b"nginx", 4711, 7)
LONG: dict[str, Any] = {
    "family": AF_INET6,
    "src": bytes(range(16)),
    "dst": bytes(range(100, 116)),
    "sport": 443,
    "dport": 61000,
}


def line(width: int | None, *, told: Reported = CARRIED, cause: str = "reset-received", **fields: Any) -> str:
    end = transition(
        row(**{"owners": (NGINX,), "role": "client", **fields}), old=State.ESTABLISHED, new=State.CLOSE, cause=cause,
        reported=told, ended=True, lifetime_ns=61_250_000_000,
    )  # fmt: skip
    return LifeText(0, ENDS, width=width).state(end)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, "-"), (0, "0"), (999, "999"), (1000, "1.0k"), (9_949, "9.9k"), (9_950, "10k"), (999_499, "999k"),
        (999_500, "1.0M"), (1 << 40, "1.1T"), ((1 << 63) - 1, "9.2E"),
    ],
)  # fmt: skip
def test_amounts_have_four_characters(number: int | None, text: str) -> None:
    assert amount(number) == text
    assert len(text) <= 4


def test_what_is_too_long_keeps_its_ends() -> None:
    assert shortened("10.0.0.1:443", 12) == "10.0.0.1:443"
    assert shortened("[2001:db8:aaaa:bbbb::1]:443", 17) == "[2001:db…::1]:443"
    assert len(shortened("x" * 99, 13)) == 13


def test_eighty_columns() -> None:
    assert LifeText(0, ENDS, width=80).header(0).split() == [
        "Ended", "Lasted", "Process", "Peer", "Sent", "Recv", "Cause",
    ]  # fmt: skip
    text = line(80)
    assert text.split()[1:] == ["1m01s", "nginx/4711", "→", "127.0.0.2:443", "12k", "0", "reset-received"]
    assert len(text.split()[0]) == 8
    served = line(80, role="server", owner_source="listener")
    assert served.split()[2:5] == ["~nginx/4711", ":40000", "←"]
    assert line(80, role=None).split()[3:5] == [":40000", "-"]


@pytest.mark.parametrize("width", [60, 80, 100, 139])
@pytest.mark.parametrize("role", ["client", "server", None])
def test_no_line_wraps(width: int, role: str | None) -> None:
    owners = tuple(Owner(b"a-very-long-name", 4_000_000 + number, 3) for number in range(3))
    more: dict[str, Any]
    for more in ({}, LONG):
        text = line(width, role=role, owners=owners, cause="timeout-fin-wait-2", **more)
        assert len(text) <= width
    assert line(80, **LONG, owners=owners, role="client").split()[2:5] == ["…/4000000", "+2", "→"]
    assert ":61000" in line(80, **LONG, role="server")


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("cause", sorted(CAUSES))
def test_the_cause_is_whole(cause: str, role: str) -> None:
    """Its errno stands where there is room; of the other end the port stays."""
    more: dict[str, Any]
    for more in ({}, LONG):
        told = Reported(bytes_sent=12_345, bytes_received=0, err=104)
        text = line(80, told=told, cause=cause, role=role, owner_source="listener", **more)
        assert text.endswith((f" {cause}", f" {cause} ECONNRESET"))
        assert (":61000 " if more else ":443 ") in text
        assert "~nginx/4711 " in text


def test_a_wide_screen_and_a_file_have_everything() -> None:
    for width in (140, 200, None):
        text = line(width)
        title = LifeText(0, ENDS, width=width).header(0)
        for name, value in (("Local", "127.0.0.1:40000"), ("Peer", "127.0.0.2:443"), ("Cause", "reset-received")):
            assert text[title.index(name) :].startswith(value)
        assert text[: title.index("RTT") + 3].endswith(" 41ms")
        assert text[: title.index("Again") + 5].endswith(" 3")
    assert line(None, told=NOTHING, cause="listener-closed").split()[-5:] == ["-", "-", "-", "-", "listener-closed"]


def test_the_cause_is_in_colour() -> None:
    out = bytearray()
    lines = LifeText(0, ENDS, width=80)
    end = transition(row(), old=State.ESTABLISHED, new=State.CLOSE, cause="reset-received", ended=True)
    TextWriter(lines, header=False, colors=True).state(end, out)
    assert out.decode().endswith("\x1b[31mreset-received\x1b[0m\n")
