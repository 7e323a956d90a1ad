"""``Diag.ahead`` gives the datagrams that iteration gives: short dumps, long ones, ones that nobody reads to their
end.
"""

import resource
import select
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Netns

from sstrace.model import AF_INET, ALL_STATES, Table
from sstrace.sources import diag
from sstrace.sources.diag import Diag
from sstrace.wire import inet_diag

pytestmark = pytest.mark.root

MANY = 3000


@pytest.fixture
def crowd(netns: Netns) -> Iterator[Netns]:
    """A namespace with some thousand UDP sockets."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], min(MANY + 1000, before[1])), before[1]))

    def open_all() -> list[socket.socket]:
        held = []
        for port in range(2000, 2000 + MANY):
            one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            one.bind(("127.0.0.1", port))
            held.append(one)
        return held

    held = netns.call(open_all)
    yield netns
    for one in held:
        one.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def ports(reader: Diag, *, ahead: bool) -> list[int]:
    """The ports of one whole dump."""
    reader.send(inet_diag.dump_request(Table.UDP, AF_INET, ALL_STATES))
    found: list[int] = []
    for datagram in reader.ahead() if ahead else reader:
        batch = inet_diag.decode(datagram, Table.UDP)
        found += [row.sport for row in batch.rows]
        if batch.done:
            break
    return found


def tasks() -> set[str]:
    """The kernel's threads of this process."""
    return {path.name for path in Path("/proc/self/task").iterdir()}


def test_a_long_dump_is_the_same(crowd: Netns, monkeypatch: pytest.MonkeyPatch) -> None:
    with crowd.call(Diag) as reader:
        plain = ports(reader, ahead=False)
        assert sorted(plain) == list(range(2000, 2000 + MANY))
        for alone, in_front in ((10, 4), (0, 1), (1, 50), (10_000, 4)):
            monkeypatch.setattr(diag, "_ALONE", alone)
            monkeypatch.setattr(diag, "_AHEAD", in_front)
            for _ in range(3):
                assert ports(reader, ahead=True) == plain


def test_a_dump_that_is_left_takes_its_thread_along(crowd: Netns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diag, "_ALONE", 1)
    before = tasks()
    for reads in (1, 2, 5):
        with crowd.call(Diag) as reader:
            reader.send(inet_diag.dump_request(Table.UDP, AF_INET, ALL_STATES))
            with closing(reader.ahead()) as datagrams:
                for _ in range(reads):
                    assert len(next(datagrams)) > 0
    # A thread's last breath comes after it let go of its lock.
    deadline = time.monotonic() + 10
    while (left := tasks() - before) and time.monotonic() < deadline:
        select.select([], [], [], 0.01)
    assert not left


def test_a_short_answer(netns: Netns, monkeypatch: pytest.MonkeyPatch) -> None:
    for alone in (0, 10):
        monkeypatch.setattr(diag, "_ALONE", alone)
        with netns.call(Diag) as reader:
            assert ports(reader, ahead=True) == []
            assert ports(reader, ahead=True) == []
