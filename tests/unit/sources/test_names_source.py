"""Names that need no particular machine: files in a temporary place, loopback, and what every system has."""

import os
import socket
import threading
from pathlib import Path

import pytest

from sstrace.errors import LookupFailed
from sstrace.model import AF_INET, AF_INET6, AF_UNSPEC, Names
from sstrace.sources import names as module
from sstrace.sources import rpcbind
from sstrace.sources.names import SystemNames
from sstrace.wire import rpcbind as wire_rpcbind


def system(tmp_path: Path) -> SystemNames:
    return SystemNames({"PROC_ROOT": str(tmp_path)}, mounts=str(tmp_path / "mounts"))


def test_it_is_what_the_renderers_ask_for() -> None:
    names: Names = SystemNames({})
    assert names.ifindex(names.ifname(1)) == 1


def test_unknown_interfaces() -> None:
    names = SystemNames({})
    assert names.ifname(0x7FFF0000) == f"if{0x7FFF0000}"
    assert names.ifname(1 << 70) == f"if{1 << 70}"
    for name in ("no such device", "", "if", "if4711", "ifx", "if" + "9" * 5000, "a\0b"):
        assert names.ifindex(name) is None


def test_services_both_ways() -> None:
    names = SystemNames({})
    assert names.service(443, "tcp") == names.service(443, None) == "https"
    assert names.service_port("https", "tcp") == 443
    assert (names.service(1, "sctp"), names.service(1 << 20, "tcp")) == (None, None)
    assert names.service_port("no such service", None) is None
    assert names.service_port("a\0b", "tcp") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"32768\t60999\n", (32768, 60999)),
        (b"5 7 9", (5, 7)),
        (b"5", (1024, 4999)),
        (b"", (1024, 4999)),
        (b"a b", (1024, 4999)),
    ],
)
def test_ephemeral_range(tmp_path: Path, text: bytes, expected: tuple[int, int]) -> None:
    (tmp_path / "range").write_bytes(text)
    assert SystemNames({"PROC_IP_LOCAL_PORT_RANGE": str(tmp_path / "range")}).ephemeral() == expected


def test_ephemeral_range_below_another_proc(tmp_path: Path) -> None:
    assert system(tmp_path).ephemeral() == (1024, 4999)
    names = system(tmp_path)
    folder = tmp_path / "sys/net/ipv4"
    folder.mkdir(parents=True)
    (folder / "ip_local_port_range").write_bytes(b"10 20\n")
    assert names.ephemeral() == (10, 20)
    (folder / "ip_local_port_range").write_bytes(b"30 40\n")
    assert names.ephemeral() == (10, 20)


def test_hosts() -> None:
    names = SystemNames({})
    loopback = names.host(AF_INET, b"\x7f\0\0\1")
    assert loopback == socket.gethostbyaddr("127.0.0.1")[0]
    assert names.host(AF_INET6, bytes(10) + b"\xff\xff\x7f\0\0\1") == loopback
    assert names.host(99, b"ab") is None
    assert (AF_INET, b"\x7f\0\0\1") in names.addresses("localhost", AF_INET)
    assert all(family == AF_INET6 for family, _ in names.addresses("localhost", AF_INET6))
    assert names.addresses("localhost", AF_UNSPEC)[0][0] == AF_INET
    for name in ("", "a\0b", "fe80::1%lo", "x" * 300, "..", "é" * 100):
        assert list(names.addresses(name, AF_UNSPEC)) == [] or name == ""


def test_protocols_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"/etc/protocols": b"# c\nip 0 IP\nicmp\t1 ICMP # x\nother 1\nbad\n", "/etc/rpc": b"nfs 100003 nfsprog\n"}
    files["/etc/iproute2/nl_protos"] = b"# c\n0 rtnl\n0x11 mine\n21 twice # c\n300 far\nx y\n7\n"
    monkeypatch.setattr(module, "_read", lambda path: files.get(path, b""))
    names = SystemNames({})
    assert [names.ip_protocol(n) for n in (0, 1, 2)] == ["ip", "icmp", None]
    assert [names.netlink_protocol(n) for n in (0, 17, 21, 16, 300)] == ["rtnl", "mine", "twice", "genl", None]
    assert [names.netlink_protocol_number(n) for n in ("mine", "genl", "nope")] == [17, 16, None]
    assert names.rpc(2049, "tcp") is None
    names.learn_rpc([(100003, "tcp", 2049), (100005, "tcp", 20048)])
    assert (names.rpc(2049, "tcp"), names.rpc(2049, "udp"), names.rpc(20048, "tcp")) == ("rpc.nfs", None, None)


def test_processes(tmp_path: Path) -> None:
    (tmp_path / "42" / "attr").mkdir(parents=True)
    (tmp_path / "42" / "stat").write_bytes(b"42 (a (b) c) S")
    (tmp_path / "42" / "attr" / "current").write_bytes(b"kernel\n")
    names = system(tmp_path)
    assert (names.process(42), names.process_context(42)) == (b"a (b", "kernel")
    assert (names.process(43), names.process_context(43)) == (None, None)


