"""Recordings of several network namespaces: which is which at each moment, in each file; what --netns means."""

import json
from pathlib import Path
from typing import Any

import pytest

from sstrace.cli import main

Captured = pytest.CaptureFixture[bytes]

SECOND = 1_000_000_000
WEB, DB, HOME = 4026532001, 4026532002, 4026531833


class Book:
    """Lines with times and numbers of their own."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.seq = 0

    def add(self, kind: str, at_s: float, **fields: Any) -> None:
        seconds, nanoseconds = divmod(round(at_s * SECOND), SECOND)
        ts = f"2026-11-20T15:{seconds // 60:02d}:{seconds % 60:02d}.{nanoseconds:09d}Z"
        head = {"type": kind, "ts": ts, "mono_ns": round(at_s * SECOND) + SECOND}
        self.lines.append({**head, **({"seq": self.seq} if kind != "meta" else {}), **fields})

    def meta(self, at_s: float, **fields: Any) -> None:
        self.add("meta", at_s, schema="sstrace/1", version="0", host="h", kernel="6", boot_id="b", netns=HOME,
                 interfaces={"lo": 1}, several=True, **fields)  # fmt: skip

    def netns(self, at_s: float, event: str, inode: int, cookie: int, *, numbered: bool = True, **label: Any) -> None:
        self.seq += numbered
        self.add("netns", at_s, event=event, netns=inode, netns_cookie=cookie, **label)

    def row(self, kind: str, at_s: float, number: int, netns: int, *, numbered: bool = True, **fields: Any) -> None:
        self.seq += numbered
        values: dict[str, Any] = {"family": "inet", "src": "10.0.0.1", "sport": 40000 + number}
        values |= {"dst": "10.0.0.2", "dport": 443}
        values |= {{"old": "from", "new": "to"}.get(key, key): value for key, value in fields.items()}
        self.add(kind, at_s, id=number, netid="tcp", netns=netns, **values)

    def write(self, path: Path) -> str:
        path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in self.lines))
        return str(path)


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Two from the beginning, each with a device 7 of its own; one that comes with the inode of one that has gone."""
    book = Book()
    book.meta(0)
    book.netns(0, "here", WEB, 11, netns_name="web", comm="nginx", pid=4711)
    book.netns(0, "here", DB, 12, comm="postgres", pid=4712)
    book.row("seen", 0, 1, WEB, state="LISTEN", sport=80, dport=0, dst="0.0.0.0", ifindex=7, ifname="eth0")
    book.row("seen", 0, 2, DB, state="LISTEN", sport=5432, dport=0, dst="0.0.0.0", ifindex=7, ifname="veth9")
    book.row("state", 10, 3, WEB, old="SYN-SENT", new="ESTAB", held_us=1000.0, peer_netns=DB,
             peer_owners=[{"comm": "postgres", "pid": 4712, "fd": 9}], role="client")  # fmt: skip
    book.row("state", 20, 2, DB, old="LISTEN", new="UNCONN", sport=5432, dport=0, dst="0.0.0.0", held_us=2e7)
    book.netns(21, "gone", DB, 12, comm="postgres", pid=4712)
    book.netns(22, "new", DB, 99, netns_name="fresh")
    book.row("state", 23, 4, DB, old="UNCONN", new="LISTEN", sport=22, dport=0, dst="0.0.0.0")
    book.row("state", 30, 3, WEB, old="ESTAB", new="UNCONN", held_us=2e7, lifetime_us=2e7, ended=True,
             cause="reset-received")  # fmt: skip
    return book.write(tmp_path / "book.ndjson")


def out(capfdbinary: Captured, *words: str, code: int = 0) -> list[str]:
    assert main(list(words)) == code
    return capfdbinary.readouterr().out.decode().splitlines()


