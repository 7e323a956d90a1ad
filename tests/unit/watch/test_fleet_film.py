"""The recordings of several hosts as the full screen goes through them: the rows of each are those of its own
recording, whether files or an engine have its lines.
"""

import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import unmet
from engine_front import Front
from fleet_engine import load, make_tables
from random_hosts import random_host
from tmux import Tmux

from sstrace.fleet.asked import EngineFleet
from sstrace.fleet.engines import Remote
from sstrace.query import options
from sstrace.query.command import Command
from sstrace.recording.fleet import Fleet
from sstrace.recording.reader import LineNames
from sstrace.sources.replay import Recording
from sstrace.table import Row
from sstrace.watch.film import Film, Moments
from sstrace.watch.fleet_film import FleetFilm

_BACK = 3_000_000_000
HOSTS = 3


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Front]]:
    """A directory of hosts, and an engine that has the same lines."""
    chance = random.Random(7)
    folder = tmp_path_factory.mktemp("recordings")
    for number in range(HOSTS):
        recording = random_host(f"node{number}", number, chance, several=number == 2)
        (folder / f"node{number}.ndjson").write_bytes(recording)
    with Front(tmp_path_factory.mktemp("engine")) as engine:
        make_tables(engine)
        load(engine, sorted(folder.iterdir()))
        yield folder, engine


def typed(*words: str) -> Command:
    command = options.parse(["sstrace", "--watch", *words])
    assert isinstance(command, Command)
    return command


def of(film: Moments, row: Row) -> tuple[Any, ...]:
    """What a screen shows of a row, with its times on the calendar."""
    offset_ns = film.at_ns - film.mono_ns
    where = film.places.where
    host = where.label(row.net).text(row.netns) if isinstance(film, FleetFilm) and where is not None else film.host
    ends = row.src, row.sport, row.dst, row.dport
    return host, row.netns, *ends, row.since_ns + offset_ns, row.exact, row.ino, row.owners


def shown(film: Moments) -> tuple[list[Any], list[Any], list[Any]]:
    """All that there is of a moment: rows, those before, and what happened."""
    offset_ns = film.at_ns - film.mono_ns
    changes = [
        (change.at_ns + offset_ns, change.old, change.new, change.cause, *of(film, change.row))
        for change in film.changes
    ]
    before = [(state, *of(film, row)) for row, state in film.before()]
    return sorted((row.state, *of(film, row)) for row in film.table), sorted(before), sorted(changes, key=repr)


def test_every_host_is_as_its_own_recording_has_it(both: tuple[Path, Front]) -> None:
    folder, engine = both
    chance = random.Random(3)
    command = typed("--from", str(folder))
    of_files = FleetFilm(command, Fleet([str(folder)]), LineNames({}))
    asked = EngineFleet(Remote(engine.url, {}, "--from"))
    of_engine = FleetFilm(command, asked, LineNames({}))
    assert (of_engine.first_ns, of_engine.host) == (of_files.first_ns, f"{HOSTS} hosts")
    happened = 0
    with Film([Recording(str(folder / "node1.ndjson"))], LineNames({})) as own:
        for _ in range(12):
            at_ns = chance.randrange(own.first_ns + _BACK, own.last_ns)
            for film in (of_files, of_engine, own):
                film.look(at_ns, _BACK)
            for one, other in zip(shown(of_files), shown(of_engine), strict=True):
                assert one == other
            theirs = shown(own)
            mine = [[one for one in part if "node1" in one] for part in shown(of_files)]
            assert mine == list(theirs)
            happened += len(theirs[2])
            # And one connection of it.
            for row in list(of_files.table)[:5]:
                lives = [
                    film.life(next(one.id for one in film.table if of(film, one) == of(of_files, row)))
                    for film in (of_files, of_engine)
                ]
                told = [[(change.at_ns, change.new) for change in life] for _, life, _ in lives]
                assert told[0] == told[1]
                assert lives[0][2] == lives[1][2]
                assert lives[0][2] is not None
                assert lives[0][2] <= at_ns
    assert happened


def test_a_screen_of_an_engine(both: tuple[Path, Front], tmp_path: Path) -> None:
    """It stays where it is while the engine is away."""
    if shutil.which("tmux") is None:
        unmet("needs tmux")
    words = ["--from", f"clickhouse:{both[1].url}", "--time", "utc", "-tanp", "--at", "+100s"]
    pane = Tmux(tmp_path, [sys.executable, "-m", "sstrace", "--watch", *words], columns=140)
    try:
        lines = pane.until_text("Local Address:Port")
        assert f"{HOSTS} hosts" in lines[0]
        head = next(line for line in lines if "Local Address:Port" in line)
        assert head.split()[:2] == ["Host", "State"]
        pane.until_text("node0")
        pane.type("/")
        pane.text("LISTEN")
        pane.type("Enter", "Enter")
        assert any(
            line.split()[:2] in (["Host", f"node{number}"] for number in range(HOSTS))
            for line in pane.until_text("Role")
        )
        both[1].kill()
        pane.type("Escape", "Right")
        pane.until_text("cannot reach http")
        both[1].start()
        pane.type("Right", "Right", "Right")
        pane.until(lambda lines: "15:01:44 UTC" in lines[0] and "node0" in "".join(lines))
        pane.type("q")
        assert pane.ended() == 0
    finally:
        pane.close()
