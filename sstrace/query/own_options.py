"""sstrace's own options: their names, and the reading of their values: moments, sources, addresses (durations
and sizes: ``quantity``).

Every mistake is one sentence that says what would have been right.
"""

from typing import TYPE_CHECKING, Any, Final, Literal

from sstrace.dialect import parse_version
from sstrace.errors import UsageError
from sstrace.query.catalog import ENTRIES, MODES, act_of, check
from sstrace.query.command import Act, Mode, Own, Source, When
from sstrace.query.netns import parse_netns
from sstrace.query.quantity import parse_duration, parse_size, scaled

if TYPE_CHECKING:  # only who asks for a connection pays for it
    from sstrace.query.connection import Which

__all__ = [
    "METRICS_ADDRESS",
    "METRICS_PORT",
    "Collector",
    "Own",
    "is_mode",
    "parse_when",
]

METRICS_ADDRESS: Final = "127.0.0.1"
METRICS_PORT: Final = 9435
"""Where --metrics listens unless told otherwise: loopback, so that nobody is served by accident."""

# Option → its field of Own, where what it may be is in the catalog.
_CHOICES: Final = {"schema": "schema", "on-full": "on_full", "color": "color", "time": "time"}
_DURATIONS: Final = {"duration": "duration_ns", "interval": "interval_ns", "poll": "poll_ns"}
_COUNTS: Final = {"count": "count", "keep": "keep"}
_BRINGS: Final = frozenset(("--replay", "--from", "--sink", "--host", "--quiet", "--self-usage", "--debug"))
"""What means something where recordings are brought into an engine."""
_EXPORTS: Final = _BRINGS - {"--sink"} | {"--parquet", "--between", "--time"}
"""And where they are written as Parquet."""
_PATHS: Final = {
    "record": "record",
    "ready-file": "ready_file",
    "output": "output",
    "html": "html",
    "parquet": "parquet",
    "group": "group",
    "spool": "spool",
}
_LISTS: Final = {"replay": "replay", "sink": "sink"}


def is_mode(word: str) -> bool:
    """Tell whether an argument names a mode: ``--watch``, ``--serve=PATH``."""
    return word[:2] == "--" and word[2:].partition("=")[0] in MODES


_NS: Final = 10**9


def parse_when(text: str) -> When | None:
    """Read a moment; None when it is none of these.

    ``2026-01-31T13:55:00Z``, the same with an offset, without a zone, or with a blank for T; ``2026-01-31``; ``13:55``,
    ``13:55:00.25``; ``@1769867700.5`` (seconds since 1970); ``+90``, ``+5m`` from the start; ``-5m`` back from the end;
    ``#4711``: right after the line with that ``seq``.
    """
    kind: Literal["utc", "local", "clock", "start", "end"]
    if text[:1] == "#":
        number = text[1:]
        return When("seq", int(number), text) if number.isascii() and number.isdecimal() and len(number) < 19 else None
    if text[:1] in ("+", "-"):
        ns = parse_duration(text[1:])
        return None if ns is None else When("start" if text[0] == "+" else "end", ns, text)
    if text[:1] == "@":
        ns = scaled(text[1:], {"": _NS})
        open_ns = _left_open(len(text.partition(".")[2]))
        return None if ns is None or ns >= 1 << 63 else When("utc", ns, text, open_ns)
    # datetime keeps microseconds; the rest of the fraction is read here, so that a recording's own times can be typed.
    main, fraction, open_ns, zone = _cut_fraction(text)
    from datetime import UTC, datetime, time

    try:
        if ":" in main[:3] and not zone:
            clock = time.fromisoformat(main)
            if clock.tzinfo is not None:
                return None
            return When("clock", (clock.hour * 3600 + clock.minute * 60 + clock.second) * _NS + fraction, text, open_ns)
        moment = datetime.fromisoformat(main + zone)
    except ValueError:
        return None
    kind = "local" if moment.tzinfo is None else "utc"
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    except OverflowError:
        return None
    ns = (since.days * 86400 + since.seconds) * _NS + fraction
    return When(kind, ns, text, open_ns) if 0 <= ns < 1 << 63 else None


def _cut_fraction(text: str) -> tuple[str, int, int, str]:
    """Split ``…:05.123456789Z`` into what stands before the point, the nanoseconds, what they leave open, and the
    zone.
    """
    head, point, tail = text.partition(".")
    if not point:
        return text, 0, 0, ""
    length = 0
    while length < len(tail) and tail[length] in "0123456789":
        length += 1
    if not 0 < length <= 9:
        return text, 0, 0, ""
    return head, int(tail[:length].ljust(9, "0")), _left_open(length), tail[length:]


