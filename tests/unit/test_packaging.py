"""The wheel: it builds without a network, carries the BPF sources, and runs outside a checkout once installed."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{command} in {cwd}:\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory), cwd=ROOT)
    (built,) = directory.glob("sstrace-*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("installed") / "site"
    words = ("pip", "install", "--no-deps", "--no-index", "--quiet", "--disable-pip-version-check")
    run(sys.executable, "-m", *words, "--target", str(directory), str(wheel), cwd=directory.parent)
    return directory


def test_wheel_has_every_module_and_every_bpf_source(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    expected = {f"sstrace/{p.relative_to(ROOT / 'sstrace')}" for p in (ROOT / "sstrace").rglob("*.py")}
    expected |= {f"sstrace/bpf/{p.relative_to(ROOT / 'bpf')}" for p in (ROOT / "bpf").rglob("*") if p.is_file()}
    expected |= {"sstrace/py.typed", "_sstrace.pyi"}
    assert {name for name in inside if ".dist-info/" not in name and "__pycache__" not in name} >= expected
    assert not [name for name in inside if name.startswith(("tests/", "scripts/"))]


def test_the_twins_are_compiled_into_it(site: Path, tmp_path: Path) -> None:
    code = "from sstrace.native import twins; print(twins.__file__)"
    where = {"PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
    assert Path(run(sys.executable, "-c", code, cwd=tmp_path, **where).stdout.strip()).parent == site


def test_the_types_of_the_twins_are_theirs() -> None:
    """As the checkout's environment has them compiled."""
    pytest.importorskip("_sstrace", reason="the event path is not compiled here")
    run(sys.executable, "-m", "mypy.stubtest", "_sstrace", "--mypy-config-file", "pyproject.toml", cwd=ROOT)


def test_without_a_compiler_the_wheel_is_pure_and_works(tmp_path: Path) -> None:
    built = run(
        sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path), cwd=ROOT, CC="no-such-compiler"
    )
    assert "without compiled twins: no-such-compiler does not run" in built.stdout + built.stderr
    (wheel,) = tmp_path.glob("sstrace-*-py3-none-any.whl")
    words = ("pip", "install", "--no-deps", "--no-index", "--quiet", "--disable-pip-version-check")
    run(sys.executable, "-m", *words, "--target", str(tmp_path / "site"), str(wheel), cwd=tmp_path)
    code = "import sys; sys.modules['_sstrace'] = None; import sstrace.live.tracer, sstrace.native as n; print(n.twins)"
    where = {"PYTHONPATH": str(tmp_path / "site"), "PYTHONSAFEPATH": "1"}
    assert run(sys.executable, "-c", code, cwd=tmp_path, **where).stdout == "None\n"


def test_installed_command_runs(site: Path, tmp_path: Path) -> None:
    command = str(site / "bin/sstrace")
    where = {"PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
    assert "Usage: sstrace" in run(sys.executable, command, "--help", cwd=tmp_path, **where).stdout
    listed = run(sys.executable, command, "--snapshot", "-tln", cwd=tmp_path, **where).stdout
    assert listed.startswith("State"), listed


def test_installed_package_finds_its_own_bpf_sources(site: Path, tmp_path: Path) -> None:
    code = "import sstrace.sources.bpf.compile as b; print(b.__file__); print(b.source_directory())"
    where = {"PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
    module, sources = run(sys.executable, "-c", code, cwd=tmp_path, **where).stdout.split()
    assert Path(module).is_relative_to(site)
    assert Path(sources) == site / "sstrace/bpf"
