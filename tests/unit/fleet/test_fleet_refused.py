"""An engine that is not there, does not let one in, has other tables, or stops in the middle: one sentence, and its
exit code; and whatever stands in lines stays in its own row.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from engine_front import Front
from fleet_engine import load, make_tables
from fleets import LISTENER, WEB, recorded

from sstrace.cli import main
from sstrace.fleet.schema import VERSION
from sstrace.sources import clickhouse

Captured = pytest.CaptureFixture[str]


def refused(capfd: Captured, url: str, code: int, *words: str) -> str:
    """The one sentence with which a question ends."""
    assert main(["--from", f"clickhouse:{url}", *(words or ("--snapshot", "-tan"))]) == code
    out, err = capfd.readouterr()
    assert out == ""
    sentence = err.removesuffix("\n")
    assert sentence.startswith("sstrace: ")
    assert "\n" not in sentence
    return sentence


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """One with two users, and nothing in it."""
    with Front(tmp_path_factory.mktemp("engine"), users={"default": "", "reader": "se cret"}) as front:
        yield front


@pytest.mark.parametrize("url", [
    "", "http://", "ftp://host", "http://host:99999", "http://host:x", "http://host/a/b", "http://host/a?b=c", "http:///x",
    "http://[::1", "http://host/' OR 1",
])  # fmt: skip
def test_an_address_that_is_none(capfd: Captured, url: str) -> None:
    sentence = refused(capfd, url, 255)
    assert "http://USER@HOST:8123/DATABASE" in sentence


def test_what_cannot_be_asked_so(capfd: Captured, tmp_path: Path) -> None:
    assert "everybody can read a password" in refused(capfd, "http://me:secret@host", 255)
    assert "secret" not in refused(capfd, "http://me:secret@host", 255)
    assert "--watch needs a terminal" in refused(capfd, "http://host", 255, "--watch")
    assert refused(capfd, "host:9", 255) == (
        "sstrace: --from clickhouse:host:9: write http://host:9, or where it is encrypted https://host:9"
    )
    assert "an engine is asked alone" in refused(capfd, "http://host", 255, "--stats", "--replay", str(tmp_path))


@pytest.mark.parametrize(("typed", "meant"), [
    ("clikhouse:http://x", "clickhouse:http://x"), ("lve", "live"), ("netlnk", "netlink"), ("lve:/x", "live:/x"),
])  # fmt: skip
def test_another_source_was_meant(capfd: Captured, typed: str, meant: str) -> None:
    assert main(["--snapshot", "--from", typed, "-tan"]) == 5
    assert capfd.readouterr().err == (
        f"sstrace: cannot read {typed}: No such file or directory: did you mean {meant}?\n"
    )


def test_an_engine_that_is_away(capfd: Captured) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert refused(capfd, f"http://127.0.0.1:{port}", 1) == (
        f"sstrace: cannot reach http://127.0.0.1:{port}/sstrace: Connection refused"
    )


@contextmanager
def listening(answer: bytes) -> Iterator[int]:
    """Something else, which answers every connection so, or not at all, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    end, _ = server.accept()
                except OSError:
                    return
                kept.append(end)
                if answer:
                    end.recv(1 << 16)
                    end.sendall(answer)
                    end.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for end in kept:
                end.close()


@pytest.mark.parametrize("answer", [
    b"220 mail ESMTP\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhello",
    b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno\n",
    b"HTTP/1.1 500 No\r\nX-ClickHouse-Exception-Code: 241\r\nContent-Length: 4\r\n\r\nfull",
])  # fmt: skip
def test_who_is_no_engine(capfd: Captured, answer: bytes) -> None:
    with listening(answer) as port:
        refused(capfd, f"http://127.0.0.1:{port}", 1)


def test_an_engine_that_is_older_than_its_client(capfd: Captured) -> None:
    """As Debian's, 18.16, answers the client's first question."""
    said = b"Code: 47, e.displayText() = DB::Exception: Unknown identifier: timezone, e.what() = DB::Exception"
    head = b"HTTP/1.1 404 Not Found\r\nX-ClickHouse-Exception-Code: 47\r\nContent-Length: %d\r\n\r\n" % len(said)
    with listening(head + said) as port:
        assert refused(capfd, f"http://127.0.0.1:{port}", 1) == (
            f"sstrace: http://127.0.0.1:{port}/sstrace is older than its client can ask: ClickHouse 24.8 or newer is "
            "needed"
        )


def test_an_engine_that_does_not_answer(capfd: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clickhouse, "_ANSWER_S", 0.2)
    with listening(b"") as port:
        assert f"http://127.0.0.1:{port}/sstrace" in refused(capfd, f"http://127.0.0.1:{port}", 1)


def test_who_is_not_let_in(capfd: Captured, engine: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    url = engine.url.replace("http://", "http://reader@")
    monkeypatch.setenv("CLICKHOUSE_PASSWORD", "wrong")
    sentence = refused(capfd, url, 1)
    assert "does not let user reader in" in sentence
    assert "wrong" not in sentence
    monkeypatch.setenv("CLICKHOUSE_PASSWORD", "se cret")
    assert "does not let" not in refused(capfd, f"{url}/nowhere", 1)


def test_an_engine_without_tables_or_with_those_of_another_version(capfd: Captured, engine: Front) -> None:
    assert "no database" in refused(capfd, f"{engine.url}/nowhere", 1)
    assert "has no tables of sstrace: sstrace --fleet-schema | clickhouse-client" in refused(capfd, engine.url, 1)
    make_tables(engine)
    for words in (("--snapshot", "-tan"), ("--stats",), ("-n",)):
        assert "holds no lines of sstrace" in refused(capfd, engine.url, 5, *words)
    engine.ask(f"INSERT INTO schema_versions (version, sstrace) VALUES ({VERSION + 1}, 'later')")
    assert "tables of a later sstrace" in refused(capfd, engine.url, 4)
    engine.ask("TRUNCATE TABLE schema_versions")
    assert "tables of an earlier sstrace" in refused(capfd, engine.url, 4)


HOSTILE = ("'; DROP TABLE lines; --", "\x1b[2Jx", "a\tb", "back\\slash", "{}", "%s", "\u202ex", "a" * 200)


def test_names_of_any_kind_stay_in_their_row(
    capfd: Captured, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for number, text in enumerate(HOSTILE):
        owned = {"ino": 9, "owners": [{"comm": text, "pid": 1, "fd": 3}], "cgroup": f"/{text}", "ifindex": 7}
        (tmp_path / f"{number}.ndjson").write_bytes(
            recorded(text, [
                ("seen", 1, 1, {"state": "LISTEN", **LISTENER, **owned, "ifname": text}),
                ("state", 2, 2, {"from": "ESTAB", "to": "UNCONN", **WEB, **owned, "cause": text[:60], "ended": True}),
            ])
        )  # fmt: skip
    with Front(tmp_path_factory.mktemp("hostile")) as front:
        make_tables(front)
        load(front, sorted(tmp_path.iterdir()))
        for words in (
            ("--snapshot", "-tanp"), ("--snapshot", "-tan", "--json"), ("-n", "--time", "utc"), ("--stats",),
            ("--snapshot", "-tan", "--host", HOSTILE[0]), ("--snapshot", "-tan", "comm", "*DROP*"),
        ):  # fmt: skip
            found = []
            for name in (str(tmp_path), f"clickhouse:{front.url}"):
                code = main(["--from", name, *words])
                found.append((code, *capfd.readouterr()))
            assert found[0][:2] == found[1][:2], words
            assert found[1][0] == 0
        assert front.ask("SELECT count() > 0 FROM lines").strip() == "1"
