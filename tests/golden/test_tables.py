"""The tables that few kernels have, SCTP, raw, DCCP, MPTCP, vsock, XDP and TIPC, and unix, packet and netlink rows with
anything in them: what the snapshot prints of recorded answers is what the real ss printed of the same bytes.

See ``record`` for how that was asked: the bytes are ``tests/answers.py``'s, or those of a Linux 6.1 that has the
tables; the texts those of three releases of ss, to which ``shim.c`` handed the bytes in place of the kernel's.
"""

import gzip
import json
import random
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from test_golden import cases

from sstrace.dialect import dialect, parse_version
from sstrace.errors import KernelError, SstraceError
from sstrace.modes import snapshot
from sstrace.query.command import Command
from sstrace.query.options import parse
from sstrace.snapshot import others

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "tests" / "data" / "tables"
RECORDED = ROOT / "tests" / "data" / "tables-6.1"
TEXTS = sorted((*HOME.glob("*.txt.gz"), *RECORDED.glob("*.txt.gz")))


class Diag:
    """What sources.diag is to the snapshot; answers from the files, damaged as ``damage`` says."""

    home = HOME
    damage: Callable[[bytes], bytes] = staticmethod(lambda answer: answer)

    def __enter__(self) -> "Diag":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def send(self, request: bytes) -> None:
        """Choose the answer as shim.c does."""
        kind, family, protocol = struct.unpack_from("=4xH10xBB", request)
        name = str(family)
        if family in (2, 10):
            # INET_DIAG_REQ_PROTOCOL widens the protocol.
            widened = struct.pack("=HHI", 8, 3, 262) in request
            name = f"{family}.{262 if widened else protocol}"
        path = self.home / f"{name}.diag"
        missing = struct.pack("=IHHIIi", 36, 2, 0, 0, 0, -2) + request[:16]
        self.answer = self.damage(path.read_bytes()) if kind == 20 and path.exists() else missing

    def ahead(self) -> Iterator[memoryview]:
        """In datagrams of a few rows; the end on its own."""
        at = start = 0
        while at + 6 <= len(self.answer):
            length, kind = struct.unpack_from("=IH", self.answer, at)
            if at > start and (kind == 3 or at - start > 3000):
                yield memoryview(self.answer)[start:at]
                start = at
            at += max(length + 3 & ~3, 4)
            if at + 6 > len(self.answer):
                break
        yield memoryview(self.answer)[start:]
        raise KernelError("no more came", 5)


def ours(options: str, width: int | None, release: str, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any) -> bytes:
    monkeypatch.setattr(snapshot, "Diag", Diag)
    monkeypatch.setattr(others, "Diag", Diag)
    monkeypatch.setattr(snapshot, "screen_width", lambda _env, **_how: width)
    command = parse(["ss", *options.split()], release=dialect(parse_version(release), release))
    assert isinstance(command, Command)
    capfdbinary.readouterr()
    assert snapshot.run(command, {}) == 0
    printed: bytes = capfdbinary.readouterr().out
    return printed


WORDS = {
    HOME: (b"`- COOKIE_WAIT", b" locals:", b"v_str", b"???", b"icmp6", b"umem(id:", b"ti_rd", b"token:", b"fanout("),
    RECORDED: (b"`- ESTAB", b" peers:::1", b"v_str", b"???", b"icmp6", b"ti_sq", b"ti_st", b"dccp"),
}


@pytest.mark.parametrize("home", WORDS, ids=lambda home: home.name)
def test_there_are_answers_of_both_layouts(home: Path) -> None:
    found = [path for path in TEXTS if path.parent == home]
    assert {path.name.removesuffix(".txt.gz") for path in found} >= {"6.1.0", "6.15.0", "7.3.0"}
    for path in found:
        text = gzip.decompress(path.read_bytes())
        missing = [word for word in WORDS[home] if word not in text and (word != b"dccp" or "7.3" not in path.name)]
        assert not missing, path
        assert len(list(cases(path))) > 80


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: f"{path.parent.name}-{path.name.removesuffix('.txt.gz')}")
def test_our_text_is_the_text_of_ss(path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any) -> None:
    release = path.name.removesuffix(".txt.gz")
    monkeypatch.setattr(Diag, "home", path.parent)
    wrong = [
        f"{options} at {width}"
        for options, width, expected in cases(path)
        if ours(options, width, release, monkeypatch, capfdbinary) != expected
    ]
    assert not wrong


@pytest.mark.parametrize(
    "options", ["-A all,tipc -a", "-A all,tipc -anemiopb --tos --inet-sockopt --tipcinfo", "-Sani"]
)
def test_the_same_rows_as_json_keep_to_the_schema(
    options: str, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any
) -> None:
    """One object a line, a number always a number, what is absent not there; as many as ss prints rows."""
    schema = json.loads((ROOT / "sstrace" / "schemas" / "snapshot.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    lines = ours(f"--json {options}", None, "7.3.0", monkeypatch, capfdbinary).splitlines()
    assert len(lines) > 40
    kinds: dict[tuple[str, str], set[type]] = {}
    for line in lines:
        row = json.loads(line)
        validator.validate(row)
        for key, value in row.items():
            kinds.setdefault((row["netid"], key), set()).add(type(value))
    assert {key: found for key, found in kinds.items() if len(found) > 1 or type(None) in found} == {}


OPTIONS = (
    "-n",
    "-e",
    "-m",
    "-i",
    "-o",
    "-b",
    "-O",
    "-H",
    "--tos",
    "--cgroup",
    "--inet-sockopt",
    "--tipcinfo",
    "--json",
)


@pytest.mark.parametrize("seed", range(60))
def test_answers_that_lie_end_in_rows_or_a_sentence(
    seed: int, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any
) -> None:
    """From the bytes to the text, whatever the bytes are: nothing escapes but the errors that ``cli`` tells."""
    rng = random.Random(seed)

    def damaged(answer: bytes) -> bytes:
        data = bytearray(answer)
        for _ in range(rng.choice([0, 1, 1, 3, 20])):
            data[rng.randrange(len(data))] = rng.choice([0, 1, 2, 127, 255, rng.randrange(256)])
        return bytes(data[: rng.choice([len(data), len(data), rng.randrange(len(data))])])

    monkeypatch.setattr(Diag, "damage", staticmethod(damaged))
    for table in ("-A all,tipc -a", "-Sa", "--xdp -a", "--tipc -a", "-0a", "-f netlink -a", "-xa", "-Ma", "-wa"):
        words = " ".join((table, *rng.sample(OPTIONS, rng.randint(0, 8))))
        with suppress(SstraceError):
            ours(words, rng.choice([None, 1, 80]), rng.choice(["6.1.0", "6.15.0", "7.3.0"]), monkeypatch, capfdbinary)
