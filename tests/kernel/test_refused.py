"""Where the kernel refuses ss, it refuses sstrace --snapshot at the same place: stdout, stderr, exit code, to the byte.

Refused by seccomp, one system call after another that ss makes to read its tables, over the zoo of real sockets. What
differs in the two programs' own calls (sendmsg or sendto, recvmsg or recvfrom) is refused in both forms.
"""

import errno
import os
import shlex
import socket
from collections.abc import Callable, Iterator

import parity
import pytest
from conftest import Netns, Program, unmet
from refusal import Rule

pytestmark = [pytest.mark.root, pytest.mark.ss]

NETLINK_ROUTE, NETLINK_SOCK_DIAG = 0, 4
ERRNOS = (
    *(errno.EPERM, errno.EACCES, errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, errno.ENOBUFS, errno.EMFILE, errno.EINVAL),
    *(errno.ENOENT, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOMEM),
)
LINES = r"""

-a
-l
-tan
-tane
-tanm
-tani
-taniO
-tap
-tlp
-tupan
-tanH
-t4an
-t6an
-uan
-uanp
-xan
-xane
-xap
-wan
-da
-Sa
-Ma
-0an
-0ae
-f netlink -a
-f netlink -ane
--vsock -a
--tipc -a
--xdp -a
-s
-s -t
-tan dev lo
-tan dev != lo
-tan not dev 1
-tan dev nope
-tan cgroup /
-an cgroup /
-xan not cgroup /
-tan cgroup / or cgroup /
-tan cgroup /sys/fs
-an ( cgroup / or dev lo )
-0an sport = link:lo
-0an src link:*:lo
-0an src link:ip:1
-0an autobound
-tan fwmark 1
-tan state listening
-tan sport = :22 or src 127.0.0.1
-tan src foo.invalid
-tn -K dst 9.9.9.9
-xn -K src nothing-of-this-name
-t -D /dev/null
-tan --tos --cgroup
-tanb
-0ab
-tan --inet-sockopt
-A tcp,udp,unix,packet,netlink -an
""".splitlines()
SILENT = ("-E", "-tE", "-uE", "-tE cgroup /", "-tE dev lo", "-xE", "-t -D -", "-t -D /nonexistent/file")
"""What goes on without end, or moves, unless sock_diag is refused."""


def calls(number: int, *names: str, first: int | None = None, third: int | None = None) -> list[Rule]:
    return [Rule(name, number, first, None, third) for name in names]


PLACES: dict[str, Callable[[int], list[Rule]]] = {
    "sock_diag": lambda n: calls(n, "socket", first=socket.AF_NETLINK, third=NETLINK_SOCK_DIAG),
    "rtnetlink": lambda n: calls(n, "socket", first=socket.AF_NETLINK, third=NETLINK_ROUTE),
    "netlink": lambda n: calls(n, "socket", first=socket.AF_NETLINK),
    "SO_SNDBUF": lambda n: calls(n, "setsockopt", third=socket.SO_SNDBUF),
    "SO_RCVBUF": lambda n: calls(n, "setsockopt", third=socket.SO_RCVBUF),
    "netlink options": lambda n: [Rule("setsockopt", n, None, 270)],
    "bind": lambda n: calls(n, "bind"),
    "getsockname": lambda n: calls(n, "getsockname"),
    "send": lambda n: calls(n, "sendmsg", "sendto"),
    "receive": lambda n: calls(n, "recvmsg", "recvfrom"),
    "cgroup handles": lambda n: calls(n, "name_to_handle_at"),
    "sockets but netlink's": lambda n: [r for f in (1, 2, 10, 17) for r in calls(n, "socket", first=f)],
    "bpf": lambda n: calls(n, "bpf", "perf_event_open"),
}
NAMES_CGROUPS = ("-tane", "-tan --tos --cgroup")
"""Without file handles ss names no cgroup; sstrace goes by inode numbers, and does."""
HEARD = ("rtnetlink", "netlink options", "send", "cgroup handles", "sockets but netlink's", "bpf")
"""Where sock_diag answers, or seems to."""


@pytest.fixture(scope="module")
def bench(ss: Program, closing_line: Callable[[str], None]) -> Iterator[parity.Bench]:
    if os.geteuid():
        unmet("needs root")
    if "SSTRACE_SS" in os.environ:
        unmet("kernel lacks nothing here, but these are the ways of the ss on PATH")
    space = Netns()
    warden = parity.Warden(space.prefix)
    keeper = parity.ZooKeeper(warden.prefix)
    bench = parity.Bench(warden.prefix, ss.head[-1])
    keepers[bench] = keeper
    yield bench
    del keepers[bench]
    bench.close()
    keeper.close()
    warden.close()
    space.close()
    closing_line(f"ss parity where the kernel refuses: {bench.identical} identical of {bench.asked} command lines")


keepers: dict[parity.Bench, parity.ZooKeeper] = {}


def compare(bench: parity.Bench, line: str, rules: list[Rule]) -> str:
    keepers[bench].keep_fresh()
    outcome = bench.compare(shlex.split(line), rules=rules)
    return "" if outcome.same else f"ss {line}\n{outcome.why}"


@pytest.mark.seconds(600)
@pytest.mark.parametrize("number", ERRNOS, ids=lambda number: errno.errorcode[number])
def test_without_sock_diag(bench: parity.Bench, number: int) -> None:
    wrong = [compare(bench, line, PLACES["sock_diag"](number)) for line in (*LINES, *SILENT)]
    assert not any(wrong), "\n".join(filter(None, wrong))


@pytest.mark.seconds(600)
@pytest.mark.parametrize("place", [place for place in PLACES if place != "sock_diag"])
def test_refused_elsewhere(bench: parity.Bench, place: str) -> None:
    lines = (*LINES, *(SILENT if place not in HEARD else ()))
    if place == "cgroup handles":
        lines = tuple(line for line in lines if line not in NAMES_CGROUPS)
    rules = [PLACES[place](number) for number in (errno.EACCES, errno.ENOBUFS)]
    wrong = [compare(bench, line, rule) for rule in rules for line in lines]
    assert not any(wrong), "\n".join(filter(None, wrong))
