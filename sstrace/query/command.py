"""What a command line means: the result of ``options.parse``, which every mode reads.

Text that ss would treat as bytes (filter operands, names of namespaces and files) is latin-1 text here: one
character a byte. Paths in ``Own`` are ordinary str as ``open`` takes them.
"""

import enum
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Literal, Self

import msgspec

from sstrace.dialect import Dialect
from sstrace.model import AF_UNSPEC, ALL_STATES, Show, State, Table
from sstrace.protocols import FAMILY_WORDS, FOLLOWED, TABLE_OF_NETID

if TYPE_CHECKING:
    from sstrace.query.connection import Which

    # Only a command line with a filter pays for the module.
    from sstrace.query.expression import Expr

__all__ = [
    "Act",
    "Command",
    "ENGINE",
    "Early",
    "Mode",
    "Own",
    "Selection",
    "Source",
    "When",
    "followed_tables",
    "selected_families",
    "selected_netids",
    "selects_row",
    "selects_several",
    "selects_transition",
]

ENGINE: Final = "clickhouse:"
"""What stands before an engine's address, in --from and --replay (sstrace.fleet)."""


class Mode(enum.Enum):
    """What sstrace does; the word is the option's."""

    TRACE = "trace"
    """One line per event: when no other mode is named."""
    SNAPSHOT = "snapshot"
    WATCH = "watch"
    SERVE = "serve"
    VERIFY = "verify"
    DOCTOR = "doctor"
    FLEET_SCHEMA = "fleet-schema"


class Act(enum.Enum):
    """What a command line does: its mode, told apart by where the facts come from. The value stands in sentences.

    All that there is to say of one, but for the options that mean something to it: these are in ``query.catalog``.
    """

    _value_: str
    mode: Mode
    source: Literal["netlink", "live", "file", "between"]
    """As of ``Source``; ``between``: a file, of which two moments are compared."""
    module: str
    """Where its ``run`` is, below ``sstrace``."""
    does: Literal["", "stats", "explain"]
    """With --stats, with --explain."""

    def __new__(
        cls,
        text: str,
        mode: Mode,
        source: Literal["netlink", "live", "file", "between"],
        module: str,
        does: Literal["", "stats", "explain"] = "",
    ) -> Self:
        made = object.__new__(cls)
        made._value_, made.mode, made.source, made.module, made.does = text, mode, source, module, does
        return made

    TRACE = "a trace", Mode.TRACE, "netlink", "modes.trace"
    REPLAY = "--replay FILE", Mode.TRACE, "file", "modes.replay"
    STATS = "--stats", Mode.TRACE, "netlink", "modes.stats", "stats"
    STATS_PAST = "--stats --from FILE", Mode.TRACE, "file", "modes.stats", "stats"
    STATS_LIVE = "--stats --from live", Mode.TRACE, "live", "server.client", "stats"
    EXPLAIN = "--explain WHICH", Mode.TRACE, "netlink", "modes.explain_now", "explain"
    EXPLAIN_PAST = "--explain WHICH --from FILE", Mode.TRACE, "file", "modes.explain", "explain"
    EXPLAIN_LIVE = "--explain WHICH --from live", Mode.TRACE, "live", "server.client", "explain"
    SNAPSHOT = "--snapshot", Mode.SNAPSHOT, "netlink", "modes.snapshot"
    PAST = "--snapshot --from FILE", Mode.SNAPSHOT, "file", "modes.past"
    BETWEEN = "--snapshot --from FILE --between", Mode.SNAPSHOT, "between", "modes.past"
    LIVE = "--snapshot --from live", Mode.SNAPSHOT, "live", "server.client"
    WATCH = "--watch", Mode.WATCH, "netlink", "watch.app"
    WATCH_LIVE = "--watch --from live", Mode.WATCH, "live", "watch.served"
    WATCH_PAST = "--watch --replay FILE", Mode.WATCH, "file", "watch.player"
    SERVE = "--serve", Mode.SERVE, "netlink", "server.serve"
    SERVE_STATS = "--serve --stats", Mode.SERVE, "netlink", "server.serve", "stats"
    VERIFY = "--verify", Mode.VERIFY, "netlink", "modes.verify"
    DOCTOR = "--doctor", Mode.DOCTOR, "netlink", "modes.doctor"
    FLEET_SCHEMA = "--fleet-schema", Mode.FLEET_SCHEMA, "netlink", "modes.fleet_schema"


