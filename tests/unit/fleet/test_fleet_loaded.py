"""A directory that is too large to be read for a question is put into an engine in this process, and says the same."""

import gzip
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from random_hosts import random_host

QUESTIONS = [
    ["--snapshot", "-tanpe", "--at", "+50"],
    ["--snapshot", "-tan", "--json", "--at", "+90"],
    ["--snapshot", "-tan", "--between", "+20", "+80", "--host", "node[01]"],
    ["-n", "--time", "utc", "--between", "+40", "+70"],
    ["--stats"],
    ["--explain", ":40001"],
]
# chDB is loaded in a process of its own, which goes with it.
ASK = """
import contextlib, io, json, os, sys, tempfile
import sstrace.fleet.loaded, sstrace.recording.fleet
from pathlib import Path
from sstrace.cli import main
folder, cache, most, questions = json.loads(sys.argv[1])
sstrace.recording.fleet._MOST = most
sstrace.fleet.loaded.cache_directory = lambda env: Path(cache)
for question in questions:
    code = main(["--from", folder, *question])
    sys.stdout.flush()
    os.write(1, b"\\nexit %d\\n" % code)
"""


def ask(folder: Path, cache: Path, most: int) -> tuple[str, str]:
    """The answers to all questions, and what was said, where a question may read so many bytes."""
    words: list[Any] = [str(folder), str(cache), most, QUESTIONS]
    done = subprocess.run(
        [sys.executable, "-c", ASK, json.dumps(words)], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_an_engine_in_process_says_the_same(tmp_path: Path) -> None:
    chance, folder, cache = random.Random(3), tmp_path / "recordings", tmp_path / "cache"
    folder.mkdir()
    for number in range(3):
        data = random_host(f"node{number}", number, chance, events=250, several=number == 2)
        (folder / f"{number}.ndjson.gz").write_bytes(gzip.compress(data, mtime=0))
    plain, _ = ask(folder, cache, 1 << 40)
    assert not cache.exists()
    kept, said = ask(folder, cache, 0)
    assert kept == plain
    assert said.count("3 files of") == 1
    assert said.count("are put into an engine") == 1
    # One file is another one by now, and one has gone.
    (folder / "0.ndjson.gz").unlink()
    (folder / "1.ndjson.gz").write_bytes(gzip.compress(random_host("node1", 1, chance, events=300), mtime=0))
    plain, _ = ask(folder, cache, 1 << 40)
    kept, said = ask(folder, cache, 0)
    assert kept == plain
    assert said.count("1 files of") == 1
