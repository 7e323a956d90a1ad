"""Every option there is, in one table: how it is written, what it says, and where it means something.

The parser, --help, the man page, the completions and the refusals are made of it. An option that would be ignored is
refused: ``refusal`` gives the sentence. ss's own descriptions stay in ``usage.ss_usage``, which is ss's to the byte.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from sstrace.errors import UsageError
from sstrace.incidents import SORTS
from sstrace.query.command import Act, Mode, Own
from sstrace.query.getopt import Option
from sstrace.query.masks import FAMILY_WORDS, QUERY_WORDS

__all__ = ["ENTRIES", "FILTER", "MODES", "OWN", "SS", "STATES", "Entry", "act_of", "check", "refusal"]


_ALL: Final = frozenset(Act)
_TRACES: Final = frozenset((Act.TRACE, Act.REPLAY))
_SERVES: Final = frozenset((Act.SERVE, Act.SERVE_STATS))
_WAITS: Final = frozenset((Act.TRACE, Act.STATS, Act.WATCH, Act.VERIFY)) | _SERVES
"""Those that follow what happens from now on."""
_ASKS: Final = frozenset((Act.SNAPSHOT, Act.LIVE))
_PAST: Final = frozenset((Act.PAST, Act.BETWEEN))
_TABLES: Final = _ASKS | _PAST
_DIGESTS: Final = frozenset((Act.STATS, Act.STATS_PAST, Act.STATS_LIVE))
_EXPLAINS: Final = frozenset((Act.EXPLAIN, Act.EXPLAIN_PAST, Act.EXPLAIN_LIVE))
_TELLS: Final = _ALL - {Act.FLEET_SCHEMA}
"""Those that have to do with sockets."""
_SELECTS: Final = _TELLS - {Act.DOCTOR, Act.SERVE} - _EXPLAINS
"""Those that leave out what is not selected."""
_FILTERS: Final = _SELECTS - {Act.STATS_LIVE}
_FAMILIES: Final = _SELECTS - {Act.SERVE_STATS}
_WATCHES: Final = frozenset((Act.WATCH, Act.WATCH_LIVE, Act.WATCH_PAST))
_ROWS: Final = _TABLES | _WATCHES
"""Those that print rows as ss does."""

_EVENTS: Final = ("state", *(sort.word for sort in SORTS), "all")


class Entry(msgspec.Struct, frozen=True):
    """One option."""

    name: str
    """Without its dashes."""
    acts: frozenset[Act]
    """Where it means something."""
    letters: str = ""
    argument: str = ""
    """As the help shows it: ``FILE``; ``A B`` is two; ``[=PATH]`` may be left out."""
    text: str = ""
    """What the help says; further lines stand below it. Empty for ss's, which ss's usage describes."""
    section: str = ""
    """Heading of the help under which it stands."""
    needs: tuple[str, ...] = ()
    """The options without one of which it means nothing, as one would add them."""
    values: tuple[str, ...] = ()
    """What may stand for the argument, for completions: words; ``FILE``, ``NETNS`` and ``GROUP`` are names of such;
    ``live:FILE`` is a word and a file behind it.
    """
    commas: bool = False
    """Several of them may be joined by commas."""
    many: bool = False
    """May be given again."""
    since: str = ""
    """The field of ``Dialect`` that tells whether the ss imitated has it."""
    key: str = ""
    """What ``getopt`` yields for it, where that is not its first letter or name."""
    instead: str = ""
    """What to do where it means nothing, when that is not to leave it away."""

    @property
    def option(self) -> Option:
        """For ``getopt``, which yields ``--name`` for sstrace's own."""
        optional = self.argument.startswith("[=")
        own = bool(self.section)
        key = self.key or (f"--{self.name}" if own else self.letters[:1] or self.name)
        return Option(self.name, key, 0 if optional else len(self.argument.split()), optional, own)


_FILE: Final = ("FILE",)


def _ss(acts: frozenset[Act], *entries: tuple[str, str]) -> tuple[Entry, ...]:
    return tuple(Entry(name, acts, letters) for name, letters in entries)