class Early(msgspec.Struct, frozen=True):
    """The whole outcome of a command line that needs no sockets: help, versions, ss's "no … to show"."""

    stdout: str = ""
    stderr: str = ""
    code: int = 0


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which sockets, and which transitions of them."""

    tables: int
    """Bit n for ``model.Table`` n."""
    asked: int = 0
    """Those of them that the command line names; the others are there because nothing was."""
    families: int
    """Bit n for address family n (AF_INET is bit 2). A filter's operand may narrow it: see ``options.resolve``."""
    states: int
    """Bit n for ``model.State`` n, for rows (snapshots, and the baseline of a trace)."""
    preferred: int = AF_UNSPEC
    """The last family named, by option or filter: AF_INET asks the kernel for IPv4 only, AF_INET6 for IPv6 only,
    else both."""
    filter: "Expr | None" = None
    """The expression; None before ``options.resolve``, and when there is none."""

    touch: int = ALL_STATES
    """Transitions: shown when the old or the new state is among these (``state X``) …"""
    avoid: int = 0
    """… and neither is among these (``exclude X``) …"""
    from_states: int = ALL_STATES
    """… and the old state is one of these (``from X``) …"""
    to_states: int = ALL_STATES
    """… and the new state is one of these (``to X``), see ``selects_transition``; …"""
    ended: bool = False
    """… and only those with which a connection ends (``ended``)."""

    summary: bool = False
    """-s: print it first."""
    listing: bool = True
    """False: -s alone, nothing follows the summary."""
    diag_file: str | None = None
    """-D: dump raw TCP answers there (a first ``-``: standard output) instead of listing; the filter is not even
    parsed."""
    events: bool = False
    """-E: follow the destruction of sockets."""
    kill: bool = False
    """-K: close what is listed."""
    netns: str | None = None
    """-N: the last namespace entered; ``Effects.enter_netns`` has already been called for it."""
    bpf_map_ids: tuple[int, ...] = ()
    """--bpf-map-id, in order; with ``Show.bpf_maps`` set and none here, every map."""


class Source(msgspec.Struct, frozen=True):
    """--from: where the table comes from."""

    kind: Literal["netlink", "live", "file"] = "netlink"
    path: str | None = None
    """The service's socket (None: its default) or the recording."""


class When(msgspec.Struct, frozen=True):
    """A moment as typed, not yet joined to a clock."""

    kind: Literal["utc", "local", "clock", "start", "end", "seq"]
    """``utc``: ns since 1970 UTC. ``local``: the same digits on a wall clock of this machine. ``clock``: ns
    since midnight of the recording's (last) local day. ``start``: ns after the recording's first fact. ``end``:
    ns before its last. ``seq``: no time, but the number of a line of the recording."""
    ns: int
    text: str
    open_ns: int = 0
    """What its digits leave open: texts are cut to microseconds, so such a moment is all of that microsecond."""


