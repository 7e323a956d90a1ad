"""--metrics: read by promtool and by the library's own parser, and true."""

import signal
import socket
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import Netns, Program
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus
from test_sinks import program
from tracing import LINGER_0, close_all, connect, counts_datagrams, keep, listener, wait

pytestmark = [pytest.mark.root, pytest.mark.bpf]

PORT = 9436
ROLES = ("client", "server")
Sample = tuple[str, tuple[tuple[str, str], ...]]
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@pytest.fixture(autouse=True)
def no_sockets_left() -> Iterator[None]:
    yield
    close_all()


def get(netns: Netns, path: str = "/metrics", accept: str = "text/plain") -> str:
    """GET inside the namespace."""

    def ask() -> str:
        request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", headers={"Accept": accept})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as answer:
            return str(answer.read().decode())

    return netns.call(ask)


def values(text: str, parse: Callable[[str], Any] = prometheus) -> dict[Sample, float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse(text)
        for sample in family.samples
    }


def value(found: dict[Sample, float], name: str, **labels: str) -> float:
    """0 where there is no such sample, as sum() over it would be."""
    labels = {key.rstrip("_"): word for key, word in labels.items()}
    return found.get((name, tuple(sorted(labels.items()))), 0)


@pytest.fixture
def running(sstrace: Program, netns: Netns, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    started = []

    def start(*words: str) -> subprocess.Popen[bytes]:
        ready = tmp_path / "ready"
        with (tmp_path / "errors").open("wb") as errors:
            process = sstrace.start(
                f"--metrics=127.0.0.1:{PORT}", "--ready-file", str(ready), *words, netns=netns,
                stdout=subprocess.DEVNULL, stderr=errors,
            )  # fmt: skip
        started.append(process)
        wait("it is ready", lambda: ready.exists() or process.poll() is not None, 60)
        assert process.poll() is None, (tmp_path / "errors").read_text()
        return process

    yield start
    for process in started:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, (tmp_path / "errors").read_text()


def live(opened: int, refused: int, reset: int) -> list[socket.socket]:
    """So many connections that stay open, that are refused, that are reset; the first of them."""
    kept = []
    listens = listener()
    address = listens.getsockname()
    for _ in range(opened):
        kept += [keep(socket.create_connection(address, timeout=30)), keep(listens.accept()[0])]
    for _ in range(reset):
        with socket.create_connection(address, timeout=30) as client:
            accepted, _ = listens.accept()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
        accepted.close()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        for _ in range(refused):
            with socket.socket() as client:
                assert client.connect_ex(closed.getsockname()) != 0
    return kept


@pytest.mark.parametrize("mode", [(), ("--serve",), ("--verify",)], ids=["trace", "serve", "verify"])
def test_numbers_are_true(running: Callable[..., Any], netns: Netns, tmp_path: Path, mode: tuple[str, ...]) -> None:
    running(*(f"{word}={tmp_path / 'sock'}" if word == "--serve" else word for word in mode))
    before = values(get(netns))
    assert value(before, "sstrace_opens_total", family="inet", role="client") <= 1, "the scraper's own"
    netns.call(live, 11, 7, 5)
    after = values(get(netns))

    def rise(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    # Each scrape is a connection too: its two ends are up while it is answered, the one before may have ended.
    assert rise("sstrace_opens_total", family="inet", role="client") == 11 + 5 + 1
    assert rise("sstrace_opens_total", family="inet", role="server") == 11 + 5 + 1
    assert rise("sstrace_failures_total", family="inet", cause="refused") == 7
    assert rise("sstrace_failures_total", family="inet", cause="reset-received") == 5
    assert rise("sstrace_closes_total", family="inet", cause="linger") == 5
    assert rise("sstrace_failures_total", family="inet", cause="linger") == 0
    assert rise("sstrace_sockets", family="inet", state="estab") in range(22, 25)
    assert value(after, "sstrace_sockets", family="inet", state="listen") == 2
    assert rise("sstrace_transitions_total", family="inet", from_="syn-sent", to="estab") == 17
    assert rise("sstrace_closes_total", family="inet", cause="expired") == 0
    assert rise("sstrace_handshake_seconds_count", family="inet", role="client") == 17
    assert rise("sstrace_handshake_seconds_bucket", family="inet", role="client", le="+Inf") == 17
    assert rise("sstrace_lifetime_seconds_count", family="inet", role="client") >= 12
    assert 0 < rise("sstrace_handshake_seconds_sum", family="inet", role="client") < 60
    rows = sum(number for (name, _), number in after.items() if name == "sstrace_sockets")
    assert value(after, "sstrace_table_rows") == rows
    assert value(after, "sstrace_lost_events_total") == 0
    assert value(after, "sstrace_events_total") > value(before, "sstrace_events_total")
    assert value(after, "process_resident_memory_bytes") > 1 << 20
    if "--verify" in mode:
        assert [value(after, "sstrace_drift_rows_total", kind=kind) for kind in ("missed", "ghost", "wrong")] == [0] * 3
        assert ("sstrace_drift_rows_total", (("kind", "ghost"),)) in after
    if not mode:
        assert value(after, "sstrace_dropped_lines_total", sink="stdout") == 0
        assert value(after, "sstrace_lines_total", sink="stdout") > 17


def test_a_filter_is_of_what_is_printed_and_that_is_told(
    running: Callable[..., Any], netns: Netns, tmp_path: Path
) -> None:
    running("cause", "refused")
    assert b"--metrics counts everything: the filter selects what is shown" in (tmp_path / "errors").read_bytes()
    before = values(get(netns))
    netns.call(live, 3, 0, 0)
    rise = value(values(get(netns)), "sstrace_opens_total", family="inet", role="client") - value(
        before, "sstrace_opens_total", family="inet", role="client"
    )
    assert rise >= 3


def test_datagram_sockets_are_counted(running: Callable[..., Any], netns: Netns) -> None:
    running("-tu", "--metrics-by", "port")
    before = values(get(netns))
    assert [
        value(before, "sstrace_datagram_opens_total", protocol="udp", family="inet", role=role) for role in ROLES
    ] == [0, 0]

    def talk() -> None:
        server, client = (keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2))
        server.bind(("127.0.0.1", 5300))
        client.connect(("127.0.0.1", 5300))
        for size in (1, 10, 100):
            client.send(bytes(size))
            _, peer = server.recvfrom(1000)
            server.sendto(bytes(2 * size), peer)
        client.close()

    netns.call(talk)
    after = values(get(netns))
    assert [
        value(after, "sstrace_datagram_opens_total", protocol="udp", family="inet", role=role) for role in ROLES
    ] == [1, 1]
    assert value(after, "sstrace_datagram_closes_total", protocol="udp", family="inet") == 1
    assert value(after, "sstrace_datagram_sockets", protocol="udp", family="inet", state="unconnected") == 1
    if counts_datagrams():
        sent = {"protocol": "udp", "family": "inet", "direction": "sent", "port": "5300"}
        assert value(after, "sstrace_datagram_bytes_total", **sent) == 111
        assert value(after, "sstrace_datagrams_total", **sent) == 3


def test_each_namespace_has_its_own(running: Callable[..., Any], netns: Netns) -> None:
    """Sockets and connections by namespace and its names, and nothing of one that is gone."""
    other, name = Netns(), netns.publish()
    running("--netns", f"{name},{other.inode}", "--metrics-by", "netns")
    other.call(live, 9, 4, 3)
    found = values(get(netns))

    def of(metric: str, inode: int, netns_name: str = "") -> float:
        labels = {"netns": str(inode), "netns_name": netns_name, "container": "", "pod": "", "pod_namespace": ""}
        return value(found, f"sstrace_netns_{metric}", **labels)

    assert of("opens_total", other.inode) == 2 * (9 + 3)
    assert of("failures_total", other.inode) == 4 + 3
    assert of("sockets", other.inode) == 2 * 9 + 1
    assert 0 < of("sockets", netns.inode, name) <= 3, "the scraper's own"
    sent = "sstrace_segments_total"
    assert value(found, sent, family="inet", direction="sent", netns=str(other.inode)) > 0
    inode = other.inode
    close_all()
    other.close()

    def is_gone() -> bool:
        labels = [dict(labels) for metric, labels in values(get(netns)) if metric.startswith("sstrace_netns_")]
        return bool(labels) and str(inode) not in {one["netns"] for one in labels}

    wait("it is told no more", is_gone, 60)


def test_promtool_and_both_parsers_take_it(running: Callable[..., Any], netns: Netns) -> None:
    promtool = program("promtool", "prometheus")
    running()
    netns.call(live, 3, 2, 2)
    text = get(netns)
    checked = subprocess.run([promtool, "check", "metrics"], input=text, text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    modern = get(netns, accept=OPENMETRICS)
    assert modern.endswith("# EOF\n")
    old, new = values(text), values(modern, openmetrics)
    assert {name for name, _ in old} == {name for name, _ in new}


def test_every_name_is_documented_and_in_order(running: Callable[..., Any], netns: Netns) -> None:
    running("-tu")
    netns.call(live, 1, 1, 1)
    document = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text()
    for family in prometheus(get(netns)):
        if family.name.startswith("sstrace"):
            assert f"`{family.name}" in document, family.name
            assert family.documentation.endswith(".")


def test_an_address_that_is_taken(sstrace: Program, netns: Netns) -> None:
    listens = netns.call(listener, "127.0.0.1", PORT)
    with listens:
        done = sstrace(f"--metrics=127.0.0.1:{PORT}", "--duration", "1", netns=netns)
    assert done.returncode == 1
    assert done.stderr == f"sstrace: cannot serve metrics at 127.0.0.1:{PORT}: Address already in use\n".encode()


def test_who_hangs_up_is_not_told_of(
    netns: Netns, tmp_path: Path, running: Callable[..., subprocess.Popen[bytes]]
) -> None:
    def hang_up() -> None:
        for _ in range(50):
            with socket.create_connection(("127.0.0.1", PORT)) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
                client.sendall(b"\x16\x03\x01\x02\r\n" * 3)  # it is refused, in more than one write

    running()
    netns.call(hang_up)
    assert "sstrace_events_total" in get(netns)
    assert (tmp_path / "errors").read_bytes() == b""


def test_only_loopback_unless_told(running: Callable[..., Any], netns: Netns) -> None:
    """Nobody is served by accident."""
    running()
    out = netns.run("ss", "-Htln", "sport", "=", f":{PORT}").stdout.decode()
    assert f"127.0.0.1:{PORT}" in out
    assert len(out.splitlines()) == 1


@pytest.mark.parametrize("host", ["a" * 70, "no..host", "256.1.1.1"])
def test_no_such_host_to_listen_at(sstrace: Program, netns: Netns, host: str) -> None:
    done = sstrace("--poll", "1s", f"--metrics={host}:9437", netns=netns)
    assert done.returncode == 1
    sentence = done.stderr.splitlines()[-1]
    assert sentence.startswith(f"sstrace: cannot serve metrics at {host}:9437: ".encode()), done.stderr
    assert b"None" not in sentence


def test_bytes_by_port_and_owner(running: Callable[..., Any], netns: Netns) -> None:
    def transfer(sent: int, received: int) -> int:
        listens = listener()
        with socket.create_connection(listens.getsockname(), timeout=30) as client, listens.accept()[0] as accepted:
            for one, other, size in ((client, accepted, sent), (accepted, client, received)):
                one.sendall(bytes(size))
                assert len(other.recv(size, socket.MSG_WAITALL)) == size
        return int(listens.getsockname()[1])

    running("--metrics-by", "port,owner")
    port = str(netns.call(transfer, 5_000, 77))

    def found() -> dict[Sample, float] | None:
        last = values(get(netns))
        return last if any(("port", port) in labels for _, labels in last) else None

    def of(name: str, direction: str) -> list[float]:
        wanted = {("port", port), ("direction", direction)}
        return [number for (one, labels), number in after.items() if one == name and wanted <= set(labels)]

    comm = Path("/proc/self/comm").read_text().strip()
    after = wait("both ends", found)
    assert of("sstrace_bytes_total", "sent") == of("sstrace_bytes_total", "received") == [5_077], "either end counts"
    assert of("sstrace_segments_total", "sent")[0] >= 6
    assert {dict(labels)["owner"] for _, labels in after if ("port", port) in labels} == {comm}
    assert value(after, "sstrace_rtt_seconds_count", family="inet", role="client") >= 1


def test_a_long_transfer_is_counted_while_it_lasts(running: Callable[..., Any], netns: Netns) -> None:
    """And no byte of it twice, when it ends."""
    listens = netns.call(listener)
    client = netns.call(connect, listens.getsockname())
    accepted = keep(listens.accept()[0])
    port = str(min(listens.getsockname()[1], client.getsockname()[1]))  # nobody saw who called: the lower one
    running("--metrics-by", "port")

    def counted(total: int) -> bool:
        found, of = values(get(netns)), {"family": "inet", "port": port}
        ways = [value(found, "sstrace_bytes_total", direction=way, **of) for way in ("sent", "received")]
        return ways == [total, total]

    for rounds in range(3):
        client.sendall(bytes(100_000))
        assert len(accepted.recv(100_000, socket.MSG_WAITALL)) == 100_000
        wait("it has grown", partial(counted, (rounds + 1) * 100_000))
    client.sendall(bytes(77))
    accepted.recv(77, socket.MSG_WAITALL)
    client.close()
    accepted.recv(1)
    accepted.close()
    wait("its end", partial(counted, 300_077))
