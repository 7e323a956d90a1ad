"""The watcher's screens: exactly as large as asked for, marks without colour, nothing that could move the cursor."""

import re
from io import StringIO
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from sstrace.model import ALL_STATES, State
from sstrace.render.watch import (
    ASCII,
    Line,
    Look,
    Painter,
    Prompt,
    Rates,
    Screen,
    Widths,
    fixed_rows,
    measure,
    placed,
    screen,
)
from sstrace.render.watch_figures import FIGURES

LINES = [
    Line("+", "ESTAB", "1.2s", "0", "13", "10.20.30.40:", "51234", "192.0.2.7:", "https", 'users:(("nc",pid=7,fd=3))'),
    Line("*", "FIN-WAIT-2", "≥3m05s", "7", "0", "[2001:db8::17]:", "443", "[2001:db8::abcd]:", "60001", ""),
    Line("-", "SYN-SENT", "4ms", "-", "-", "10.20.30.40:", "40001", "192.0.2.9:", "81", "", "refused"),
    Line(" ", "LISTEN", "≥2h00m", "0", "128", "0.0.0.0:", "ssh", "0.0.0.0:", "*", ""),
]


def look(**changes: Any) -> Look:
    fields: dict[str, Any] = {
        "host": "alpha",
        "clock": "12:34:56",
        "interval": "1s",
        "counts": [(State.LISTEN, 1), (State.ESTABLISHED, 23), (State.TIME_WAIT, 5)],
        "states": ALL_STATES & ~(1 << State.TIME_WAIT),
        "rates": Rates(1.5, 0.5, 120.0, 9.9),
        "lost": 0,
        "total": 17,
        "top": 0,
        "sort": "held",
        "order": "latest first",
        "widths": measure(LINES),
        **changes,
    }
    return Look(**fields)


def drawn(picture: Screen, width: int, height: int) -> list[str]:
    """The picture as a plain console prints it, blanks at line ends away."""
    file = StringIO()
    console = Console(width=width, height=height, file=file, color_system=None, legacy_windows=False, _environ={})
    console.print(picture, end="")
    return [line.rstrip() for line in file.getvalue().split("\n")]


@pytest.mark.parametrize(
    ("host", "status", "words"),
    [
        ("alpha", "", ["sstrace --watch", "alpha", "12:34:56", "every 1s", "by held, latest first"]),
        ("alpha, served at /run/sstrace", "", ["alpha, served at /run/sstrace", "12:34:56", "by held, latest first"]),
        ("alpha, served at /s/live", "FROZEN 12:34:56, 3 changes since", ["alpha, served at /s/live", "12:34:56"]),
        ("alpha, served at /s/live", f"FROZEN{'.' * 37}", ["alpha, serv… at /s/live", "12:34:56"]),
    ],
)
def test_whose_table_it_is_stays_in_the_first_line(host: str, status: str, words: list[str]) -> None:
    top = drawn(screen(look(host=host, status=status), LINES, 80, 24), 80, 24)[0]
    assert [*words, *([status] if status else [])] == re.split(r" · | {2,}", top)


def test_a_column_says_where_there_are_several_namespaces() -> None:
    """At most 16 cells of a name; the titles stand above their columns, and the help has one more way to sort."""
    names = ("web", "shop/wéb-0", "a-name-of-24-letters-all", "4026532177")
    lines = [msgspec.structs.replace(line, netns=name) for line, name in zip(LINES, names, strict=True)]
    some = look(widths=measure(lines, netns="Netns"), sort="netns")
    title, *rows = drawn(screen(some, lines, 100, 11), 100, 11)[3:8]
    assert title.startswith("  Netns            State          Held Recv-Q")
    at = title.index("State")
    assert [row[2:at].rstrip() for row in rows] == ["web", "shop/wéb-0", "a-name-of-24-let", "4026532177"]
    assert [row[at:].split()[0] for row in rows] == ["ESTAB", "FIN-WAIT-2", "SYN-SENT", "LISTEN"]
    assert all(cell_len(row) <= 30 for row in drawn(screen(some, lines, 30, 11), 30, 11))
    told = "\n".join(drawn(screen(look(help=True, widths=some.widths), lines, 80, 24), 80, 24))
    assert "s S 1-9  sort: held, state, local, peer," in told
    assert "owner, netns, sent, received," in told
    assert measure([]).netns == 0


