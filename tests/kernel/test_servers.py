"""A server that counts its own bytes counts those that ``--life`` tells."""

import random
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Netns, Program
from tracing import Trace, wait

pytestmark = [pytest.mark.root, pytest.mark.bpf]

PORT = 6379
POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
NGINX = """
daemon off; user root; worker_processes 1; pid {0}/pid; error_log {0}/said;
events {{ worker_connections 128; }}
http {{
  log_format carried '$remote_port $bytes_sent $request_length';
  access_log {0}/log carried;
  client_body_temp_path {0}/a; proxy_temp_path {0}/b; fastcgi_temp_path {0}/c;
  uwsgi_temp_path {0}/d; scgi_temp_path {0}/e;
  server {{ listen 127.0.0.1:8081; location / {{ root {0}; }} }}
}}
"""
ASK = b"INFO stats\r\n"


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skips where one is not installed."""
    missing = [name for name in programs if shutil.which(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)}: not installed")


def is_open(port: int) -> bool:
    """Whether somebody listens, in the namespace that this is called in."""
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.fixture
def redis(netns: Netns, tmp_path: Path) -> Iterator[None]:
    words = ["redis-server", "--port", str(PORT), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    process = subprocess.Popen([*netns.prefix, *words], stdout=subprocess.DEVNULL)
    try:
        wait("redis listens", lambda: netns.call(is_open, PORT))
        yield
    finally:
        process.terminate()
        process.wait(30)


def read(of: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size and (more := of.recv(size - len(got))):
        got += more
    return got


def talk(chance: random.Random) -> None:
    """A client: some values, there and back."""
    with socket.create_connection(("127.0.0.1", PORT), timeout=20) as client:
        for _ in range(chance.randrange(1, 9)):
            value = chance.randbytes(chance.choice((0, 1, 77, 5_000, 100_000)))
            client.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n%b\r\n" % (len(value), value))
            assert read(client, 5) == b"+OK\r\n"
            client.sendall(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
            answer = b"$%d\r\n%b\r\n" % (len(value), value)
            assert read(client, len(answer)) == answer


def counters() -> tuple[int, int, int]:
    """Bytes that redis has sent and received by the time of this question, which is among what it received; and those
    of its answer, which is not among what it sent.
    """
    with socket.create_connection(("127.0.0.1", PORT), timeout=20) as client:
        client.sendall(ASK)
        told = b""
        while not told.endswith(b"\r\n\r\n"):
            told += client.recv(65536)
    lines = (line.partition(":") for line in told.decode().splitlines())
    found = {name: int(value) for name, _, value in lines if value.isdecimal()}
    return found["total_net_output_bytes"], found["total_net_input_bytes"], len(told)


@needs("redis-server")
@pytest.mark.usefixtures("redis")
def test_redis_has_counted_the_same(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    chance = random.Random(3)
    before = netns.call(counters)
    with Trace(sstrace, netns, tmp_path, "--life", f"sport = :{PORT}") as running:
        for _ in range(40):
            netns.call(talk, chance)
        wait("every end", lambda: sum(line["type"] == "life" for line in running.lines) == 40)
    after = netns.call(counters)
    lives = [line for line in running.lines if line["type"] == "life"]
    assert sum(line["bytes_sent"] for line in lives) == after[0] - before[0] - before[2]
    assert sum(line["bytes_received"] for line in lives) == after[1] - before[1] - len(ASK)


@needs("nginx", "wrk")
def test_nginx_has_logged_the_same_of_each_connection(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(300_000))
    (tmp_path / "conf").write_text(NGINX.format(tmp_path))
    words = ["nginx", "-c", str(tmp_path / "conf"), "-e", str(tmp_path / "said")]
    server = subprocess.Popen([*netns.prefix, *words])
    try:
        wait("nginx listens", lambda: netns.call(is_open, 8081))
        with Trace(sstrace, netns, tmp_path, "--life", "sport = :8081") as running:
            load = [*netns.prefix, "wrk", "-t1", "-c20", "-d1s", "http://127.0.0.1:8081/big"]
            subprocess.run(load, check=True, stdout=subprocess.DEVNULL)
            wait("every end", lambda: sum(line["type"] == "life" for line in running.lines) >= 20)
    finally:
        server.terminate()
        server.wait(30)
    logged: dict[int, tuple[int, int]] = {}
    for line in (tmp_path / "log").read_text().splitlines():
        port, sent, received = map(int, line.split())
        before = logged.get(port, (0, 0))
        logged[port] = before[0] + sent, before[1] + received
    lives = {line["dport"]: line for line in running.lines if line["type"] == "life"}
    told = {port: (life["bytes_sent"], life["bytes_received"]) for port, life in lives.items()}
    assert {port: told[port] for port in logged} == logged  # wrk asks nothing on the first of its connections
    assert sum(sent for sent, _ in logged.values()) > 10 * 300_000


@needs("pgbench", "runuser")
@pytest.mark.skipif(not POSTGRES, reason="PostgreSQL's server is not installed")
def test_postgresql_has_counted_as_many_sessions(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    """Of bytes it keeps no count; what one end of each session has sent, the other has received."""
    place = Path(tempfile.mkdtemp(prefix="sstrace-pg-"))
    shutil.chown(place, "postgres")
    (place / "asked").write_text("select repeat('x', 5000);\n")
    at = ["-h", "127.0.0.1", "-p", "54321", "-U", "postgres"]
    postgres = ["runuser", "-u", "postgres", "--"]
    data = str(place / "data")

    def run(*words: str) -> bytes:
        return subprocess.run([*netns.prefix, *words], check=True, capture_output=True, cwd="/").stdout

    def sessions() -> int:
        return int(run("psql", *at, "-Atc", "select sum(sessions) from pg_stat_database"))

    run(*postgres, str(POSTGRES[-1] / "initdb"), "-D", data, "-A", "trust", "-N")
    options = f"-c fsync=off -c shared_buffers=16MB -h 127.0.0.1 -p 54321 -k {place}"
    words = [*postgres, str(POSTGRES[-1] / "postgres"), "-D", data, *options.split()]
    server = subprocess.Popen([*netns.prefix, *words], cwd="/", stderr=subprocess.DEVNULL)
    try:
        wait("PostgreSQL answers", lambda: netns.call(is_open, 54321) and sessions() >= 0)
        before = sessions()
        with Trace(sstrace, netns, tmp_path, "--life", "sport = :54321 or dport = :54321") as running:
            # A connection for each transaction.
            run("pgbench", *at, "-n", "-C", "-c", "4", "-t", "10", "-f", str(place / "asked"), "postgres")
            wait("every end", lambda: sum(line["type"] == "life" for line in running.lines) >= 82)
        after = sessions()
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(place)
    lives = [line for line in running.lines if line["type"] == "life"]
    ours, theirs = ([line for line in lives if line["role"] == role] for role in ("server", "client"))
    assert len(ours) == len(theirs)
    assert sorted((line["dport"], line["bytes_sent"], line["bytes_received"]) for line in ours) == sorted(
        (line["sport"], line["bytes_received"], line["bytes_sent"]) for line in theirs
    )
    assert after - before == len(ours) + 1  # one of those that have asked
