"""Trace lines on a screen: none wraps, and what matters most is cut last."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from smallworld import SmallWorld
from test_events import row, transition  # the same made-up rows
from test_schemas import transitions

from sstrace.causes import CAUSES
from sstrace.dialect import NEWEST, dialect
from sstrace.fields import Reported
from sstrace.model import AF_INET6, Label, Owner, Show, State
from sstrace.model.workload import Workload
from sstrace.plain import cells
from sstrace.query.catalog import ENTRIES
from sstrace.render.chosen import COLUMNS, ChosenText
from sstrace.render.ends import Ends
from sstrace.render.fitted import FittedText
from sstrace.render.times import MODES, TimeMode
from sstrace.render.trace import TraceText
from sstrace.render.width import cut, end_shortened, padded, shortened
from sstrace.render.writers import TextWriter

ENDS = Ends(Show(numeric=True), dialect(NEWEST), SmallWorld())
CHROME = Owner(b"chrome", 12345, 7)
LONG: dict[str, Any] = {
    "family": AF_INET6,
    "src": bytes(range(0x11, 0x21)),
    "dst": bytes(range(0xE0, 0xF0)),
    "sport": 54321,
    "dport": 61000,
}
WHOLE = "[e0e1:e2e3:e4e5:e6e7:e8e9:eaeb:eced:eeef]:61000"


class Spaces:
    """Network namespaces of which there are several."""

    title = "Netns"
    many = True

    @staticmethod
    def label(net: int) -> Label:
        return Label(netns_name=f"a-namespace-of-a-long-name-{net}")

    @staticmethod
    def ifname(net: int, index: int) -> str:
        return f"v{index}"

    @staticmethod
    def peer(_row: object) -> None:
        return None


def lines(width: int | None, mode: TimeMode = "clock", **more: Any) -> FittedText:
    text = FittedText(0, ENDS, mode, **more)
    text.fit(width)
    return text


def line(width: int, given: dict[str, Any] | None = None, **fields: Any) -> str:
    of = row(**{"owners": (CHROME,), "role": "client", **(given or {})})
    return lines(width).state(transition(of, **fields))


@given(transitions(), st.integers(20, 260), st.sampled_from(MODES), st.booleans())
def test_no_line_wraps(of: Any, width: int, mode: TimeMode, apart: bool) -> None:
    where = Spaces() if apart else None
    for text in (lines(width, mode, where=where), ChosenText(tuple(COLUMNS), 0, ENDS, mode, where=where)):
        text.fit(width)
        for made in (text.header(0), text.state(of)):
            assert cells(made) <= width
            assert made.isprintable()
            assert made == made.rstrip()


@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize("given", [{}, LONG, {"role": "server", "owner_source": "listener"}, {**LONG, "role": None}])
def test_at_eighty_columns_process_and_cause_come_first(cause: str, given: dict[str, Any]) -> None:
    text = line(80, given, old=State.FIN_WAIT1, new=State.CLOSE, cause=cause, err=104, retransmits=15)
    assert len(text) <= 80
    assert " FIN-WAIT-1→UNCONN " in text
    assert "chrome/12345 " in text
    assert cause in text
    assert f":{'61000' if 'dport' in given else '443'} " in text


@pytest.mark.parametrize("cause", CAUSES)
def test_beside_a_namespace_too(cause: str) -> None:
    """What gives way is the state that was left, which the line before has."""
    of = transition(row(owners=(CHROME,), role="client"), old=State.FIN_WAIT1, new=State.CLOSE, cause=cause)
    text = lines(80, where=Spaces()).state(of)
    assert " UNCONN " in text
    assert "FIN-WAIT-1" not in text
    assert "chrome/12345 " in text
    assert f":443 {cause}" in text


def test_what_is_left_away_of_a_cause_before_an_address_is_cut() -> None:
    fields: dict[str, Any] = {"new": State.CLOSE, "cause": "refused", "err": 111}
    assert line(80, **fields).endswith("→ 127.0.0.2:443 refused")
    assert line(96, **fields).endswith("→ 127.0.0.2:443 refused ECONNREFUSED")
    served = {"role": "server", "sport": 8080, "dport": 54321}
    assert line(80, served, new=State.CLOSE).endswith(":8080 ← 127.0.0.2:54321")
    assert line(80, served, new=State.CLOSE, cause="closed").endswith(" ← 127.0.0.2:54321 closed")


def test_addresses_of_ipv6_are_cut_in_their_middle() -> None:
    text = line(80, LONG)
    assert text.endswith("]:61000")
    assert "→ [e0e1:" in text
    assert "…" in text
    assert WHOLE in line(200, LONG)
    assert end_shortened(WHOLE, 20) == "[e0e1:…d:eeef]:61000"


def test_a_listener_shows_itself() -> None:
    assert line(80, {"dst": bytes(4), "dport": 0, "sport": 22}, new=State.LISTEN).endswith(" 127.0.0.1:22")


def test_a_process_of_many_descriptors_is_named_once() -> None:
    six = tuple(Owner(b"chrome", 12345, number) for number in range(6))
    for width in (80, 120, 200):
        assert " chrome/12345 ×6" in line(width, {"owners": six})
    assert " chrome/12345/7" in line(120)
    assert " chrome/12345 " in line(80)
    workers = tuple(Owner(b"nginx", 100 + number, 7) for number in range(9))
    assert " nginx/100 +8 " in line(80, {"owners": workers})
    assert " a-very-lon…/1234 " in line(80, {"owners": (Owner(b"a-very-long-one", 1234, 7),)})


def test_a_wide_screen_has_what_there_is_room_for() -> None:
    told = Reported(bytes_sent=12_345, bytes_received=0, rtt_us=41_000)
    work = {7: Workload("ab" * 32, "docker"), 8: Workload(unit="nginx.service")}.get
    for cgroup, place in ((7, " docker:abababababab"), (8, " nginx.service")):
        of = row(owners=(CHROME,), cgroup=cgroup)
        end = transition(of, new=State.CLOSE, cause="fin-by-us", reported=told, ended=True)
        text = lines(200, work=work).state(end)
        assert text.endswith(f"chrome/12345/7 [fin-by-us] sent 12k received 0 RTT 41ms{place}")
        assert lines(132, work=work).state(end).endswith(" chrome/12345/7 [fin-by-us]")


def test_a_wide_screen_has_the_columns_of_a_file() -> None:
    text, title = line(140, held_ns=1500), lines(140).header(0)
    for name, value in (("Local", "127.0.0.1:40000"), ("Peer", "127.0.0.2:443"), ("Process", "chrome/12345/7")):
        assert text[title.index(name) :].startswith(value)
    assert text[: title.index("Held") + 4].endswith(" 2us")
    assert lines(None).state(transition()) == TraceText(0, ENDS).state(transition())
    assert lines(None).header(0) == TraceText(0, ENDS).header(0)


def test_columns_of_ends_grow_with_what_is_shown() -> None:
    text = lines(200)
    short = transition(row(owners=(CHROME,)))
    before = text.state(short)
    text.state(transition(row(**LONG)))
    after = text.state(short)
    assert after.index("chrome") > before.index("chrome")
    assert text.header(0).index("Process") == after.index("chrome")


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 140, 200])
def test_titles_stand_over_their_columns(width: int) -> None:
    text, title = line(width, held_ns=1500), lines(width).header(0)
    assert text[title.index("To") :].startswith("ESTAB")
    assert text[title.index("Process") :].startswith("chrome/12345")
    if "Held" in title:
        assert text[: title.index("Held") + 4].endswith("2us")
    assert "UTC" in title


# ------------------------------------------------------------------------------------------------------- the terminal


class Screen:
    """A terminal that changes its size."""

    def __init__(self, columns: int, height: int) -> None:
        self.size: tuple[int, int] | None = (columns, height)

    def __call__(self) -> tuple[int, int] | None:
        return self.size


def test_titles_come_again_on_each_screenful() -> None:
    screen = Screen(80, 10)
    writer, out = TextWriter(lines(80), header=True, screen=screen), bytearray()
    writer.begin(0, out)
    for _ in range(30):
        writer.state(transition(), out)
    made = out.decode().splitlines()
    assert [number for number, text in enumerate(made) if text.startswith("Time")] == [0, 10, 20, 30]
    bare, out = TextWriter(lines(80), header=False, screen=screen), bytearray()
    for _ in range(30):
        bare.state(transition(), out)
    assert b"Time" not in out


def test_no_sentence_wraps() -> None:
    for width in (30, 80):
        writer, out = TextWriter(lines(width), header=True, screen=Screen(width, 24)), bytearray()
        writer.begin(0, out)
        writer.resync(5, (1_000_000, 20, 3), out)
        writer.gap(1, 42, 0, 10**9, out)
        made = out.decode().splitlines()
        assert max(map(len, made)) <= width
    assert made[1].endswith(" table compared with the kernel: 1000000 added, 20 removed, 3 corrected")


def test_a_terminal_that_changes_its_width_is_followed() -> None:
    screen = Screen(80, 50)
    writer, out = TextWriter(FittedText(0, ENDS), header=True, screen=screen), bytearray()
    writer.begin(0, out)
    writer.state(transition(), out)
    screen.size = (150, 50)
    writer.state(transition(), out)
    screen.size = None  # it does not know: as for a file
    writer.state(transition(), out)
    made = out.decode().splitlines()
    assert [text.startswith("Time") for text in made] == [True, False] * 3
    assert ["→" in text for text in made[1::2]] == [True, False, False]
    assert made[5] == TraceText(0, ENDS).state(transition())


@pytest.mark.parametrize("width", [80, 120, 200])
def test_colour_repeats_words(width: int) -> None:
    refused = transition(row(owners=(Owner(b"[a]", 1, 2),)), new=State.CLOSE, cause="refused", err=111, ended=True)
    plain, colored = bytearray(), bytearray()
    TextWriter(lines(width), header=False).state(refused, plain)
    TextWriter(lines(width), header=False, colors=True).state(refused, colored)
    text = colored.decode()
    assert "\x1b[31mUNCONN" in text
    assert any(f"\x1b[31m{word}" in text for word in ("refused", "[refused"))
    assert text.replace("\x1b[31m", "").replace("\x1b[0m", "") == plain.decode()


# ------------------------------------------------------------------------------------------------------------ --columns


def test_the_columns_of_the_option_are_those_that_there_are() -> None:
    assert ENTRIES["--columns"].values == tuple(COLUMNS)


def test_columns_that_somebody_chose() -> None:
    told = Reported(bytes_sent=12_345, bytes_received=0, rtt_us=41_000)
    end = transition(
        row(owners=(CHROME,), cgroup=7), new=State.CLOSE, cause="reset-received", reported=told, ended=True,
        lifetime_ns=61_250_000_000,
    )  # fmt: skip
    work = {7: Workload("ab" * 32, "docker")}.get
    text = ChosenText(("lasted", "process", "cause", "sent", "received", "rtt", "container"), 0, ENDS, work=work)
    assert text.state(end).split() == [
        "1m01s", "chrome/12345/7", "reset-received", "12k", "0", "41ms", "abababababab",
    ]  # fmt: skip
    assert text.header(0).split() == ["Lasted", "Process", "Cause", "Sent", "Recv", "RTT", "Container"]
    assert text.state(transition()).split() == ["-"] * 7
    text = ChosenText(("peer", "time", "to"), 0, ENDS)
    text.fit(80)
    assert text.state(end).startswith("127.0.0.2:443 ")
    assert text.state(end)[text.marked].rstrip() == "UNCONN"


# ---------------------------------------------------------------------------------------------------------- the widths


@given(st.text(st.characters(blacklist_categories=["Cs", "Cc"])), st.integers(1, 40))
def test_texts_take_the_cells_that_they_are_given(text: str, width: int) -> None:
    assert cells(cut(text, width)) <= width
    assert cells(shortened(text, width)) <= width
    assert cells(padded(cut(text, width), width)) >= min(width, cells(text))


def test_wide_characters_take_two_cells() -> None:
    assert cells("漢字") == 4
    assert cut("漢字漢字", 5) == "漢字…"
    assert padded("漢", 4) == "漢  "
