"""A recording as the full screen goes through it: any moment, whichever way one came to it, and what led there."""

import gzip
import os
import random
import threading
from pathlib import Path

import pytest
from tapes import OFFSET_NS, Tape, key, often

from sstrace.errors import DecodeError, SstraceError
from sstrace.model import State
from sstrace.recording.reader import LineNames
from sstrace.sources.reel import reel
from sstrace.sources.replay import Recording
from sstrace.watch.film import Film

__all__ = ["often"]

_BACK = 500_000_000


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("seed", range(3))
def test_every_moment_is_the_table_of_then(tmp_path: Path, seed: int) -> None:
    """In any order: nothing is left of where one was before."""
    path = tmp_path / "tape.ndjson"
    tape = Tape(path, seed).run(40).close()
    moments = list(tape.moments)
    random.Random(seed).shuffle(moments)
    moved = 0
    with Film([Recording(str(path))], LineNames({})) as film:
        for mono_ns, _, rows in moments:
            film.look(mono_ns + OFFSET_NS, _BACK)
            assert {row.id: key(row) for row in film.table} == rows
            assert film.at_ns == max(film.first_ns, min(mono_ns + OFFSET_NS, film.last_ns))
            moved += len(film.changes)
            # What happened leads from the rows before to the rows of now.
            states = {row.id: state for row, state in film.before()}
            for change in film.changes:
                assert mono_ns - _BACK < change.at_ns <= film.mono_ns
                assert states.get(change.row.id, change.old) == change.old
                states[change.row.id] = change.new
            alive = {number: state for number, state in states.items() if state != State.CLOSE}
            assert alive == {row.id: row.state for row in film.table}
    assert moved


@pytest.mark.usefixtures("often")
def test_one_life_is_told_up_to_the_moment(tmp_path: Path) -> None:
    """Whole, though it began before the checkpoint that the moment is read from; and not what comes later."""
    path = tmp_path / "tape.ndjson"
    tape = Tape(path, 5).run(40).close()
    with Film([Recording(str(path))], LineNames({})) as film:
        film.look(tape.moments[20][0] + OFFSET_NS, _BACK)
        for number in list(film.table.rows):
            row, life, first_ns = film.life(number)
            assert row is film.table.rows[number]
            assert first_ns is not None
            assert first_ns <= film.at_ns
            assert all(change.at_ns <= film.mono_ns for change in life)
            assert [change.new for change in life[:-1]] == [change.old for change in life[1:]]
            if life:
                assert life[-1].new == row.state
        later = set(tape.moments[-1][2]) - set(tape.moments[20][2])
        unborn = [film.life(number) for number in later]
        assert unborn
        for row, life, first_ns in unborn:
            assert (row, life) == (None, [])
            assert first_ns is not None
            assert first_ns > film.at_ns


def test_beyond_the_ends_are_the_ends(tmp_path: Path) -> None:
    path = tmp_path / "tape.ndjson"
    Tape(path, 1).run(5).close()
    with Film([Recording(str(path))], LineNames({})) as film:
        for at_ns, end_ns in ((0, film.first_ns), (1 << 62, film.last_ns)):
            film.look(at_ns, _BACK)
            assert film.at_ns == end_ns


def pieces(path: Path, how: str) -> list[Recording]:
    """The same recording in other ways."""
    data = path.read_bytes()
    lines = data.splitlines(keepends=True)
    if how == "gzip":
        path.write_bytes(gzip.compress(data))
        return [Recording(str(path))]
    if how == "zstd":
        path.write_bytes(pytest.importorskip("zstandard").compress(data))
        return [Recording(str(path))]
    if how == "pipe":
        read, write = os.pipe()

        def feed() -> None:
            with open(write, "wb") as pipe:
                pipe.write(data)

        threading.Thread(target=feed).start()
        found = [Recording(f"/proc/self/fd/{read}")]
        os.close(read)
        return found
    thirds = [lines[len(lines) * part // 3 : len(lines) * (part + 1) // 3] for part in range(3)]
    found = []
    for number, third in enumerate(thirds):
        text = b"".join(third)
        name = path.with_name(f"part{number}")
        # The one in the middle is compressed, and the first was cut in the middle of a line.
        name.write_bytes(gzip.compress(text) if number == 1 else text + b'{"type":"sta' * (number == 0))
        found.append(Recording(str(name)))
    return found


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("how", ["gzip", "zstd", "pipe", "series"])
def test_what_is_packed_or_in_pieces_is_the_same(tmp_path: Path, how: str) -> None:
    path = tmp_path / "tape.ndjson"
    tape = Tape(path, 4).run(40).close()
    before = len(list(Path("/proc/self/fd").iterdir()))
    with Film(pieces(path, how), LineNames({})) as film:
        for mono_ns, _, rows in random.Random(1).sample(list(tape.moments), 12):
            film.look(mono_ns + OFFSET_NS, _BACK)
            assert {row.id: key(row) for row in film.table} == rows
        number = next(iter(film.table.rows))
        assert film.life(number)[0] is film.table.rows[number]
    assert len(list(Path("/proc/self/fd").iterdir())) == before, "every descriptor is given back"


def test_a_series_has_places_across_its_files(tmp_path: Path) -> None:
    """Reads that begin in one file and end in another, of any length."""
    path = tmp_path / "tape.ndjson"
    Tape(path, 4).run(10).close()
    data = path.read_bytes()
    with reel(pieces(path, "series")) as whole:
        assert whole.size() == len(data)
        assert b"".join(whole.blocks()) == data
        draw = random.Random(3)
        for _ in range(200):
            offset, count = draw.randrange(len(data)), draw.randrange(1, len(data))
            assert whole._read(count, offset) == data[offset : offset + count]


def test_what_cannot_be_gone_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = tmp_path / "text"
    text.write_text("no recording\n")
    with pytest.raises(DecodeError, match="it is no recording"):
        Film([Recording(str(text))], LineNames({}))
    plain = tmp_path / "tape.ndjson"
    Tape(plain, 1).run(2).close()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nosuch"))
    with pytest.raises(SstraceError, match=r"cannot unpack .* name another place with TMPDIR"):
        Film(pieces(plain, "gzip"), LineNames({}))
