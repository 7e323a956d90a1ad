"""What hurts connections, as --events tells it: each brought to its row, and to who holds it."""

import json
import os
import socket
import subprocess
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import Netns, Program
from tracing import (
    ACK,
    LINGER_0,
    Line,
    Trace,
    closed,
    connect,
    deafen,
    keep,
    listener,
    mend,
    ports,
    send_segment,
    wait,
)

__all__ = ["closed"]

pytestmark = [pytest.mark.root, pytest.mark.bpf]


def of(running: Trace, what: str, **wanted: Any) -> list[Line]:
    return [
        line
        for line in running.lines
        if line["type"] == what and all(line.get(key) == value for key, value in wanted.items())
    ]


def pair(netns: Netns) -> tuple[socket.socket, socket.socket, socket.socket]:
    server = netns.call(listener)
    client = keep(netns.call(connect, server.getsockname()))
    return server, client, keep(server.accept()[0])


def test_data_that_is_sent_again(sstrace: Program, ss: Program, netns: Netns, tmp_path: Path) -> None:
    def told_by_ss(of: socket.socket) -> int:
        text = ss("-Htin", "sport", "=", f":{ports(of)[0]}", netns=netns).stdout.decode()
        retrans = next((word for word in text.split() if word.startswith("retrans:")), "retrans:0/0")
        return int(retrans.partition("/")[2])

    with Trace(sstrace, netns, tmp_path, "--events", "retransmit") as running:
        _, client, accepted = pair(netns)
        netns.call(deafen, accepted)
        client.sendall(bytes(1000))
        wait("two retransmissions", lambda: told_by_ss(client) > 2)
        netns.call(mend, accepted)
        assert len(accepted.recv(1000, socket.MSG_WAITALL)) == 1000
        key = ports(client)
        count = told_by_ss(client)
        found = wait(
            "all of them",
            lambda: lines if len(lines := of(running, "retransmit", sport=key[0])) >= told_by_ss(client) else None,
        )
    assert len(found) == count
    assert {line["type"] for line in running.lines} == {"meta", "retransmit"}
    assert {(line["segment"], line["bytes"], line["dport"], line["state"]) for line in found} == {
        ("data", 1000, key[1], "ESTAB")
    }
    assert {line["by"] for line in found} <= {"timer", "probe"}
    timed = [line["retransmits"] for line in found if line["by"] == "timer"]
    assert timed == [*range(1, len(timed) + 1)]
    assert {line["owners"][0]["pid"] for line in found} == {found[0]["owners"][0]["pid"]}
    assert found[0]["role"] == "client"


