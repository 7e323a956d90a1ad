"""What to do where bcc cannot be imported, followed: the environment that is advised can import it."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from conftest import unmet

ROOT = Path(__file__).resolve().parents[3]
PYTHON = "/usr/bin/python3"
ASK = "from sstrace.sources.bindings import bcc_advice; print(bcc_advice())"
IMPORT = "import importlib.util, sys; sys.exit(importlib.util.find_spec('bcc') is None)"


def python(program: str | Path, code: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([program, "-c", code], env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def isolated(tmp_path: Path) -> Path:
    """A Python that sees nothing of the distribution's."""
    made = subprocess.run([PYTHON, "-m", "venv", "--without-pip", tmp_path / "isolated"], check=False)
    if made.returncode:
        unmet("needs the venv of the system's Python")
    return tmp_path / "isolated" / "bin" / "python"


def test_an_isolated_environment_is_told_how_to_see_the_bindings(isolated: Path, tmp_path: Path) -> None:
    if python(PYTHON, IMPORT).returncode:
        unmet("needs bcc for the system's Python")
    assert python(isolated, IMPORT).returncode == 1
    said = python(isolated, ASK).stdout
    assert said.startswith("/usr/bin/python3 has it, but this Python environment does not see that: ")
    assert "pipx install --python /usr/bin/python3 --system-site-packages" in said
    advised = re.search(r"make it with (\S+ -m venv --system-site-packages),", said)
    assert advised
    subprocess.run([*advised[1].split(), "--without-pip", tmp_path / "advised"], check=True)
    assert python(tmp_path / "advised" / "bin" / "python", IMPORT).returncode == 0


def test_where_no_python_has_them_a_package_is_named(isolated: Path) -> None:
    nobody = "b._has_bcc = lambda _: False; b.find_spec = lambda _: None"
    code = f"import sstrace.sources.bindings as b; {nobody}; print(b.bcc_advice())"
    for program, also in ((PYTHON, False), (isolated, True)):
        said = python(program, code).stdout
        assert re.match(r"(\w+ (-S|add|install) py\S+|install bcc with its Python 3 package)", said)
        assert ("will not see it: make it with" in said) is also
