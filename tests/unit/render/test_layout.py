"""The layout engine against a slow model of it, written cell by cell with one cursor, as the behaviour is described."""

import random
from collections.abc import Callable

import pytest

from sstrace.render.columns import COLUMNS, EXTRA, NETNS, PROCESS
from sstrace.render.layout import Column, Layout, Same

WIDTHS = [None, 1, 5, 17, 40, 60, 79, 80, 81, 120, 200, 300]


class Model:
    """One cursor, ten columns, chunks of a megabyte; every cell is written, measured and placed one by one."""

    def __init__(self, hidden: set[int], screen: int | None, *, header: bool, extra: bool, trim: bool) -> None:
        self.hidden, self.screen, self.extra, self.trim = hidden, screen, extra, trim
        self.longest = [0] * 10
        self.out = b""
        self.restart()
        if header:
            for index in range(9):
                self.put(index, COLUMNS[index].header)
            self.goto(9)

    def restart(self) -> None:
        self.cursor = 0
        self.cells: list[str] = [""]
        self.chunks = 1
        self.used = 2
        self.touched = False

    def put(self, index: int, text: str) -> None:
        self.goto(index)
        if index in self.hidden:
            return
        self.touched = True
        if text and self.used + len(text) >= 1048560:
            self.chunks += 1
            self.used = 2
        self.used += len(text)
        self.cells[-1] = text

    def goto(self, index: int) -> None:
        while self.cursor != index:
            self.step()

    def step(self) -> None:
        if self.cursor == 9 and self.chunks >= 5:
            self.render()
            return
        if self.cursor not in self.hidden:
            size = len(self.cells[-1])
            self.longest[self.cursor] = max(self.longest[self.cursor], size)
            self.used += size % 2
            if 1048560 - self.used < 2:
                self.chunks += 1
                self.used = 0
            self.used += 2
            self.cells.append("")
        self.cursor = (self.cursor + 1) % 10

    def row(self, cells: dict[int, str], end: int) -> None:
        for index in range(9):
            self.put(index, cells[index])
        if end == 9:
            self.put(9, cells[9])

    def widths(self) -> list[int]:
        widths = [0] * 10
        first = True
        for index in range(10):
            if index in self.hidden or not self.longest[index]:
                continue
            widths[index] = self.longest[index] + (0 if first else len(COLUMNS[index].delimiter))
            if self.screen is not None:
                widths[index] = min(widths[index], self.screen)
            first = False
        if self.screen is None:
            return widths
        start = 0
        while start < 10:
            # The longest run of columns that fits; at least one always does, for widths are clipped.
            stop, total, count = start, 0, 0
            while stop < 10 and total + widths[stop] <= self.screen:
                total += widths[stop]
                count += widths[stop] > 0
                stop += 1
                if total == self.screen:
                    break
            spare = self.screen - total
            if count:
                base = spare // count
                left = spare % count
                for index in range(stop - 1, start - 1, -1):
                    if widths[index]:
                        widths[index] += base + (1 if left > 0 else 0)
                        left -= 1
            start = stop
        return widths

    def render(self) -> None:
        if not self.touched:
            return
        widths = self.widths()
        visible = [index for index in range(10) if index not in self.hidden]
        untrimmed = [index for index in visible if index < 9]
        at = 0
        line = ""
        started = False
        for cell in self.cells:
            index = visible[at]
            piece = COLUMNS[index].delimiter if started else ""
            started = True
            if COLUMNS[index].right:
                piece += " " * (widths[index] - len(piece) - len(cell)) + cell
            else:
                piece += cell
                if not (self.trim and self.screen is None and index == untrimmed[-1]):
                    piece += " " * (widths[index] - len(piece))
            line += piece
            at += 1
            if at == len(visible):
                line += "\n"
                at = 0
                started = False
        if started:
            line += "\n"
        self.out += line.encode("latin-1")
        self.restart()