def test_80_columns() -> None:
    assert drawn(screen(look(), LINES, 80, 11), 80, 11) == [
        "sstrace --watch · alpha · 12:34:56 · every 1s · by held, latest first",
        "LISTEN 1  ESTAB 23  (TIME-WAIT 5)",
        "opened 1.5/s  closed 0.5/s  failed 120/s  ·  9.9/s events",
        "  State          Held Recv-Q Send-Q  Local Address:Port      Peer Address:Port",
        "+ ESTAB          1.2s 0      13        10.20.30.40:51234        192.0.2.7:https",
        "* FIN-WAIT-2   ≥3m05s 7      0      [2001:db8::17]:443   [2001:db8::abcd]:60001",
        "- SYN-SENT        4ms refused          10.20.30.40:40001        192.0.2.9:81",
        "  LISTEN       ≥2h00m 0      128           0.0.0.0:ssh            0.0.0.0:*",
        "",
        "",
        "q quit  Enter inside  g group  / search  f filter  ? help            1-4 of 17 →",
    ]


def test_wide_screen_shows_the_processes() -> None:
    lines = drawn(screen(look(process=True, filter="dport = :https"), LINES, 200, 50), 200, 50)
    assert len(lines) == 50
    assert lines[2].endswith("filter dport = :https")
    assert lines[3].endswith("Peer Address:Port  Process")
    assert lines[4].endswith('192.0.2.7:https users:(("nc",pid=7,fd=3))')
    assert lines[-1].endswith("1-4 of 17")  # nothing lies beyond the edge: no arrow


CARRIED = [
    msgspec.structs.replace(
        LINES[0], figures={"sent": "1.2M", "received": "999", "sent/s": "9.9k", "received/s": "0", "rtt": "31us"}
    ),
    LINES[1],
    msgspec.structs.replace(LINES[2], figures={"sent": "0", "received": "0"}),
    LINES[3],
]


def test_figures_stand_where_there_is_room_for_all() -> None:
    """At 120 columns beside addresses of that length; at 80 the screen is the one without them."""
    told = look(carried=None, sort="sent/s")
    title, *shown = drawn(screen(told, CARRIED, 120, 11), 120, 11)[3:8]
    assert title.endswith(" Send-Q  Local Address:Port      Peer Address:Port  Sent Recv Sent/s Recv/s    RTT")
    assert shown == [
        "+ ESTAB          1.2s 0      13        10.20.30.40:51234        192.0.2.7:https 1.2M  999   9.9k      0   31us"
        ' users:(("',
        "* FIN-WAIT-2   ≥3m05s 7      0      [2001:db8::17]:443   [2001:db8::abcd]:60001",
        "- SYN-SENT        4ms refused          10.20.30.40:40001        192.0.2.9:81       0    0",
        "  LISTEN       ≥2h00m 0      128           0.0.0.0:ssh            0.0.0.0:*",
    ]
    assert drawn(screen(told, CARRIED, 80, 11), 80, 11) == drawn(screen(look(sort="sent/s"), LINES, 80, 11), 80, 11)
    assert not placed(look(carried=None, process=True), 120).figures, "the room is the owners'"
    assert placed(look(carried=None, process=True), 200).figures == tuple(FIGURES)
    assert not placed(look(), 200).figures


