"""The two help texts: ss's own usage block, byte for byte for the release imitated, and sstrace's."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from sstrace.dialect import Dialect
from sstrace.query.catalog import OWN, SS, Entry
from sstrace.query.command import Act

if TYPE_CHECKING:
    from sstrace.query.words import Word

__all__ = ["brief_text", "help_text", "ss_usage"]

# (text, first release that prints it). The block is ss's interface: scripts and completions read it. Verified against
# 6.1.0; the three later options stand where 6.8 and 6.9 put them.
_ANY: Final = (0, 0)
_USAGE: Final = (
    (
        """\
Usage: ss [ OPTIONS ]
       ss [ OPTIONS ] [ FILTER ]
   -h, --help          this message
   -V, --version       output version information
   -n, --numeric       don't resolve service names
   -r, --resolve       resolve host names
   -a, --all           display all sockets
   -l, --listening     display listening sockets
""",
        _ANY,
    ),
    (
        """\
   -B, --bound-inactive display TCP bound but inactive sockets
""",
        (6, 8),
    ),
    (
        """\
   -o, --options       show timer information
   -e, --extended      show detailed socket information
   -m, --memory        show socket memory usage
   -p, --processes     show process using socket
   -T, --threads       show thread using socket
   -i, --info          show internal TCP information
       --tipcinfo      show internal tipc socket information
   -s, --summary       show socket usage summary
       --tos           show tos and priority information
       --cgroup        show cgroup information
   -b, --bpf           show bpf filter socket information
""",
        _ANY,
    ),
    (
        """\
       --bpf-maps      show all BPF socket-local storage maps
       --bpf-map-id=MAP-ID    show a BPF socket-local storage map
""",
        (6, 9),
    ),
    (
        """\
   -E, --events        continually display sockets as they are destroyed
   -Z, --context       display task SELinux security contexts
   -z, --contexts      display task and socket SELinux security contexts
   -N, --net           switch to the specified network namespace name

   -4, --ipv4          display only IP version 4 sockets
   -6, --ipv6          display only IP version 6 sockets
   -0, --packet        display PACKET sockets
   -t, --tcp           display only TCP sockets
   -M, --mptcp         display only MPTCP sockets
   -S, --sctp          display only SCTP sockets
   -u, --udp           display only UDP sockets
   -d, --dccp          display only DCCP sockets
   -w, --raw           display only RAW sockets
   -x, --unix          display only Unix domain sockets
       --tipc          display only TIPC sockets
       --vsock         display only vsock sockets
       --xdp           display only XDP sockets
   -f, --family=FAMILY display sockets of type FAMILY
       FAMILY := {inet|inet6|link|unix|netlink|vsock|tipc|xdp|help}

   -K, --kill          forcibly close sockets, display what was closed
   -H, --no-header     Suppress header line
""",
        _ANY,
    ),
    (
        """\
   -Q, --no-queues     Suppress sending and receiving queue columns
""",
        (6, 9),
    ),
    (
        """\
   -O, --oneline       socket's data printed on a single line
       --inet-sockopt  show various inet socket options

   -A, --query=QUERY, --socket=QUERY
       QUERY := {all|inet|tcp|mptcp|udp|raw|unix|unix_dgram|unix_stream|unix_seqpacket|packet|packet_raw|packet_dgram|\
netlink|dccp|sctp|vsock_stream|vsock_dgram|tipc|xdp}[,QUERY]

   -D, --diag=FILE     Dump raw information about TCP sockets to FILE
   -F, --filter=FILE   read filter information from FILE
       FILTER := [ state STATE-FILTER ] [ EXPRESSION ]
       STATE-FILTER := {all|connected|synchronized|bucket|big|TCP-STATES}
         TCP-STATES := {established|syn-sent|syn-recv|fin-wait-{1,2}|time-wait|closed|close-wait|last-ack|listening|\
closing}
          connected := {established|syn-sent|syn-recv|fin-wait-{1,2}|time-wait|close-wait|last-ack|closing}
       synchronized := {established|syn-recv|fin-wait-{1,2}|time-wait|close-wait|last-ack|closing}
             bucket := {syn-recv|time-wait}
                big := {established|syn-sent|fin-wait-{1,2}|closed|close-wait|last-ack|listening|closing}
""",
        _ANY,
    ),
)


_DCCP: Final = "   -d, --dccp          display only DCCP sockets\n"


def ss_usage(dialect: Dialect) -> str:
    """Give ss's usage text: what -h writes on standard output, and a usage error on standard error."""
    usage = "".join(text for text, since in _USAGE if dialect.version >= since)
    return usage if dialect.dccp else usage.replace(_DCCP, "").replace("|dccp", "")


