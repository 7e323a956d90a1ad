"""scripts/pictures.py, and the pictures that it has made: the text of a terminal, legible on light and on dark, out of
nothing but the file.
"""

import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts"))

from pictures import DARK, LIGHT, Run, contrast, legible, runs, svg  # noqa: E402

TEXT = "{http://www.w3.org/2000/svg}text"


def test_runs_are_pieces_of_one_look() -> None:
    line = "a  \x1b[1;38;5;25mbold\x1b[0m \x1b[7m  \x1b[4mx\x1b[27;24m\x1b[38;2;1;2;3;2my\x1b[39;22;91mz\x1b[48;5;9mw"
    assert list(runs(line)) == [
        Run(0, "a  "),
        Run(3, "bold", bold=True, color=(0, 95, 175)),
        Run(8, "  ", reverse=True),
        Run(10, "x", reverse=True, underlined=True),
        Run(11, "y", dim=True, color=(1, 2, 3)),
        Run(12, "z", color=(241, 76, 76)),
        Run(13, "w", color=(241, 76, 76)),
    ]


@pytest.mark.parametrize("paper", [LIGHT, DARK])
@pytest.mark.parametrize("color", [(0, 0, 0), (255, 255, 255), (0, 95, 175), (215, 95, 0), (215, 135, 175)])
def test_every_colour_can_be_read(color: tuple[int, int, int], paper: tuple[int, int, int]) -> None:
    assert contrast(legible(color, paper), paper) >= 4.5


def test_a_picture_is_the_text_where_it_stood() -> None:
    picture = ElementTree.fromstring(svg(["  <a> & \x1b[31mé→\x1b[0m", "", "\x1b[7m bar \x1b[0m"], 20, "# it"))
    texts = [(node.text, node.get("x"), node.get("textLength")) for node in picture.iter(TEXT)]
    assert texts == [
        ("# it", "98", None),
        ("<a> &", f"{14 + 2 * 8.4:g}", f"{5 * 8.4:g}"),
        ("é→", f"{14 + 8 * 8.4:g}", f"{2 * 8.4:g}"),
        ("bar", f"{14 + 8.4:g}", f"{3 * 8.4:g}"),
    ]


@pytest.mark.parametrize("name", ["trace", "watch"])
def test_the_pictures_of_the_readme(name: str) -> None:
    path = ROOT / "docs" / f"{name}.svg"
    text = path.read_text()
    picture = ElementTree.fromstring(text)
    shown = [node.text or "" for node in picture.iter(TEXT)]
    assert len(shown) > 20
    assert any("127.0.0.1" in one for one in shown)
    assert "prefers-color-scheme:dark" in text
    assert not re.search(r"https?:|@import|url\(", text.replace('xmlns="http://www.w3.org/2000/svg"', ""))
    assert f"docs/{name}.svg" in (ROOT / "README.md").read_text()