def compare(
    hidden: set[int],
    screen: int | None,
    rows: list[tuple[dict[int, str], int]],
    *,
    header: bool = True,
    extra: bool,
    trim: bool,
    each: Callable[[Layout, Model], None] | None = None,
    batch: int = 7,
) -> bytes:
    """Feed both the same rows, and a second layout by column; what all wrote."""
    written: list[bytes] = []
    layout = Layout(written.append, hidden=hidden, screen=screen, header=header, extra=extra, trim=trim)
    by_column: list[bytes] = []
    other = Layout(by_column.append, hidden=hidden, screen=screen, header=header, extra=extra, trim=trim)
    model = Model(hidden, screen, header=header, extra=extra, trim=trim)
    at = 0
    while at < len(rows):
        stop = at + 1
        while stop < len(rows) and stop - at < batch and rows[stop][1] == rows[at][1]:
            stop += 1
        shown = [tuple(cells[index] for index in layout.columns) for cells, _ in rows[at:stop]]
        layout.feed(shown, rows[at][1])
        other.feed_columns([column(texts) for texts in zip(*shown, strict=True)], len(shown), rows[at][1])
        for cells, end in rows[at:stop]:
            model.row(cells, end)
        if each:
            each(layout, model)
            other.flush()
        at = stop
    layout.flush()
    other.flush()
    model.render()
    assert b"".join(written) == model.out
    assert b"".join(by_column) == model.out
    return model.out


def column(texts: tuple[str, ...]) -> Column:
    """What is the same in every row is said once."""
    return Same(texts[0]) if len(set(texts)) == 1 else texts


def cells(rng: random.Random, *, extra: bool, end: int) -> dict[int, str]:
    """A row with cells of uneven, sometimes empty, sometimes absurd lengths."""

    def word(most: int) -> str:
        size = rng.choice([0, 0, 1, 2, rng.randint(0, most), rng.randint(0, most), most])
        return "".join(rng.choice("ab\n\t\xff%") for _ in range(size))

    row = {index: word(rng.choice([3, 8, 20, 90])) for index in range(10)}
    row[PROCESS] = word(300 if rng.random() < 0.1 else 40)
    if not extra or end == PROCESS:
        row[EXTRA] = ""
    return row


@pytest.mark.parametrize("screen", WIDTHS)
@pytest.mark.parametrize(("extra", "trim"), [(False, False), (True, False), (True, True)])
def test_random_tables_equal_the_model(screen: int | None, extra: bool, trim: bool) -> None:
    rng = random.Random(f"{screen} {extra} {trim}")
    for _ in range(40):
        hidden = {index for index in (0, 1, 2, 3) if rng.random() < 0.3}
        if extra:
            hidden |= {PROCESS} if rng.random() < 0.5 else set()
            end = PROCESS if rng.random() < 0.2 else EXTRA
        else:
            end = PROCESS
        rows: list[tuple[dict[int, str], int]] = []
        same = rng.sample(range(10), rng.choice([0, 0, 4, 9]))
        for at in range(rng.choice([0, 1, 2, 5, 20])):
            stop = end if at < 10 or not extra else EXTRA
            rows.append((cells(rng, extra=extra, end=stop), stop))
            rows[-1][0].update((index, rows[0][0][index]) for index in same if index != EXTRA)
        compare(hidden, screen, rows, header=rng.random() < 0.7, extra=extra, trim=trim, batch=rng.choice([1, 3, 100]))


