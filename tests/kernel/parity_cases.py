"""The command lines of the parity test, and a generator of more. Words only; what they mean is ss's business.

A line is written as in a shell, so that it can be pasted there after ``ss``.
"""

import re
import shlex
from pathlib import Path

from hypothesis import strategies as st

__all__ = ["STATES", "command_lines", "promised_lines", "random_lines"]

STATES = [
    "established",
    "syn-sent",
    "syn-recv",
    "syn-rcv",
    "fin-wait-1",
    "fin-wait-2",
    "time-wait",
    "closed",
    "close",
    "unconnected",
    "close-wait",
    "last-ack",
    "listening",
    "closing",
    "all",
    "connected",
    "synchronized",
    "bucket",
    "big",
    "UNKNOWN",
    "ESTABLISHED",
    "Syn-Sent",
]

TUTORIALS = """

-l
-a
-at
-au
-ax
-aw
-a4
-a6
-t -r state established
-t -r state listening
-a state established '( dport = :https or sport = :https )'
-a '( dport = :ssh or sport = :ssh )'
-a '( dport = :22 or sport = :22 )'
-a dst 192.168.4.25
-tp
-A tcp
-ua
-x
-xa
-nt
-ltn
-lun
-ltp
-s
-nto
-tl -f inet
-tl6
-tl -f inet6
-t4 state established
-tulpn
-tuln
-tunap
-antup
-tlnp
-tnlp4
-plunt
-tan state time-wait
-o state established '( dport = :ssh or sport = :ssh )'
-o state fin-wait-1 '( sport = :http or sport = :https )' dst 193.233.7/24
-a -A 'all,!tcp'
-t state fin-wait-1
-lnt '( sport > 1023 )'
-tn sport gt 1024
-tan dst 127.0.0.1:22
-tan 'dport != :22'
-xln
-xp
-tie
-tm
-tmie
-eipn
-s -t
-4 state fin-wait-2
-4 state closing
-tn4 -o state syn-sent
-an | sport = :22
"""

