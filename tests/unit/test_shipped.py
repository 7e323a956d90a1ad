"""What is shipped: a man page and completions that know every option, packages that come out the same twice, a unit."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import unmet

from sstrace.query.catalog import OWN
from sstrace.sources.privilege import BROKER

ROOT = Path(__file__).resolve().parents[2]
PACKAGING = ROOT / "packaging"
EPOCH = {"SOURCE_DATE_EPOCH": "1767225600"}


def need(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        unmet(f"needs {name}")
    return found


def run(*words: str | Path, **options: object) -> str:
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


def test_the_man_page_is_sound() -> None:
    done = subprocess.run(
        [need("mandoc"), "-T", "lint", "-W", "warning", PACKAGING / "sstrace.1"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert [line for line in done.stdout.splitlines() if "missing date" not in line] == []
    page = run("mandoc", "-T", "ascii", PACKAGING / "sstrace.1")
    page = re.sub(".\b", "", page)
    for name in OWN:
        assert f"--{name.name}" in page
    assert "timeout-fin-wait-2" in page


@pytest.mark.parametrize("name", ["sstrace.service", "sstrace-events.service"])
def test_a_unit_gives_what_is_needed_and_keeps_the_rest(name: str) -> None:
    unit = (PACKAGING / name).read_text()
    ambient = re.search(r"^AmbientCapabilities=(.*)$", unit, re.MULTILINE)
    bounding = re.search(r"^CapabilityBoundingSet=(.*)$", unit, re.MULTILINE)
    assert ambient
    assert bounding
    assert ambient[1] == bounding[1]
    assert set(BROKER) <= set(ambient[1].split())
    assert not {"CAP_SYS_ADMIN", "CAP_SETUID", "CAP_DAC_OVERRIDE", "CAP_SYS_MODULE"} & set(ambient[1].split())
    analyze = need("systemd-analyze")
    done = subprocess.run(
        [analyze, "verify", "--man=no", PACKAGING / name], capture_output=True, text=True, check=False
    )
    assert [line for line in done.stderr.splitlines() if "/usr/bin/sstrace is not executable" not in line] == []
    exposure = run(analyze, "security", "--offline=yes", "--threshold=40", PACKAGING / name)
    assert "Overall exposure level" in exposure


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of this checkout, for packages made elsewhere and at another time."""
    copy = tmp_path_factory.mktemp("sources") / "tree"
    for file in run("git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        if file and (ROOT / file).is_file():
            (copy / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, copy / file)
    return copy


def test_the_wheel_comes_out_the_same_twice(sources: Path, tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        copy = Path(shutil.copytree(sources, tmp_path / name / "tree"))
        os.utime(copy / "pyproject.toml", (1, 1) if name == "one" else (2_000_000_000, 2_000_000_000))
        run(
            sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / name, copy,
            env={**os.environ, **EPOCH},
        )  # fmt: skip
        made.append(next((tmp_path / name).glob("*.whl")))
    assert digest(made[0]) == digest(made[1])
    inside = set(zipfile.ZipFile(made[0]).namelist())
    assert {f"sstrace/schemas/{name}.json" for name in ("native", "ecs", "otel", "snapshot")} <= inside
    assert "sstrace/bpf/sstrace.bpf.c" in inside
    assert not [name for name in inside if "__pycache__" in name or name.startswith("tests")]


def test_the_debian_package_comes_out_the_same_twice_and_runs(sources: Path, tmp_path: Path) -> None:
    need("dpkg-deb")
    made = []
    for name in ("one", "two"):
        copy = Path(shutil.copytree(sources, tmp_path / name / "tree"))
        out = run(copy / "packaging" / "build-deb", tmp_path / name, env={**os.environ, **EPOCH})
        made.append(Path(out.strip()))
    assert digest(made[0]) == digest(made[1])
    tree = tmp_path / "tree"
    run("dpkg-deb", "-x", made[0], tree)
    for path in (
        "usr/bin/sstrace", "lib/systemd/system/sstrace.service", "lib/systemd/system/sstrace-events.service",
        "etc/logrotate.d/sstrace", "usr/share/man/man1/sstrace.1.gz",
        "usr/share/bash-completion/completions/sstrace", "usr/share/zsh/vendor-completions/_sstrace",
        "usr/share/fish/vendor_completions.d/sstrace.fish", "usr/lib/sstrace/sstrace/bpf/event.h",
        "usr/share/doc/sstrace/copyright", "usr/lib/sstrace/sstrace/schemas/ecs.json",
    ):  # fmt: skip
        assert (tree / path).is_file(), path
    assert not list(tree.rglob("__pycache__"))
    assert run("dpkg-deb", "-f", made[0], "Package").strip() == "sstrace"
    run("dpkg-deb", "-e", made[0], tree / "control")
    assert (tree / "control" / "conffiles").read_text() == "/etc/logrotate.d/sstrace\n"
    sums = (tree / "control" / "md5sums").read_text().split()[1::2]
    assert {str(file.relative_to(tree)) for file in tree.rglob("*") if file.is_file()} - set(sums) <= {
        str(file.relative_to(tree)) for file in (tree / "control").iterdir()
    }
    bare = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    python: list[str | Path] = ["/usr/bin/python3", "-s", tree / "usr/bin/sstrace"]
    assert run(*python, "--help", env=bare).startswith("Usage: sstrace")
    lines = run(*python, "--snapshot", "--json", "-tan", env=bare).splitlines()
    assert {json.loads(line)["netid"] for line in lines} <= {"tcp"}
    found = run(
        "/usr/bin/python3", "-s", "-c",
        f"import sys; sys.path.insert(0, {str(tree / 'usr/lib/sstrace')!r}); import msgspec; print(msgspec.__file__)",
        env=bare,
    )  # fmt: skip
    assert found.startswith(str(tree))


@pytest.mark.parametrize("script", ["preinst", "postinst", "prerm", "postrm"])
def test_package_scripts_are_sound(tmp_path: Path, script: str) -> None:
    text = (PACKAGING / "build-deb").read_text()
    body = re.search(rf"/{script}\" <<'(\w+)'\n(.*?)\n\1\n", text, re.DOTALL)
    if script == "preinst":
        assert body is None
        return
    assert body
    (tmp_path / script).write_text(body[2])
    run("sh", "-n", tmp_path / script)