def _left_open(digits: int) -> int:
    """Nanoseconds that a fraction of so many digits leaves open, by the one who typed it from a text (render.times)."""
    return 10 ** (9 - digits) - 1 if 6 <= digits <= 9 else 0


def _as_path(value: str) -> str:
    # argv arrives a character a byte; open() wants what os.fsdecode gives.
    return value.encode("latin-1", "replace").decode("utf-8", "surrogateescape")


class Collector:
    """Gathers sstrace's own options in the order of the command line; the last of a kind counts."""

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}
        self._modes: list[str] = []
        self._given: list[tuple[str, tuple[str, ...]]] = []

    def given(self, key: str, values: tuple[str, ...]) -> None:
        """Note that an option, of ss or of sstrace, stands on the command line."""
        self._given.append((key, values))

    def add(self, key: str, values: tuple[str, ...]) -> None:
        """Take one option as ``getopt`` yields it. Raises UsageError for a value that cannot be."""
        name = key[2:]
        value = values[0] if values else ""
        fields = self._fields
        if name in MODES:
            if name not in self._modes:
                self._modes.append(name)
            if name == "serve" and values:
                fields["serve_path"] = _filled(key, _as_path(value))
            elif name == "fleet-schema" and values:
                if value != "replicated":
                    raise UsageError(f'sstrace: {key}="{value}": it is replicated, or nothing')
                fields["replicated"] = True
        elif name in _CHOICES:
            choices = ENTRIES[key].values
            if value not in choices:
                raise UsageError(f'sstrace: {key} "{value}": it is one of {", ".join(choices)}')
            fields[_CHOICES[name]] = value
        elif name in _DURATIONS:
            ns = parse_duration(value)
            if not ns:
                raise UsageError(f'sstrace: {key} "{value}" is not a time: write 5, 1.5s, 200ms, 5m or 2h')
            fields[_DURATIONS[name]] = ns
        elif name in _COUNTS:
            if not (value.isascii() and value.isdecimal() and len(value) < 19 and int(value)):
                raise UsageError(f'sstrace: {key} "{value}" is not a number of things: write 1 or more')
            fields[_COUNTS[name]] = int(value)
        elif name == "html" and value == "-":
            raise UsageError("sstrace: --html has a file of its own, as --stats writes on standard output: name one")
        elif name in _PATHS:
            fields[_PATHS[name]] = _filled(key, _as_path(value))
        elif name == "sink" and value.partition(":")[0] == "clickhouse":
            fields["engines"] = (*fields.get("engines", ()), _as_path(value))
        elif name in _LISTS:
            fields[_LISTS[name]] = (*fields.get(_LISTS[name], ()), _filled(key, _as_path(value)))
        elif name == "from":
            fields["source"] = _source(_filled(key, _as_path(value)))
        elif name == "netns":
            fields["netns"] = tuple(dict.fromkeys((*fields.get("netns", ()), *parse_netns(_as_path(value)))))
        elif name == "columns":
            fields["columns"] = _columns(key, value)
        elif name == "host":
            words = [_filled(key, word) for word in value.split(",")]
            fields["hosts"] = tuple(dict.fromkeys((*fields.get("hosts", ()), *words)))
        elif name == "at":
            fields["at"] = _when(key, value)
        elif name == "between":
            fields["between"] = (_when(key, value), _when(key, values[1]))
        elif name == "rotate":
            for part in value.split(","):
                size, ns = parse_size(part), parse_duration(part)
                if size:  # 5m: five megabytes, as a size always was; minutes are 300s
                    fields["rotate_bytes"] = size
                elif ns:
                    fields["rotate_ns"] = ns
                else:
                    raise UsageError(
                        f'sstrace: {key} "{part}" is neither a size (500k, 100M, 2G) nor a time (90s, 1h, 1d)'
                    )
        elif name == "explain":
            fields["explain"] = _which(value)
        elif name == "speed":
            fields["speed"] = _speed(value)
        elif name == "metrics":
            fields["metrics"] = _listen(value) if values else (METRICS_ADDRESS, METRICS_PORT)
        elif name in ("metrics-by", "events"):
            words = value.split(",")
            for word in words:
                if word not in ENTRIES[key].values:
                    raise UsageError(f'sstrace: {key} "{word}": it is one of {", ".join(ENTRIES[key].values)}')
            if "all" in words:
                words = [word for word in ENTRIES[key].values if word != "all"]
            fields[name.replace("-", "_")] = tuple(dict.fromkeys(words))
        elif name == "ss-version":
            fields["ss_version"] = parse_version(value)
        else:
            fields[name.replace("-", "_")] = True

    def finish(self, *, default: Mode) -> tuple[Mode, Act, Own]:
        """Give the mode, what it comes to, and the options. Raises UsageError for options that exclude one another, or
        that would be ignored.
        """
        if len(self._modes) > 1:
            raise UsageError(f"sstrace: --{self._modes[0]} and --{self._modes[1]} are two modes: choose one")
        mode = MODES[self._modes[0]] if self._modes else default
        self._fields["no_baseline"] = bool(self._fields.keys() & {"no_baseline", "life"})
        own = Own(**self._fields)
        act = act_of(mode, own)
        check(self._given, act, own)
        if own.explain is not None and own.explain.id is not None and act is not Act.EXPLAIN_PAST:
            raise UsageError(
                f"sstrace: --explain {own.explain.text} is of a recording, whose lines have an id: name it with --from "
                "FILE, or write both ends"
            )
        if own.engines and act is Act.REPLAY:
            more = next((key for key, _ in self._given if key not in _BRINGS), own.sink and f"--sink {own.sink[0]}")
            if more:
                raise UsageError(
                    f"sstrace: --replay FILE --sink clickhouse brings whole recordings into an engine: leave "
                    f"{more if more.startswith('-') else f'-{more}'} away, and give it when you ask"
                )
        others = [key for key, _ in self._given if key not in _EXPORTS] if own.parquet is not None else []
        if others:
            other = others[0] if others[0].startswith("-") else f"-{others[0]}"
            raise UsageError(f"sstrace: --parquet writes recorded lines as they are: leave {other} away")
        if own.life and own.events:
            raise UsageError("sstrace: --life tells how connections ended, --events what happens before: choose one")
        if own.netns and any(key == "N" for key, _ in self._given):
            raise UsageError("sstrace: -N enters one network namespace, --netns looks into any number: choose one")
        if own.columns and own.json:
            raise UsageError("sstrace: --columns is of text: --json has every key, and jq chooses among them")
        if own.schema not in (None, "native") and act not in (Act.TRACE, Act.REPLAY):
            raise UsageError(f"sstrace: --schema {own.schema} is of events: {act.value} has the native one alone")
        if own.time is not None and not own.utc:
            if own.json:
                raise UsageError(f"sstrace: --json has its times in UTC: --time {own.time} is of text")
            if act not in (Act.TRACE, Act.REPLAY, Act.VERIFY):
                raise UsageError(f"sstrace: --time {own.time} is of lines of events: here write utc, or nothing")
        return mode, act, own


