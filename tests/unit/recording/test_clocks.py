"""Clocks that differ are told, by what no clock can change: a SYN comes before its answer."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_front import Front
from fleet_engine import load, make_tables
from fleets import Told, ends, recorded

from sstrace.cli import main
from sstrace.model import State
from sstrace.recording.clocks import Clocks
from sstrace.table import Row

Captured = pytest.CaptureFixture[bytes]


@pytest.fixture(scope="module")
def shaken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """An engine, in which the same comes again and again."""
    with Front(tmp_path_factory.mktemp("engine")) as engine:
        make_tables(engine)
        yield engine


def handshakes(skew_s: float, count: int, seed: int = 1) -> tuple[list[Told], list[Told]]:
    """Of a client and a server whose clock is ahead, with random times on the way."""
    random_ = random.Random(seed)
    client: list[Told] = []
    server: list[Told] = []
    for number in range(1, count + 1):
        at_s = 10 + number + random_.random()
        there, answered = at_s + random_.uniform(1e-5, 1e-3), at_s + random_.uniform(2e-3, 3e-3)
        ours = ends("10.0.0.1", 40000 + number, "10.0.0.9", 443)
        theirs = ends("10.0.0.9", 443, "10.0.0.1", 40000 + number)
        client.append(("state", at_s, number, {"from": "UNCONN", "to": "SYN-SENT", **ours}))
        client.append(("state", answered, number, {"from": "SYN-SENT", "to": "ESTAB", **ours}))
        server.append(("state", there + skew_s, number, {"from": "LISTEN", "to": "SYN-RECV", **theirs}))
        done = answered + random_.uniform(1e-3, 2e-3) + skew_s
        server.append(("state", done, number, {"from": "SYN-RECV", "to": "ESTAB", **theirs}))
    return client, server


@pytest.mark.parametrize("skew_s", [-7.5, -0.25, 0.0, 0.01, 3.0])
@pytest.mark.parametrize("words", [(), ("--json",), ("to", "close-wait")])
def test_a_difference_is_told_to_what_handshakes_allow(
    tmp_path: Path, capfdbinary: Captured, skew_s: float, words: tuple[str, ...]
) -> None:
    client, server = handshakes(skew_s, 20)
    (tmp_path / "c.ndjson").write_bytes(recorded("client", client))
    (tmp_path / "s.ndjson").write_bytes(recorded("server", server, boot_s=100))
    assert main(["--replay", str(tmp_path), *words]) == 0
    said = capfdbinary.readouterr().err.decode()
    if not skew_s:
        assert said == ""
        return
    ahead, behind = ("server", "client") if skew_s > 0 else ("client", "server")
    span = {7.5: "7.5s", 0.25: "249ms|250ms|251ms", 0.01: "9.|10ms|11ms", 3.0: "3.0s"}[abs(skew_s)]
    assert any(f"{ahead} is {one}" in said for one in span.split("|")), said
    assert f"ahead of {behind}" in said


@pytest.mark.parametrize(
    "words", [("--snapshot", "-tan"), ("--snapshot", "-tan", "--json"), ("--stats",)], ids=" ".join
)
def test_whoever_asks_for_one_moment_is_told_too(
    tmp_path: Path, capfdbinary: Captured, words: tuple[str, ...], shaken: Front
) -> None:
    """By the two minutes before it; files and an engine say the same."""
    for number, (name, lines) in enumerate(zip(("client", "server"), handshakes(3.0, 20), strict=True)):
        (tmp_path / f"{name}.ndjson").write_bytes(recorded(name, lines, boot_s=9 + number))
    load(shaken, sorted(tmp_path.iterdir()))
    for source in (str(tmp_path), f"clickhouse:{shaken.url}"):
        assert main(["--from", source, *words]) == 0
        said = capfdbinary.readouterr().err.decode()
        assert "clocks differ, by the handshakes between hosts: server is 3.0s ahead of client: " in said
        assert main(["--from", source, *words, "--host", "client"]) == 0
        assert "clocks" not in capfdbinary.readouterr().err.decode()


def test_what_few_tell_or_the_host_itself_is_no_difference() -> None:
    clocks = Clocks()

    def shake(client: str, server: str, port: int, skew_ns: int, heard_ns: int = 1500) -> None:
        row = _row(b"\x0a\0\0\x01", port, b"\x0a\0\0\x02", 80)
        back = _row(b"\x0a\0\0\x02", 80, b"\x0a\0\0\x01", port)
        clocks.hear(client, row, State.CLOSE, State.SYN_SENT, 1000)
        clocks.hear(server, back, State.LISTEN, State.SYN_RECV, heard_ns + skew_ns)
        clocks.hear(client, row, State.SYN_SENT, State.ESTABLISHED, 2000)
        clocks.hear(server, back, State.SYN_RECV, State.ESTABLISHED, 2500 + skew_ns)

    for port in range(5):
        shake("a", "a", 1000 + port, 10**9)
    assert clocks.skews() == []
    for port in range(2):
        shake("a", "b", 2000 + port, 10**9)
    assert clocks.skews() == []
    shake("b", "a", 3000, -(10**9))
    (skew,) = clocks.skews()
    assert (skew.ahead, skew.behind) == ("b", "a")
    assert skew.least_ns <= 10**9 <= skew.most_ns
    # A clock that is set in between: what it shows at the end counts, once enough handshakes agree.
    shake("a", "b", 4000, 0)
    assert clocks.skews() == []
    for port in range(3):
        shake("a", "b", 5000 + port, 0)
    assert clocks.skews() == []
    # SYN cookies: the server's end begins with the last ACK.
    for port in range(9):
        shake("c", "d", 6000 + port, 0, heard_ns=2490)
    assert clocks.skews() == []


def _row(src: bytes, sport: int, dst: bytes, dport: int) -> Row:
    from sstrace.model import AF_INET, Kind

    return Row(1, Kind.SOCKET, 1, AF_INET, 6, 1, 1, src, sport, dst, dport, 0, 0, 0, None, None, 0, True, 0)