class Own(msgspec.Struct, frozen=True, kw_only=True):
    """sstrace's own options; None or False where not given. Times are nanoseconds, sizes bytes."""

    source: Source | None = None
    """--from netlink, live[:PATH], FILE"""
    at: When | None = None
    """--at TIME: the table of a recording as it was then."""
    hosts: tuple[str, ...] = ()
    """--host NAME: those whose recordings are asked, names or patterns (latin-1 text); none: all."""
    between: tuple[When, When] | None = None
    """--between A B: only this part of a recording."""
    explain: "Which | None" = None
    """--explain WHICH: one connection."""
    record: str | None = None
    replay: tuple[str, ...] = ()
    """--replay FILE, any number of times, in order."""
    serve_path: str | None = None
    """--serve=PATH; None with mode SERVE: the default path."""
    rotate_bytes: int | None = None
    rotate_ns: int | None = None
    keep: int | None = None
    stats: bool = False
    json: bool = False
    no_baseline: bool = False
    """--no-baseline: NDJSON of events without the sockets that there were at the start."""
    life: bool = False
    """--life: the ends of connections alone; in text a line about the whole life of each."""
    columns: tuple[str, ...] = ()
    """--columns: of text, in order, each once; none: the usual ones."""
    events: tuple[str, ...] = ()
    """--events: state, and words of sstrace.incidents; empty where it was not given."""
    schema: str | None = None
    """None: native."""
    duration_ns: int | None = None
    count: int | None = None
    ready_file: str | None = None
    interval_ns: int | None = None
    poll_ns: int | None = None
    ss_version: tuple[int, ...] | None = None
    group: str | None = None
    on_full: Literal["block", "drop"] | None = None
    metrics: tuple[str, int] | None = None
    """--metrics: address and port to listen on; an empty address is every one."""
    metrics_by: tuple[str, ...] = ()
    """--metrics-by: labels of what connections carried."""
    output: str | None = None
    html: str | None = None
    """--html FILE: where the page of --stats goes."""
    parquet: str | None = None
    """--parquet FILE: where recorded lines go as rows."""
    sink: tuple[str, ...] = ()
    """--sink NAME, any number of times, but for those that are ``engines``."""
    engines: tuple[str, ...] = ()
    """--sink clickhouse:URL, any number of times."""
    spool: str | None = None
    """--spool DIR,SIZE"""
    replicated: bool = False
    """--fleet-schema=replicated"""
    speed: float | None = None
    """--speed X: of a replay, 1.0 is life; 0.0 (``max``) as fast as it goes."""
    color: Literal["auto", "always", "never"] = "auto"
    netns: tuple[str, ...] = ()
    """--netns: the words, each once; none where it was not given."""
    time: Literal["clock", "iso", "utc", "delta", "relative"] | None = None
    """--time: how moments are told in text; None: ``clock`` on a terminal, ``iso`` elsewhere."""
    quiet: bool = False
    self_usage: bool = False
    debug: bool = False
    """--debug: an unforeseen exception shows its traceback (``cli`` looks at the words themselves)."""
    keep_privileges: bool = False
    """--serve as root stays root."""

    @property
    def utc(self) -> bool:
        """Whether times without a zone, read and shown, are UTC's rather than this machine's."""
        return self.time == "utc"

    @property
    def joins(self) -> bool:
        """Whether a replay of several hosts says who has the other ends."""
        return self.json or "peer-process" in self.columns

    @property
    def recordings(self) -> list[str]:
        """The files, directories and engines that are named, as they were typed."""
        source = self.source
        if source is None or source.kind != "file" or source.path is None:
            return list(self.replay)
        return [*self.replay, source.path]


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed command line."""

    mode: Mode
    act: Act
    selection: Selection
    show: Show
    own: Own
    dialect: Dialect
    words: tuple[str, ...] = ()
    """Everything after the program's name, as typed."""
    operands: tuple[str, ...] = ()
    """The filter's words, still text: ``options.resolve`` parses them."""
    filter_file: Callable[[], bytes] | None = None
    """Reads what -F named, when the filter is parsed."""
    stop: Early | None = None
    """What ss would say after the summary of -s, instead of listing. Only ever set together with
    ``selection.summary``."""

    @property
    def wants_owners(self) -> bool:
        """Whether anything hangs on who holds the sockets: it is shown, or the filter may ask, as far as can be told
        before it is parsed.
        """
        show = self.show
        words = {word for operand in self.operands for word in operand.split()}
        shown = show.processes or show.threads or bool(show.contexts)
        return shown or not words.isdisjoint(("pid", "comm")) or self.filter_file is not None


_NO_CONNECTION = (State.CLOSE, State.LISTEN, State.TIME_WAIT)


def selects_transition(selection: Selection, old: int, new: int) -> bool:
    """Tell whether a transition between two states (numbers) is selected by state; whether the connection ends with it
    (``ended``) no pair of states tells, and everything else is the filter's.
    """
    both = 1 << old | 1 << new
    return bool(
        selection.touch & both
        and not selection.avoid & both
        and selection.from_states >> old & 1
        and selection.to_states >> new & 1
    )


def followed_tables(selection: Selection) -> tuple[Table, ...]:
    """Those of the selected tables that can be followed live."""
    return tuple(table for table in Table if (selection.tables & FOLLOWED) >> table & 1)


def selected_families(selection: Selection) -> list[str]:
    """Those of the sockets that are selected, as lines call them."""
    return [word for family, word in FAMILY_WORDS.items() if selection.families >> family & 1]


def selected_netids(selection: Selection) -> set[str]:
    """The words for the selected tables."""
    return {netid for netid, table in TABLE_OF_NETID.items() if selection.tables >> table & 1}


def selects_several(selection: Selection) -> bool:
    """Tell whether sockets of several tables are selected."""
    return selection.tables & (selection.tables - 1) != 0


def selects_row(selection: Selection, state: int, following: Iterable[int]) -> bool:
    """Tell whether a trace's table has a row in a state for this selection: it is one that ``state`` and ``exclude``
    leave, and one of the transitions that may come next, to ``following``, is selected; for ``ended``, one that holds a
    connection.
    """
    return (
        bool((selection.touch & ~selection.avoid) >> state & 1)
        and not (selection.ended and state in _NO_CONNECTION)
        and any(selects_transition(selection, state, new) for new in following)
    )
