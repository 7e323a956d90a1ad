"""Every word that ss refuses, and many that it takes: our streams and exit code against those of the real ss.

The comparison is of both streams, byte for byte, and of the exit code. In a fresh network namespace the inet tables
are empty, so a command line that is accepted prints a header (or nothing), whose visible columns tell how tables and
states were settled. Ours runs in a fork of this process, which already has Python and the package in memory.
"""

import ctypes
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import CLONE_NEWNET, Netns

from sstrace import cli

pytestmark = [pytest.mark.root, pytest.mark.ss]


class Outcome(NamedTuple):
    code: int
    stdout: bytes
    stderr: bytes


def of_ss(netns: Netns, arguments: list[str], stdin: bytes, env: dict[str, str]) -> Outcome:
    assert shutil.which("ss")
    result = subprocess.run(
        [*netns.prefix, "ss", *arguments],
        input=stdin,
        env={**os.environ, **env},
        capture_output=True,
        timeout=60,
        check=False,
    )
    return Outcome(result.returncode, result.stdout, result.stderr)


def of_ours(netns: Netns, arguments: list[str], stdin: bytes, env: dict[str, str]) -> Outcome:
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin)
        given.seek(0)
        pid = os.fork()
        if pid == 0:
            code = 99
            try:
                for fd, file in enumerate((given, out, err)):
                    os.dup2(file.fileno(), fd)
                sys.stdin, sys.stdout, sys.stderr = sys.__stdin__, sys.__stdout__, sys.__stderr__
                os.environ.update(env)
                if ctypes.CDLL(None).setns(netns.fd, CLONE_NEWNET) == 0:
                    code = cli.main(["--snapshot", *arguments])
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        out.seek(0)
        err.seek(0)
        return Outcome(os.waitstatus_to_exitcode(status), out.read(), err.read())


def compare(netns: Netns, arguments: list[str], stdin: bytes = b"", env: dict[str, str] | None = None) -> Outcome:
    environment = env or {}
    theirs = of_ss(netns, arguments, stdin, environment)
    mine = of_ours(netns, arguments, stdin, environment)
    if any(word[:2] == "-s" for word in arguments):
        # The numbers of a summary are those of the whole machine, and change between two looks.
        mine, theirs = (o._replace(stdout=re.sub(rb"[0-9 ]+", b"#", o.stdout)) for o in (mine, theirs))
    assert mine == theirs, arguments
    return theirs


# Words that end before any table is read, so that nothing but this package's reading of words is at stake.
REFUSED = r"""
-h
--help
-V
-v
--version
--vers
-f help
-y
-ty
-ntZ
-Z
-z
--context
--con
--contexts
--s
--so
--soc foo
--qu foo
--t
--ti
--tipc=5
--tipci=5
--numeric=
--fam
--family
--family=
--family=foo
-f
-ffoo
-f INET
-A
-A foo
-A tcp,,udp
-A ,
-A !foo
-A TCP
-Atcp,foo
-A "" -t
--query=foo
--socket foo
-A !all
-A all,!all
-A tcp,!tcp
-A tcp,!tcp -t -A !tcp
--= x
--=x
--foo
--foo=bar
--no
--no-
--no-h=1
-D
-F
-N
-N nope
--net nope
--net=
-N ""
-t state
-t state foo
-t exclude
-t excl
-t exclude foo
-t state established exclude
-t state listen
-t state estab
-t state unconn
-t state new-syn-recv
-t state bound-inactive
-t state ""
-u -D /dev/null
-x -D -
-t -F /nonexistent/file
-t -F /dev/null -F /dev/null
-B
-Q
-tQ
--bpf-maps
--bpf-map-id 5
-t foo
-t src foo.invalid
-t src 1.2.3.4.5
-t src 256
-t src 1.2.3.4/33
-t src 1.2.3.4/-1
-t src 1.2.3.4/
-t src 1.2.3.4/255.0.255.0
-t src any/8
-t src ::1
-t src ::
-t src [::1
-t src [::1]/64
-t src [::1]x
-t src [::1]:x
-t src [::g]
-t src [::1/129]
-t src [::1/64]:70000x
-4 src [::1]
-6 src 127.0.0.1
-4 src inet6:127.0.0.1
-6 src inet:[::1]
-t ( src inet6:[::1] or src 127.0.0.1 )
-t ( src inet:127.0.0.1 or src [::1] )
-t sport = foo
-t sport = 99999999999
-t sport = 0x
-t sport = 08
-t sport = [::1]:22
-t sport = 22x
-t sport :22:
-M sport = ssh
-w sport = ssh
-t sport
-t sport =
-t sport = =
-t sport = and
-t sport 22 23
-t sport 22 and
-t and sport 22
-t or
-t !
-t ! !
-t (
-t )
-t ()
-t ( )
-t ( sport 22
-t sport 22 )
-t ( ( sport 22 )
-t (sport = 22)
-t !sport 22
-t sport!=22
-t src != 1.2.3.4
-t src > 1.2.3.4
-t dst >= 1.2.3.4
-t src = = 1.2.3.4
-t dev
-t dev nope
-t dev = nope
-t dev > lo
-t dev lo lo
-t dev lo nope
-t dev -1
-t dev 4294967296
-t dev 1x
-t dev lo and
-t fwmark
-t fwmark x
-t fwmark 1/
-t fwmark 1/x
-t fwmark 1x/2
-t fwmark >= 1
-t fwmark 1 2
-t fwmark -
-t cgroup
-t cgroup /nonexistent/cgroup
-t cgroup nonexistent
-t cgroup > /
-t cgroup "/"x
-t autobound foo
-t autobound 22
-t autobound autobound and
-t sport = :ssh or src foo.invalid
-t src 1.1.1.1 2.2.2.2
-t src 1.1.1.1 foo.invalid
-t 1.1.1.1
-t sport 22 1.1.1.1
-t \
-t src \
-t "sport\ 22"
-t src link:
-t src link:nope
-t src link:ip:nope
-t src link:0x10000
-t src netlink:nope
-t src netlink:rtnl:nope
-t src netlink:256
-t src vsock:x
-t src vsock:1:x
-t src vsock:1:
-t src vsock:-1
-t src vsock:4294967296
-t sport = link:nope
-t sport = netlink:x
-t sport = vsock:
-f link src nope
-f netlink sport = x
-f vsock sport = x
--xdp src localhost
--xdp src [::1]
--xdp src 0x7f.1
--tipc src localhost
--tipc src 1.2.3.4.
tenure > 5m
-t tenure
-t src held
-t -- -a
-t -- state
-E -x
-E -w
-s -t state foo
-s state
-s -y
-sf foo
-a -t ! ( ( ( sport 22 ) and dport 22 ) or
"""


