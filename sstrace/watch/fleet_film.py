"""The recordings of several hosts as ``Hub`` takes them: one table of all, each host's as it was at the same moment.

Times are those of each host's own clock, as ns since 1970 UTC: CLOCK_MONOTONIC is another one on each.
"""

from collections.abc import Iterator

from sstrace.errors import DecodeError
from sstrace.lines import GoneLine, SeenLine, StateLine
from sstrace.live.places import Places
from sstrace.query.command import Command
from sstrace.recording.fleet import Fleet, Moved, Series
from sstrace.recording.hosts import Hosts
from sstrace.recording.past import Past
from sstrace.recording.reader import LineNames, Reader
from sstrace.render.views import Where
from sstrace.table import Row
from sstrace.watch.film import Heard, Line, Moments, lines_of
from sstrace.watch.told import row_told

__all__ = ["FleetFilm"]


class _Host:
    """A recording of one host."""

    def __init__(self, index: int, series: Series, names: LineNames) -> None:
        self.index = index
        self.series = series
        self.names = names


class _Places(Places):
    """The hosts, none of which can be asked any more."""

    def __init__(self, hosts: Hosts[_Host]) -> None:
        super().__init__()
        self._hosts = hosts

    @property
    def where(self) -> Where | None:  # type: ignore[override]  # which says as much of them to writers
        """See Places."""
        return self._hosts


class FleetFilm(Moments):
    """The hosts that were asked for, in the files or the engine that were named."""

    def __init__(self, command: Command, fleet: Fleet, names: LineNames) -> None:
        """``names``: by which the filter is read."""
        many = len(fleet.hosts) > 1
        super().__init__(names, f"{len(fleet.hosts)} hosts" if many else fleet.hosts[0], fleet.span())
        self._command = command
        self._fleet = fleet
        self._hosts: Hosts[_Host] = Hosts(names, many=many)
        self.places = _Places(self._hosts)
        self._of = {id(one): _Host(index, one, names.of_another_host()) for index, one in enumerate(fleet.series)}
        """By the recording's."""
        self._numbers: dict[tuple[int, int], int] = {}
        self._known: list[tuple[_Host, int]] = []
        """By our number of a row: the host, and its own number of it."""

    def look(self, at_ns: int, back_ns: int, *, aloud: bool = False) -> None:
        """See Moments."""
        fleet = self._fleet
        at_ns = max(self.first_ns, min(at_ns, self.last_ns))
        chosen = fleet.at(at_ns, fleet.series)
        fleet.limit(one.part for one in chosen if not one.part.seekable)
        fleet.expect([(one.part, at_ns) for one in chosen], self._command, self.names, back_ns=back_ns)
        found: list[tuple[_Host, Heard, Past]] = []
        try:
            for one in chosen:
                host, mine = self._of[id(one.series)], Heard()
                found.append((host, mine, fleet.table(one.part, at_ns, host.names, mine.hear, back_ns)))
        except Moved as moved:
            raise DecodeError(str(moved)) from None
        self.at_ns = self.mono_ns = at_ns
        self.lost = sum(past.lost for _, _, past in found)
        heard = Heard()
        self._be([row for one in found for row in self._rows(*one, heard, back_ns)], heard, back_ns)

    def _rows(self, host: _Host, mine: Heard, past: Past, heard: Heard, back_ns: int) -> list[Row | None]:
        """Those of one host; and add what was heard of them."""
        host.names.recall(past.interfaces, past.ephemeral)
        offset_ns = past.at_ns - past.mono_ns
        lines = [line for place in past.places for line in place.lines]
        changed = [line for line in mine.lines if line.mono_ns > past.mono_ns - back_ns]
        for line in {id(line): line for line in (*lines, *changed)}.values():
            self._enter(host, line, offset_ns)
        heard.lines += changed
        heard.born |= {self._number(host, number): mono_ns + offset_ns for number, mono_ns in mine.born.items()}
        return list(map(self._row, lines))

    def _enter(self, host: _Host, line: SeenLine | StateLine | GoneLine, offset_ns: int) -> None:
        """Have a line be one of all hosts'."""
        line.id = self._number(host, line.id)
        line.mono_ns += offset_ns

    def _number(self, host: _Host, number: int) -> int:
        ours = self._numbers.get((host.index, number))
        if ours is None:
            ours = self._numbers[host.index, number] = len(self._known)
            self._known.append((host, number))
        return ours

    def _row(self, line: SeenLine | StateLine) -> Row | None:
        host = self._known[line.id][0]
        row = row_told(line, host.names)
        if row is not None:
            row.net = self._hosts.number(host, row.net)
        return row

    def _told(self, number: int) -> Iterator[Line]:
        host, theirs = self._known[number]
        for part in host.series.parts:
            with self._fleet.connection(part, theirs) as source:
                for told in lines_of(Reader(source), theirs):
                    self._enter(host, told.line, told.at_ns - told.line.mono_ns)
                    yield told
