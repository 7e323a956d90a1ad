"""What prose names is there: modules and what they define, files, directories; in docstrings, comments, documents."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "sstrace"
ROOMS = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}

PATH = re.compile(
    r"(?<![\w/.~-])((?:\.ci|\.github|bpf|dashboards|docs|native|packaging|scripts|sstrace|tests)/[\w./*{},-]*)"
)
DOTTED = re.compile(r"(?<![\w./*-])((?:sstrace\.)?[a-z_]+(?:\.\w+)+)(?![\w(]*/)")
MEMBER = re.compile(r"\b([A-Z]\w*[a-z]\w*)\.([a-z_]\w*)")
PYTHON = re.compile(r"(?<![\w/.*~-])([\w/]*\w\.py)\b")
BESIDE = re.compile(r"(?<![\w/.*-])(\w+\.[ch])\b")
"""A C file that is named without its directory, in C: one of ours (the kernel's are named with their directories)."""

OTHERS = {"sstrace/1", "sstrace/vm", "sources.sstrace", "server.address", "server.port", "sources.list", "Path.iterdir"}
"""What reads like a name of ours and is not: a schema's, a directory of a cache, one of Vector's sources, fields of
ECS, a file of apt, a method of pathlib.
"""
MADE_UP = {"docs/story.md", "tests/unit/test_references.py"}
"""Where files are named that only the text has."""


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def python_files() -> tuple[Path, ...]:
    """Modules and programs."""
    return tuple(_python_files())


def _python_files() -> Iterator[Path]:
    for part in ("sstrace", "native", "scripts", "tests"):
        for path in sorted((ROOT / part).rglob("*")):
            if path.suffix == ".py" or (
                path.is_file() and not path.suffix and path.read_bytes().split(b"\n", 1)[0].endswith(b"python3")
            ):
                yield path


def prose() -> Iterator[tuple[Path, str]]:
    """(file, text): documents, comments, docstrings and the texts below fields."""
    for path in (
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *ROOT.glob("bpf/*/*.md"),
        *ROOT.glob("scripts/*/*.md"),
    ):
        if path.name != "CHANGELOG.md":  # what was is named in it, too
            yield path, path.read_text()
    for path in (*ROOT.glob(".github/workflows/*"), ROOT / ".pre-commit-config.yaml", ROOT / ".ci" / "run"):
        yield path, path.read_text()
    for path in python_files():
        yield path, "\n".join(re.findall(r"#.*", path.read_text()))
        for node in ast.walk(tree(path)):
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                yield path, node.value.value
    for part in ("bpf", "native", "scripts", "tests"):
        for path in (ROOT / part).rglob("*.[ch]"):
            yield path, "\n".join(re.findall(r"/\*.*?\*/", path.read_text(), re.DOTALL))


@cache
def module_names(path: Path) -> set[str]:
    return set(defined(tree(path).body))


def defined(body: list[ast.stmt]) -> Iterator[str]:
    """What a module or a class has: what stands in it, and what its methods give ``self``."""
    for node in (node for statement in body for node in ast.walk(statement)):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                yield name
            case ast.alias(name=name, asname=other):
                yield other or name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name


@cache
def classes() -> dict[str, set[str]]:
    """Class, whichever module has it → its members."""
    found: dict[str, set[str]] = {}
    for path in python_files():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, set()).update(defined(node.body))
    return found


def is_defined(dotted: str) -> bool:
    """Whether sstrace has this module, or a module that has this name."""
    place = PACKAGE
    parts = dotted.removeprefix("sstrace.").split(".")
    while parts and ((place / parts[0]).is_dir() or (place / f"{parts[0]}.py").is_file()):
        place /= parts.pop(0)
    module = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    return not parts or parts[0] in module_names(module)


def is_path(text: str) -> bool:
    head, brace, rest = text.rstrip(".,").partition("{")
    if brace:
        inner, _, tail = rest.partition("}")
        return all(is_path(f"{head}{one}{tail}") for one in inner.split(","))
    # A word in capitals stands for whatever is there.
    return (
        any(ROOT.glob(re.sub(r"[A-Z]{2,}", "*", head))) if re.search(r"[A-Z]{2,}|\*", head) else (ROOT / head).exists()
    )


def is_ours(path: Path, dotted: str) -> bool:
    """Keys of the schemas of ECS and OpenTelemetry begin with ``sstrace``, too: documents speak of them."""
    room = dotted.removeprefix("sstrace.").split(".")[0]
    return room in ROOMS or (dotted.startswith("sstrace.") and path.suffix != ".md")


def missing(path: Path, text: str) -> Iterator[str]:
    """What a text of a file names, and is not there."""
    for word in PATH.findall(text):
        if not is_path(word):
            yield word
    for word in DOTTED.findall(text):
        if is_ours(path, word) and not word.endswith((".md", ".py", ".c")) and not is_defined(word):
            yield word
    for name, member in MEMBER.findall(text):
        if member not in classes().get(name, ()):
            yield f"{name}.{member}"
    for word in PYTHON.findall(text):
        if not any(f"/{name}".endswith(f"/{word}") for name in map(str, python_files())):
            yield word
    if path.suffix in (".c", ".h"):
        for word in BESIDE.findall(text):
            if not any((ROOT / path.relative_to(ROOT).parts[0]).rglob(word)):
                yield word


def test_what_the_prose_names_is_there() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path, text in prose()
        if str(path.relative_to(ROOT)) not in MADE_UP
        for word in missing(path, text)
        if word not in OTHERS
    ]
    assert not found, "named, and not there:\n" + "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        "see sstrace/driver.py",
        "(driver/live.py)",
        "``sstrace.table.nothing``",
        "wire.event.NOWHERE",
        "EventDecoder.nothing",
    ],
)
def test_what_is_not_there_is_found(text: str) -> None:
    assert list(missing(PACKAGE / "x.py", text))


def test_what_is_there_is_let_pass() -> None:
    text = (
        "sstrace/wire/event.py, bpf/*, scripts/bench, wire.event, ``EventDecoder.decode``, sstrace.table.fold, fold.py."
    )
    assert not list(missing(PACKAGE / "x.py", text))
