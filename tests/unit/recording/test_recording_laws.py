"""Recorder, replay and past over a kernel in miniature: what is folded from the file is the table, at every moment."""

import gzip
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tapes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tapes import OFFSET_NS, Tape, key, lines

from sstrace.cli import main
from sstrace.errors import SstraceError
from sstrace.lines import SeenLine
from sstrace.output import recorder as record
from sstrace.query.command import When
from sstrace.recording import past
from sstrace.recording.reader import Reader, RecordedNames, row_of
from sstrace.sources import files
from sstrace.sources.record import RecordFile
from sstrace.sources.replay import Recording

often = tapes.often


def opened(tape: Tape) -> int:
    """The descriptor that it writes to."""
    file = tape.recorder._file
    assert isinstance(file, RecordFile)
    return file._fd


def rows_at(path: Path, when: When | None) -> dict[int, tapes.RowKey]:
    """The table of a recording at a moment."""
    names = RecordedNames({})
    with Recording(str(path)) as source:
        found, reader = past.look_back(source, when, names)
        reader.finish()
    return {number: key(row_of(line, names)) for number, line in found.rows.items()}


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("suffix", [".ndjson", ".ndjson.gz", ".ndjson.zst"])
@pytest.mark.parametrize("seed", range(3))
def test_the_table_is_folded_right_at_every_moment(tmp_path: Path, seed: int, suffix: str) -> None:
    path = tmp_path / f"tape{suffix}"
    tape = Tape(path, seed, sweeps=True, loss=0.05).run(60).close()
    assert tape.changes > 300
    for at_ns, seq, rows in tape.moments:
        assert rows_at(path, When("utc", at_ns + OFFSET_NS, "")) == rows
        assert rows_at(path, When("seq", seq, "")) == rows
    assert rows_at(path, None) == tape.moments[-1][2]