# glibc lists ambiguous names in the table's order, so the order is part of ss's bytes.
SS: Final = (
    Entry("numeric", (_SELECTS - _SERVES) | _EXPLAINS, "n"),
    Entry("resolve", _ROWS, "r"),
    Entry("options", _ROWS, "o"),
    Entry("extended", _ROWS, "e"),
    Entry("memory", _ROWS, "m"),
    Entry("info", _ROWS, "i"),
    Entry("processes", _ROWS | _TRACES | {Act.VERIFY}, "p"),
    Entry("threads", _TABLES, "T"),
    Entry("bpf", _TABLES, "b"),
    Entry("events", _TRACES | {Act.SNAPSHOT}, "E"),
    Entry("dccp", _TABLES, "d", since="dccp"),
    Entry("tcp", _SELECTS | {Act.SERVE}, "t"),
    Entry("sctp", _TABLES, "S"),
    Entry("udp", _SELECTS | {Act.SERVE}, "u"),
    Entry("raw", _SELECTS | {Act.SERVE}, "w"),
    Entry("unix", _SELECTS | {Act.SERVE}, "x"),
    Entry("tipc", _TABLES),
    Entry("vsock", _SELECTS | {Act.SERVE}),
    Entry("all", _SELECTS - _DIGESTS - _SERVES, "a"),
    Entry("listening", _SELECTS - _DIGESTS - _SERVES, "l"),
    Entry("bound-inactive", _TABLES, "B", since="bound_inactive"),
    *_ss(_FAMILIES, ("ipv4", "4"), ("ipv6", "6")),
    Entry("packet", _SELECTS | {Act.SERVE}, "0"),
    Entry("family", _FAMILIES, "f", "FAMILY", values=tuple(FAMILY_WORDS)),
    Entry("socket", _SELECTS | {Act.SERVE}, argument="QUERY", values=tuple(QUERY_WORDS), commas=True, key="A"),
    Entry("query", _SELECTS | {Act.SERVE}, "A", "QUERY", values=tuple(QUERY_WORDS), commas=True),
    Entry("summary", _ASKS, "s"),
    Entry("diag", frozenset((Act.SNAPSHOT, Act.PAST)), "D", "FILE", values=_FILE),
    Entry("filter", _FILTERS, "F", "FILE", values=_FILE),
    Entry("version", _ALL, "Vv"),
    Entry("help", _ALL, "h", key="help"),
    *_ss(_TABLES, ("context", "Z"), ("contexts", "z")),
    Entry("net", _WAITS | _ASKS | {Act.DOCTOR, Act.EXPLAIN}, "N", "NAME", values=("NETNS",)),
    Entry("tipcinfo", _TABLES),
    *_ss(_ROWS, ("tos", ""), ("cgroup", "")),
    Entry("kill", _ASKS, "K"),
    Entry("no-header", _TABLES | _TRACES, "H"),
    Entry("no-queues", _ROWS, "Q", since="queues_option"),
    Entry("xdp", _SELECTS | {Act.SERVE}),
    Entry("mptcp", _SELECTS | {Act.SERVE}, "M"),
    Entry("oneline", _ROWS, "O"),
    Entry("inet-sockopt", _TABLES),
    Entry("bpf-maps", _TABLES, since="bpf_maps"),
    Entry("bpf-map-id", _TABLES, argument="MAP-ID", since="bpf_maps"),
)
"""ss's options."""


def _mode(name: str, text: str, argument: str = "", values: tuple[str, ...] = ()) -> Entry:
    return Entry(name, _ALL, argument=argument, text=text, section="MODE", values=values)


def _own(section: str, name: str, argument: str, acts: frozenset[Act], text: str, **more: Any) -> Entry:
    return Entry(name, acts, argument=argument, text=text, section=section, **more)


_FROM: Final = "WHERE FROM"
_TO: Final = "WHERE TO"
_LONG: Final = "HOW LONG, AND HOW"

