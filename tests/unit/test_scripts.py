"""Test scripts/sstrace: once set up it starts sstrace and nothing else. (The set-up needs a network: CI does it.)"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path("/usr/bin/python3")

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="the launcher needs the distribution's python")


def recipe(root: Path) -> str:
    native = sorted(path for path in (root / "native").iterdir() if path.is_file())
    locks = sorted((root / "requirements").iterdir())
    paths = (root / "pyproject.toml", *locks, root / "scripts/setup.sh", *native, root / "bpf/event.h")
    text = b"".join(path.read_bytes() for path in paths)
    return subprocess.run(["cksum"], input=text, capture_output=True, check=True).stdout.decode().strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout that is set up, with a stand-in for sstrace that prints its words one a line."""
    root = tmp_path / "check out"
    shutil.copytree(ROOT / "scripts", root / "scripts", ignore=shutil.ignore_patterns("vm", "bench"))
    shutil.copytree(ROOT / "native", root / "native", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "requirements", root / "requirements")
    (root / "bpf").mkdir()
    shutil.copy(ROOT / "bpf/event.h", root / "bpf")
    shutil.copy(ROOT / "pyproject.toml", root)
    binaries = root / ".venv/bin"
    binaries.mkdir(parents=True)
    (binaries / "sstrace").write_text('#!/bin/sh\nprintf "%s\\n" "$0" "$@"\n')
    (binaries / "sstrace").chmod(0o755)
    stamp(root, root / ".venv")
    return root


def stamp(root: Path, venv: Path, bcc: str = "yes") -> None:
    (venv / "sstrace.stamp").write_text(f"{root}\n{PYTHON.resolve()}\n{bcc}\n{recipe(root)}\n")


def start(command: Path | str, *words: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    # No PATH but the basics, and a pip that can reach nothing: a test that fell into the set-up fails at once.
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "PIP_NO_INDEX": "1", **env}
    return subprocess.run(
        [str(command), *words], env=environment, cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )


def test_words_arrive_untouched(checkout: Path) -> None:
    done = start(checkout / "scripts/sstrace", "-t", "two words", "", "*", "\\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split("\n") == [str(checkout / ".venv/bin/sstrace"), "-t", "two words", "", "*", "\\n", ""]


def test_works_through_links_and_from_anywhere(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "absolute").symlink_to(checkout / "scripts/sstrace")
    (tmp_path / "relative").symlink_to("absolute")
    for command, cwd in ((tmp_path / "relative", Path("/")), ("./sstrace", checkout / "scripts")):
        done = start(command, "x", cwd=cwd)
        assert (done.returncode, done.stdout.split("\n")[1], done.stderr) == (0, "x", "")


def test_touched_files_renew_the_stamp_without_a_set_up(checkout: Path) -> None:
    mark = checkout / ".venv/sstrace.stamp"
    os.utime(mark, (1, 1))
    done = start(checkout / "scripts/sstrace", "x")
    assert (done.returncode, done.stderr) == (0, "")
    assert mark.stat().st_mtime >= (checkout / "pyproject.toml").stat().st_mtime


@pytest.mark.parametrize("source", ["pyproject.toml", "requirements/test.txt", "scripts/setup.sh", "native/fold.c"])
def test_other_sources_are_set_up_anew(checkout: Path, source: str) -> None:
    with (checkout / source).open("a") as file:
        file.write("\n")
    os.utime(checkout / ".venv/sstrace.stamp", (1, 1))
    done = start(checkout / "scripts/sstrace", "x")
    assert (done.returncode, done.stdout) != (0, "x\n")
    assert "making a Python environment" in done.stderr


def test_snapshots_start_without_bcc(checkout: Path) -> None:
    stamp(checkout, checkout / ".venv", bcc="no")
    done = start(checkout / "scripts/sstrace", "--snapshot", "-t")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_spare_venv_serves_where_the_checkout_has_none(checkout: Path, tmp_path: Path) -> None:
    spare = Path(f"{tmp_path}/cache/sstrace{checkout}/.venv")
    shutil.move(checkout / ".venv", spare)
    stamp(checkout, spare)
    (spare / "bin/sstrace").write_text('#!/bin/sh\necho "$PYTHONPYCACHEPREFIX"\n')
    done = start(checkout / "scripts/sstrace", XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == str(spare.parent / "pycache")


def test_modules_are_compiled_whatever_the_environment_says(checkout: Path) -> None:
    package = checkout / "sstrace"
    package.mkdir()
    (package / "cli.py").write_text("pass\n")
    (checkout / ".venv/bin/python3").symlink_to(sys.executable)
    script = (
        f". '{checkout}/scripts/setup.sh'; SSTRACE_ROOT='{checkout}' SSTRACE_VENV='{checkout}/.venv'; compile_modules"
    )
    done = start("/bin/sh", "-euc", script, spare=str(checkout / "spare"), PYTHONDONTWRITEBYTECODE="1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [path.name.split(".")[0] for path in (package / "__pycache__").iterdir()] == ["cli"]
    (checkout / ".venv/bin/sstrace").write_text('#!/bin/sh\necho "${PYTHONDONTWRITEBYTECODE-unset}"\n')
    assert start(checkout / "scripts/sstrace", PYTHONDONTWRITEBYTECODE="1").stdout == "unset\n"


@pytest.mark.parametrize("name", ["sstrace", "setup.sh"])
def test_shell_can_read_it(name: str) -> None:
    subprocess.run(["sh", "-n", str(ROOT / "scripts" / name)], check=True, timeout=30)


@pytest.mark.parametrize("name", ["scripts/test", ".ci/run"])
def test_bash_can_read_it(name: str) -> None:
    subprocess.run(["bash", "-n", str(ROOT / name)], check=True, timeout=30)
    assert os.access(ROOT / name, os.X_OK)