def test_wanted_figures_take_the_room_of_the_queues() -> None:
    """At 80 columns as many as there is room for, the one that is sorted by before others."""
    assert drawn(screen(look(carried=True), CARRIED, 80, 11), 80, 11)[3:7] == [
        "  State          Held  Local Address:Port      Peer Address:Port  Sent/s Recv/s",
        "+ ESTAB          1.2s    10.20.30.40:51234        192.0.2.7:https   9.9k      0",
        "* FIN-WAIT-2   ≥3m05s [2001:db8::17]:443   [2001:db8::abcd]:60001",
        "- SYN-SENT        4ms    10.20.30.40:40001        192.0.2.9:81 [refused]",
    ]
    assert placed(look(carried=True, sort="rtt"), 80).figures == ("sent/s", "rtt")
    assert placed(look(carried=True), 120).queues
    narrow = placed(look(carried=True), 50)
    assert narrow.queues
    assert not narrow.figures


@pytest.mark.parametrize("sort", ["held", *FIGURES])
def test_figures_never_cut_the_port_of_the_peer(sort: str) -> None:
    v6 = "[2001:db8:1111:2222:3333:4444:5555:6666]:"
    figures = {name: "9" * figure.width for name, figure in FIGURES.items()}
    lines = [Line(" ", "FIN-WAIT-2", "59m59s", "0", "0", v6, "51234", v6, "60001", "users:((x))", figures=figures)]
    for width in (80, 100, 120, 160, 200):
        told = look(carried=True, sort=sort, widths=measure(lines))
        (row,) = drawn(screen(told, lines, width, 9), width, 9)[4:5]
        assert "]:60001" in row
        assert sort == "held" or f" {figures[sort]}" in row


def test_every_cell_can_be_reached_by_moving_the_columns() -> None:
    whole = drawn(screen(look(), LINES, 200, 12), 200, 12)[4:8]
    for pan in range(0, 80, 8):
        shown = drawn(screen(look(pan=pan), LINES, 80, 12), 80, 12)[4:8]
        for row, line in zip(whole, shown, strict=True):
            assert line == (row[:22] + row[22 + pan :][: 80 - 22]).rstrip()


@pytest.mark.parametrize(
    ("cause", "row"),
    [
        ("killed", "killed           10.20.30.40:40001"),  # and nothing is left of the queues
        ("refused", "refused          10.20.30.40:40001"),
        ("timeout-connect", "timeout-connect  10.20.30.40:40001"),
        ("timeout-retransmit", "-      -         10.20.30.40:40001"),
        ("a-cause-that-needs-far-more-room", "-      -         10.20.30.40:40001"),
    ],
)
def test_the_cause_of_a_close_is_whole_wherever_it_stands(cause: str, row: str) -> None:
    line = msgspec.structs.replace(LINES[2], cause=cause)
    (shown,) = drawn(screen(look(), [line], 200, 9), 200, 9)[4:5]
    assert row in shown
    assert cause in shown


@pytest.mark.parametrize(
    ("cause", "row"),
    [
        ("refused", "- web   SYN-SENT refused    "),
        ("reset-sent", "- web   SYN-SENT reset-sent "),
        ("timeout-keepalive", "- web   timeout-keepalive   "),
    ],
)
def test_beside_netns_the_state_stays_and_the_cause_stands_for_the_time_in_it(cause: str, row: str) -> None:
    lines = [msgspec.structs.replace(line, netns="web", cause=cause if line.cause else "") for line in LINES]
    shown = drawn(screen(look(widths=measure(lines, netns="Netns")), lines, 60, 12), 60, 12)[6]
    assert shown.startswith(row)
    assert shown.endswith(":81")


def test_without_queues_the_cause_stands_behind() -> None:
    (shown,) = drawn(screen(look(queues=False), [LINES[2]], 100, 9), 100, 9)[4:5]
    assert shown.endswith("192.0.2.9:81    [refused]")