def test_a_syn_and_its_answer(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    with Trace(sstrace, netns, tmp_path, "--no-baseline", "--events", "retransmit,state") as running:
        server = netns.call(listener)
        netns.call(deafen, server)
        client = keep(netns.call(socket.socket))
        client.setblocking(False)
        with suppress(BlockingIOError):
            client.connect(server.getsockname())
        syn = wait("a SYN again", lambda: of(running, "retransmit", segment="syn"))[0]
        assert (syn["state"], syn["by"], syn["retransmits"]) == ("SYN-SENT", "timer", 1)
        assert syn["dport"] == server.getsockname()[1]
    assert of(running, "state", id=syn["id"])


def test_resets(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    with Trace(sstrace, netns, tmp_path, "--events", "reset") as running:
        _, client, accepted = pair(netns)
        here, there = ports(client), ports(accepted)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
        client.close()
        sent = wait("the one that was sent", lambda: of(running, "reset", direction="sent"))
        received = wait("the one that came", lambda: of(running, "reset", direction="received"))
    assert [(line["sport"], line["dport"]) for line in sent] == [here]
    assert [(line["sport"], line["dport"], line["state"]) for line in received] == [(*there, "ESTAB")]
    assert "reason" not in received[0]
    assert {sent[0]["role"], received[0]["role"]} == {"client", "server"}


def test_a_listener_without_room(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    def knock(server: socket.socket) -> None:
        for _ in range(8):
            one = keep(socket.socket())
            one.setblocking(False)
            with suppress(BlockingIOError):
                one.connect(server.getsockname())

    with Trace(sstrace, netns, tmp_path, "--events", "overflow") as running:
        server = netns.call(listener, "127.0.0.1", 0, 1)
        port = server.getsockname()[1]
        netns.call(knock, server)
        found = wait("it is told", lambda: of(running, "overflow"))
    line = found[0]
    assert (line["sport"], line["state"], line["backlog"], line["queue"]) == (port, "LISTEN", 1, 2)
    assert line["count"] > 0
    assert line["owners"]


def test_a_receiver_without_room(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    with Trace(sstrace, netns, tmp_path, "--events", "drop") as running:
        if "does not say whose" in running.stderr:
            pytest.skip("no tracepoint of this kernel says whose a dropped segment was")
        _, client, accepted = pair(netns)
        client.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                client.send(bytes(1 << 16))
        found = wait("its window is probed", lambda: of(running, "drop"), 60)
    assert {(line["sport"], line["dport"]) for line in found} <= {ports(accepted), ports(client)}
    assert max(line["window"] for line in found) < 1 << 16, "who is not read from has no room for a segment"
    assert {line["reason"] for line in found} <= {"TCP_OLD_DATA", "TCP_ZEROWINDOW", "SOCKET_RCVBUFF", "TCP_OVERWINDOW"}


def test_a_segment_with_a_wrong_checksum(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    with Trace(sstrace, netns, tmp_path, "--events", "drop") as running:
        if "does not say whose" in running.stderr:
            pytest.skip("no tracepoint of this kernel says whose a dropped segment was")
        _, client, accepted = pair(netns)
        # Of 76 bytes or less (CHECKSUM_BREAK, include/linux/skbuff.h) it is checked before anybody asks whose it is.
        send = partial(send_segment, data=bytes(100), wrong=1)
        netns.call(send, client.getsockname(), accepted.getsockname(), ACK, 1, 1)
        (line,) = wait("it is told", lambda: of(running, "drop"))
    assert (line["sport"], line["dport"], line["reason"]) == (*ports(accepted), "TCP_CSUM")


def test_text_and_what_was_recorded(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    tape = tmp_path / "tape.ndjson"
    words = ("--events", "all", "-n", "--record", str(tape))
    with Trace(sstrace, netns, tmp_path, *words, json_lines=False) as running:
        _, client, accepted = pair(netns)
        here = f"127.0.0.1:{ports(client)[0]}"
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
        client.close()
        del accepted

        def resets() -> list[str] | None:
            found = [one for one in running.text if "  reset " in one]
            return found if len(found) > 1 else None

        texts = wait("both", resets)
    (sent,) = [one for one in texts if "reset sent" in one]
    moved = next(one for one in running.text if "-> ESTAB" in one and f" {here} " in one)
    assert sent.index(here) == moved.index(here), "in the columns of the connection"

    def again(*more: str) -> list[str]:
        return sstrace("--replay", str(tape), "-n", *more, netns=netns).stdout.decode().splitlines()

    assert [one.split()[1:] for one in again() if "  reset " in one] == [one.split()[1:] for one in texts]
    assert not [one for one in again("--events", "state") if "  reset " in one]
    assert {json.loads(one)["type"] for one in again("--events", "reset", "--json")} == {"meta", "reset"}


@pytest.mark.parametrize("schema", ["ecs", "otel"])
def test_other_schemas(sstrace: Program, netns: Netns, tmp_path: Path, schema: str) -> None:
    out = tmp_path / "lines"
    words = ("--json", "--schema", schema, "--output", str(out), "--events", "reset", "--count", "2")
    ready = tmp_path / "ready"
    process = sstrace.start(
        *words, "--ready-file", str(ready), netns=netns, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait("it is ready", ready.exists, 60)
    _, client, _ = pair(netns)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
    client.close()
    assert process.wait(60) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    named = [line["event"]["dataset"] if schema == "ecs" else line["event_name"] for line in lines]
    assert named == ["sstrace.meta", "sstrace.reset", "sstrace.reset"]


def test_the_story_of_one_connection(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    tape = tmp_path / "tape.ndjson"
    with Trace(sstrace, netns, tmp_path, "--events", "all", "--record", str(tape)) as running:
        _, client, accepted = pair(netns)
        client.sendall(bytes(5000))
        assert len(accepted.recv(5000, socket.MSG_WAITALL)) == 5000
        here, there = ports(client)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
        client.close()
        wait("both ends", lambda: len([line for line in running.states if line.get("ended")]) == 2)

    def explained(which: str, *more: str) -> list[str]:
        return sstrace("--explain", which, "--from", str(tape), *more, netns=netns).stdout.decode().split("\n")

    text = explained(f"127.0.0.1:{there}-:{here}")
    starts = [number for number, line in enumerate(text) if "  #" in line]
    assert len(starts) == 2, "two ends"
    mine = next(text[at:] for at in starts if text[at].startswith(f"127.0.0.1:{here} → 127.0.0.1:{there}"))
    mine = mine[: mine.index("")]
    assert mine[1].startswith("client; tcp, uid ")
    wanted = [
        "UNCONN -> SYN-SENT: connect(): SYN sent",
        "SYN-SENT -> ESTAB after ",
        "[linger]: ",
        "it lived ",
        "sent 5000 bytes",
    ]
    found = [next(number for number, line in enumerate(mine) if word in line) for word in wanted]
    assert found == sorted(found)
    assert any("reset sent" in line for line in mine)
    number = next(text[at] for at in starts if "→" in text[at]).rpartition("#")[2]
    assert [line for line in explained(f"#{number}") if line] == mine
    lines = [json.loads(line) for line in explained(f"#{number}", "--json") if line]
    assert {line["id"] for line in lines} == {int(number)}
    missing = sstrace("--explain", ":1-:2", "--from", str(tape), netns=netns)
    assert (missing.returncode, missing.stderr.decode()) == (1, f"sstrace: no connection :1-:2 in {tape}\n")


def test_a_kernel_without_btf_is_traced_all_the_same(sstrace: Program, netns: Netns) -> None:
    done = sstrace("--events", "reset", "--duration", "0.1", netns=netns, env={"SSTRACE_WITHOUT": "btf"})
    assert done.returncode == 0
    assert "no retransmission, reset or drop is heard" in done.stderr.decode()


def test_one_namespace_of_several(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    with Trace(sstrace, netns, tmp_path, "--netns", netns.path, "--events", "reset") as running:
        _, client, _ = pair(netns)
        key = ports(client)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
        client.close()
        wait("both", lambda: len(of(running, "reset")) == 2)
    assert {(line["sport"], line["dport"]) for line in of(running, "reset")} == {key, key[::-1]}


def test_a_datagram_that_finds_no_room(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    """Each that the kernel counts, as ss -m has it, with the socket and who holds it, were it older than the trace."""
    older = keep(netns.call(datagram_socket, 5300))
    with Trace(sstrace, netns, tmp_path, "-u", "--events", "all") as running:
        newer = keep(netns.call(datagram_socket, 5301))
        sender = keep(netns.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM))
        for one in (older, newer):
            for _ in range(50):
                sender.sendto(bytes(200), one.getsockname())
        counted = {port: dropped(netns, port) for port in (5300, 5301)}
        assert all(counted.values())
        for port, count in counted.items():
            found = wait(
                "all of them",
                lambda port=port, count=count: (
                    lines if len(lines := of(running, "drop", sport=port)) >= count else None
                ),  # type: ignore[misc]
            )
            assert len(found) == count
            assert {(line["netid"], line["state"], line["reason"]) for line in found} == {
                ("udp", "UNCONN", "SOCKET_RCVBUFF")
            }
            assert {line["owners"][0]["pid"] for line in found} == {os.getpid()}
            assert {line.get("bytes") for line in found} in ({200}, {None})
    assert {line["type"] for line in running.lines} <= {"meta", "seen", "state", "drop"}
    assert f" 0 late, {sum(counted.values())} incidents, 0 lost" in running.stderr


IP_RECVERR = 11
"""include/uapi/linux/in.h"""


def test_what_icmp_tells_a_socket(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    """Nobody is at the other end: of a socket that has a peer, and of one that has asked for errors."""
    with Trace(sstrace, netns, tmp_path, "-u", "--events", "error") as running:
        for port in (5300, 5301):
            one = keep(netns.call(datagram_socket, port))
            one.setsockopt(socket.IPPROTO_IP, IP_RECVERR, int(port == 5301))
            if port == 5300:
                one.connect(("127.0.0.1", 9))
            one.sendto(b"x", ("127.0.0.1", 9)) if port == 5301 else one.send(b"x")
            with pytest.raises(ConnectionRefusedError):
                one.recv(1)
        lines = wait("both", lambda: found if len(found := of(running, "error")) == 2 else None)
    assert [(line["sport"], line["reason"], line["netid"]) for line in lines] == [
        (5300, "ECONNREFUSED", "udp"), (5301, "ECONNREFUSED", "udp"),
    ]  # fmt: skip
    assert [line["owners"][0]["pid"] for line in lines] == [os.getpid()] * 2


def datagram_socket(port: int) -> socket.socket:
    """One with little room."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.bind(("127.0.0.1", port))
    return made


def dropped(netns: Netns, port: int) -> int:
    """What ss says of its receive queue: skmem's d."""
    text = netns.run("ss", "-Huanm", f"sport = :{port}").stdout.decode()
    return int(text.rpartition(",d")[2].partition(")")[0])