def test_the_table_of_a_moment_is_that_of_each(path: str, capfdbinary: Captured) -> None:
    def at(when: str, *words: str) -> list[list[str]]:
        lines = out(capfdbinary, "--snapshot", "--from", path, "--at", when, "-tanH", *words)
        return [line.split() for line in lines]

    def ends(when: str, *words: str) -> list[str]:
        return [" ".join((line[0], line[1], line[4])) for line in at(when, *words)]

    assert ends("+5s") == ["postgres/4712 LISTEN 10.0.0.1%veth9:5432", "web LISTEN 10.0.0.1%eth0:80"]
    assert ends("+25s") == ["fresh LISTEN 10.0.0.1:22", "web LISTEN 10.0.0.1%eth0:80", "web ESTAB 10.0.0.1:40003"]
    assert ends("+25s", "--netns", "all") == ends("+25s")
    assert ends("+25s", "netns web and sport = :80") == ["web LISTEN 10.0.0.1%eth0:80"]
    assert ends("+5s", "dev veth9") == ["postgres/4712 LISTEN 10.0.0.1%veth9:5432"]
    for word in ("web", "4711", str(WEB), "nginx", "nginx/4711"):
        assert [line[0] for line in at("+25s", "--netns", word)] == ["LISTEN", "ESTAB"], "one alone has no column"
    lines = [
        json.loads(line) for line in out(capfdbinary, "--snapshot", "--from", path, "--at", "+25s", "-tan", "--json")
    ]
    assert {(line["netns"], line["netns_name"], line["sport"]) for line in lines} == {
        (WEB, "web", 80), (WEB, "web", 40003), (DB, "fresh", 22),
    }  # fmt: skip


def test_what_changed_is_told_of_each(path: str, capfdbinary: Captured) -> None:
    words = ("--snapshot", "--from", path, "--between", "+5s", "+25s", "-tan")
    title, *lines = out(capfdbinary, *words)
    assert title.split()[0] == "Netns"
    found = [" ".join((line[0], line[1], line[2], line[5])) for line in map(str.split, lines)]
    assert found == [
        "+ fresh LISTEN 10.0.0.1:22", "- postgres/4712 LISTEN 10.0.0.1%veth9:5432", "+ web ESTAB 10.0.0.1:40003",
    ]  # fmt: skip
    (line,) = [json.loads(line) for line in out(capfdbinary, *words, "--json", "--netns", "web")]
    assert (line["netns_name"], line["change"]) == ("web", "added")


def test_a_replay_says_where(path: str, capfdbinary: Captured) -> None:
    def replayed(*words: str) -> list[str]:
        return out(capfdbinary, "--replay", path, "-nH", "--time", "utc", *words)

    places = [(line.split()[1], line.split()[-1]) for line in replayed()]
    assert [place for place, _ in places] == ["web", "postgres/4712", "postgres/4712", "fresh", "fresh", "web"]
    assert [line.split(".")[0] + " " + line.split()[1] for line in replayed("--netns", "web")] == [
        "2026-11-20T15:00:10 SYN-SENT", "2026-11-20T15:00:30 ESTAB",
    ]  # fmt: skip
    assert len(replayed("netns fresh")) == 3, "news of namespaces are no lines of sockets"
    copied = out(capfdbinary, "--replay", path, "--json")
    assert [json.loads(line) for line in copied] == [json.loads(line) for line in Path(path).read_text().splitlines()]


@pytest.mark.parametrize("words", [("--netns", "web"), ("netns web",)])
def test_lines_of_json_keep_what_is_known_of_both_ends(
    path: str, capfdbinary: Captured, words: tuple[str, ...]
) -> None:
    lines = [json.loads(line) for line in out(capfdbinary, "--replay", path, "--json", "--no-baseline", *words)]
    opened, closed = [line for line in lines if line["type"] == "state"]
    assert (opened["netns_name"], opened["peer_netns"]) == ("web", DB)
    assert opened["peer_owners"] == [{"comm": "postgres", "pid": 4712, "fd": 9}]
    assert "peer_netns" not in closed
    for schema in ("ecs", "otel"):
        more = ("--json", "--no-baseline", "--schema", schema)
        found = [json.loads(line) for line in out(capfdbinary, "--replay", path, *more, *words)]
        first = next(line for line in found if "ESTAB" in str(line) or "established" in str(line))
        place = first["sstrace"] if schema == "ecs" else {key.removeprefix("sstrace."): first[key] for key in first}
        assert (place["netns_name"], place["peer_netns"]) == ("web", DB)


def test_a_digest_is_of_those_that_are_meant(path: str, capfdbinary: Captured) -> None:
    def transitions(*words: str) -> int:
        total, *_ = out(capfdbinary, "--stats", "--from", path, "--json", *words)
        return int(json.loads(total)["transitions"])

    assert transitions() == 4
    assert transitions("--netns", "web") == 2
    assert transitions("--netns", "fresh,postgres") == 2
    assert transitions("netns fresh") == 1


