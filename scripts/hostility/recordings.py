"""Damaged recordings, in every mode that reads them: tests/mutations.py damages, tests/unit/recording judges."""

import os
import sys
import tempfile
from typing import IO, Any, cast

from mutations import mutations
from test_hostile import NDJSON, TEXT, damaged, judge

from hostility.campaign import Bounds, Tally, recorded

PACKED = {"plain": "m", "gzip": "m.gz", "zstd": "m.zst"}


class Captured:
    """Both standard streams in files; what pytest's capfdbinary is to a test."""

    def __init__(self) -> None:
        self._kept = [os.dup(fd) for fd in (1, 2)]
        self._files: list[IO[bytes]] = [tempfile.TemporaryFile() for _ in (1, 2)]  # noqa: SIM115 - until close
        sys.stdout.flush()
        for fd, file in enumerate(self._files, 1):
            os.dup2(file.fileno(), fd)

    def readouterr(self) -> tuple[bytes, bytes]:
        """What was written since the last time."""
        texts = []
        for file in self._files:
            file.seek(0)
            texts.append(file.read())
            file.seek(0)
            file.truncate()
        return texts[0], texts[1]

    def close(self) -> None:
        """As before."""
        for fd, kept in enumerate(self._kept, 1):
            os.dup2(kept, fd)
            os.close(kept)


def run(bounds: Bounds, tally: Tally) -> None:
    """Try ``count`` files: most plain, a tenth of each packing."""
    lines = recorded(bounds).read_bytes().splitlines()
    every = [(words, True) for words in TEXT] + [(words, False) for words in NDJSON]
    said = Captured()
    try:
        for number, data in mutations(lines, bounds.seed, bounds.count):
            packed = {8: "gzip", 9: "zstd"}.get(number % 10, "plain")
            file = bounds.scratch / PACKED[packed]
            file.write_bytes(data if packed == "plain" else damaged(data, packed, number))
            words, text = every[number // 10 % len(every) if packed != "plain" else number % len(every)]
            with tally.attempt(packed, f"seed {bounds.seed}, number {number}, {' '.join(words)}"):
                judge([*words, str(file)], cast("Any", said), (0, 1, 5), text=text)
    finally:
        said.close()