_HEAD: Final = """\
Usage: sstrace [ MODE ] [ OPTIONS ] [ FILTER ]

"""
_WHAT: Final = (
    "sstrace is ss that never blinks: it prints every TCP state transition as it happens, and on request the socket "
    "table, the same bytes that ss would print."
)
_LANGUAGE: Final = """\
   The whole list, as ss gives it: sstrace --snapshot --help

FILTER := [ STATES ]... [ EXPRESSION ]
   STATES := state STATE | exclude STATE | from STATE | to STATE | ended
   state, exclude      in a table: which rows; in a trace: transitions
                       that enter or leave STATE, or do not
   from, to            in a trace: the state left, the state entered;
                       several joined by commas
   ended               in a trace: the end of each connection, once,
                       with its cause
                       (all of these may stand behind the expression,
                       too, and STATE be written CLOSE_WAIT or estab;
                       only --snapshot takes ss's way alone)
   STATE := {established|syn-sent|syn-recv|fin-wait-1|fin-wait-2|
             time-wait|closed|close-wait|last-ack|listening|closing|
             all|connected|synchronized|bucket|big}
   EXPRESSION := TEST | ( EXPRESSION ) | not EXPRESSION |
                 EXPRESSION {and|or} EXPRESSION    (left to right)
   TEST := {src|dst} HOST[:PORT] | {sport|dport} OP PORT | dev NAME |
           fwmark MARK[/MASK] | cgroup PATH | autobound |
           port OP PORT | host HOST[:PORT] | pid PID | comm NAME |
           user USER | container ID | pod POD | unit UNIT |
           role ROLE | cause CAUSE | netns NAME |
           {held|lifetime|rtt} OP DURATION |
           {sent|received} OP BYTES | retransmits OP NUMBER
   OP := {=|!=|>=|<=|>|<}; left away: =
"""
_REST: Final = """
EXIT STATUS
   0    done, or Ctrl-C
   1    no such host, device, cgroup, namespace; output that cannot be written
   2    --verify found drift
   3    privilege missing
   4    kernel feature or package missing
   5    unreadable data
   6    --verify compared nothing
   255  the command line is wrong

EXAMPLES
"""
_EXAMPLES: Final = (
    ("sstrace", "every TCP transition on this machine"),
    ("sstrace -n from syn-sent to established dport = :443", "connections that came about"),
    ("sstrace -n comm nginx port 443", "what one program does"),
    ("sstrace --life -n port 443", "each connection in a line, at its end: how long, how much"),
    ("sstrace to close-wait", "peers that hung up first"),
    ("sstrace -u", "who opens UDP sockets, and to whom"),
    ("sstrace --json ended dport = :5432", "how each connection to a database ended, and how long it lived"),
    ("sstrace --snapshot -tlp", "ss -tlp"),
    ("sstrace --watch state established 'held > 5m'", "connections that live long"),
    ("sstrace --record day.ndjson --rotate 100M --keep 24", "keep the history"),
    ("sstrace --snapshot --from day.ndjson --at 13:55 -tan", "the table as it was at five to two"),
)
# What stands in one line of the help, and what it is for.
_GROUPS: Final = (
    (("tcp",), "which sockets; the default of all but --snapshot"),
    (("udp", "raw", "mptcp"), "others, by events too"),
    (
        ("unix", "packet", "vsock", "xdp", "sctp", "dccp", "tipc"),
        "others, which no events tell of",
    ),
    (("query", "family", "ipv4", "ipv6"), "the same, by name and family"),
    (("all", "listening"), "all states; listening"),
    (("bound-inactive",), "bound, but neither connected nor listening (ss 6.8)"),
    (("numeric",), "no service names"),
    (("resolve",), "host names"),
    (("processes",), "whose they are"),
    (
        ("options", "extended", "memory", "info", "oneline", "tos", "cgroup"),
        "timers, details, TCP info, layout",
    ),
    (
        ("threads", "context", "contexts", "bpf", "tipcinfo", "inet-sockopt", "bpf-maps", "bpf-map-id"),
        "threads, SELinux, more details",
    ),
    (("no-header",), "no column titles"),
    (("no-queues",), "no queues (ss 6.9)"),
    (("net",), "in a network namespace"),
    (("filter",), "more filter, from a file"),
    (("events",), "sockets as they are destroyed"),
    (("summary", "kill"), "summary; close what is listed"),
    (("diag",), "dump TCP rows"),
    (("help", "version"), "this; of sstrace, and of the ss that it is identical to"),
)