def test_status_prompt_message_help() -> None:
    assert drawn(screen(look(status="PAUSED"), [], 80, 9), 80, 9)[0].endswith(" PAUSED")
    assert drawn(screen(look(message="no such host"), [], 80, 9), 80, 9)[-1] == " no such host"
    assert (
        drawn(screen(look(prompt=Prompt("filter: ", "sport = :22", 3)), [], 80, 9), 80, 9)[-1] == "filter: sport = :22"
    )
    text = "x" * 100 + "END"
    shown = drawn(screen(look(prompt=Prompt("filter: ", text, len(text))), [], 40, 9), 40, 9)[-1]
    assert shown.endswith("xEND")  # the cursor's end is in sight
    helped = drawn(screen(look(help=True), LINES, 80, 24), 80, 24)
    assert any("reverse the order" in line for line in helped)
    assert not any("10.20.30.40" in line for line in helped)
    assert max(map(len, helped[:-1])) < 80, "nothing of the help is cut"


@pytest.mark.parametrize("width", [20, 40, 60, 72, 80, 200])
def test_a_loss_is_never_what_is_cut(width: int) -> None:
    rates = drawn(screen(look(lost=1234567, filter="port 443"), LINES, width, 24), width, 24)[2]
    assert "1234567 lost" in rates
    assert cell_len(rates) <= width
    assert rates.startswith("1234567 lost") == (width < 72)


def test_of_the_keys_below_a_page_those_stay_for_which_there_is_room() -> None:
    keys = "Esc back  g group by  s sort  Enter filter by it  q quit"
    for width in (24, 40, 60, 100):
        *told, _ = re.split(" {2,}", drawn(screen(look(keys=keys), LINES, width, 24), width, 24)[-1])
        assert told == keys.split("  ")[: len(told)] != []
    assert told[-1] == "q quit"


def test_no_sockets() -> None:
    assert drawn(screen(look(counts=[], total=0), [], 80, 24), 80, 24)[1] == "no sockets"
    assert drawn(screen(look(counts=[], total=0), [], 80, 24), 80, 24)[-1].endswith("  0 of 0")
    dead = drawn(screen(look(counts=[], total=0), LINES[:1], 80, 24), 80, 24)  # of the dead there is no place
    assert "  0 of 0" in dead[-1]


def test_marks_are_told_by_a_character() -> None:
    rows = drawn(screen(look(), LINES, 80, 12), 80, 12)[4:8]
    assert [row[0] for row in rows] == ["+", "*", "-", " "]


TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=60)


@given(
    width=st.integers(1, 220),
    height=st.integers(1, 60),
    pan=st.integers(0, 100),
    rest=TEXT,
    cause=st.sampled_from(["", "refused", "timeout-retransmit"]),
    status=TEXT,
    message=TEXT,
    mark=st.sampled_from(["+", "*", "-", " "]),
    prompt=st.none() | st.tuples(TEXT, st.integers(0, 60)),
    count=st.integers(0, 70),
    queues=st.booleans(),
    carried=st.sampled_from([True, False, None]),
    help_=st.booleans(),
)
def test_never_larger_than_the_screen(  # noqa: PLR0917 - what hypothesis draws
    width: int,
    height: int,
    pan: int,
    rest: str,
    cause: str,
    status: str,
    message: str,
    mark: Literal["+", "*", "-", " "],
    prompt: tuple[str, int] | None,
    count: int,
    queues: bool,
    carried: bool | None,
    help_: bool,
) -> None:
    line = msgspec.structs.replace(LINES[0], rest=rest, cause=cause, mark=mark)
    typed = Prompt("filter: ", prompt[0], min(prompt[1], len(prompt[0]))) if prompt is not None else None
    picture = screen(
        look(pan=pan, status=status, message=message, prompt=typed, help=help_, queues=queues, carried=carried),
        [line] * count,
        width,
        height,
    )
    assert len(picture.lines) == height
    for segments in picture.lines:
        assert sum(cell_len(segment.text) for segment in segments) <= width
        assert not any("\n" in segment.text for segment in segments)
    assert fixed_rows(height) <= height