SHAPES = """
-H
-Hn
-Htan
-O
-Otaie
-Otamie
-Oampie
-Htaio
-tH state listening
-Htn dst 1.2.3.4
-t dst 1.2.3.4
-ta4Hn
-taQ
-h
--help
-V
-v
--version
-f help
-f
-A
-tanpT
-tanT
-tZ
-tz
-Z
-tanb
-aeb
-a0eb
-a0ebn
-a0m
-0
-a0
-f link -a
-0 -t
-0t -a
-b0a -O
-A packet -aebmO
-A packet
-A packet_raw -ae
-A packet_dgram -ae
-A p_raw,p_dgr -an
-f netlink
-f netlink -a
-f netlink -n
-f netlink -e
-f netlink -m
-f netlink -emn
-f netlink -emnO
-f netlink -p
-A netlink -a
-A netlink
-A netlink,tcp -an
-x -A tcp
-x -A tcp -a
-t -A udp
-A udp -t
-A udp
-u
-ue
-uae
-ui
-uai
-uam
-uamie
-uami -O
-uo
-uapn
-uapnT
-uae --tos
-uae --cgroup
-uae --inet-sockopt
-uae --inet-sockopt -O
-uar
-w
-wa
-wan
-wae
-wai
-wamp
-wl
-wlp
-wM -an
-uM -an
-tM -an
-M
-Ma
-Mae
-Mai
-Mani
-Maie
-Maiem
-MaO -im
-Ml
-Mp
-Map --tos
-S
-Sa
-d
-da
-dSt -an
--vsock
--vsock -a
--xdp
--xdp -a
--tipc
--tipc -a
--tipc --tipcinfo -a
-A v_str,v_dgr -a
-A xdp -a
-A tipc -a
-A inet -an
-A inet
-A all -an
-A all
-A unix -a
-A u_str -a
-A u_dgr -a
-A u_seq -a
-A u_str,u_seq -a
-A unix_stream,unix_dgram,unix_seqpacket -l
-A 'unix,!u_dgr' -a
-A '!tcp'
-A 'all,!tcp' -an
-A 'all,!unix' -an
-A tcp,udp,raw -an
-A raw -a
-A sctp,dccp -a
-A mptcp -a
-A tcp -A udp -an
-l -A tcp
-A tcp -l
-a -A netlink
-xe
-xae
-xaen
-xam
-xaem
-xaeO
-xap
-xaT
-xai
-xar
-xl
-xle
-xlp
-xo
-x4
-x -t
-xt -a
-xu -an
-4
-6
-4 -6
-6 -4
-4 -6 -a
-6 -4 -an
-46tan
-4 -t -a
-6 -t -a
-4 -u -a
-6 -u -a
-4 -x -a
-x -4 -a
-f inet -a
-f inet6 -a
-f unix -a
-f inet -f inet6 -an
-l4
-l6
-lx
-la
-al
-ta
-tal
-tla
-tl
-tln
-te
-tea
-tae
-taen
-taeo
-tao
-taon
-tanoe
-tai
-tani
-tanio
-tanie
-taniem
-tanm
-tam
-tanim
-tanimeo --tos --cgroup --inet-sockopt
-tanimeo --tos --cgroup --inet-sockopt -O
-tanimeop --tos --cgroup --inet-sockopt -O
-tanimeopT --tos --cgroup --inet-sockopt
-ta --tos
-ta --cgroup
-tae --cgroup
-ta --inet-sockopt
-tan --tos --inet-sockopt
-ta -O --inet-sockopt
-t4i
-t6i
-tli
-tlie
-tlm
-tlmi
-tlo
-tlep
-tlepn
-tr
-tra
-tar
-tarn
-tna
-tanr
-lr
-s -H
-s -n
-s -x
-sta
-s -l
--summary
--all --tcp --numeric
--listening --tcp
--lis --tc
--num --al --ud
--tcp --numeric --processes
--ext -t
--opt -t
--mem -t
--info -t
--no-header -t
--oneline -ti
--one -ti
--unix --all
--raw --all
--packet --all
--ipv4 --tcp --all
--ipv6 --tcp --all
--family=inet --tcp
--family inet6 --tcp -a
--query=tcp -a
--query tcp,udp -a
--socket tcp -a
--threads -ta
--mptcp --all
--sctp
--dccp
--resolve -ta
--extended --memory --info --options -tan
--bpf --packet --all
--tos -tan
--cgroup -tan
--inet-sockopt -tan
--net
-tan -- sport = :22
-t -- -a
-tan '' sport = :22
-t state established -a
state established -ta
-ta state
-ta state listening state established
-tan exclude established
-tan exclude time-wait exclude listening
-tan excl established
-tan excl all
-tan exclude all
-t exclude all
-tan exclude listening state listening
-l exclude listening
-tan state listening exclude listening
-tan state all exclude established
-an state listening
-an state closed
-an state bucket
-an exclude connected
-ta state established src 127.0.0.1
-ta state listening sport = :22
-ua state unconnected
-ua state closed
-ua state established
-ua state listening
-xa state listening
-xa state established
-xa state connected
-xa state closed
-xa state all
-0a state closed
-0 state established
-wa state unconnected
-f netlink state closed
-f netlink state established
"""