@pytest.mark.usefixtures("often")
def test_a_moment_is_found_without_reading_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tape.ndjson"
    tape = Tape(path, 7).run(1500).close()
    size = path.stat().st_size
    assert size > 3 << 20
    read = 0
    pread = os.pread

    def counted(fd: int, count: int, offset: int) -> bytes:
        nonlocal read
        data = pread(fd, count, offset)
        read += len(data)
        return data

    monkeypatch.setattr(os, "pread", counted)
    monkeypatch.setattr("sstrace.sources.replay._BLOCK", 1 << 16)
    at_ns, _, rows = tape.moments[-10]
    assert rows_at(path, When("utc", at_ns + OFFSET_NS, "")) == rows
    assert read < size / 3


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("seed", range(4))
def test_a_replay_is_what_was_printed_live(
    tmp_path: Path, seed: int, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Text and NDJSON, everything and parts."""
    for words in (
        ["--json"],
        [],
        ["-4"],
        ["to", "established"],
        ["--json", "-6", "sport = :1001"],
        ["state", "time-wait"],
        ["--json", "from", "syn-sent,listening"],
        ["--json", "to", "close-wait", "sport > :1000"],
        ["--json", "--no-baseline"],
    ):
        path = tmp_path / "tape.ndjson"
        Tape(path, seed, sweeps=True, loss=0.02, live=words).run(40).close()
        live = capfdbinary.readouterr().out
        assert main(["--replay", str(path), *words]) == 0
        replayed = capfdbinary.readouterr()
        assert replayed.out == live
        assert live.count(b"\n") > 10
        assert replayed.err == b""


@pytest.mark.usefixtures("often")
def test_a_replay_of_a_replay_is_the_same(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    path = tmp_path / "tape.ndjson"
    tape = Tape(path, 3, sweeps=True, loss=0.02).run(40).close()
    assert main(["--replay", str(path), "--json"]) == 0
    once = capfdbinary.readouterr().out
    (tmp_path / "kept.log").write_bytes(once)
    assert main(["--replay", str(tmp_path / "kept.log"), "--json"]) == 0
    assert capfdbinary.readouterr().out == once
    assert b'"checkpoint"' in path.read_bytes()
    assert b'"checkpoint"' not in once
    for at_ns, _, rows in tape.moments:
        assert rows_at(tmp_path / "kept.log", When("utc", at_ns + OFFSET_NS, "")) == rows


# ----------------------------------------------------------------------------------------------------------- rotation


@pytest.mark.usefixtures("often")
def test_every_file_of_a_rotation_stands_alone(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    path = tmp_path / "tape.ndjson"
    tape = Tape(path, 5, rotate=40_000, live=["--json"])
    record_often(tape)
    tape.run(100).close()
    live = capfdbinary.readouterr().out
    files = sorted(tmp_path.iterdir(), key=lambda file: lines(file)[0]["mono_ns"])
    assert len(files) > 4
    assert files[-1] == path
    # Each by itself tells the table at each of its moments.
    for file, following in zip(files, [*files[1:], None], strict=True):
        begin = lines(file)[0]["mono_ns"]
        end = lines(following)[0]["mono_ns"] if following is not None else 1 << 62
        for at_ns, _, rows in tape.moments:
            if begin <= at_ns < end:
                assert rows_at(file, When("utc", at_ns + OFFSET_NS, "")) == rows
    # Together, in whatever order they are named, they are one stream.
    assert main([word for file in files[::-1] for word in ("--replay", str(file))] + ["--json"]) == 0
    assert capfdbinary.readouterr().out == live


def record_often(tape: Tape) -> None:
    """Flush after each batch, whatever the clock says."""
    tape.recorder._flushed_ns = -(1 << 62)
    through = tape.recorder.through

    def prompt(changes: object) -> object:
        yield from through(changes)  # type: ignore[arg-type]
        tape.recorder._flush()
        tape.recorder._tend()

    tape.recorder.through = prompt  # type: ignore[assignment, method-assign]


@pytest.mark.usefixtures("often")
def test_keep_counts_files(tmp_path: Path) -> None:
    path = tmp_path / "tape.ndjson"
    tape = Tape(path, 5, rotate=20_000, keep=3)
    record_often(tape)
    tape.run(100).close()
    names = sorted(file.name for file in tmp_path.iterdir())
    assert len(names) == 3
    assert "tape.ndjson" in names
    numbers = [int(name.split(".")[1]) for name in names if name != "tape.ndjson"]
    assert numbers[1] == numbers[0] + 1
    assert numbers[0] > 3
    # The next recording goes on behind them, and loses none.
    before = path.read_bytes()
    Tape(path, 6, rotate=20_000, keep=3).run(1).close()
    assert (tmp_path / f"tape.{numbers[1] + 1:04d}.ndjson").read_bytes() == before


@pytest.mark.usefixtures("often")
def test_files_that_are_old_enough(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """The clock rotates whatever waits to be written: no line gets into the file behind its own."""
    tape = Tape(tmp_path / "tape.ndjson", 5, rotate_ns=1, live=["--json"])
    tape.run(100).close()
    live = capfdbinary.readouterr().out
    files = sorted(tmp_path.iterdir(), key=lambda file: lines(file)[0]["mono_ns"])
    assert len(files) > 20
    assert {lines(file)[0]["type"] for file in files} == {"meta"}
    assert main([word for file in files for word in ("--replay", str(file))] + ["--json"]) == 0
    assert capfdbinary.readouterr().out == live


@pytest.mark.usefixtures("often")
def test_a_table_that_is_larger_than_a_file_may_be(tmp_path: Path) -> None:
    """Each file holds as much of what happened as of the table."""
    tape = Tape(tmp_path / "tape.ndjson", 5, rotate=1, loss=0)
    record_often(tape)
    tape.run(200).close()
    files = sorted(tmp_path.glob("tape.0*.ndjson"))
    assert len(files) > 3
    for file in files[1:]:  # the first begins with the table that was there, without a checkpoint
        found = lines(file)
        table = next(line["rows"] for line in found if line["type"] == "checkpoint")
        begins = b"".join(file.read_bytes().splitlines(keepends=True)[: table + 2])
        assert file.stat().st_size >= 2 * len(begins)


@pytest.mark.usefixtures("often")
def test_a_file_that_cannot_be_renamed_is_written_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    def refused(*_: object) -> None:
        raise OSError(13, "Permission denied")

    path = tmp_path / "tape.ndjson"
    tape = Tape(path, 5, rotate=10_000)
    record_often(tape)
    monkeypatch.setattr(files, "rename", refused)
    tape.run(60).close()
    assert capfdbinary.readouterr().err.decode().count("cannot rename") == 1
    for at_ns, _, rows in tape.moments:
        assert rows_at(path, When("utc", at_ns + OFFSET_NS, "")) == rows
    # Nor does the next one empty it.
    before = path.read_bytes()
    with pytest.raises(SstraceError, match="cannot rename"):
        Tape(path, 6, rotate=10_000)
    assert path.read_bytes() == before


# ---------------------------------------------------------------------------------------------------------- disk full


class Disk:
    """A disk with so many bytes left, in place of os.write."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fd: int, room: int) -> None:
        self.room = room
        write = os.write

        def full(to: int, data: bytes) -> int:
            if to != fd:
                return write(to, data)
            if self.room <= 0:
                raise OSError(28, "No space left on device")
            done = write(to, bytes(data)[: self.room])
            self.room -= done
            return done

        monkeypatch.setattr(os, "write", full)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("suffix", [".ndjson", ".ndjson.gz"])
@pytest.mark.parametrize("room", [0, 10_000, 33_333])
def test_a_full_disk_makes_a_hole_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], room: int, suffix: str
) -> None:
    monkeypatch.setattr(record, "_RETRY_NS", 0)
    path = tmp_path / f"tape{suffix}"
    tape = Tape(path, 11, sweeps=True)
    record_often(tape)
    tape.run(5)
    disk = Disk(monkeypatch, opened(tape), room // (10 if suffix.endswith("gz") else 1))
    tape.run(60)
    assert tape.recorder.unwritten > 100
    broken = capfdbinary.readouterr().err.decode()
    assert broken.count("\n") == 1
    assert "No space left on device" in broken
    assert "tracing goes on" in broken
    disk.room = 1 << 30
    count = len(tape.moments)
    tape.run(20).close()
    assert f"{tape.recorder.unwritten} lines are missing" in capfdbinary.readouterr().err.decode()
    assert f"{tape.recorder.unwritten} could not be written" in tape.recorder.summary()
    # Behind the hole, and before it, the table is right; the hole is told.
    for at_ns, _, rows in (*tape.moments[:5], *tape.moments[count + 1 :]):
        assert rows_at(path, When("utc", at_ns + OFFSET_NS, "")) == rows
    assert main(["--replay", str(path)]) == 0
    assert f"{tape.recorder.unwritten} lines could not be recorded before this moment" in (
        capfdbinary.readouterr().out.decode()
    )
    # NDJSON of it folds to the same table.
    assert main(["--replay", str(path), "--json"]) == 0
    (tmp_path / "again.ndjson").write_bytes(capfdbinary.readouterr().out)
    assert rows_at(tmp_path / "again.ndjson", None) == tape.moments[-1][2]


def test_a_disk_that_stays_full_ends_quietly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    path = tmp_path / "tape.ndjson"
    tape = Tape(path, 11)
    Disk(monkeypatch, opened(tape), 0)
    record_often(tape)
    tape.run(10).close()
    assert capfdbinary.readouterr().err.count(b"\n") == 1
    assert rows_at(path, None) == {}  # the first line is there: begin() wrote it


@pytest.mark.parametrize("path", ["/nonexistent/tape", "/proc/tape", "."])
def test_what_cannot_be_recorded_to_is_said_at_once(path: str) -> None:
    with pytest.raises(SstraceError, match="cannot record to"):
        RecordFile(path)


# ------------------------------------------------------------------------------------------------------------- damage


class Sound:
    """A recording without fault, and the run that it is of."""

    def __init__(self, content: bytes, tape: Tape) -> None:
        self.content = content
        self.tape = tape


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    """One recording with everything in it, to be damaged."""
    path = tmp_path_factory.mktemp("sound") / "tape.ndjson"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "_CHECKPOINT_EVENTS", 40)
        tape = Tape(path, 23, sweeps=True, loss=0.03).run(30).close()
    return Sound(path.read_bytes(), tape)