def cgroups(tmp_path: Path) -> tuple[SystemNames, Path]:
    mount = tmp_path / "with blank"
    (mount / "user.slice" / "one").mkdir(parents=True)
    written = str(mount).replace(" ", "\\040")
    (tmp_path / "mounts").write_text(f"proc /proc proc rw 0 0\nnone {written} cgroup2 rw 0 0\nnone /x cgroup2 rw 0 0\n")
    return system(tmp_path), mount


def test_cgroup_paths_by_directory_number(tmp_path: Path) -> None:
    names, mount = cgroups(tmp_path)
    assert names.cgroup_mount() == str(mount)
    assert names.cgroup_path(mount.stat().st_ino) == b"/"
    assert names.cgroup_path((mount / "user.slice" / "one").stat().st_ino) == b"/user.slice/one"


def test_a_new_cgroup_is_found_and_one_that_has_gone_keeps_its_name(tmp_path: Path) -> None:
    names, mount = cgroups(tmp_path)
    assert names.cgroup_path(mount.stat().st_ino) == b"/"
    (mount / "late").mkdir()
    late = (mount / "late").stat().st_ino
    assert names.cgroup_path(late) == b"/late"
    (mount / "later").mkdir()
    (mount / "late").rmdir()
    assert names.cgroup_path((mount / "later").stat().st_ino) == b"/later"
    assert names.cgroup_path(late) == b"/late"


def test_a_lost_cgroup_is_looked_for_again_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mount = tmp_path / "appears"
    mount.mkdir()
    names = system(tmp_path)
    assert names.cgroup_path(mount.stat().st_ino) is None
    (tmp_path / "mounts").write_text(f"none {mount} cgroup2 rw 0 0\n")
    monkeypatch.setattr("sstrace.sources.names._AGAIN_S", 1e9)
    assert names.cgroup_path(mount.stat().st_ino) is None
    monkeypatch.setattr("sstrace.sources.names._AGAIN_S", 0)
    assert names.cgroup_path(mount.stat().st_ino) == b"/"
    assert names.cgroup_path(1 << 40) is None
    assert system(tmp_path / "nowhere").cgroup_path(1) is None


def test_interfaces_are_called_as_was_told_last() -> None:
    names = SystemNames({})
    names.know_interfaces()
    assert names.interfaces() == names.look_at_interfaces()
    assert names.ifindex("lo") == 1
    for index, name in ((7, "v0"), (8, "v1"), (7, "wan"), (8, "v0"), (9, "v0"), (8, "v2"), (7, None)):
        names.name_interface(index, name)
    assert [names.ifname(index) for index in (8, 9)] == ["v2", "v0"]
    assert [names.ifindex(name) for name in ("v0", "v1", "v2", "wan")] == [9, None, 8, None]
    assert {8: "v2", 9: "v0"}.items() <= names.interfaces().items()
    names.name_interface(9, None)
    assert names.ifindex("v0") is None


def test_why_a_cgroup_has_no_path(tmp_path: Path) -> None:
    nowhere = "Failed to find cgroup2 mount"
    unread = f"Failed to open mounts file: No such file or directory\n{nowhere}"
    assert system(tmp_path / "nowhere").cgroup_trouble(1) == unread
    (tmp_path / "mounts").write_text("proc /proc proc rw 0 0\n")
    assert system(tmp_path).cgroup_trouble(1) == nowhere
    (tmp_path / "mounts").write_text(f"none {tmp_path}/gone cgroup2 rw 0 0\n")
    assert system(tmp_path).cgroup_trouble(1) == "Failed to open cgroup2 mount"
    (tmp_path / "mounts").write_text(f"none {tmp_path} cgroup2 rw 0 0\n")
    if os.geteuid():
        assert system(tmp_path).cgroup_trouble(1) == "Failed to open cgroup2 by ID"


def test_cgroup_ids_of_paths_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(LookupFailed, match="Failed to get cgroup2 ID: No such file or directory"):
        cgroups(tmp_path)[0].cgroup_id("no/such/group")
    with pytest.raises(LookupFailed, match="cgroup2 mount"):
        system(tmp_path / "nowhere").cgroup_id("no/such/group")
    names, _ = cgroups(tmp_path / "2")
    for odd in ("", "a\0b"):
        with pytest.raises(LookupFailed):
            names.cgroup_id(odd)


def serve(path: str, answers: list[bytes]) -> threading.Thread:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1)

    def run() -> None:
        with listener, listener.accept()[0] as peer:
            assert len(peer.recv(1000)) == len(wire_rpcbind.CALL)
            for answer in answers:
                peer.sendall(answer)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([b"\0\0\0\3abc", b"\x80\0\0\2de"], b"abcde"),
        ([b"\x80\0\0\5ab"], None),
        ([b"\x80\0"], None),
        ([], None),
        ([b"\xff\xff\xff\xff"], None),
    ],
)
def test_rpcbind_conversation(tmp_path: Path, answers: list[bytes], expected: bytes | None) -> None:
    thread = serve(str(tmp_path / "sock"), answers)
    assert rpcbind.ask(wire_rpcbind.CALL, wire_rpcbind.size_of_fragment, str(tmp_path / "sock")) == expected
    thread.join()


def test_no_rpcbind(tmp_path: Path) -> None:
    assert rpcbind.ask(wire_rpcbind.CALL, wire_rpcbind.size_of_fragment, str(tmp_path / "none")) is None
