"""The layout of ss's table: cells in, padded bytes out, to the byte of either generation.

A *cell* is a ``str`` in which every character stands for one byte (latin-1). ss knows neither UTF-8 nor tabs nor
newlines when it measures, and neither does this module.

Three habits of ss shape the code, because they decide the padding of every line:

* **A cell is measured when the cursor leaves it.** The last cell of all is never left, so it widens nothing, although
  it is padded like the others. Where the cursor rests after a row (``end``) differs by generation and table.
* **Rows are held back.** Widths are known only at the end, so ss collects cells in chunks of 1 MiB (each cell costs
  two bytes and its length, rounded up to even; a cell that does not fit moves to a new chunk) and lays out everything
  it holds when the cursor leaves the last column while five chunks exist. Widths survive such a flush and only grow.
  The same accounting is done here, so a table of any size changes width at the same row as ss's, and memory stays
  bounded.
* **Lines are not broken.** If the columns do not fit the screen, each group of columns that fits is stretched to
  exactly the screen's width and the terminal wraps the rest; no newline is written.

Rows arrive column-wise or row-wise; measuring and formatting then run at C speed, one template for each flush. A
column whose cells are all the same (``Same``) is measured once and becomes part of the template.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import chain

from sstrace.render.columns import COLUMNS, EXTRA, PROCESS

__all__ = ["Column", "Layout", "Same"]

_CHUNK = 1024 * 1024 - 16
"""Usable bytes of one of ss's buffer chunks: 1 MiB less its header."""
_HEAD = 2
"""What every cell costs besides its bytes: its length, 16 bits."""
_CHUNKS_MAX = 5
"""ss prints what it holds when it leaves a row with this many chunks in use."""
_is_odd = (1).__and__
_SLICE = 512
"""Rows formatted by one use of the template: enough to hide its cost, few enough to keep the argument tuple small."""
_FEW = 32
"""Rows for which the compiled twin takes longer to be loaded than it saves."""


class Same:
    """A column that says the same in every row."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


Column = Sequence[str] | Same
"""A cell for each row, or one for all."""


def _measure(column: Column, count: int) -> tuple[int, int, int]:
    """Longest cell, cost of all cells in ss's buffer, length of the last cell."""
    if isinstance(column, Same):
        length = len(column.text)
        return length, (length + (length & 1) + _HEAD) * count, length
    try:
        lengths = bytes(map(len, column))
    except ValueError:  # a cell of 256 bytes or more
        sizes = list(map(len, column))
        return max(sizes), sum(sizes) + sum(map(_is_odd, sizes)) + _HEAD * len(sizes), sizes[-1]
    cost = longest = 0
    for length in set(lengths):  # mostly one or two
        cost += lengths.count(length) * (length + (length & 1) + _HEAD)
        longest = max(longest, length)
    return longest, cost, lengths[-1]


