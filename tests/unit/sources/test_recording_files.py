"""The files of recordings: places in them found without reading them, and the names of a rotation."""

import gzip
import os
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sstrace.errors import DecodeError, SstraceError
from sstrace.sources.record import RecordFile, numbered, older_parts
from sstrace.sources.replay import Recording


def number(line: bytes) -> int | None:
    """The time of a line of these tests: its digits."""
    digits = line.partition(b" ")[0]
    return int(digits) if digits.isdigit() else None


def times(count: int, seed: int = 1) -> list[bytes]:
    """Lines of different lengths whose times grow."""
    draw = random.Random(seed)
    return [b"%d %s" % (at * 10, b"x" * draw.randrange(300)) for at in range(count)]


@pytest.mark.parametrize("at", [-1, 0, 5, 10, 12_345, 77_770, 99_990, 10**9])
def test_seek_finds_where_a_time_ends(tmp_path: Path, at: int) -> None:
    lines = times(10_000)
    path = tmp_path / "f"
    path.write_bytes(b"\n".join(lines) + b"\n")
    with Recording(str(path)) as source:
        offset = source.seek(at, number)
    before, behind = path.read_bytes()[:offset], path.read_bytes()[offset:]
    known = [found for line in behind.split(b"\n")[1:] if (found := number(line)) is not None]
    assert all(found > at for found in known)
    late = [found for line in before.split(b"\n") if (found := number(line)) is not None and found > at]
    assert len(b"".join(b"%d" % found for found in late)) < 1 << 14  # no further than one piece


def test_seek_passes_over_lines_without_a_time(tmp_path: Path) -> None:
    lines = [line if index % 7 else b"junk " + line for index, line in enumerate(times(5000))]
    path = tmp_path / "f"
    path.write_bytes(b"\n".join(lines))
    with Recording(str(path)) as source:
        for at in (0, 25_000, 49_990):
            offset = source.seek(at, number)
            assert all((number(line) or 10**9) > at for line in path.read_bytes()[offset:].split(b"\n")[1:])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    content=st.lists(st.sampled_from([b"A", b"Ab", b"B", b"", b"\n", b"AA"]), max_size=60).map(b"".join),
    end=st.integers(0, 100),
    block=st.integers(1, 40),
)
def test_before_finds_every_line_backwards(tmp_path: Path, content: bytes, end: int, block: int) -> None:
    path = tmp_path / "f"
    path.write_bytes(content)
    starts = [at for at in range(len(content)) if at == 0 or content[at - 1 : at] == b"\n"]
    expected = [at for at in reversed(starts) if at < end and content.startswith((b"A", b"Bb"), at)]
    with pytest.MonkeyPatch.context() as patch, Recording(str(path)) as source:
        patch.setattr("sstrace.sources.replay._BLOCK", block)
        found = [at for at in source.before(end, (b"A", b"Bb")) if at < end]
    assert found == expected


@pytest.mark.parametrize("packed", [False, True])
def test_last_line(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "f"
    for lines in (times(3000), [b"5 a"], [b"5 a", b"cut", b"", b"7"], [b"x"] * 3000, []):
        content = b"\n".join(lines)
        path.write_bytes(gzip.compress(content) if packed else content)
        expected = next((line for line in reversed(lines) if number(line) is not None), None)
        with Recording(str(path)) as source:
            assert source.seekable is not packed
            if not packed or (expected is not None and content.endswith(b"\n")):
                assert source.last_line(number) == expected


def test_a_pipe_can_be_read(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.write(write, b"1 a\n2 b\n")
    os.close(write)
    with Recording(f"/proc/self/fd/{read}") as source:
        assert not source.regular
        assert b"".join(source.blocks()) == b"1 a\n2 b\n"
    os.close(read)


def test_several_members_are_one_file(tmp_path: Path) -> None:
    path = tmp_path / "f.gz"
    file = RecordFile(str(path))
    for part in (b"one\n", b"two\n" * 1000, b"three\n"):
        file.write(part)
    file.close()
    assert gzip.decompress(path.read_bytes()) == b"one\n" + b"two\n" * 1000 + b"three\n"
    content = path.read_bytes()
    for cut in range(len(content)):
        path.write_bytes(content[:cut])
        with Recording(str(path)) as source:
            got = b"".join(source.blocks())
        assert (b"one\n" + b"two\n" * 1000 + b"three\n").startswith(got)
    path.write_bytes(content[:10] + b"\0" * 20 + content[30:])
    with Recording(str(path)) as source:
        b"".join(source.blocks())
        assert source.error == "its compression is damaged"


@pytest.mark.parametrize(
    ("path", "third"),
    [
        ("rec.ndjson", "rec.0003.ndjson"),
        ("/a.b/rec.ndjson.gz", "/a.b/rec.0003.ndjson.gz"),
        ("rec", "rec.0003"),
        ("a/.gz", "a/.gz.0003"),
        ("my.host.log.zst", "my.host.0003.log.zst"),
        ("day.1.json", "day.1.0003.json"),
    ],
)
def test_names_of_a_rotation(path: str, third: str) -> None:
    assert numbered(path, 3) == third


def test_older_parts(tmp_path: Path) -> None:
    for name in (
        "rec.0002.ndjson",
        "rec.0010.ndjson",
        "rec.ndjson",
        "rec.x.ndjson",
        "rec.0003.ndjson.gz",
        "wreck.0001.ndjson",
    ):
        (tmp_path / name).touch()
    assert [part for part, _ in older_parts(str(tmp_path / "rec.ndjson"))] == [2, 10]
    assert older_parts(str(tmp_path / "nothing" / "rec.ndjson")) == []


@pytest.mark.parametrize("name", ["missing", ".", "nul\0name"])
def test_what_cannot_be_opened(tmp_path: Path, name: str) -> None:
    with pytest.raises(DecodeError, match="cannot read"):
        Recording(str(tmp_path / name))
    if name != "missing":
        with pytest.raises(SstraceError, match="cannot record"):
            RecordFile(str(tmp_path / name))


@pytest.mark.parametrize("path", ["/proc/self/mem", "/proc/self/attr/exec"])
def test_what_opens_and_cannot_be_read(path: str) -> None:
    if not Path(path).exists():
        pytest.skip(f"no {path}")
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(DecodeError, match=f"cannot read {path}: (Input/output error|Invalid argument)"):
        Recording(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_what_cannot_be_read_in_the_middle_says_so(tmp_path: Path, ending: str) -> None:
    link = tmp_path / f"f{ending}"
    link.symlink_to("/dev/net/tun")  # opens for anybody; nothing can be read before it is an interface's
    try:
        source = Recording(str(link))
    except DecodeError as error:
        pytest.skip(str(error))
    with source:
        assert list(source.blocks()) == []
        assert source.error == "File descriptor in bad state"