def test_painter_draws_the_same_text_with_attributes() -> None:
    picture = screen(look(), LINES, 80, 12)
    colored = Painter("256", plain=False).paint(picture, 80, 12)
    plain = Painter("256", plain=True).paint(picture, 80, 12)
    assert len(colored) == len(plain) == 12
    assert any("38;5;" in line for line in colored)
    assert not any("38;" in line or "\x1b[3" in line for line in plain), "NO_COLOR leaves attributes, no colour"
    assert any("\x1b[1m" in line or "\x1b[7m" in line for line in plain)
    assert plain[8] == "\x1b[K"


def test_lines_as_wide_as_the_screen_are_not_erased() -> None:
    """Erasing from the last column would take the last character away."""
    lines = Painter("standard", plain=True).paint(screen(look(), LINES, 80, 12), 80, 12)
    assert not lines[3].endswith("\x1b[K")  # the bar of titles
    assert lines[1].endswith("\x1b[K")


def test_measure_does_not_tremble() -> None:
    wide = measure(LINES)
    assert measure(LINES[:1], wide) == wide
    assert measure([]) == Widths(14, 4, 13, 4)


def test_a_terminal_without_unicode_gets_none() -> None:
    picture = screen(look(glyphs=ASCII, help=True, pan=8), LINES[:1], 80, 24)
    assert all(segment.text.isascii() for line in picture.lines for segment in line)


def test_the_port_of_the_peer_is_never_cut() -> None:
    """At 80 columns, with IPv6 at its longest and queues; the columns moved show all of it."""
    v6 = "[2001:db8:1111:2222:3333:4444:5555:6666]:"
    lines = [Line(" ", "FIN-WAIT-2", "59m59s", "123456", "123456", v6, "51234", v6, "60001", "users:((x))")]
    made = drawn(screen(look(widths=measure(lines)), lines, 80, 11), 80, 11)
    assert ":51234 [2001:" in made[4]
    assert "…" in made[4]
    assert "]:60001" in made[4]
    assert made[-1].endswith("→")
    assert (
        "[2001:db8:1111:2222:3333:4444:5555:6666]:60001"
        in drawn(screen(look(widths=measure(lines), pan=56), lines, 80, 11), 80, 11)[4]
    )


@pytest.mark.parametrize("width", [60, 64, 70, 79])
@pytest.mark.parametrize("netns", ["", "shop/a-pod-of-24-letters"])
def test_nor_at_60_columns_where_the_queues_and_the_rest_make_room(width: int, netns: str) -> None:
    v6 = "[2001:db8:1111:2222:3333:4444:5555:6666]:"
    lines = [
        Line(
            " ", "FIN-WAIT-2", "59m59s", "123456", "123456", v6, "zabbix-trapper", v6, "zabbix-agent", "", netns=netns
        ),
        Line(" ", "ESTAB", "4ms", "0", "0", "10.20.30.40:", "41001", "192.0.2.9:", "81", "", netns=netns),
        Line("-", "ESTAB", "4ms", "-", "-", "10.20.30.40:", "41002", "192.0.2.9:", "82", "", "reset-sent", netns=netns),
    ]
    told = look(widths=measure(lines, netns="Netns" if netns else ""))
    titles, *rows = drawn(screen(told, lines, width, 11), width, 11)[3:7]
    assert rows[0].endswith(":zabbix-agent")
    assert rows[1].endswith("9:81")
    assert rows[2].endswith("9:82")
    assert rows[2].startswith(f"- {netns[:5]}"), "of which namespace it is"
    assert "reset-sent" in rows[2]
    assert len(titles) <= width


def test_the_cursor_and_what_was_found_are_marked() -> None:
    painter = Painter("256", plain=True)
    picture = painter.paint(screen(look(cursor=1, found="192.0"), LINES, 80, 11), 80, 11)
    assert picture[5].startswith("\x1b[1;7m* FIN-WAIT-2")
    assert "\x1b[1;4m192.0\x1b[0m" in picture[4]
    assert [line.startswith("\x1b[1;7m") for line in picture[4:8]] == [False, True, False, False]
