"""The house stands: who may import whom, where bcc and rich may be named, and no machine's paths in the repository."""

import ast
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "sstrace"

BASE = {
    "errors", "fields", "model", "plain", "lines", "dialect", "protocols", "causes", "incidents", "coordinates",
    "without",
}  # fmt: skip
TWINS = {"native"}
PURE = {"wire", "lifecycle", "query", "render"}
ROWS = BASE | PURE | {"table", "changes", "rows"}
LAW: dict[str, set[str]] = {
    "errors": set(),
    "fields": set(),
    "model": {"errors", "fields"},
    "plain": set(),
    "lines": {"fields", "model"},
    "dialect": {"errors"},
    "protocols": {"model"},
    "causes": {"model"},
    "incidents": {"model"},
    "coordinates": {"model", "plain", "protocols"},
    "without": set(),
    "native": {"without"},
    "wire": BASE | TWINS,
    "lifecycle": BASE,
    "query": BASE,
    "render": BASE | TWINS,
    "fleet": ROWS | {"sources", "recording"},
    "decoders": {"wire", "render"},
    "table": BASE | TWINS | PURE,
    "changes": {"model", "table"},
    "rows": {"model", "protocols", "coordinates", "table"},
    "sources": BASE,
    "namespaces": BASE | {"wire", "query", "sources"},
    "recording": ROWS | {"sources"},
    "live": ROWS | TWINS | {"sources", "namespaces"},
    "output": ROWS | TWINS | {"sources", "namespaces", "live", "fleet"},
    "snapshot": BASE | PURE | {"sources", "namespaces"},
    "watch": ROWS | {"decoders", "sources", "namespaces", "recording", "fleet", "live", "output", "modes.following"},
    "modes": ROWS | TWINS | {"decoders", "sources", "namespaces", "recording", "fleet", "live", "output", "snapshot"},
    "server": BASE
    | PURE
    | {"changes", "table", "sources", "namespaces", "live", "output", "snapshot", "modes.snapshot", "modes.following"}
    | {"modes.explain_now"},
    "dispatch": BASE | {"query", "sources", "modes", "watch", "server"},
    "cli": BASE | {"query", "sources", "dispatch", "server.forward"},
    "__main__": {"cli"},
    "__init__": set(),
}
"""Room → the rooms, or modules of rooms, that it may import besides itself. A room is a module or a package directly
below ``sstrace``.
"""

IMPURE = {"os", "socket", "time", "subprocess", "threading", "select", "selectors", "signal", "fcntl", "mmap", "ctypes"}
PURE_USES = {
    "socket": {"inet_ntop", "inet_pton", "inet_aton", "AF_INET", "AF_INET6", "ntohs", "htons", "ntohl", "htonl"}
}
"""What of an impure module the pure rooms may use: functions of their arguments alone."""

CAGED = {"bcc": r"sources/bpf/compile\.py", "rich": r"render/\w+\.py"}
"""A package that is slow to import → the only files that may name it."""


@cache
def modules() -> list[tuple[Path, str, ast.Module]]:
    """(path below the package, room, source) of every module."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        inner = path.relative_to(PACKAGE)
        found.append((inner, inner.parts[0].removesuffix(".py"), ast.parse(path.read_text(), str(path))))
    return found


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


@cache
def arrows() -> list[tuple[Path, int, str, str]]:
    """(file, line, module, module of sstrace that it imports); modules by their names below ``sstrace``."""
    names = {".".join(inner.with_suffix("").parts).removesuffix(".__init__"): inner for inner, _, _ in modules()}
    found = []
    for (importer, inner), (_, _, tree) in zip(names.items(), modules(), strict=True):
        for line, module, name in imports(inner, tree):
            top, _, below = module.partition(".")
            whole = f"{below}.{name}".strip(".")
            target = whole if whole in names else below
            if top == "sstrace" and target not in ("", importer):
                found.append((inner, line, importer, target))
    return found


def test_imports_follow_the_law() -> None:
    forbidden = []
    for inner, line, importer, target in arrows():
        room, other = importer.split(".")[0], target.split(".")[0]
        if other != room and not {other, target} & LAW[room]:
            forbidden.append(f"sstrace/{inner}:{line}: {room} → {target}")
    assert not forbidden, "forbidden arrows:\n" + "\n".join(forbidden)


def test_no_circle_of_modules() -> None:
    """Imports for types and within functions count: who cannot be read without the other is one module with it."""
    left: dict[str, set[str]] = {}
    for _, _, importer, target in arrows():
        left.setdefault(importer, set()).add(target)
        left.setdefault(target, set())
    while left:
        free = {name for name, targets in left.items() if not targets & set(left)}
        assert free, f"modules in a circle, or above one: {sorted(left)}"
        left = {name: targets for name, targets in left.items() if name not in free}


def test_pure_rooms_do_no_io() -> None:
    found = []
    for inner, room, tree in modules():
        if room not in PURE | BASE | {"table", "fleet"}:
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


def test_every_program_is_linted_and_typed() -> None:
    """Ruff and mypy find files by their endings, which programs have not: pyproject.toml names each."""
    programs = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "scripts").rglob("*")
        if path.is_file() and not path.suffix and path.read_bytes().split(b"\n", 1)[0].endswith(b"python3")
    }
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert set(tools["ruff"]["extend-include"]) == programs
    assert {name for name in tools["mypy"]["files"] if "/" in name} == programs


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