def outcome(path: Path, capfdbinary: pytest.CaptureFixture[bytes], *words: str) -> tuple[int, bytes, str]:
    """Exit code, output, complaints of a replay."""
    capfdbinary.readouterr()
    code = main(["--replay", str(path), "--json", *words])
    said = capfdbinary.readouterr()
    return code, said.out, said.err.decode()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1))
@pytest.mark.parametrize("packed", [False, True])
def test_cut_at_any_byte(
    sound: Sound,
    tmp_path: Path,
    capfdbinary: pytest.CaptureFixture[bytes],
    packed: bool,
    share: float,
) -> None:
    """Everything before the cut is used; one sentence says that it is cut; 5 only if nothing was usable."""
    content, tape = sound.content, sound.tape
    file = gzip.compress(content, 1) if packed else content
    at = round(share * len(file))
    path = tmp_path / "cut"
    path.write_bytes(file[:at])
    code, out, said = outcome(path, capfdbinary)
    if packed:
        usable = content.startswith(b'{"type":"meta"') and out != b""
    else:
        usable = at >= content.index(b"\n")
        whole = content[:at].split(b"\n")[:-1]
        tail = content[:at].rpartition(b"\n")[2]
        if tail and b"\n" + tail + b"\n" in content:
            whole.append(tail)
        assert [line for line in out.split(b"\n") if line] == replayed(whole)
    assert code == (0 if usable else 5)
    assert said.count("\n") <= 1
    if usable and at < len(file):
        for at_ns, seq, rows in tape.moments:
            if f'"seq":{seq + 1},'.encode() in out:
                assert rows_at(path, When("utc", at_ns + OFFSET_NS, "")) == rows
    if not usable:
        assert said.startswith("sstrace: ")
        assert "holds nothing that can be used" in said


