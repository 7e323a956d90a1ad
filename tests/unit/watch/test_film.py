"""A recording as the full screen goes through it: any moment, whichever way one came to it, and what led there."""

import gzip
import random
from pathlib import Path

import pytest
from tapes import OFFSET_NS, Tape, key, often

from sstrace.errors import DecodeError, UsageError
from sstrace.model import State
from sstrace.recording.reader import LineNames
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
    with Film(str(path), LineNames({})) as film:
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
    with Film(str(path), LineNames({})) as film:
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
    with Film(str(path), LineNames({})) as film:
        for at_ns, end_ns in ((0, film.first_ns), (1 << 62, film.last_ns)):
            film.look(at_ns, _BACK)
            assert film.at_ns == end_ns


def test_what_cannot_be_gone_through(tmp_path: Path) -> None:
    plain = tmp_path / "tape.ndjson"
    Tape(plain, 1).run(2).close()
    packed = tmp_path / "tape.ndjson.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    with pytest.raises(UsageError, match="unpack it first"):
        Film(str(packed), LineNames({}))
    text = tmp_path / "text"
    text.write_text("no recording\n")
    with pytest.raises(DecodeError, match="it is no recording"):
        Film(str(text), LineNames({}))
