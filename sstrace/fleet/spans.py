"""The lines of many runs over a span of time, a slice at a time: what a recording's reader is given instead of a file.

Slices are whole minutes, of all runs together, so that whoever tells them in the order of time asks once for each.
Each answer is whole before it is used.
"""

from collections.abc import Iterator, Sequence
from typing import Final, Self

import msgspec

from sstrace.fleet.engines import Asked
from sstrace.fleet.moment import Moment, since
from sstrace.fleet.schema import LINE
from sstrace.fleet.sql import OLD, OPENING, Run, Since, among, numbered, time
from sstrace.lines import MetaLine
from sstrace.recording.reader import STEP_NS
from sstrace.sources.progress import Progress

__all__ = ["Connection", "Lines", "Slices"]

_AT_ONCE: Final = 200_000
"""Lines of one answer, where a minute has not more."""
_LATE_NS: Final = 2_000_000_000
"""Behind a window no line is looked at that is later."""
_MINUTE_NS: Final = 60_000_000_000
_encoder = msgspec.json.Encoder()


class Slices:
    """The lines of runs, each from the last checkpoint before a window on."""

    def __init__(
        self,
        engine: Asked,
        runs: Sequence[Run],
        window: tuple[int, int] | None,
        condition: str,
        *,
        life: bool = False,
        before_ns: int = 0,
    ) -> None:
        """``window``: ns since 1970 UTC; None: all there is. ``condition``: SQL that lines meet. ``life``: the
        handshakes of the connections that end in it are told first, whenever they were. ``before_ns``: so much of the
        time before it has to be known, too.
        """
        self._engine = engine
        self._runs = list(runs)
        self._numbers = {run: number for number, run in enumerate(self._runs)}
        self._condition = condition
        self._window = window
        self._life = life
        self._starts: dict[Run, Since] = {}
        if window is not None:
            found = since(engine, [Moment(run, window[0] - before_ns) for run in self._runs])
            self._starts = {moment.run: start for moment, start in found.items()}
        self._all = self._wanted()
        """SQL: all lines that are wanted, but for the handshakes before."""
        self._bounds: list[tuple[int, int]] | None = None
        """From and until, ns since 1970 UTC, of each slice."""
        self._texts: dict[tuple[int, int], list[bytes]] = {}
        """By slice and run."""
        self._loaded = -1
        self.progress: Progress | None = None

    def of(self, run: Run) -> Iterator[bytes]:
        """The lines of one, in blocks, in order."""
        number = self._numbers[run]
        if self._life and run in self._starts:
            yield from _block(self._handshakes(run))
        for index in range(len(self._cut())):
            while self._loaded < index:
                self._loaded += 1
                self._load(self._loaded)
            yield from _block(self._texts.pop((index, number), []))

    def _cut(self) -> list[tuple[int, int]]:
        if self._bounds is None:
            answer = self._engine.ask(
                f"SELECT toUnixTimestamp(toStartOfMinute(ts)) AS minute, count() FROM lines WHERE {self._all} "
                f"GROUP BY minute ORDER BY minute FORMAT TSV"
            )
            self._bounds = []
            held = 0
            for line in answer.split(b"\n")[:-1]:
                minute, count = map(int, line.split(b"\t"))
                begin = minute * 1_000_000_000
                if not self._bounds or held + count > _AT_ONCE:
                    self._bounds.append((begin, begin + _MINUTE_NS))
                    held = 0
                self._bounds[-1] = self._bounds[-1][0], begin + _MINUTE_NS
                held += count
        return self._bounds

    def _wanted(self) -> str:
        tests = [among(self._runs)]
        if self._window is not None:
            # Behind the checkpoint of each: where it is not known, from the beginning.
            tests.append(f"ts <= {time(self._window[1] + _LATE_NS)}")
            first = min((start.at_ns for start in self._starts.values()), default=0)
            if len(self._starts) == len(self._runs):
                tests.append(f"ts >= {time(first)}")
            each = [
                f"({among([run])} AND ts >= {time(start.at_ns)} AND (seq, nth) >= ({start.seq}, {start.nth}))"
                for run, start in self._starts.items()
            ]
            rest = [run for run in self._runs if run not in self._starts]
            if rest:
                each.append(among(rest))
            tests.append(f"({' OR '.join(each)})")
        # Checkpoints in the middle bring nothing new, but those behind lines that could not be written, and those at
        # which a clock was set.
        kept = [f"({among([run])} AND seq = {start.seq})" for run, start in self._starts.items()]
        told = ", ".join(f"({number}, {seq})" for number, seq in self._telling())
        kept += [f"({numbered(self._runs)}, seq) IN ({told})"] if told else []
        tests.append(" OR ".join(["(nth = 0", "type NOT IN ('checkpoint', 'seen', 'netns')", *kept]) + ")")
        tests.append("type NOT IN ('mark', 'meta')")
        return " AND ".join([*tests, f"({self._condition})"])

    def _telling(self) -> list[tuple[int, int]]:
        """Checkpoints in the middle that tell of something, by run and seq."""
        number, runs = numbered(self._runs), among(self._runs)
        answer = self._engine.ask(
            f"SELECT DISTINCT {number} AS n, seq FROM checkpoints WHERE unwritten != 0 AND {runs} UNION DISTINCT "
            f"SELECT n, seq FROM (SELECT {number} AS n, seq, offset_ns, lagInFrame(offset_ns, 1, offset_ns) "
            f"OVER (PARTITION BY n ORDER BY seq, nth) AS before FROM lines "
            f"WHERE type IN ('checkpoint', 'meta') AND {runs}) WHERE abs(offset_ns - before) >= {STEP_NS} FORMAT TSV"
        )
        return [(int(number), int(seq)) for number, seq in (line.split(b"\t") for line in answer.splitlines())]

    def _load(self, index: int) -> None:
        begin, end = self._cut()[index]
        answer = self._engine.ask(
            f"SELECT {numbered(self._runs)} AS n, {LINE} FROM lines WHERE {self._all} "
            f"AND ts >= {time(begin)} AND ts < {time(end)} "
            f"ORDER BY n, seq, nth LIMIT 1 BY n, seq, nth FORMAT TSVRaw"
        )
        for text in answer.split(b"\n")[:-1]:
            number, _, line = text.partition(b"\t")
            self._texts.setdefault((index, int(number)), []).append(line)
        if self.progress is not None:
            self.progress(index + 1)

    def _handshakes(self, run: Run) -> list[bytes]:
        assert self._window is not None
        start = self._starts[run]
        ended = (
            f"SELECT id FROM lines WHERE {among([run])} AND ended AND ts >= {time(self._window[0])} "
            f"AND ts <= {time(self._window[1])}"
        )
        answer = self._engine.ask(
            f"SELECT {LINE} FROM lines WHERE {among([run])} AND ts <= {time(start.at_ns)} "
            f"AND (seq, nth) < ({start.seq}, {start.nth}) AND type = 'state' AND {OLD} IN {OPENING} "
            f"AND to IN ('ESTAB', 'CLOSE-WAIT') AND id IN ({ended}) ORDER BY seq, nth LIMIT 1 BY seq, nth FORMAT TSVRaw"
        )
        return answer.split(b"\n")[:-1]


