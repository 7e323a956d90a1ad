"""Questions while much is folded in, and the table is known to be wrong: each is answered at once, by the kernel."""

import os
import select
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bpf_events import HERE, SPACE
from kernel_model import Kernel

from sstrace.live.places import Places
from sstrace.model import Seen, SweepBegin, SweepEnd
from sstrace.server import serve
from sstrace.sources.names import SystemNames
from sstrace.table import SocketTable, sweep

QUESTION = b'{"argv": ["-tan"]}\n'
MORE_THAN_CHILDREN = serve._MOST_CHILDREN + 2


class Storm:
    """A tracer that has much to fold in; who asks meanwhile has an answer before it is done."""

    netns = HERE
    names = SystemNames({})
    places = Places()
    meanwhile: Any = None
    ails_long = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self.settled = False
        self.answers: list[bytes] = []

    def register(self, poll: select.poll) -> None:
        pass

    def ask(self) -> tuple[socket.socket, int]:
        """One more who asks: its connection, and where it reads."""
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(self._path))
        read, write = os.pipe()
        socket.send_fds(client, [QUESTION], [write, write])
        os.close(write)
        return client, read

    def poll(self, _seconds: float) -> Iterator[object]:
        for _ in range(MORE_THAN_CHILDREN):
            client, read = self.ask()
            with client:
                yield from range(serve._RUN)
                assert select.select([client], [], [], 20)[0], "nobody answers"
                self.answers.append(os.read(read, 100))
                os.close(read)
                assert client.recv(100) == b'{"code":0}\n'

    def settle(self) -> Iterable[object]:
        self.settled = True
        return ()

    def heal(self) -> Iterable[object]:
        return ()


class Answers:
    """Of a server that knows what to say."""

    def lets_follow(self, _peer: object, _data: bytes) -> bool:
        return False

    def small(self, _peer: object, _data: bytes) -> None:
        return None

    def respond(self, _peer: object, _data: bytes) -> int:
        os.write(1, b"the kernel's")
        return 0


@pytest.fixture
def storm(tmp_path: Path) -> Storm:
    return Storm(tmp_path / "live")


@pytest.fixture
def server(tmp_path: Path, storm: Storm) -> Iterator[serve._Server]:
    following: Any = SimpleNamespace(
        tracer=storm,
        poll=storm.poll,
        settle=storm.settle,
        through=lambda changes: changes,
        wanted=False,
        sleep=lambda poll, seconds: poll.poll(seconds * 1000),
    )
    answers: Any = Answers()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "live"))
        listener.listen()
        listener.setblocking(False)
        made = serve._Server(following, listener, None, None, answers)
        yield made
        made.close()


def test_who_asks_in_a_storm_does_not_wait_for_its_end(
    storm: Storm, server: serve._Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "_HEED_NS", 0)
    server.turn(0)
    assert storm.answers == [b"the kernel's"] * MORE_THAN_CHILDREN
    assert not storm.settled


def test_a_child_lets_go_of_all_who_asked_together(
    storm: Storm, server: serve._Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of those who have been answered, or are followed, and have nothing open any more."""
    ends, kept = [], []

    def add(connection: socket.socket, _peer: object, close_others: Callable[[socket.socket], None]) -> None:
        child = os.fork()
        if not child:
            with suppress(BaseException):
                close_others(connection)
                os._exit(0)
            os._exit(1)
        ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        kept.append(connection)

    monkeypatch.setattr(serve, "_SMALL_NS", 60_000_000_000)
    monkeypatch.setattr(server._answers, "lets_follow", lambda _peer, _data: True)
    monkeypatch.setattr(server._followers, "add", add)
    asked = [storm.ask() for _ in range(3)]
    server._hear(0)
    server._answer(aside=False)
    assert ends == [0, 0, 0]
    for connection in (*kept, *(client for client, _ in asked)):
        connection.close()
    for _, read in asked:
        os.close(read)


def test_the_end_of_a_sweep_of_many_rows_breathes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "_RUN", 1)
    kernel, table = Kernel(3), SocketTable(HERE)
    while len(list(kernel.dump())) < 5:
        kernel.step()
    table.begin(SweepBegin(SPACE, kernel.now))
    for found in list(kernel.dump()):
        table.seen(Seen(SPACE, found))
    added = table.end(SweepEnd(SPACE, kernel.now, complete=True)).added
    table.begin(SweepBegin(SPACE, kernel.now + 1))
    breaths: list[int] = []
    assert table.end(SweepEnd(SPACE, kernel.now + 1, complete=True), lambda: breaths.append(1)).removed == added
    assert len(breaths) == 2 * len(added)
