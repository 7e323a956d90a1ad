"""``--watch --from live``: the screen over a server's table, which goes on as that does; and who is told of it."""

import os
import re
import shutil
import signal
import socket
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Netns, Program, unmet
from test_serve import NOBODY, Service, wait
from tmux import Tmux
from tracing import disconnect
from worlds import Worlds

from sstrace.errors import FeatureError, SstraceError
from sstrace.live.signals import Stopped
from sstrace.model import Table
from sstrace.recording.reader import LineNames
from sstrace.watch.served import Served

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.ss]


@pytest.fixture
def service(sstrace: Any, netns: Netns, common_path: Path) -> Iterator[Service]:
    served = Service(sstrace, netns, common_path)
    yield served
    if served.process.poll() is None:
        served.stop()


class Screen(Tmux):
    """The watcher of a server's table, in a terminal in a network namespace."""

    def __init__(self, directory: Path, netns: Netns, path: Path, *options: str, user: tuple[str, ...] = ()) -> None:
        if shutil.which("tmux") is None:
            unmet("needs tmux")
        directory.mkdir()
        words = [*netns.prefix, *user, sys.executable, "-m", "sstrace", "--watch", "--from", f"live:{path}", *options]
        super().__init__(directory, words, columns=140, lines=40)

    def __enter__(self) -> "Screen":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def pair(netns: Netns, server: socket.socket) -> tuple[socket.socket, socket.socket]:
    client = netns.call(socket.create_connection, server.getsockname())
    return client, server.accept()[0]


def test_rows_come_change_and_go_as_they_do_for_the_server(service: Service, netns: Netns, tmp_path: Path) -> None:
    server = netns.call(socket.create_server, ("127.0.0.1", 5151))
    with Screen(tmp_path / "pane", netns, service.path, "-np", "sport", "=", ":5151") as pane:
        pane.until(lambda lines: "(LISTEN 1)" in lines[1] and f"served at {service.path}" in lines[0])
        client, accepted = pair(netns, server)
        mine = f":{client.getsockname()[1]}"
        accepted.sendall(b"x" * 17)
        pane.until(lambda lines: any(line.startswith("+ ESTAB") and mine in line for line in lines))
        pane.until(lambda lines: any(f"pid={os.getpid()},fd={accepted.fileno()})" in line for line in lines))
        pane.type("j", "Enter")
        pane.until_text("SYN-RECV")
        pane.until(lambda lines: any(line.split()[:2] == ["Sent", "17,"] for line in lines))
        pane.type("Escape")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        pane.until(lambda lines: any(line.startswith("- ESTAB") and "reset-received" in line for line in lines))
        accepted.close()
        server.close()
        pane.until(lambda lines: not any(":5151" in line for line in lines[4:-2]))


def test_datagram_sockets_come_change_and_go(sstrace: Any, netns: Netns, tmp_path: Path, common_path: Path) -> None:
    one = netns.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
    both = Service(sstrace, netns, common_path, "-tu")
    try:
        with one, Screen(tmp_path / "pane", netns, both.path, "-uan", "sport", "=", ":5300") as pane:
            pane.until_text("served at")
            one.bind(("127.0.0.1", 5300))
            pane.until(lambda lines: any(line.startswith("+ UNCONN") for line in lines))
            one.connect(("127.0.0.1", 9))
            pane.until(lambda lines: any(re.match("..ESTAB .*:9( |$)", line) for line in lines))
            disconnect(one)
            pane.until(lambda lines: any(re.match("[+*] UNCONN .*:5300", line) for line in lines))
            one.close()
            pane.until(lambda lines: any(re.match("- UNCONN .*:5300", line) for line in lines))
            pane.until(lambda lines: not any(":5300" in line for line in lines[4:-2]))
    finally:
        both.stop()


def test_of_a_server_of_tcp_alone_datagram_sockets_are_not_to_be_had(service: Service, netns: Netns) -> None:
    with pytest.raises(FeatureError, match=f"at {service.path} does not follow UDP: --serve -u does"):
        served_by(service, netns, 1 << Table.UDP)


def served_by(service: Service, netns: Netns, tables: int) -> None:
    with Served(str(service.path), LineNames({}), (), Stopped()) as served:
        netns.call(served.begin, tables)


def test_a_connection_is_closed_from_there(service: Service, netns: Netns, tmp_path: Path) -> None:
    server = netns.call(socket.create_server, ("127.0.0.1", 5152))
    client, accepted = pair(netns, server)
    with Screen(tmp_path / "pane", netns, service.path, "-n", "dport", "=", ":5152") as pane:
        pane.until_text("127.0.0.1:5152")
        pane.type("j", "K")
        pane.until_text("y closes it")
        pane.type("y")
        pane.until(lambda lines: lines[-1].startswith(" closed") or lines[-2].startswith(" closed"))
        with pytest.raises(ConnectionError):
            client.recv(1)
    client.close()
    accepted.close()
    server.close()


def test_a_server_that_goes_is_told_of_and_another_one_is_taken(
    sstrace: Any, service: Service, netns: Netns, tmp_path: Path
) -> None:
    server = netns.call(socket.create_server, ("127.0.0.1", 5153))
    with Screen(tmp_path / "pane", netns, service.path, "-an") as pane:
        pane.until_text("127.0.0.1:5153")
        service.process.send_signal(signal.SIGKILL)
        service.process.communicate()
        lines = pane.until_text("asked again each second")
        assert "NOT TOLD" in lines[0]
        assert any("127.0.0.1:5153" in line for line in lines), "what was told last stays"
        server.close()
        second = sstrace.start(f"--serve={service.path}", netns=netns)
        pane.until(lambda lines: "NOT TOLD" not in lines[0] and not any(":5153" in line for line in lines))
        client, accepted = pair(netns, service.sockets[0])
        pane.until(lambda lines: sum(f":{client.getsockname()[1]} " in f"{line} " for line in lines) == 2)
        pane.type("q")
        assert pane.ended() == 0
        client.close()
        accepted.close()
    second.send_signal(signal.SIGINT)
    second.communicate()
    for one in service.sockets:
        one.close()


