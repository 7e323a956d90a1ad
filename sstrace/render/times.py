"""Moments and durations in the words in which every mode says them to people; NDJSON has render.events.timestamp.

All modes speak one zone: this machine's, or UTC when asked to, and whatever shows a time shows which.
"""

from datetime import UTC, datetime
from typing import Final, Literal, Protocol

__all__ = ["MODES", "ElapsedTimes", "TimeMode", "Times", "WallTimes", "moment", "span_text", "time_of_day", "times"]

TimeMode = Literal["clock", "iso", "utc", "delta", "relative"]
MODES: Final[tuple[TimeMode, ...]] = ("clock", "iso", "utc", "delta", "relative")

_SECOND: Final = 1_000_000_000


class Times(Protocol):
    """Moments (ns of CLOCK_MONOTONIC) as texts of one width."""

    offset_ns: int
    """CLOCK_REALTIME minus CLOCK_MONOTONIC; may be set when the clocks have moved against each other."""
    width: int
    zone: str
    """What the title must say of the latest text, since the text does not; empty when nothing."""

    def title(self, at_ns: int) -> str:
        """The head of the column, as things are at that moment."""
        ...

    def text(self, at_ns: int) -> str:
        """A moment, microseconds."""
        ...


def times(mode: TimeMode, offset_ns: int) -> Times:
    """Make what ``--time`` names."""
    return ElapsedTimes(mode, offset_ns) if mode in ("delta", "relative") else WallTimes(mode, offset_ns)


class WallTimes:
    """``clock``: 15:28:11.146024, of this machine's zone, which the title says. ``iso``: the same with its date and its
    distance from UTC. ``utc``: date and time in UTC.
    """

    def __init__(self, mode: TimeMode, offset_ns: int) -> None:
        self._mode = mode
        self._offset_ns = offset_ns
        self._begin_second(0)
        self.width = len(self.text(0))

    @property
    def offset_ns(self) -> int:
        """As in Times."""
        return self._offset_ns

    @offset_ns.setter
    def offset_ns(self, offset_ns: int) -> None:
        self._second_ns += self._offset_ns - offset_ns  # the same second begins then
        self._offset_ns = offset_ns

    def _begin_second(self, at_ns: int) -> None:
        """Texts of one second differ in their microseconds alone."""
        seconds = (at_ns + self._offset_ns) // _SECOND
        self._second_ns = seconds * _SECOND - self._offset_ns
        head, zone = _wall(seconds, utc=self._mode == "utc")
        clock = self._mode == "clock"
        self._head = f"{head[11:] if clock else head}."
        self._tail = "" if clock else zone
        self.zone = f"UTC{'' if zone == '+00:00' else zone}" if clock else ""

    def title(self, at_ns: int) -> str:
        """As in Times."""
        self._begin_second(at_ns)
        return f"Time {self.zone}".ljust(self.width)

    def text(self, at_ns: int) -> str:
        """As in Times."""
        nanoseconds = at_ns - self._second_ns
        if not 0 <= nanoseconds < _SECOND:
            self._begin_second(at_ns)
            nanoseconds = at_ns - self._second_ns
        return f"{self._head}{nanoseconds // 1000:06d}{self._tail}"


class ElapsedTimes:
    """Seconds: ``delta`` since the text before, ``relative`` since the first."""

    width = 15
    zone = ""

    def __init__(self, mode: TimeMode, offset_ns: int) -> None:
        self.offset_ns = offset_ns
        self._delta = mode == "delta"
        self._since_ns: int | None = None

    def title(self, at_ns: int) -> str:
        """As in Times."""
        return f"{'Since previous' if self._delta else 'Since first':>{self.width}}"

    def text(self, at_ns: int) -> str:
        """As in Times; negative for what is told late."""
        now = at_ns + self.offset_ns
        elapsed = now - (now if self._since_ns is None else self._since_ns)
        if self._delta or self._since_ns is None:
            self._since_ns = now
        seconds, nanoseconds = divmod(abs(elapsed), _SECOND)
        return f"{'-' if elapsed < 0 else ''}{seconds}.{nanoseconds // 1000:06d}".rjust(self.width)


def _wall(seconds: int, *, utc: bool) -> tuple[str, str]:
    """``2026-01-31T15:28:11`` and the distance from UTC: ``+01:00``, ``Z`` when ``utc``."""
    when = datetime.fromtimestamp(seconds, UTC)
    text = when.isoformat() if utc else when.astimezone().isoformat()
    return text[:19], "Z" if utc else text[19:]


def moment(realtime_ns: int, *, utc: bool) -> str:
    """One moment since 1970 UTC, in a sentence: as ``iso`` or ``utc`` has it, but whole, so that it can be typed."""
    seconds, nanoseconds = divmod(realtime_ns, _SECOND)
    head, zone = _wall(seconds, utc=utc)
    return f"{head}.{nanoseconds:09d}{zone}"


def time_of_day(realtime_ns: int, *, utc: bool) -> str:
    """``15:28:11 UTC+01:00``."""
    head, zone = _wall(realtime_ns // _SECOND, utc=utc)
    return f"{head[11:]} UTC{'' if zone in ('Z', '+00:00') else zone}"


def span_text(nanoseconds: int) -> str:
    """A duration in at most seven characters: ``85us``, ``1.2ms``, ``303ms``, ``7.5s``, ``59s``, ``59m59s``,
    ``23h59m``, ``364d23h``. Below ten it is rounded to a tenth, above it is cut.
    """
    if nanoseconds < 999_500:
        return f"{max(0, nanoseconds + 500) // 1000}us"
    for unit, size, most in (("ms", 1_000_000, 1000), ("s", _SECOND, 60)):
        tenths = (nanoseconds * 10 + size // 2) // size
        if tenths < 100:
            return f"{tenths // 10}.{tenths % 10}{unit}"
        if tenths < most * 10:
            return f"{tenths // 10}{unit}"
    minutes, seconds = divmod(tenths // 10, 60)
    if minutes < 60:
        return f"{minutes}m{seconds:02d}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h{minutes:02d}m"
    days, hours = divmod(hours, 24)
    return f"{days}d{hours:02d}h"
