"""What is installed from elsewhere is known to the byte: requirements/*.txt, which scripts/lock writes, has a version
and the hashes of every package that pyproject.toml asks for, and of whatever those ask for.
"""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("sstrace", "test")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def locked(name: str) -> dict[str, tuple[Requirement, list[str]]]:
    """Package → its pin, its hashes."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    found: dict[str, tuple[Requirement, list[str]]] = {}
    for entry in re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines():
        pin, *hashes = entry.split(" --hash=")
        requirement = Requirement(pin)
        found[canonicalize_name(requirement.name)] = requirement, [one.strip() for one in hashes]
    return found


def asked(name: str) -> list[Requirement]:
    """What pyproject.toml asks for: to run, and to build; to test."""
    project = PROJECT["project"]
    words = [*project["dependencies"], *PROJECT["build-system"]["requires"]]
    if name == "test":
        words += [word for extra in project["optional-dependencies"].values() for word in extra]
    return [one for one in map(Requirement, words) if one.name != "sstrace"]


@pytest.mark.parametrize("name", LOCKS)
def test_it_is_a_version_and_hashes_and_nothing_else(name: str) -> None:
    for requirement, hashes in locked(name).values():
        assert re.fullmatch(r"==[\w.]+", str(requirement.specifier)), requirement
        assert requirement.url is None
        assert hashes
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes), requirement


@pytest.mark.parametrize("name", LOCKS)
def test_what_is_asked_for_is_in_it(name: str) -> None:
    pins = locked(name)
    missing = [
        str(one)
        for one in asked(name)
        if (pin := pins.get(canonicalize_name(one.name))) is None
        or not one.specifier.contains(str(pin[0].specifier).removeprefix("=="), prereleases=True)
    ]
    assert missing == [], "scripts/lock"


def test_the_tests_are_run_with_what_is_shipped() -> None:
    assert locked("sstrace").items() <= locked("test").items()


def test_this_environment_is_the_locked_one() -> None:
    pins = locked("test")
    wrong, unknown = [], []
    for name, (requirement, _) in pins.items():
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        found = metadata.distribution(name)
        if not requirement.specifier.contains(found.version, prereleases=True):
            wrong.append(f"{name} {found.version}")
        for one in map(Requirement, found.requires or ()):
            if (one.marker is None or one.marker.evaluate({"extra": ""})) and canonicalize_name(one.name) not in pins:
                unknown.append(f"{one} of {name}")
    assert (wrong, unknown) == ([], []), "scripts/test, else scripts/lock"


def test_set_up_package_and_forge_install_by_hash() -> None:
    calls = []
    for path in ("scripts/setup.sh", "packaging/build-deb", ".github/workflows/checks.yml"):
        text = re.sub(r"\\\n\s*", "", (ROOT / path).read_text())
        calls += re.findall(r"^.*(?:pip install|pip_install) .*$", text, re.MULTILINE)
    calls = [call for call in calls if not call.startswith("#") and '--no-input "$@"' not in call]
    assert len(calls) == 5
    ours = [call for call in calls if "--no-deps --no-build-isolation --editable" in call]
    assert len(ours) == 2
    assert [call for call in calls if call not in ours and "--require-hashes" not in call] == []