def test_what_is_followed_is_the_server_s_table(service: Service, netns: Netns) -> None:
    """After connections in every order of events, and with what came while the beginning was being told."""
    with Served(str(service.path), LineNames({}), (), Stopped()) as served:
        served.begin()
        server = netns.call(socket.create_server, ("127.0.0.1", 0))
        kept = []
        for number in range(300):
            client, accepted = pair(netns, server)
            if number % 3 == 0:
                kept += [client, accepted]
                continue
            first, second = (client, accepted) if number % 2 else (accepted, client)
            first.shutdown(socket.SHUT_WR) if number % 5 else first.close()
            second.close()
            first.close()

        def there() -> Counter[str]:
            lines = service.ask("-tanH").stdout.decode().splitlines()
            return Counter(" ".join(line.split()[0::3][:1] + line.split()[3:5]) for line in lines)

        def told() -> Counter[str]:
            for _ in served.poll(0):
                pass
            return Counter(text(row) for row in served.table)

        wait(lambda: told() == there(), service.process)
        assert served.lost == 0
        for one in kept:
            one.close()
        server.close()


def text(row: Any) -> str:
    from sstrace.model import STATE_TEXT

    ends = []
    for raw, port in ((row.src, row.sport), (row.dst, row.dport)):
        address = socket.inet_ntop(row.family, raw)
        if not any(raw) and row.family == socket.AF_INET6 and not row.v6only:
            address = "*"
        elif row.family == socket.AF_INET6:
            address = f"[{address}]"
        ends.append(f"{address}:{port or '*'}")
    return " ".join((STATE_TEXT[row.state], *ends))


def test_one_who_does_not_read_holds_up_nobody(service: Service, netns: Netns) -> None:
    with Served(str(service.path), LineNames({}), (), Stopped()) as idle:
        idle._connect()
        server = netns.call(socket.create_server, ("127.0.0.1", 0))
        for _ in range(200):
            for end in pair(netns, server):
                end.close()
        server.close()
        with Served(str(service.path), LineNames({}), (), Stopped()) as other:
            other.begin()
            assert len(other.table) > 10
        assert service.ask("-tlnH").returncode == 0
        idle.begin()
        assert idle.table.rows.keys() - {0}


def test_others_than_root_and_the_group_are_not_told(service: Service, netns: Netns, tmp_path: Path) -> None:
    service.path.chmod(0o666)
    user = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    with Screen(tmp_path / "pane", netns, service.path, user=user) as pane:
        assert pane.ended() == 3
        assert any("takes root, or membership of the server's --group" in line for line in pane.screen())
        assert pane.restored()


def test_no_user_has_more_than_a_share(service: Service) -> None:
    many = [Served(str(service.path), LineNames({}), (), Stopped()) for _ in range(17)]
    for one in many[:-1]:
        one.begin()
    with pytest.raises(SstraceError, match="as many as may already watch"):
        many[-1].begin()
    many[0].__exit__()
    wait(lambda: _begins(many[-1]))
    for one in many[1:]:
        one.__exit__()


def _begins(one: Served) -> bool:
    try:
        one.begin()
    except SstraceError:
        return False
    return True


def test_several_namespaces(sstrace: Any, netns: Netns, tmp_path: Path) -> None:
    """Those that the words mean, each row with where it is; without the words the server's own."""
    name = netns.publish()
    with Worlds(2) as worlds:
        served = Service(sstrace, netns, tmp_path, "--netns", "all", "--keep-privileges")
        one = str(worlds.all[0].inode)
        with Screen(tmp_path / "several", netns, served.path, "-an", "--netns", f"{one},{name}") as pane:
            wanted = {one: 5, name[:16]: len(served.ask("-tanH").stdout.splitlines())}
            # In each the kernel is asked, by who watches.
            pane.until(
                lambda lines: (
                    Counter(line[2:].split()[0] for line in lines[4:-2] if line.strip()) == wanted
                    and not [line for line in lines[4:-2] if " -      - " in line]
                )
            )
            pane.type("/")
            pane.text(one)
            pane.type("Enter", "Enter")
            pane.until_text("The kernel's figures")
        with Screen(tmp_path / "own", netns, served.path, "-an") as pane:
            lines = pane.until(lambda lines: sum(bool(line.strip()) for line in lines[4:-2]) == wanted[name[:16]])
            assert "Netns" not in lines[3]
        with Screen(tmp_path / "none", netns, served.path, "--netns", "nosuch") as pane:
            assert pane.ended() == 1
            assert any("--netns nosuch: no network namespace" in line for line in pane.screen())
        served.stop()


def test_nobody_serves(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    with Screen(tmp_path / "pane", netns, tmp_path / "nosuch") as pane:
        assert pane.ended() == 4
        assert any("start one with sstrace --serve" in line for line in pane.screen())
        assert pane.restored()


def test_the_ready_file_and_the_end(service: Service, netns: Netns, tmp_path: Path) -> None:
    with Screen(
        tmp_path / "pane", netns, service.path, "--ready-file", str(tmp_path / "ready"), "--duration", "1s"
    ) as pane:
        assert pane.ended() == 0
        assert (tmp_path / "ready").exists()
        assert pane.restored()
