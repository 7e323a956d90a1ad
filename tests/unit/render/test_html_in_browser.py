"""The page of ``--stats --html`` as a browser draws it, where one is installed (Debian: chromium, which takes longer to
be installed than all else that the suite needs): light and dark, with nothing fetched, nothing cut at the sides.
"""

import re
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest
from test_stats import add

from sstrace.render.html_counts import Pictured
from sstrace.render.html_page import page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium is installed")

S = 10**9


def told() -> bytes:
    digest = Pictured()
    for number in range(60):
        add(digest, number, old="SYN-SENT", new="ESTAB", owner=f"program{number % 4}", peer=f"192.0.2.{number % 7}")
        cause = "reset-received" if number % 3 == 0 else "fin-by-us"
        add(digest, number, old="ESTAB", new="UNCONN", owner=f"program{number % 4}", peer="192.0.2.1", cause=cause)
    return page(digest, S, 61 * S, S, 10, utc=True)


def browse(directory: Path, file: Path, scheme: int, *words: str) -> bytes:
    """``scheme``: 0 dark, 1 light. Every address leads nowhere."""
    assert BROWSER is not None
    done = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--force-device-scale-factor=1", f"--user-data-dir={directory}/profile",
            f"--blink-settings=preferredColorScheme={scheme}",
            "--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=800,900", *words, file.as_uri(),
        ],
        capture_output=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout


def pixels(png: bytes) -> tuple[int, int, list[bytes]]:
    """Width, bytes a pixel, and the lines of a picture as Chromium writes it: 8 bits a sample, not interlaced (PNG,
    ISO/IEC 15948).
    """
    width, height, depth, kind, _, _, interlaced = struct.unpack_from(">IIBBBBB", png, 16)
    assert (depth, interlaced) == (8, 0)
    size = {2: 3, 6: 4}[kind]
    data, at = b"", 8
    while at < len(png):
        length, name = struct.unpack_from(">I4s", png, at)
        data += png[at + 8 : at + 8 + length] if name == b"IDAT" else b""
        at += 12 + length
    raw, stride, lines = zlib.decompress(data), width * size, []
    before = bytes(stride)
    for row in range(height):
        how, line = raw[row * (stride + 1)], bytearray(raw[row * (stride + 1) + 1 : (row + 1) * (stride + 1)])
        for index in range(stride):
            left = line[index - size] if index >= size else 0
            corner = before[index - size] if index >= size else 0
            above = before[index]
            if how == 1:
                guess = left
            elif how == 2:
                guess = above
            elif how == 3:
                guess = (left + above) // 2
            elif how == 4:
                guess = min((left, above, corner), key=lambda one: abs(left + above - corner - one))
            else:
                guess = 0
            line[index] = (line[index] + guess) & 255
        before = bytes(line)
        lines.append(before)
    return width, size, lines


@pytest.mark.parametrize(("scheme", "light"), [(1, True), (0, False)])
def test_light_and_dark(tmp_path: Path, scheme: int, light: bool) -> None:
    file, shot = tmp_path / "page.html", tmp_path / "shot.png"
    file.write_bytes(told())
    browse(tmp_path, file, scheme, f"--screenshot={shot}")
    width, size, lines = pixels(shot.read_bytes())
    assert width == 800
    ground = lines[2][:3]
    assert (min(ground) > 240) if light else (max(ground) < 40)
    bars = sum(
        abs(line[at + 2] - line[at]) > 60 for line in lines[200:] for at in range(0, len(line), size * 4)
    )  # what is blue: bars of the timeline
    assert bars > 500
    edges = [line[-size * 2 : -size * 2 + 3] for line in lines]
    assert set(edges) == {ground}, "nothing reaches the right edge"


def test_the_text_is_there_and_nothing_is_run_or_fetched(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_bytes(told())
    shown = browse(tmp_path, file, 1, "--dump-dom").decode()
    assert "reset-received" in shown
    assert "192.0.2.6" in shown
    assert not re.search(r"<script|<link|src=", shown)