ERRORS = """
-y
--nonsense
--a
--t
--ipv
--tip
-f foo
-f
-A foo
-A tcp,
-A ,
-A ''
-A TCP
-A '!foo'
-A 'tcp, udp'
-t state
-t state foo
-t state listen
-t state estab
-t state new-syn-recv
-t exclude foo
-t state bound-inactive
-B
-Q
--bpf-maps
-N nosuchnamespace
-F /nonexistent -t
-D
-t src
-t src != 1.2.3.4
-t and
-t or src 1.2.3.4
-t src 1.2.3.4 and
-t '( src 1.2.3.4'
-t src 1.2.3.4 )
-t 1.2.3.4 5.6.7.8
-t sport = nosuchservice
-t sport = :nosuchservice
-t sport = :70000
-t sport = :-1
-t dport = 1.2.3.4:22
-t src 1.2.3.4/33
-t src 1.2.3.4/-1
-t src 256.1.1.1
-t src 1.2.3.4.5
-t src '[fe80::]/10'
-t src fe80::/129
-t src ::1
-t src '[::1'
-t src '[::1]x'
-t dev nosuchdev
-t dev = 9999
-t fwmark = foo
-t fwmark
-t fwmark = 1/
-t cgroup = /nonexistent
-t cgroup
-t !sport = :22
-t '(sport = :22)'
-t sport=:22
-t sport = :22 sport = :23 and
-t sport >
-t sport ! 22
-t not
-t ! !
-t inet: src
-t src inet6:127.0.0.1
-t src link:ip
-t src foo:bar:baz
-t '( src inet6:[::1] or src 127.0.0.1 )'
-M sport = :http
-w sport = :http
-x src
-0 src nosuchproto
-0 src ip:nosuchdev
-f netlink src nosuchproto
-f netlink src rtnl:foo
--vsock src foo
-t autobound = 1
-t sport = :22 trailing
-t state established foo bar
-t dst nosuch.invalid
"""

FILTERS = """
dport = 22
dport 22
sport = :22
sport 22
sport = ssh
sport = :ssh
sport = 0x16
sport = 026
sport eq 22
sport == 22
sport != 22
sport ne 22
sport neq 22
sport >= 9000
sport ge 9000
sport geq 9000
sport <= 80
sport le 80
sport leq 80
sport > 9000
sport gt 9000
sport < 80
sport lt 80
'sport > :1024'
sport = inet:22
sport = inet6:22
sport = *
dport = :0
sport = :0
'( sport = :22 )'
'( sport = :22 or sport = :80 )'
sport = :22 or sport = :80 and dst 127.0.0.1
sport = :22 and dst 127.0.0.1 or sport = :80
'sport = :22 or ( sport = :80 and dst 127.0.0.1 )'
sport = :22 dport != :0
sport = :22 '|' sport = :80
sport = :22 '||' sport = :80
sport = :22 '&' src 127.0.0.1
sport = :22 '&&' src 127.0.0.1
! sport = :22
not sport = :22
! '( sport = :22 or sport = :80 )'
! ! sport = :22
not not src 127.0.0.1
src 127.0.0.1
src = 127.0.0.1
src == 127.0.0.1
src 127.0.0.1:22
src 127.0.0.1:ssh
src 127/8
src 127.1
src 127.0.0.0/8
src 127.0.0.0/255.0.0.0
src 127.0.0.1/32:80
src 0.0.0.0
src 0.0.0.0/0
src 0.0.0.0:22
src any
src all
src default
src *
src '*:22'
src :22
src inet:127.0.0.1
src inet:*
src inet6:*
src '[::1]'
src '[::1]:443'
src '[::]'
src '[::]:22'
src '[::]/0'
src ::1/128
src fe80::/10
src '[fe80::99]'
src '[fe80::99/64]'
src '[fd99::1]'
src '[fe80::99%v0]'
src fd99::/16
src '[::ffff:127.0.0.1]'
src ::ffff:127.0.0.0/104
src inet6:[::1]
src 10.99.0.1
dst 10.99.0.77
dst 10.99.0.77:7005
dst '[fd99::77]'
dst 10.99.0.0/24
dst fd99::/64
dst 192.168.4.25
dst 0.0.0.0
dst *
dst any
dst '[::]'
dst :53
dst 127.0.0.1 and dport = :80
src localhost
dst localhost
src localhost:22
src localhost or dev lo
src 127.0.0.1 or src '[::1]'
src 10.99.0.1 src :9443
dev lo
dev v0
dev = v0
dev == v0
dev != v0
dev != lo
dev = 1
dev 0
dev lo or dev v0
dev v0 and sport = :5432
! dev v0
dev if1
dev if+1
dev 'if\\ 1'
dev if-1
dev if4294967297
dev if18446744073709551617
fwmark = 7
fwmark = 0
fwmark 0x2a
fwmark = 0x1f
fwmark = 0x10/0x10
fwmark = 0/0xff
fwmark != 0
fwmark != 42
fwmark = 0xabcdef01
fwmark = 0x80000000/0x80000000
fwmark = 7x
cgroup = /
cgroup /sys/fs/cgroup/unified
cgroup != /sys/fs/cgroup/unified
autobound
! autobound
autobound and sport > 40000
autobound or sport = :22
sport > 32767 and dport < 1024
'sport = :22 or sport = :80 or sport = :443 or dport = :22 or dport = :80'
'( ( sport = :22 ) )'
'( sport = :22 ) or ( dport = :22 )'
'( sport = :22 ) ( dst 127.0.0.1 )'
'src 127.0.0.1 sport = :22'
'src 127.0.0.1
  and sport = :22'
sport = :http
sport = :https
sport = :domain
sport = :6379
sport = :9100
"""