class Layout:
    """Lays out one invocation's table and writes it through ``write``.

    ``hidden`` holds the indices of the columns that are not shown; rows carry only the cells of ``columns``, the
    others. ``screen`` is the screen's width, or ``None`` when there is none: then columns are as narrow as their
    content. ``extra`` tells that the unnamed last column is in use (ss ≥ 6.8), ``trim`` that the last of the named
    columns is not padded when there is no screen (ss ≥ 7.0). ``front``: columns before all others (HOST, NETNS) say
    where rows are, as ``enter`` was told; they do not carry them.
    """

    def __init__(
        self,
        write: Callable[[bytes], object],
        *,
        hidden: Collection[int] = (),
        screen: int | None = None,
        header: bool = True,
        extra: bool = False,
        trim: bool = False,
        front: Sequence[int] = (),
    ) -> None:
        self._write = write
        self._screen = screen
        self._extra = extra
        visible = [index for index in range(EXTRA) if index not in hidden]
        self._trimmed = visible[-1] if trim and visible else None
        self.columns = (*visible, EXTRA) if extra else tuple(visible)
        """Indices of the columns whose cells a row carries, in order."""
        self._front = tuple(Same(COLUMNS[index].header) for index in front)
        indices = (*front, *self.columns)
        # ss's first column stands at the line's beginning and has nothing before it.
        self._laid = [
            (index, " " if 0 < position <= len(front) else COLUMNS[index].delimiter)
            for position, index in enumerate(indices)
        ]
        """Indices and delimiters of the columns as they are laid out."""
        self._process = indices.index(PROCESS) if PROCESS in indices else None
        self._max = [0] * len(indices)
        self._pending: list[tuple[Sequence[Column], int]] = []
        self._chunks = 1
        self._room = _CHUNK - _HEAD
        # The cell on which the cursor rests: its length (None: nothing written yet) and the column, EXTRA or PROCESS.
        self._open: int | None = None
        self._end = EXTRA
        if header:
            self.feed([tuple(COLUMNS[index].header for index in self.columns)])

    def enter(self, places: Iterable[str]) -> None:
        """The rows that follow are there: a cell for each of ``front``."""
        self._front = tuple(map(Same, places))

    def feed(self, rows: Sequence[Sequence[str]], end: int = EXTRA) -> None:
        """Take rows, each a cell for each of ``columns``. ``end`` is where ss's cursor rests after each: EXTRA or
        PROCESS.
        """
        if rows:
            self.feed_columns(list(zip(*rows, strict=True)), len(rows), end)

    def feed_columns(self, cells: Sequence[Column], count: int, end: int = EXTRA) -> None:
        """Like ``feed``, column-wise: for each of ``columns`` the cells of ``count`` rows."""
        if count:
            self._feed((*self._front, *cells) if self._front else cells, count, end)

    def _feed(self, cells: Sequence[Column], count: int, end: int) -> None:
        self.begin_row()
        if end == PROCESS and self._process is None:
            end = EXTRA  # a hidden column holds no cell: the cursor's cell is the next one's
        measures = [_measure(column, count) for column in cells]
        cost = sum(measure[1] for measure in measures)
        if not self._extra:
            cost += _HEAD * count  # the empty cell of the unused last column
        # Leaving the last row may itself have opened the chunk after which ss prints: then at the end of the next row.
        if count > 1 and (cost > self._room or self._chunks >= _CHUNKS_MAX):
            half = count // 2
            self._feed(_part(cells, 0, half), half, end)
            self._feed(_part(cells, half, count), count - half, end)
            return
        resting = self._process if end == PROCESS else len(cells) - 1 if self._extra else None
        self._open = 0 if resting is None else measures[resting][2]
        self._end = end
        if cost <= self._room:
            self._room -= cost - (self._open & 1) - _HEAD - (_HEAD if end == PROCESS else 0)
        else:
            for index, (length, _, _) in enumerate(measures):
                self._place(length)
                if index == resting:
                    break
                self._complete(length)
        widest = self._max
        for index, (longest, _, last) in enumerate(measures):
            if index != resting or longest > last:
                widest[index] = max(widest[index], longest)
            elif count > 1:  # the resting cell is the longest: the others count, it does not
                column = cells[index]
                widest[index] = max(widest[index], *((longest,) if isinstance(column, Same) else map(len, column[:-1])))
        self._pending.append((cells, count))

    def flush(self) -> None:
        """Lay out and write everything held; widths persist. For each event of ``-E``, and for the end of the table."""
        if self._pending:
            self._render()

    def begin_row(self) -> None:
        """Move the cursor from the last row to the next one's first column; here ss prints what it holds, if it is
        much. ``feed`` does so itself; only who writes past the layout must care for the order.
        """
        length = self._open
        if length is None:
            return
        if self._end == PROCESS and self._process is not None:
            self._max[self._process] = max(self._max[self._process], length)
            self._complete(length)
            self._end, length = EXTRA, 0
        if self._chunks >= _CHUNKS_MAX:
            self._render()
            return
        if self._extra:
            self._max[-1] = max(self._max[-1], length)
        self._complete(length)
        self._open = None

    def _place(self, length: int) -> None:
        """Account for a cell's bytes; a cell that leaves no byte to spare moves to a new chunk."""
        if length and length >= self._room:
            self._chunk()
        self._room -= length

    def _complete(self, length: int) -> None:
        """Account for the end of a cell and the head of the next."""
        padding = length & 1
        if self._room - padding < _HEAD:
            self._chunk()
        else:
            self._room -= padding + _HEAD

    def _chunk(self) -> None:
        self._chunks += 1
        self._room = _CHUNK - _HEAD

    def _widths(self) -> list[int]:
        """Width of each column, delimiter included."""
        screen = self._screen
        widths: list[int] = []
        for (_, delimiter), longest in zip(self._laid, self._max, strict=True):
            width = longest + len(delimiter) if longest and any(widths) else longest
            widths.append(width if screen is None else min(width, screen))
        if screen is not None:
            _spread(widths, screen)
        return widths

    def _form(self, widths: Sequence[int], same: Sequence[str | None]) -> "_Form":
        """How a row is laid out; ``same`` has the text of columns that are the same in every row."""
        pieces: list[tuple[str, int]] = []
        before = ""
        first = True
        for (index, between), width, text in zip(self._laid, widths, same, strict=True):
            column = COLUMNS[index]
            delimiter = "" if first else between
            first = False
            room = max(0, width - len(delimiter))
            if index == self._trimmed and self._screen is None:
                room = 0
            before += delimiter
            if text is not None:
                before += text.rjust(room) if column.right else text.ljust(room)
                continue
            pieces.append((before, room if column.right else -room))
            before = ""
        return _Form(pieces, before + "\n")

    def _render(self) -> None:
        """Write what is held and start afresh; only the widths stay."""
        widths = self._widths()
        forms: dict[Sequence[str | None], _Form] = {}
        write = self._write
        # ss ends a table's last row where its cursor rests: a last column behind that is not even padded.
        cut = widths[-1] if self._extra and self._open is not None and self._end == PROCESS else 0
        pending, self._pending = self._pending, []
        final = len(pending) - 1
        for number, (cells, count) in enumerate(pending):
            same = tuple([column.text if isinstance(column, Same) else None for column in cells])
            form = forms.get(same)
            if form is None:
                form = forms[same] = self._form(widths, same)
            lines = form.lines([column for column in cells if not isinstance(column, Same)], count)
            if cut and number == final:
                lines = lines[: -1 - cut] + b"\n"
            write(lines)
        self._open = None
        self._chunks = 0
        self._chunk()