@pytest.mark.parametrize("screen", [None, 80])
@pytest.mark.parametrize(("extra", "end"), [(False, PROCESS), (True, EXTRA), (True, PROCESS)])
def test_output_of_megabytes_is_batched_like_the_model(screen: int | None, extra: bool, end: int) -> None:
    rng = random.Random(f"{screen} {extra} {end}")
    rows: list[tuple[dict[int, str], int]] = []
    size = 0
    while size < 9_500_000:
        row = {index: "x" * rng.randint(0, 9) for index in range(10)}
        long = PROCESS if end == PROCESS else EXTRA
        row[long] = "y" * rng.choice([rng.randint(0, 500), rng.randint(0, 600 + len(rows) // 40)])
        row[4] = "w" * (len(rows) // 1000)
        if not extra or end == PROCESS:
            row[EXTRA] = ""
        size += sum(map(len, row.values()))
        rows.append((row, end))
    out = compare(set(), screen, rows, extra=extra, trim=False, batch=1000)
    assert len({len(line) for line in out.split(b"\n")}) > 2, "the widths never changed: nothing was batched"


@pytest.mark.parametrize("room", range(-4, 10))
@pytest.mark.parametrize("extra", [False, True])
def test_cells_that_meet_a_chunk_edge(room: int, extra: bool) -> None:
    """Cells that end a few bytes before, at and behind the edges of chunks, with room for the next cell's head or
    not.
    """
    long, end = (EXTRA, EXTRA) if extra else (PROCESS, PROCESS)
    row = dict.fromkeys(range(10), "")
    rows: list[tuple[dict[int, str], int]] = []
    scout = Model(set(), None, header=False, extra=extra, trim=True)

    def add(cells: dict[int, str]) -> None:
        rows.append((cells, end))
        scout.row(cells, end)

    for _ in range(11):
        while scout.used < 1048560 - 100_000:
            add(row | {long: "f" * 60_000})
        # The row's ten heads follow; what is left of the chunk behind them is `room`, less what makes it even.
        add(row | {long: "g" * (1048560 - scout.used - 20 - room)})
        for at in range(10):
            add(row | {0: "tcp", 4: "w" * (len(rows) // 10 + (at == 9)), long: "details"})
    compare(set(), None, rows, header=False, extra=extra, trim=True, batch=8)


def test_each_event_is_rendered_alone_and_widths_persist() -> None:
    rng = random.Random(5)
    rows = [(cells(rng, extra=True, end=EXTRA), EXTRA) for _ in range(20)]

    def each(layout: Layout, model: Model) -> None:
        layout.flush()
        model.render()

    for screen in WIDTHS:
        compare(set(), screen, rows, extra=True, trim=True, each=each, batch=1)


def test_nothing_but_a_header_and_nothing_at_all() -> None:
    written: list[bytes] = []
    Layout(written.append).flush()
    assert b"".join(written) == b"Netid State Recv-Q Send-Q Local Address:Port Peer Address:PortProcess\n"
    written.clear()
    Layout(written.append, header=False).flush()
    assert written == []


def test_a_column_in_front_says_which_namespace() -> None:
    """Behind it stands what would stand there without it; where all is on a screen, it takes its part of that."""
    cells = {
        "web": [("tcp", "LISTEN", "0     ", "128   ", "0.0.0.0:", "80", "0.0.0.0:", "*", "")],
        "kube-system/dns": [("udp", "UNCONN", "0     ", "0     ", "10.0.0.1:", "53", "0.0.0.0:", "*", "")] * 2,
    }

    def laid(screen: int | None, *, netns: bool, hidden: tuple[int, ...] = ()) -> list[str]:
        written: list[bytes] = []
        layout = Layout(written.append, front=(NETNS,) if netns else (), screen=screen, hidden=hidden)
        for name, rows in cells.items():
            if netns:
                layout.enter((name,))
            layout.feed([tuple(row[index] for index in layout.columns if index < 9) for row in rows])
        layout.flush()
        return b"".join(written).decode().splitlines()

    names = ["Netns", "web", "kube-system/dns", "kube-system/dns"]
    bare = laid(None, netns=False)
    assert laid(None, netns=True) == [f"{name:<15} {line}" for name, line in zip(names, bare, strict=True)]
    for hidden in ((0,), (0, 1), (0, 1, 2, 3)):
        bare = laid(None, netns=False, hidden=hidden)
        expected = [[name, *line.split()] for name, line in zip(names, bare, strict=True)]
        assert [line.split() for line in laid(None, netns=True, hidden=hidden)] == expected
    for screen in (80, 120, 300):
        assert {len(line) % screen for line in laid(screen, netns=True)} == {0}