def words_of(line: str) -> list[str]:
    """Blank-separated words; a pair of double quotes keeps blanks and empty words, and goes away."""
    words, word, quoted, seen = [], "", False, False
    for character in line:
        if character == '"':
            quoted, seen = not quoted, True
        elif character == " " and not quoted:
            if word or seen:
                words.append(word)
            word, seen = "", False
        else:
            word += character
    return [*words, word] if word or seen else words


@pytest.mark.parametrize("line", [line for line in REFUSED.splitlines() if line])
def test_refused_as_ss_refuses(module_netns: Netns, line: str) -> None:
    compare(module_netns, words_of(line))


ACCEPTED = r"""
-t
-ta
-tl
-tn4
-t6
-4 -6 -t
-6 -4 -t
-u
-ua
-ul
-w
-wa
-tu
-tuw
-tun4
-tH
-taH
-tO
-te
-tap
-tai
-tam
-t -a -l
-t -l -a
-t state established
-t state all
-t state connected
-t state ALL
-t state Syn-Rcv
-t state syn-recv
-t state UNKNOWN
-t state unknown
-t state close
-t state closed
-t state unconnected
-t state big
-t state bucket
-t state synchronized
-t exclude all
-tl exclude listening
-t exclude listening state listening
-t state established exclude established
-t state established state listening excl listening
-ta excl established
-t exclude established exclude listening
state established -t
-t -- state established
-A tcp
-A inet -n
-A tcp -a
-A udp
-t -A udp
-A udp -t
-A tcp,udp
-A udp -A tcp
-A tcp,!tcp -t
-l -A tcp
-A tcp -l
-A raw -a
-A dccp
-A sctp
-A mptcp
-M
-d
-S
-f inet -t
-f inet6 -t
-f inet6 -ta
--tcp --all
--tcp --al
--mem -t
--mptcp
--num -t
--res -t
--ra
--ud
--inet-s -t
--inet- -t
--ipv4 --tcp
--extended -t
--query=tcp
--socket=tcp
--quer tcp -a
--fam=inet -t
-ta sport = :22
-ta sport 22
-ta sport eq 22
-ta sport == 22
-ta sport neq 22
-ta sport geq 22
-ta sport lt 22
-ta sport = ssh
-ta sport = :ssh
-ua sport = :syslog
-tua sport = :domain
-ta sport = *
-ta -- sport = -5
-ta sport = 0x16
-ta sport = 026
-ta ( sport = :22 or dport = :22 )
-ta "( sport = :22 )"
-ta ! ( sport = :22 ) & ! dport 5 | dport 7
-ta not sport 5 && dport 5 || dport 6
-ta src 127.1
-ta src 127/8
-ta src 1.2.3.4:
-ta src *:22
-ta src *22
-ta src :22
-ta src any
-ta src all:22
-ta src default
-ta src localhost
-ta src 300
-ta src 0x7f.1
-ta src 1.2.3.4/255.0.0.0
-ta src 1.2.3.4/any
-ta src [::1]
-ta src [::1]:22
-ta src [fe80::/10]:22
-ta src fe80::/10
-ta src inet:1.2.3.4
-ta src inet6:[::1]
-ta src inet6:::1/128
-4a src inet6:[::1]
-ta src unix:/tmp/*
-ta src link:ip
-ta src link:IPv4:lo
-ta src netlink:rtnl:kernel
-ta src netlink:0
-ta dev lo
--xdp src 1.2.3.4
--tipc src 300
-ta dev = 1
-ta dev != lo
-ta dev if77
-ta dev 0
-ta fwmark 5
-ta fwmark 5/0xff
-ta fwmark 7x
-ta fwmark 0x
-ta autobound
-ta autobound and not autobound
-ta dport 22 autobound
-ta ""
-ta " "
-ta "" sport 22
-xa src nothing-of-this-name
-xH sport >= 5 src nothing-of-this-name
-s -t
-t -D /dev/null
-tH -F /dev/null
-tH -F /
"""