@pytest.mark.parametrize(
    "words", [("--snapshot", "--from", "{}", "-tan"), ("--replay", "{}"), ("--stats", "--from", "{}"),
              ("--snapshot", "--from", "{}", "--between", "+1s", "+2s", "-tan")]
)  # fmt: skip
def test_a_name_that_none_bore_is_said(path: str, capfdbinary: Captured, words: tuple[str, ...]) -> None:
    assert main([*(word.format(path) for word in words), "--netns", "webb"]) == 1
    said = capfdbinary.readouterr().err.decode()
    assert said.startswith("sstrace: --netns webb: no network namespace was called so ")
    assert said.endswith(": did you mean web?\n")


def test_a_file_that_goes_on_tells_them_anew(path: str, tmp_path: Path, capfdbinary: Captured) -> None:
    """The checkpoint with which the second file of a rotation begins: it stands alone, and says nothing twice."""
    book = Book()
    book.seq = len(Path(path).read_text().splitlines()) - 1
    book.meta(40, part=1)
    book.add("checkpoint", 40, rows=2, places=2)
    book.netns(40, "here", WEB, 11, numbered=False, netns_name="web", comm="nginx", pid=4711)
    book.netns(40, "here", DB, 99, numbered=False, netns_name="fresh")
    book.row(
        "seen", 40, 1, WEB, numbered=False, state="LISTEN", sport=80, dport=0, dst="0.0.0.0", ifindex=7, ifname="eth0"
    )
    book.row("seen", 40, 4, DB, numbered=False, state="LISTEN", sport=22, dport=0, dst="0.0.0.0")
    book.row("state", 50, 4, DB, old="LISTEN", new="UNCONN", sport=22, dport=0, dst="0.0.0.0", held_us=2e7)
    second = book.write(tmp_path / "second.ndjson")

    alone = [line.split() for line in out(capfdbinary, "--snapshot", "--from", second, "--at", "+1s", "-tanH")]
    assert [(line[0], line[4]) for line in alone] == [("fresh", "10.0.0.1:22"), ("web", "10.0.0.1%eth0:80")]
    both = [json.loads(line) for line in out(capfdbinary, "--replay", path, "--replay", second, "--json")]
    assert [line["seq"] for line in both[1:]] == list(range(1, len(both)))
    assert [line["event"] for line in both if line["type"] == "netns"] == ["here", "here", "gone", "new"]
    only = [json.loads(line) for line in out(capfdbinary, "--replay", second, "--json")]
    assert [line["type"] for line in only] == ["meta", "netns", "netns", "seen", "seen", "state"]


def test_a_hole_is_followed_by_all_that_there_is(tmp_path: Path, capfdbinary: Captured) -> None:
    """One that went while nothing could be written is not there any more."""
    book = Book()
    book.meta(0)
    book.netns(0, "here", WEB, 11, netns_name="web")
    book.netns(0, "here", DB, 12, netns_name="db")
    book.row("seen", 0, 1, WEB, state="LISTEN", dport=0, dst="0.0.0.0")
    book.row("seen", 0, 2, DB, state="LISTEN", dport=0, dst="0.0.0.0")
    book.seq += 7
    book.add("checkpoint", 9, rows=1, places=1, unwritten=7)
    book.netns(9, "here", WEB, 11, numbered=False, netns_name="web")
    book.row("seen", 9, 1, WEB, numbered=False, state="LISTEN", dport=0, dst="0.0.0.0")
    path = book.write(tmp_path / "hole.ndjson")
    assert main(["--snapshot", "--from", path, "-tanH", "--netns", "db"]) == 1
    assert b"called so at that moment" in capfdbinary.readouterr().err
    (line,) = out(capfdbinary, "--snapshot", "--from", path, "-tanH")
    assert line.split()[0] == "LISTEN"
    lines = [json.loads(line) for line in out(capfdbinary, "--replay", path, "--json", "netns web")]
    assert [line["type"] for line in lines][-3:] == ["checkpoint", "netns", "seen"]


def test_lines_that_tools_have_mixed_are_put_in_order(path: str, tmp_path: Path, capfdbinary: Captured) -> None:
    text = Path(path).read_text().splitlines(keepends=True)
    mixed = tmp_path / "mixed.ndjson"
    mixed.write_text("".join([text[0], *reversed(text[1:-1]), text[-1]]))
    words = ("-tan", "--json")
    assert out(capfdbinary, "--snapshot", "--from", str(mixed), *words) == out(
        capfdbinary, "--snapshot", "--from", path, *words
    )