OWN: Final = (
    _mode("snapshot", "the table, once, exactly as ss prints it: put it where you would type ss"),
    _mode("watch", "the table, full screen, alive"),
    _mode("serve", "keep the live table, answer --snapshot and --watch --from live on a unix socket", "[=PATH]", _FILE),
    _mode("verify", "compare the live table with the kernel's again and again, report drift"),
    _mode("doctor", "what works on this machine, what is missing, what would bring it"),
    _mode(
        "fleet-schema", "the tables of --sink clickhouse, as SQL for clickhouse-client; =replicated: on every node of\n"
        "a cluster", "[=replicated]",
    ),
    _own(
        _FROM, "from", "SOURCE", _TABLES | _DIGESTS | _EXPLAINS | {Act.REPLAY, Act.WATCH_LIVE, Act.WATCH_PAST},
        "SOURCE := {netlink|live[:PATH]|FILE|DIR|clickhouse:URL}: the kernel (default), a serving sstrace, a "
        "recording, a directory of recordings of several hosts, a ClickHouse that holds the lines of many",
        values=("netlink", "live", "live:FILE", "FILE"),
    ),
    _own(
        _FROM, "host", "NAME", _PAST | {Act.REPLAY, Act.STATS_PAST, Act.EXPLAIN_PAST, Act.WATCH_PAST},
        "of the recordings in a directory, or a ClickHouse: those of these hosts, names or patterns (may be given "
        "again)",
        commas=True, many=True,
    ),
    _own(
        _FROM, "netns", "WHICH",
        _WAITS | _TABLES | {Act.REPLAY, Act.STATS_PAST, Act.WATCH_LIVE, Act.EXPLAIN, Act.EXPLAIN_LIVE},
        "look into these network namespaces (may be given again)\n"
        "WHICH := {all|NAME|PID|INODE|PATH}[,WHICH]\n"
        "NAME: of ip-netns(8), a container, a pod, a process",
        values=("all", "NETNS"), commas=True, many=True,
    ),
    _own(_FROM, "at", "TIME", frozenset((Act.PAST, Act.WATCH_PAST)),
        "with --snapshot and a recording: the table as it was then; --watch begins there",
    ),
    _own(
        _FROM, "between", "A B", frozenset((Act.BETWEEN, Act.REPLAY, Act.STATS_PAST, Act.EXPLAIN_PAST)),
        "with a recording: only this part of it; with --snapshot, what changed",
    ),
    _own(
        _FROM, "replay", "FILE", frozenset((Act.REPLAY, Act.STATS_PAST, Act.WATCH_PAST, Act.EXPLAIN_PAST)),
        "run a recording again (may be given again, for the files of a rotation); with --watch, go back and forth "
        "in it",
        values=_FILE, many=True, instead="name the recording with --from FILE",
    ),
    _own(
        _FROM, "speed", "X", frozenset((Act.REPLAY,)),
        "of a replay: 1 is life, 10 ten times, max as fast as it goes\n"
        "TIME := {2026-01-31T13:55:00Z|2026-01-31 13:55:00|\n"
        "         13:55:00.5|@SECONDS|+DURATION|-DURATION|#SEQ}\n"
        '("+" counts from the recording\'s start, "-" back from its end; no zone: this machine\'s, or UTC with '
        "--time utc)",
        values=("1", "10", "100", "max"),
    ),
    _own(
        _FROM, "explain", "WHICH", _EXPLAINS,
        "one connection: all that the kernel, a server or a recording knows of it, in order\n"
        "WHICH := {SRC:PORT-DST:PORT|SRC:PORT|#ID}\nin either order; an address may be left away; ID: of a recording's "
        "lines",
    ),
    _own(
        _TO, "json", "", _TELLS - _SERVES - _WATCHES,
        "NDJSON instead of text; a trace begins with its baseline, the sockets there are",
    ),
    _own(
        _TO, "no-baseline", "", _TRACES, "leave the baseline away, and tell events alone",
        needs=("--json", "--sink otlp"),
    ),
    _own(
        _TO, "life", "", _TRACES,
        "one line a connection, at its end: when, how long it lived, who, from or to whom, what it sent "
        "and received, round-trip time, what was sent again, cause; --json has all there is, as life lines",
    ),
    _own(
        _TO, "columns", "LIST", _TRACES,
        "the columns of text, joined by commas (else what a terminal has room for, and in files all):\n"
        "{time|host|netns|netid|from|to|held|lasted|process|uid|role|local|peer|peer-process|cause|"
        "sent|received|rtt|retransmits|container|pod|unit}",
        values=(
            "time", "host", "netns", "netid", "from", "to", "held", "lasted", "process", "uid", "role", "local", "peer",
            "peer-process", "cause", "sent", "received", "rtt", "retransmits", "container", "pod", "unit",
        ),
        commas=True,
    ),
    _own(
        _TO, "events", "WHAT", _TRACES,
        f"{{{'|'.join(_EVENTS)}}}[,WHAT]: what is told (default: state, of a recording all): transitions, "
        + ", ".join(sort.told for sort in SORTS),
        values=_EVENTS, commas=True,
    ),
    _own(
        _TO, "schema", "NAME", _TELLS - _SERVES - _WATCHES, "{native|ecs|otel}: the names of the JSON keys",
        needs=("--json",), values=("native", "ecs", "otel"),
    ),
    _own(
        _TO, "record", "FILE", _WAITS,
        "write the whole stream, for --replay and --from, beside whatever else sstrace does", values=_FILE,
    ),
    _own(
        _TO, "rotate", "SIZE,TIME", _WAITS, "start a new file at that size, or age (100M, 1h)",
        needs=("--record FILE",),
    ),
    _own(_TO, "keep", "N", _WAITS, "keep that many files", needs=("--rotate SIZE,TIME",)),
    _own(
        _TO, "output", "FILE", _ALL - _SERVES - _WATCHES,
        "append there instead of writing on standard output; SIGHUP begins a new file of that name", values=_FILE,
    ),
    _own(
        _TO, "parquet", "FILE", frozenset((Act.REPLAY,)),
        "of --replay, of recordings or a ClickHouse: the lines as rows of a Parquet file, which whatever reads columns "
        "reads",
        values=_FILE,
    ),
    _own(
        _TO, "html", "FILE", _DIGESTS,
        "of --stats: the same as a page for browsers, too: over time, who with whom, how long", values=_FILE,
    ),
    _own(
        _TO, "sink", "SINK", _TRACES,
        "SINK := {stdout|journald|syslog[:PATH]|otlp[:URL]|clickhouse:URL}: send events there (may be given again)\n"
        "clickhouse: an engine of many hosts, which gets all that --record writes, or with --replay a recording\n"
        "URL := http[s]://[USER@]HOST[:PORT][/DATABASE]\n"
        "the password: CLICKHOUSE_PASSWORD, or the file CLICKHOUSE_PASSWORD_FILE",
        values=("stdout", "journald", "syslog", "syslog:FILE", "otlp", "clickhouse"),
        many=True, instead="tables go to --output FILE",
    ),
    _own(
        _TO, "spool", "DIR,SIZE", frozenset((Act.TRACE,)),
        "where lines wait while an engine is away, and how many bytes of them (default 1G)",
        needs=("--sink clickhouse",), values=_FILE,
    ),
    _own(
        _TO, "on-full", "WHAT", _TRACES,
        "{block|drop} when the reader is slower than the events: wait (default), or leave lines out",
        values=("block", "drop"),
    ),
    _own(
        _TO, "metrics", "[=[ADDR:]PORT]", _WAITS - {Act.STATS}, "serve counters over HTTP (default 127.0.0.1:9435)",
    ),
    _own(
        _TO, "metrics-by", "WHAT", _WAITS - {Act.STATS},
        "{port|unit|container|pod|netns|owner}[,WHAT]: bytes and segments by these, too",
        needs=("--metrics",), values=("port", "unit", "container", "pod", "netns", "owner"), commas=True,
    ),
    _own(
        _TO, "color", "WHEN", _TRACES | _WATCHES, "{auto|always|never}; auto heeds NO_COLOR",
        values=("auto", "always", "never"),
    ),
    _own(
        _TO, "time", "HOW", _TRACES | _DIGESTS | _EXPLAINS | _PAST | _WATCHES | {Act.VERIFY},
        "{clock|iso|utc|delta|relative}: of events in text: time of day (on a terminal) or with the date "
        "(elsewhere), this machine's zone; UTC, --at and --between too; since the line before; since the "
        "first line",
        values=("clock", "iso", "utc", "delta", "relative"),
    ),
    _own(_LONG, "duration", "TIME", _WAITS | {Act.WATCH_LIVE}, "stop after 5, 1.5s, 5m, 2h"),
    _own(
        _LONG, "count", "N", _TRACES | _DIGESTS | _EXPLAINS | {Act.WATCH, Act.WATCH_LIVE},
        "stop after N events, or pictures of --watch; of --stats: the longest N lines",
    ),
    _own(
        _LONG, "ready-file", "PATH", _WAITS | {Act.REPLAY, Act.WATCH_LIVE},
        "make PATH once every hook is attached and the first table is in", values=_FILE,
    ),
    _own(
        _LONG, "interval", "TIME", _WATCHES | {Act.VERIFY},
        "between pictures of --watch and rounds of --verify",
    ),
    _own(
        _LONG, "poll", "TIME", _WAITS,
        "look at the kernel so often instead of tracing; takes no root\n"
        "(what comes and goes between two looks, and why anything closed, is not seen; without root, "
        "a trace and --watch look each second)",
    ),
    _own(
        _LONG, "stats", "", _DIGESTS | {Act.SERVE_STATS},
        "who connected to whom, how it ended, how long it took: of a recording, or from now on; "
        "--serve --stats counts, and --stats --from live asks for it",
    ),
    _own(_LONG, "group", "NAME", _SERVES, "of --serve: who may ask besides root", values=("GROUP",)),
    _own(
        _LONG, "keep-privileges", "", _SERVES,
        "a --serve that root started stays root, instead of becoming user sstrace or an unused one",
    ),
    _own(
        _LONG, "completions", "SHELL", _ALL, "print the completions for {bash|zsh|fish}: source <(sstrace …)",
        values=("bash", "zsh", "fish"),
    ),
    _own(
        _LONG, "quiet", "", _WAITS | {Act.REPLAY, Act.STATS_PAST, Act.WATCH_LIVE, Act.EXPLAIN_PAST},
        "no summary, no advice, no progress: only what is wrong is said",
        letters="q",
    ),
    _own(_LONG, "self-usage", "", _ALL, "at the end: CPU and memory that sstrace itself took"),
    _own(_LONG, "debug", "", _ALL, "of a bug in sstrace: show where, instead of leaving a report in a file"),
    _own(
        "ss OPTIONS", "ss-version", "X.Y", _ALL,
        "which ss to be identical to (default: the one installed, else the newest known)",
    ),
)  # fmt: skip
"""sstrace's own."""