def replayed(whole: list[bytes]) -> list[bytes]:
    """What a replay prints of these lines: all but marks, checkpoints and their rows."""
    shown, due = [], 0
    for line in whole:
        value = msgspec.json.decode(line)
        if value["type"] == "checkpoint":
            due = value["rows"]
        elif value["type"] == "seen" and due:
            due -= 1
        elif value["type"] == "mark":
            pass
        else:
            due = 0
            shown.append(line)
    return shown


JUNK = [
    b"",
    b"{",
    b"\0\0\0\0",
    b"\xff\xfe",
    b"null",
    b"[]",
    b'{"type":"state"}',
    b'{"type":"state","ts":"x","mono_ns":-1,"seq":1,"id":1}',
    b'{"type":"meta"}',
    b"Nov 20 15:00:00 host sstrace[1]: rotated",
    b'{"type":"seen","ts":"","mono_ns":1e999,"seq":1}',
    b"x" * 5000,
]


# A file that begins as compressed ones do is read as one.
ANY_BYTES = st.binary(max_size=60).filter(lambda line: not line.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd")))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(junk=st.lists(st.tuples(st.floats(0, 1), st.sampled_from(JUNK) | ANY_BYTES), max_size=8))
def test_bad_lines_are_left_out_and_counted(
    sound: Sound,
    tmp_path: Path,
    capfdbinary: pytest.CaptureFixture[bytes],
    junk: list[tuple[float, bytes]],
) -> None:
    content = sound.content
    good = content.splitlines()
    mixed = list(good)
    bad = 0
    for where, line in junk:
        if b"\n" in line:
            continue
        mixed.insert(round(where * len(mixed)), line)
        bad += bool(line.strip())
    path = tmp_path / "junk"
    path.write_bytes(b"\n".join(mixed) + b"\n")
    code, out, said = outcome(path, capfdbinary)
    assert code == 0
    assert out.splitlines() == replayed_around(mixed, good)
    if bad:
        assert said.count("\n") == 1
        assert f"{bad} lines are not readable" in said or "1 line is not readable" in said
    else:
        assert said == ""


def replayed_around(mixed: list[bytes], good: list[bytes]) -> list[bytes]:
    """The good lines that a replay prints."""
    known = set(good)
    return replayed([line for line in mixed if line in known])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 30), reach=st.integers(1, 60))
def test_mixed_up_lines_are_put_in_order(
    sound: Sound, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], seed: int, reach: int
) -> None:
    import random

    content, tape = sound.content, sound.tape
    first, *rest = content.splitlines()
    draw = random.Random(seed)
    mixed = [line for _, line in sorted(((index + draw.random() * reach), line) for index, line in enumerate(rest))]
    path = tmp_path / "mixed"
    path.write_bytes(b"\n".join([first, *mixed]) + b"\n")
    code, out, said = outcome(path, capfdbinary)
    assert code == 0
    assert said == ""
    numbers = [msgspec.json.decode(line).get("seq", 0) for line in out.splitlines()]
    assert numbers == sorted(numbers)
    for at_ns, seq, rows in tape.moments[::5]:
        assert rows_at(path, When("seq", seq, "")) == rows, (at_ns, seq)