def _block(lines: Sequence[bytes]) -> Iterator[bytes]:
    if lines:
        yield b"\n".join(lines) + b"\n"


class Connection:
    """The lines of one connection, by its id, of whichever run."""

    def __init__(self, engine: Asked, number: int) -> None:
        self._engine = engine
        self._number = number

    def of(self, run: Run) -> Iterator[bytes]:
        """In order."""
        answer = self._engine.ask(
            f"SELECT {LINE} FROM lines WHERE {among([run])} AND id = {self._number} "
            f"AND type IN ('seen', 'state', 'gone') ORDER BY seq, nth LIMIT 1 BY seq, nth FORMAT TSVRaw"
        )
        yield from _block(answer.split(b"\n")[:-1])


class Lines:
    """The lines of one run (recording.reader.Source), its first line in front."""

    def __init__(self, name: str, head: MetaLine, run: Run, of: Slices | Connection) -> None:
        self.name = name
        self.block = 0
        self.error: str | None = None
        self._head = head
        self._run = run
        self._of_runs = of

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held."""

    def wait(self) -> None:
        """What is asked for comes at once, or after a sentence."""

    def blocks(self, offset: int = 0) -> Iterator[bytes]:
        """See Source; there is no place but the beginning."""
        yield _encoder.encode(self._head) + b"\n"
        yield from self._of_runs.of(self._run)
