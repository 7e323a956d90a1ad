"""The house stands: who may import whom, where bcc and rich may be named, and no machine's paths in the repository."""

import ast
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "sstrace"

BASE = {"errors", "fields", "model", "lines", "dialect", "protocols", "causes"}
TWINS = {"native"}
PURE = {"wire", "lifecycle", "query", "render"}
LOOPS = {"live", "output", "recording", "server", "watch", "modes"}
ALL = BASE | TWINS | PURE | LOOPS | {"table", "sources"}
LAW: dict[str, set[str]] = {
    "errors": set(),
    "fields": set(),
    "model": {"errors", "fields"},
    "lines": {"fields", "model"},
    "dialect": {"errors"},
    "protocols": {"model"},
    "causes": {"model"},
    "native": set(),
    "wire": BASE | TWINS,
    "lifecycle": BASE,
    "query": BASE,
    "render": BASE | TWINS,
    "table": BASE | TWINS | PURE,
    "sources": BASE,
    **dict.fromkeys(LOOPS, ALL),
    "dispatch": ALL,
    "cli": ALL | {"dispatch"},
    "__main__": {"cli"},
    "__init__": set(),
}
"""Room → the rooms it may import, besides itself. A room is a module or a package directly below ``sstrace``."""

IMPURE = {"os", "socket", "time", "subprocess", "threading", "select", "selectors", "signal", "fcntl", "mmap", "ctypes"}
PURE_USES = {
    "socket": {"inet_ntop", "inet_pton", "inet_aton", "AF_INET", "AF_INET6", "ntohs", "htons", "ntohl", "htonl"}
}
"""What of an impure module the pure rooms may use: functions of their arguments alone."""

CAGED = {"bcc": r"sources/bpf\w*\.py|sources/bpf/\w+\.py", "rich": r"render/\w+\.py"}
"""A package that is slow to import → the only files that may name it."""


def modules() -> Iterator[tuple[Path, str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        inner = path.relative_to(PACKAGE)
        yield inner, inner.parts[0].removesuffix(".py"), ast.parse(path.read_text(), str(path))


def imports(inner: Path, tree: ast.Module) -> Iterator[tuple[int, str, str | None]]:
    """(line, absolute module, name taken from it or None) of every import, wherever in the module it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, None
        elif isinstance(node, ast.ImportFrom):
            package = ["sstrace", *inner.parts[:-1]]
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, module, alias.name


def test_every_room_has_a_law() -> None:
    assert {room for _, room, _ in modules()} <= set(LAW)


def test_imports_follow_the_law() -> None:
    forbidden = []
    for inner, room, tree in modules():
        for line, module, name in imports(inner, tree):
            if module.split(".")[0] != "sstrace":
                continue
            target = (module.split(".")[1:] or [name or ""])[0]
            if target.startswith("__") or target == room:
                continue
            if target not in LAW[room]:
                forbidden.append(f"sstrace/{inner}:{line}: {room} → {target}")
    assert not forbidden, "forbidden arrows:\n" + "\n".join(forbidden)


def test_pure_rooms_do_no_io() -> None:
    found = []
    for inner, room, tree in modules():
        if room not in PURE | BASE | {"table"}:
            continue
        local = {}
        for line, module, name in imports(inner, tree):
            top = module.split(".")[0]
            if top in IMPURE:
                if name is None:
                    local[top] = line
                elif name not in PURE_USES.get(top, set()):
                    found.append(f"sstrace/{inner}:{line}: from {module} import {name}")
        aliases = {
            alias.asname or alias.name: alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
            if alias.name in local
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases:
                module = aliases[node.value.id]
                constant = module == "socket" and re.match(r"(AF|SOCK|IPPROTO)_", node.attr)
                if not constant and node.attr not in PURE_USES.get(module, set()):
                    found.append(f"sstrace/{inner}:{node.lineno}: {module}.{node.attr}")
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"open", "input"}:
                found.append(f"sstrace/{inner}:{node.lineno}: {node.func.id}()")
    assert not found, "I/O in a pure room:\n" + "\n".join(found)


@pytest.mark.parametrize("package", CAGED)
def test_slow_packages_stay_in_their_cage(package: str) -> None:
    found = [
        f"sstrace/{inner}:{line}: import {module}"
        for inner, _, tree in modules()
        for line, module, _ in imports(inner, tree)
        if module.split(".")[0] == package and not re.fullmatch(CAGED[package], inner.as_posix())
    ]
    assert not found, "\n".join(found)


def test_every_module_says_what_it_offers() -> None:
    silent = [
        str(inner)
        for inner, _, tree in modules()
        if tree.body
        and inner.name not in {"__init__.py", "__main__.py"}
        and not any(isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "__all__" for n in tree.body)
    ]
    assert not silent, f"no __all__ in {silent}"


def test_nothing_names_a_machine() -> None:
    """No path, mirror or proxy of the machine that somebody worked on: whoever clones this has another."""
    mine = re.compile(r"(?<![\w.}])/(?:work|opt/(?:pypi|wheels)|home/(?!vagrant)\w+)(?:/|\b)")
    if not shutil.which("git"):
        pytest.skip("no git")
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    found = []
    for name in filter(None, listed.stdout.decode().split("\0")):
        path = ROOT / name
        if path == Path(__file__).resolve() or not path.is_file():
            continue
        for number, line in enumerate(path.read_bytes().decode("latin-1").splitlines(), 1):
            if mine.search(line):
                found.append(f"{name}:{number}: {line.strip()[:100]}")
    assert not found, "\n".join(found)