FAMILY_FILTERS = """
-xa src *
-xa src '*stream*'
-xa src '*STREAM'
-xa src '/tmp/*'
-xa src unix:@*
-xa src '@sstrace*'
-xa src '?in@*'
-xa src ''
-xa dst *
-xa dst x
-xa sport = 1
-xa sport '>=' 1
-xa sport = '*log'
-xa autobound
-xa ! autobound
-an src unix:/tmp/*
-an src unix:*
-tx src 127.0.0.1
-txa src '*'
-an src link:*
-an src link:ip
-0a src ip
-0a src IP
-0a src *:lo
-0a src arp:v0
-0a src 0x1234
-0a src 2054:lo
-0a sport = lo
-0a sport = v0
-0a dev lo
-0a autobound
-0a src all
-f netlink src rtnl
-f netlink src rtnl:kernel
-f netlink src rtnl:4242
-f netlink src 0
-f netlink src *:kernel
-f netlink sport = 4242
-f netlink sport = kernel
-f netlink autobound
-f netlink dst rtnl
-f netlink dst 4
-f netlink dst 2:5151
-an src netlink:rtnl
-an sport = :0
-an autobound
-an dev lo
-an dev != lo
-ua sport = :domain
-ua sport = :53
-ua dst 192.168.4.25
-ua src 224.0.0.251
-ua dport = :53
-ua autobound
-ua fwmark = 7
-uta sport = :domain
-uta sport = :ntp
-ta sport = :ntp
-wa sport = 1
-wa sport = :1
-wan sport = 255
-wa src 127.0.0.1
-Ma sport = 9443
-Ma src 10.99.0.1
-Ma dport = :9443
-Ma '( ! src netlink:rtnl src = inet6:[::1] )'
-a '( ! src netlink:rtnl src = inet6:[::1] )'
-s sport = :22
-4ta src 127.0.0.1
-6ta src 127.0.0.1
-4ta src [::1]
-6ta src [::1]
-4ta sport = :22
-6ta sport = :22
-taf inet6 sport = inet:22
-ta4 src inet6:[::1]
"""


def promised_lines() -> list[tuple[str, ...]]:
    """What README's two tables say that may be typed: the words after ``ss``."""
    text = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    section = text.split("What the tutorials of ss type", 1)[1].split("\n## ", 1)[0]
    rows = [row for row in section.splitlines() if row.startswith("| ")]
    commands = [shlex.split(found) for row in rows for found in re.findall(r"`ss\b([^`]*)`", row.split(" | ")[1])]
    states = [["state", found] for row in rows for found in re.findall(r"`([a-z0-9-]+)`", row.split(" | ")[0])]
    return [tuple(words) for words in (*commands, *states)]


def command_lines() -> list[tuple[str, ...]]:
    """Every fixed case: the words after ``ss``; no duplicates."""
    lines = promised_lines()
    lines += [tuple(shlex.split(line)) for block in (TUTORIALS, SHAPES, ERRORS) for line in block.split("\n")]
    lines += [("-tan", *_words(line)) for line in _lines(FILTERS)]
    lines += [("-Han", *_words(line)) for line in _lines(FILTERS)[::4]]
    lines += [tuple(shlex.split(line)) for line in FAMILY_FILTERS.strip().split("\n")]
    lines += [("-ta", "state", state) for state in STATES]
    lines += [("-tn", "state", state) for state in STATES]
    lines += [("-ano", "state", state) for state in STATES]
    lines += [(table, *scope, *detail) for table in _TABLES for scope in ((), ("-a",), ("-l",)) for detail in _DETAILS]
    return list(dict.fromkeys(lines))


