"""One module opens files for writing, makes, renames and removes them: sources/files.py, which knows who else may have
put something there. Nothing else does so by a path.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "sstrace"

CHANGES = {
    "write_text", "write_bytes", "touch", "mkdir", "makedirs", "rename", "renames", "unlink", "rmdir", "removedirs",
    "chown", "lchown", "chmod", "lchmod", "symlink", "symlink_to", "link", "hardlink_to", "mknod", "mkfifo",
    "mkstemp", "mkdtemp", "NamedTemporaryFile", "TemporaryFile", "copyfile", "rmtree",
}  # fmt: skip
"""Functions of os, pathlib, shutil and tempfile that change what a path names."""
OF_OS = {"replace", "remove", "utime", "truncate"}
"""The same, of os alone: strings, lists and others have them, too."""
WRITING = {"O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND"}

ALLOWED = {
    "cli.py": {"open": "/dev/null"},
    "modes/trace.py": {"open": "/dev/null"},
    "snapshot/inet_dump.py": {"open": "/dev/null"},
    "watch/terminal.py": {"open": "the terminal that is standard output, by its name"},
    "sources/reel.py": {"TemporaryFile": "a new file without a name"},
    "sources/stream.py": {"open": "/proc/self/fd: a descriptor once more"},
    "sources/bugs.py": {"mkstemp": "a new file of a name that nobody knows", "open": "its descriptor"},
    "sources/bpf/compile.py": {"open": "a pipe's descriptor"},
    "sources/service.py": {
        "unlink": "the socket, where files.is_firm",
        "chown": "the socket, where files.is_firm",
        "chmod": "the socket, where files.is_firm",
    },
}
"""File → call → what it is that it opens."""


def writing(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, name) of every call that opens something for writing, or changes what a path names."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        of = function.value.id if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) else ""
        words = {
            part.attr if isinstance(part, ast.Attribute) else part.id
            for argument in (*node.args, *(word.value for word in node.keywords))
            for part in ast.walk(argument)
            if isinstance(part, ast.Attribute | ast.Name)
        }
        if of == "files":  # ours
            continue
        if (name in CHANGES and isinstance(function, ast.Attribute)) or (name in OF_OS and of == "os"):
            yield node.lineno, name
        elif name == "open":
            place = 0 if isinstance(function, ast.Attribute) and of not in ("io", "gzip") else 1
            modes = [word.value for word in node.keywords if word.arg in ("mode", "flags")] + node.args[
                place : place + 1
            ]
            mode = next((mode.value for mode in modes if isinstance(mode, ast.Constant)), "")
            opaque = of == "os" and any(isinstance(argument, ast.Name) for argument in node.args[1:2])
            if words & WRITING or opaque or (isinstance(mode, str) and set(mode) & set("wax+")):
                yield node.lineno, name


def test_nothing_else_opens_for_writing() -> None:
    found: dict[str, set[str]] = {}
    elsewhere = []
    for path in sorted(PACKAGE.rglob("*.py")):
        inner = str(path.relative_to(PACKAGE))
        if inner == "sources/files.py":
            continue
        for line, name in writing(ast.parse(path.read_text())):
            if name in ALLOWED.get(inner, {}):
                found.setdefault(inner, set()).add(name)
            else:
                elsewhere.append(f"sstrace/{inner}:{line}: {name}")
    assert not elsewhere, "by sources/files.py instead:\n" + "\n".join(elsewhere)
    assert found == {inner: set(calls) for inner, calls in ALLOWED.items()}, "no longer needed"


def test_the_search_finds_what_it_looks_for() -> None:
    source = """
open(path, "wb"); open(path, mode="a"); Path(path).open("w"); os.open(path, os.O_WRONLY); os.open(path, O_RDWR | x)
os.open(path, how); path.touch(); path.write_text(""); os.rename(a, b); os.replace(a, b); os.chown(path, 1, 1)
open(path, "rb"); open(path); path.open(); os.open(path, os.O_RDONLY); text.replace("a", "w"); files.rename(a, b)
"""
    assert [line for line, _ in writing(ast.parse(source))] == [2] * 5 + [3] * 6