@pytest.mark.parametrize("line", [line for line in ACCEPTED.splitlines() if line])
def test_accepted_as_ss_accepts(module_netns: Netns, line: str) -> None:
    assert compare(module_netns, words_of(line)).code == 0


def test_arguments_that_are_not_text(module_netns: Netns) -> None:
    for raw in (b"\xff\xfe", b"\xc3\xa9", b"a\nb", b"\x01"):
        text = os.fsdecode(raw)
        for arguments in (
            ["-f", text],
            ["-A", text],
            ["-t", "state", text],
            ["-t", "sport", text],
            ["-t", "dev", text],
        ):
            compare(module_netns, arguments)
        compare(module_netns, ["-t", f"--{text}"])
        compare(module_netns, ["-t", "fwmark", text])


@pytest.mark.parametrize(
    "text",
    [
        b"sport = :22\n",
        b"sport = :22",
        b"# sport\nsport = :22\n0 sport\n\n  \t\nor dport = :22\n",
        b"sport\n=\n22 or\ndport 5\n",
        b"state established\n",
        b"sport =\n",
        b"\0sport 22\n",
        b"sport 22\0 garbage (\n",
        b"sport 22 #\n",
        b" # sport 22\n",
        b"sport 22\r\n",
        b"sport 2" + b" " * 1013 + b"\n",
        b"sport 22" + b" " * 1013 + b"\n",
        b"sport 22" + b" " * 1014 + b"\n",
        b"sport 22" + b" " * 1014,
        b"sport 22" + b" " * 1015,
        b"#" * 2000 + b"\n",
        b"src 1.1.1.1 or\n" * 300 + b"src 2.2.2.2\n",
    ],
)
def test_filter_files(module_netns: Netns, text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "filter"
    path.write_bytes(text)
    compare(module_netns, ["-tan", "-F", str(path)])
    compare(module_netns, ["-tan", "-F", "-"], stdin=text)
    compare(module_netns, ["-tan", "-F", "-anything", "dport", "9"], stdin=b"or " + text)


def test_posixly_correct(module_netns: Netns) -> None:
    for arguments in (["-t", "state", "established", "-y"], ["sport", "22", "-a"]):
        compare(module_netns, arguments, env={"POSIXLY_CORRECT": ""})


VOCABULARY = (
    *("-t", "-u", "-a", "-l", "-n", "-4", "-6", "-H", "-x", "-A", "-f", "--", "--tcp", "--al", "--s", "-tH", "-An"),
    *("tcp", "udp,!tcp", "inet", "all", "inet6", "unix", "state", "exclude", "excl", "established", "listening", "all"),
    *("sport", "dport", "src", "dst", "dev", "fwmark", "autobound", "=", "!=", ">=", "lt", "(", ")", "!", "and", "or"),
    *(
        "22",
        ":22",
        "ssh",
        "127.0.0.1",
        "[::1]:5",
        "lo",
        "5/6",
        "*",
        "any",
        "inet:1.1.1.1",
        "inet6:[::1]",
        "unix:x",
        "\\",
    ),
)


@pytest.mark.parametrize("seed", range(150))
def test_random_words(module_netns: Netns, seed: int) -> None:
    source = random.Random(seed)
    arguments = ["-t", *(source.choice(VOCABULARY) for _ in range(source.randint(1, 7)))]
    # Tables other than inet are the host's own, and change: only the refusal of such lines can be compared.
    theirs = of_ss(module_netns, arguments, b"", {})
    mine = of_ours(module_netns, arguments, b"", {})
    assert (mine.code, mine.stderr) == (theirs.code, theirs.stderr), arguments
    if not {"-x", "-A", "-An", "-f", "unix:x", "all"} & set(arguments):
        assert mine.stdout == theirs.stdout, arguments