ENTRIES: Final = {key: entry for entry in (*OWN, *SS) for key in (*entry.letters, entry.option.key)}
"""By what ``getopt`` yields."""

STATES: Final = Entry("a state", _TRACES | _ROWS | {Act.VERIFY})
FILTER: Final = Entry("a filter", _FILTERS, instead="leave it away, or give it to --serve --stats")
"""The words behind the options, which not every act looks at either."""

MODES: Final[Mapping[str, Mode]] = {mode.value: mode for mode in Mode if mode is not Mode.TRACE}
"""Option name → mode."""


def act_of(mode: Mode, own: Own) -> Act:
    """Give what a command line does: of a source that its mode cannot have, as if it were not there."""
    acts = [act for act in Act if act.mode is mode]
    does = "stats" if own.stats else "explain" if own.explain is not None else ""
    where = {act.source: act for act in acts if act.does == does} or {act.source: act for act in acts}
    kind = own.source.kind if own.source is not None else "file" if own.replay else "netlink"
    if own.replay and mode is Mode.TRACE:
        kind = "file"
    if kind == "file" and own.between is not None and "between" in where:
        return where["between"]
    return where.get(kind, where["netlink"])


def refusal(entry: Entry, word: str, act: Act) -> UsageError:
    """Make the sentence about ``word``, which means nothing to ``act``, and where it would."""
    where = [other.value for other in Act if other in entry.acts and other.value.startswith("--")]
    if entry.name == "from":
        where = [name.removesuffix(f" {word}") for name in where if name.endswith(f" {word}")]
    alone = [
        name.removesuffix(f" --{entry.name}")
        for name in where
        if name.split()[0] != f"--{entry.name}" and not any(name.startswith(f"{other} ") for other in where)
    ]
    advice = entry.instead or "leave it away"
    if Act.TRACE in entry.acts:  # a replay is one
        alone = ["in a trace", *(f"with {name}" for name in alone if name != Act.REPLAY.value)]
    elif alone:
        alone[0] = f"with {alone[0]}"
    if 0 < len(alone) < 5 and not entry.instead:
        advice += f", or use it {', '.join(alone[:-1])}{' or ' if alone[1:] else ''}{alone[-1]}"
    return UsageError(f"sstrace: {word} means nothing to {act.value}: {advice}")


def check(given: Sequence[tuple[str, tuple[str, ...]]], act: Act, own: Own) -> None:
    """Refuse what would be ignored. ``given``: keys and values, as ``getopt`` yielded them. Raises UsageError."""
    for key, _ in given:
        entry = ENTRIES[key]
        word = key if key[:1] == "-" else f"-{key}" if len(key) == 1 else f"--{key}"
        if act not in entry.acts:
            kind = own.source.kind if entry.name == "from" and own.source is not None else ""
            raise refusal(entry, f"--from {'FILE' if kind == 'file' else kind}" if kind else word, act)
        if entry.needs and not any(_stands(need, *one) for need in entry.needs for one in given):
            raise UsageError(f"sstrace: {word} means nothing without {' or '.join(entry.needs)}")


def _stands(need: str, key: str, values: tuple[str, ...]) -> bool:
    """Whether an option is the one needed: ``--record FILE`` with any value, ``--sink otlp`` with that."""
    name, _, value = need.partition(" ")
    return key == name and (value == value.upper() or values[0].partition(":")[0] == value)