_BRIEF: Final = """\
sstrace is ss that never blinks: every TCP state transition as it happens, and
the socket table, the same bytes that ss prints.

   sstrace                       every transition on this machine, until Ctrl-C
   sstrace --life                a line a connection: how long, how much, why
   sstrace -n port 443           of one port, numbers for names
   sstrace comm nginx            of one program; also pid 4711, user www-data
   sstrace to close-wait         peers that hung up first
   sstrace --watch               the table, full screen, alive
   sstrace --snapshot -tlp       the table, once: where you would type ss -tlp
   sstrace --stats               who connected to whom, how it ended: at Ctrl-C
   sstrace --json                the same as a trace, one JSON object a line
   sstrace --record day.ndjson   keep the history; afterwards:
   sstrace --snapshot --from day.ndjson --at 13:55 -tanp

   -n numbers   -p processes   -t TCP   -4 -6 family   -a all   -l listening
   A line tells how long the state before had lasted (7.5s), who holds the
   socket (name/pid/descriptor; ~ before who listens, while nobody has accepted)
   and of an end its cause ([reset-sent]).

Root sees everything; without, sstrace looks at the table once a second.
sstrace --doctor says what works here. sstrace --help is the whole of it.
"""


def brief_text() -> str:
    """Give the help of -h: what people do first, on one screen of 80 columns."""
    return _BRIEF


def help_text(width: int = 80) -> str:
    """Give sstrace's own help: --help without --snapshot. No line is wider than ``width``, 80 at least."""
    sections: dict[str, list[str]] = {}
    for entry in OWN:
        sections.setdefault(entry.section, []).append(_described(entry, width))
    sections["MODE"].insert(0, _entry("(none)", "trace: one line an event, until Ctrl-C", width))
    sections["ss OPTIONS"][:0] = _groups(width)
    head = _HEAD + "".join(f"{line}\n" for line in _folded(_WHAT, width)) + "\n"
    body = "\n".join(f"{section}\n{''.join(lines)}" for section, lines in sections.items())
    examples = "".join(f"   {command}\n      {text}\n" for command, text in _EXAMPLES)
    return head + body + _LANGUAGE + _words(width) + _REST + examples


def _words(width: int) -> str:
    """Of sstrace's own tests, a line each; where not everywhere that a filter may stand, where."""
    from sstrace.query.words import WORDS  # for a help alone: a snapshot asks for ss's usage here

    indent = 5 + max(map(len, WORDS))
    return "".join(_entry(word.name, f"{word.meaning}{_where(word)}", width, indent) for word in WORDS.values())


def _where(word: "Word") -> str:
    where = [text for act, text in _PLACES if act in word.acts]
    return f" ({', '.join(where)})" if len(where) < len(_PLACES) else ""


_PLACES: Final = (
    (Act.TRACE, "events"),
    (Act.SNAPSHOT, "--snapshot"),
    (Act.PAST, "--from"),
    (Act.WATCH, "--watch"),
    (Act.VERIFY, "--verify"),
)


def _described(entry: Entry, width: int) -> str:
    letters = "".join(f"-{letter}, " for letter in entry.letters)
    argument = entry.argument if entry.argument[:2] in ("", "[=") else f" {entry.argument}"
    return _entry(f"{letters}--{entry.name}{argument}", entry.text, width)


_INDENT: Final = 23


def _entry(name: str, text: str, width: int, indent: int = _INDENT) -> str:
    """A name and what there is to say of it, whose lines stand below one another; a long name has a line of its own."""
    lines = [line for paragraph in text.split("\n") for line in _folded(paragraph, width - indent)]
    first = f"   {name:<{indent - 5}}  "
    if len(first) > indent:
        return f"   {name}\n" + "".join(f"{'':<{indent}}{line}\n" for line in lines)
    return first + f"\n{'':<{indent}}".join(lines) + "\n"


def _folded(text: str, width: int) -> Iterator[str]:
    """Lines of at most ``width``, cut at blanks, and where a word is longer than that, behind its "|" and commas."""
    line = ""
    for word in text.split(" "):
        if line and len(line) + 1 + len(word) > width:
            yield line
            line = ""
        line = f"{line} {word}" if line else word
        while len(line) > width:
            at = max(line.rfind(sign, 0, width) for sign in "|,") + 1 or width
            yield line[:at]
            line = line[at:]
    yield line


def _groups(width: int) -> Iterator[str]:
    entries = {entry.name: entry for entry in SS}
    for names, text in _GROUPS:
        found = [entries[name] for name in names]
        words = " ".join(f"-{one.letters[0]}" if one.letters else f"--{one.name}" for one in found)
        argument = f" {found[0].argument}" if found[0].argument and not found[1:] else ""
        yield _entry(words + argument, f"{text}{_of(found[0])}", width)


def _of(entry: Entry) -> str:
    if Act.TRACE in entry.acts:
        return ""
    where = [act.value for act in (Act.SNAPSHOT, Act.WATCH, Act.VERIFY, Act.SERVE) if act in entry.acts]
    return f" (of {' and '.join(where)})"