class _Form:
    """How a row is laid out. ``pieces``: what stands before each cell that is not the same in every row, and the room
    of that cell, negative where it stands left; ``after``: what ends the line.
    """

    def __init__(self, pieces: Sequence[tuple[str, int]], after: str) -> None:
        template = [f"{_literal(before)}%{room or ''}s" for before, room in pieces]
        self._template = "".join(template) + _literal(after)
        self._many = self._template * _SLICE
        self._pieces = tuple((before.encode("latin-1"), room) for before, room in pieces)
        self._after = after.encode("latin-1")

    def lines(self, columns: list[Sequence[str]], count: int) -> bytes:
        """The lines of so many rows, whose cells are given by column."""
        if columns and count > _FEW:
            from sstrace.native import twins

            lines = twins.lines(self._pieces, self._after, columns) if twins is not None else None
            if lines is not None:
                return lines  # type: ignore[no-any-return]
        texts = []
        for start in range(0, count, _SLICE):
            rows = min(_SLICE, count - start)
            part = columns if count <= _SLICE else [column[start : start + rows] for column in columns]
            values = tuple(chain.from_iterable(zip(*part, strict=True)))
            texts.append((self._many if rows == _SLICE else self._template * rows) % values)
        return "".join(texts).encode("latin-1")


def _literal(text: str) -> str:
    return text.replace("%", "%%")


def _part(cells: Sequence[Column], start: int, stop: int) -> list[Column]:
    return [column if isinstance(column, Same) else column[start:stop] for column in cells]


def _spread(widths: list[int], screen: int) -> None:
    """Stretch columns so that each group of them that fits on a line of the screen fills it exactly (in place).

    A group ends before the column that would exceed the screen, or at the one that meets its edge. The blanks to
    spare are shared equally, the remainder one by one from the group's right end leftwards. Columns without content
    take no part.
    """
    used = [index for index, width in enumerate(widths) if width]
    group: list[int] = []
    length = 0

    def stretch() -> None:
        each, rest = divmod(screen - length, len(group))
        for place, index in enumerate(reversed(group)):
            widths[index] += each + (place < rest)

    for index in used:
        if length + widths[index] > screen:
            stretch()
            group, length = [], 0
        group.append(index)
        length += widths[index]
        if length == screen:
            group, length = [], 0
    if group:
        stretch()
