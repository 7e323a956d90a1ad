"""What a forge runs is what is promised: every Python, every usual kernel, a hook for whatever is made from code."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = ROOT / ".github" / "workflows"
NEWEST = (3, 14)


def words(file: Path, key: str) -> list[str]:
    """The list of a matrix."""
    found = re.search(rf"^ +{key}: \[(.*)\]$", file.read_text(), re.MULTILINE)
    assert found, f"{file} has no list {key}"
    return re.findall(r'"([^"]*)"', found[1])


def test_every_python_that_is_promised_is_tried() -> None:
    required = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    first = int(required.removeprefix(">=3."))
    assert words(WORKFLOWS / "checks.yml", "python") == [f"3.{minor}" for minor in range(first, NEWEST[1] + 1)]


def test_every_usual_row_of_the_matrix_is_run_nightly() -> None:
    rows = re.findall(r'^    Row\("([^"]+)".*\),$', (ROOT / "scripts" / "vm" / "matrix").read_text(), re.MULTILINE)
    slow = re.findall(
        r'^    Row\("([^"]+)".*usual=False\),$', (ROOT / "scripts" / "vm" / "matrix").read_text(), re.MULTILINE
    )
    assert words(WORKFLOWS / "nightly.yml", "row") == [row for row in rows if row not in slow]


def test_hooks_check_whatever_is_made_from_the_code() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    made = [path for path in (ROOT / "scripts").iterdir() if path.is_file() and "\nfrom documents" in path.read_text()]
    assert len(made) >= 4
    assert not [path.name for path in made if f"scripts/{path.name} --check" not in hooks]