def _which(value: str) -> "Which":
    from sstrace.query.connection import parse_which, without_hosts

    which = parse_which(value)
    if which is None:
        ports = without_hosts(value)
        if ports is not None:
            raise UsageError(
                f'sstrace: --explain "{value}": names are not looked up: write addresses, or {ports} for any'
            )
        raise UsageError(
            f'sstrace: --explain "{value}" is no connection: write 10.0.0.1:40000-10.0.0.2:443, :40000 or #17'
        )
    return which


def _filled(key: str, value: str) -> str:
    if not value or "\0" in value:
        raise UsageError(f"sstrace: {key} needs a name")
    if value.startswith("--"):
        raise UsageError(f"sstrace: {key} needs a name, and {value} is an option: ./{value} is a file of that name")
    return value


def _columns(key: str, value: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(value.split(",")))
    known = ENTRIES[key].values
    for name in names:
        if name not in known:
            raise UsageError(f'sstrace: {key} "{name}" is no column: there are {", ".join(known)}')
    return names


def _source(value: str) -> Source:
    if value in ("netlink", "live"):
        return Source(value)  # type: ignore[arg-type]  # the two are literals, which `in` does not narrow to
    if value.startswith("live:"):
        return Source("live", _filled("--from live:", value[5:]))
    return Source("file", value)


def _when(key: str, value: str) -> When:
    when = parse_when(value)
    if when is None:
        raise UsageError(
            f'sstrace: {key} "{value}" is not a moment: '
            "write 2026-01-31T13:55:00Z, 13:55:00, @1769867700, +5m, -5m or #SEQ"
        )
    return when


def _speed(value: str) -> float:
    if value == "max":
        return 0.0
    thousandths = scaled(value.removesuffix("x"), {"": 1000})
    if not thousandths or thousandths > 10**9:
        raise UsageError(f'sstrace: --speed "{value}" is not a speed: write 1, 0.5, 10 or max')
    return thousandths / 1000


def _listen(value: str) -> tuple[str, int]:
    address, colon, port = value.rpartition(":")
    if not (port.isascii() and port.isdecimal() and len(port) < 6 and 0 < int(port) < 65536):
        raise UsageError(f'sstrace: --metrics "{value}" is not [ADDR:]PORT: write 9435, 127.0.0.1:9435 or [::1]:9435')
    if not colon:
        address = METRICS_ADDRESS
    return address.removeprefix("[").removesuffix("]"), int(port)