_TABLES = ("-t", "-u", "-w", "-x", "-M", "-0", "-4", "-6")
_DETAILS = ((), ("-n",), ("-en",), ("-pn",), ("-min",), ("-Hm",))


def _lines(block: str) -> list[str]:
    """Lines of a block; a line that begins with blanks continues the one before (newline kept)."""
    result: list[str] = []
    for line in block.strip("\n").split("\n"):
        if line.startswith(" "):
            result[-1] += "\n" + line
        else:
            result.append(line)
    return result


def _words(line: str) -> list[str]:
    """As a shell without globbing would split it: comparison signs stand for themselves."""
    return shlex.split(line)


# ----------------------------------------------------------------------------------------------------------- generator

_OPTIONS = (
    *[
        "-t",
        "-u",
        "-w",
        "-x",
        "-M",
        "-0",
        "-4",
        "-6",
        "-a",
        "-l",
        "-n",
        "-e",
        "-o",
        "-m",
        "-p",
        "-T",
        "-i",
        "-H",
        "-O",
        "-b",
        "--tos",
        "--cgroup",
        "--inet-sockopt",
        "-S",
        "-d",
        "-r",
    ],
    *(
        [
            "-A tcp",
            "-A udp",
            "-A all",
            "-A inet",
            "-A u_str,tcp",
            "-f inet",
            "-f inet6",
            "-f unix",
            "-A !tcp",
            "-A all,!unix",
            "-f link",
        ]
    ),
)
_HOSTS = [
    "127.0.0.1",
    "127.0.0.1:22",
    "127/8",
    "[::1]",
    "[::1]:443",
    ":22",
    ":ssh",
    "*",
    "*:80",
    "10.99.0.1",
    "10.99.0.0/24:9443",
    "[fd99::1]",
    "fe80::/10",
    "any",
    "inet:10.99.0.1",
    "inet6:[::1]",
    "0.0.0.0",
    "[::]",
    "[::ffff:127.0.0.1]",
    "localhost",
    "unix:*",
    "0.0.0.0/0",
    "::/0",
    "link:*",
    "netlink:rtnl",
]
_PORTS = ["22", ":22", "ssh", ":80", ":443", "1024", ":32768", "9443", ":http", "0", "60000", "inet:22", "*"]
_COMPARE = ["=", "==", "!=", ">=", "<=", ">", "<", "eq", "ne", "ge", "le", "gt", "lt"]

_primary = st.one_of(
    st.tuples(st.sampled_from(["src", "dst", "src =", "dst ="]), st.sampled_from(_HOSTS)).map(" ".join),
    st.tuples(st.sampled_from(["sport", "dport"]), st.sampled_from(_COMPARE), st.sampled_from(_PORTS)).map(" ".join),
    st.sampled_from(
        ["dev lo", "dev v0", "dev != lo", "fwmark = 7", "fwmark != 0", "autobound", "cgroup = /sys/fs/cgroup/unified"]
    ),
)
_expression = st.recursive(
    _primary,
    lambda inner: st.one_of(
        inner.map(lambda e: f"( {e} )"),
        inner.map(lambda e: f"! {e}"),
        st.tuples(inner, st.sampled_from([" and ", " or ", " ", " & ", " || "]), inner).map("".join),
    ),
    max_leaves=6,
)


def _split(parts: tuple[list[str], list[str], str | None]) -> tuple[str, ...]:
    options, states, expression = parts
    words = [word for option in options for word in option.split(" ")]
    words += [word for state in states for word in ("state", state)]
    return (*words, *([] if expression is None else [expression]))


def random_lines() -> st.SearchStrategy[tuple[str, ...]]:
    """Option combinations with states and filter expressions, as words."""
    return st.tuples(
        st.lists(st.sampled_from(_OPTIONS), max_size=6, unique=True),
        st.lists(st.sampled_from(STATES), max_size=2),
        st.none() | _expression,
    ).map(_split)
