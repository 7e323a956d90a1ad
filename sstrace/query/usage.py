"""The two help texts: ss's own usage block, byte for byte for the release imitated, and sstrace's."""

from typing import Final

from sstrace.dialect import Dialect

__all__ = ["HELP", "ss_usage"]

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


HELP: Final = """\
Usage: sstrace [ MODE ] [ OPTIONS ] [ FILTER ]

sstrace is ss that never blinks: it prints every TCP state transition as it happens, and on request the socket
table, the same bytes that ss would print.

MODE
   (none)              trace: one line an event, until Ctrl-C
   --snapshot          the table, once, exactly as ss prints it: put it where you would type ss
   --watch             the table, full screen, alive
   --serve[=PATH]      keep the live table, answer --snapshot --from live on a unix socket
   --verify            compare the live table with the kernel's again and again, report drift
   --doctor            what works on this machine, what is missing, what would bring it

WHERE FROM
   --from SOURCE       SOURCE := {netlink|live[:PATH]|FILE}: the kernel (default), a serving sstrace, a recording
   --at TIME           with a recording: the table as it was then
   --between A B       with a recording: only this part of it; with --snapshot, what changed
   --replay FILE       run a recording again (may be given again, for the files of a rotation)
   --speed X           of a replay: 1 is life, 10 ten times, max as fast as it goes
       TIME := {2026-01-31T13:55:00Z|2026-01-31 13:55:00|13:55:00.5|@SECONDS|+DURATION|-DURATION|#SEQ}
               ("+" counts from the recording's start, "-" back from its end; no zone: this machine's,
                or UTC with --time utc)

WHERE TO
   --json              NDJSON instead of text, in every mode; a trace begins with its baseline, the sockets there are
   --no-baseline       of --json: leave the baseline away, and tell events alone
   --schema NAME       {native|ecs|otel}: the names of the JSON keys
   --record FILE       write the whole stream, for --replay and --from, beside whatever else sstrace does
   --rotate SIZE,TIME  start a new file at that size, or age (100M, 1h);  --keep N  keep that many
   --output FILE       append there instead of writing on standard output; SIGHUP begins a new file of that name
   --sink SINK         SINK := {stdout|journald|syslog[:PATH]|otlp[:URL]}: send events there (may be given again)
   --on-full WHAT      {block|drop} when the reader is slower than the events: wait (default), or leave lines out
   --metrics[=[ADDR:]PORT]  serve counters over HTTP (default 127.0.0.1:9435)
   --color WHEN        {auto|always|never}; auto heeds NO_COLOR
   --time HOW          {clock|iso|utc|delta|relative}: of events in text: time of day (on a terminal) or with the date
                       (elsewhere), this machine's zone; UTC, --at and --between too; since the line before; since the
                       first line

HOW LONG
   --duration TIME     stop after 5, 1.5s, 5m, 2h
   --count N           stop after N events
   --ready-file PATH   make PATH once every hook is attached and the first table is in
   --interval TIME     between pictures of --watch and rounds of --verify
   --poll TIME         how often the kernel is asked for what events do not tell
   --stats             who connected to whom, how it ended, how long it took: of a recording, or from now on;
                       --serve --stats counts, and --stats --from live asks for it
   --group NAME        of --serve: who may ask besides root
   --keep-privileges   a --serve that root started stays root, instead of becoming user sstrace or nobody
   --self-usage        at the end: CPU and memory that sstrace itself took

ss OPTIONS (the same in every mode)
   -t -u -w -x -M -S -d -0  --vsock --tipc --xdp   which sockets (tracing: TCP unless named)
   -A TABLES  -f FAMILY  -4  -6                    the same, by name and family
   -a  -l                                          all states; listening
   -n  -r                                          no service names; host names
   -p  -T  -e  -o  -i  -m  -O  -H                  processes, threads, details, timers, TCP info, memory, layout
   -N NAME                                         in a network namespace
   -F FILE                                         more filter, from a file
   -s  -E  -K  -D                                  of --snapshot: summary, destroyed sockets, kill, dump
   --ss-version X.Y    which ss to be identical to (default: the one installed, else the newest known)
   The whole list, as ss gives it: sstrace --snapshot --help

FILTER := [ state STATE | exclude STATE | from STATE | to STATE ]... [ EXPRESSION ]
   state, exclude      in a table: which rows; in a trace: transitions that enter or leave STATE, or do not
   from, to            in a trace: the state left, the state entered; several joined by commas
   STATE := {established|syn-sent|syn-recv|fin-wait-1|fin-wait-2|time-wait|closed|close-wait|last-ack|listening|closing|
             all|connected|synchronized|bucket|big}
   EXPRESSION := TEST | ( EXPRESSION ) | not EXPRESSION | EXPRESSION {and|or} EXPRESSION    (left to right)
   TEST := {src|dst} HOST[:PORT] | {sport|dport} OP PORT | dev NAME | fwmark MARK[/MASK] | cgroup PATH |
           autobound | held OP DURATION
   OP := {=|!=|>=|<=|>|<}          held: how long the socket has been in its state

EXIT STATUS
   0 done, or Ctrl-C     1 no such host, device, cgroup, namespace     2 --verify found drift
   3 privilege missing   4 kernel feature or package missing           5 unreadable data
   255 the command line is wrong

EXAMPLES
   sstrace                                               every TCP transition on this machine
   sstrace -n from syn-sent to established dport = :443  connections that came about
   sstrace to close-wait                                 peers that hung up first
   sstrace --snapshot -tlp                               ss -tlp
   sstrace --watch state established 'held > 5m'         connections that live long
   sstrace --record day.ndjson --rotate 100M --keep 24   keep the history
   sstrace --snapshot --from day.ndjson --at 13:55 -tan  the table as it was at five to two
"""
"""sstrace's own help: --help without --snapshot."""