def test_another_version(sound: Sound, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Keys and kinds that came later are passed over; a schema of another number is not guessed at."""
    content = sound.content
    path = tmp_path / "later"
    first, *rest = content.splitlines()
    later = [line.replace(b'"type":"state",', b'"type":"state","colour":{"a":[1]},') for line in rest]
    later.insert(5, b'{"type":"weather","ts":"2026-11-20T15:00:00.000000000Z","mono_ns":5,"seq":2}')
    path.write_bytes(b"\n".join([first, *later]) + b"\n")
    code, out, said = outcome(path, capfdbinary)
    assert code == 0
    assert out.count(b'"colour"') == out.count(b'"type":"state"') > 100
    assert said == (
        f"sstrace: {path} is used but for what is damaged in it: "
        "1 line is of a kind that this version of sstrace does not know\n"
    )
    path.write_bytes(content.replace(b'"schema":"sstrace/1"', b'"schema":"sstrace/2"'))
    code, out, said = outcome(path, capfdbinary)
    assert (code, out) == (5, b"")
    assert "sstrace/2" in said
    path.write_bytes(content + content.replace(b'"schema":"sstrace/1"', b'"schema":"sstrace/2"'))
    code, out, said = outcome(path, capfdbinary)
    assert code == 0
    assert out.splitlines() == replayed(content.splitlines())
    facts = content.count(b"\n") - content.count(b'"type":"mark"')
    assert f"{facts} lines are of schema 'sstrace/2'" in said
    assert content.count(b'"mark"') == 1


@pytest.mark.parametrize("words", [["--json"], [], ["--speed", "max"]])
def test_nothing_usable(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], words: list[str]) -> None:
    for content in (b"", b"\n\n", b"hello\n", os.urandom(5000), b"\0" * 9000, gzip.compress(b"no lines here\n")):
        path = tmp_path / "nothing"
        path.write_bytes(content)
        assert main(["--replay", str(path), *words]) == 5
        assert "holds nothing that can be used" in capfdbinary.readouterr().err.decode()
        assert main(["--snapshot", "--from", str(path), "--at", "-1s"]) == 5
        assert "holds nothing that can be used" in capfdbinary.readouterr().err.decode()
        assert main(["--stats", "--from", str(path)]) == 5
        capfdbinary.readouterr()
    assert main(["--replay", str(tmp_path)]) == 5
    assert "holds nothing that can be used" in capfdbinary.readouterr().err.decode()
    assert main(["--replay", str(tmp_path / "missing")]) == 5
    assert "cannot read" in capfdbinary.readouterr().err.decode()


def test_one_of_several_is_unusable(sound: Sound, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    (tmp_path / "a").write_bytes(sound.content)
    (tmp_path / "b").write_bytes(b"hello\n")
    code, out, said = outcome(tmp_path / "a", capfdbinary, "--replay", str(tmp_path / "b"))
    assert code == 0
    assert out.splitlines() == replayed(sound.content.splitlines())
    assert said.count("\n") == 1
    assert "b holds nothing" in said


@pytest.mark.usefixtures("often")
def test_a_log_without_its_head(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """From its first checkpoint on, everything is known."""
    path = tmp_path / "tape.ndjson"
    tape = Tape(path, 31).run(40).close()
    content = path.read_bytes()
    cut = content[len(content) // 3 :]
    path.write_bytes(cut)
    seq = next(line["seq"] for line in map(msgspec.json.decode, cut.splitlines()[1:]) if line["type"] == "checkpoint")
    checked = 0
    for at_ns, number, rows in tape.moments:
        if number > seq:
            assert rows_at(path, When("utc", at_ns + OFFSET_NS, "")) == rows
            checked += 1
    assert checked > 5
    assert main(["--replay", str(path)]) == 0
    assert capfdbinary.readouterr().out.count(b"\n") > 50


def test_reader_takes_any_bytes(tmp_path: Path) -> None:
    path = tmp_path / "any"

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.binary(max_size=200) | st.sampled_from(JUNK), max_size=10).map(b"\n".join))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        with Recording(str(path)) as source:
            reader = Reader(source)
            assert sum(1 for _ in reader) <= content.count(b"\n") + 1

    check()


@pytest.mark.parametrize("wrong", [{"sport": 65536}, {"family": "unix"}, {"netid": "u_str"}], ids=str)
def test_a_socket_that_cannot_be_is_no_row(wrong: dict[str, Any]) -> None:
    line = {
        "type": "seen", "ts": "2026-11-20T15:00:00Z", "mono_ns": 1, "seq": 1, "id": 1, "netid": "tcp", "family": "inet",
        "state": "ESTAB", "src": "10.0.0.1", "sport": 1, "dst": "10.0.0.2", "dport": 2, "netns": 1,
    }  # fmt: skip
    assert row_of(msgspec.convert(line, SeenLine), RecordedNames({}))
    with pytest.raises(OSError, match=r"^no "):
        row_of(msgspec.convert(line | wrong, SeenLine), RecordedNames({}))
