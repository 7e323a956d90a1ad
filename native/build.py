#!/usr/bin/env python3
"""Compile the twins of the event path: native/build.py [DIRECTORY]  (default: the current one). Prints the file's name.

Needs a C compiler (CC, else cc or gcc) and the headers of the Python that runs this; where one is missing it says so
and ends with 1. The same sources give the same bytes.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

HERE = Path(__file__).resolve().parent
OPTIONS = ("-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-fwrapv", "-Wall", "-Wextra", "-Wno-unused-parameter")
OPTIONS += ("-Wno-missing-field-initializers", f"-ffile-prefix-map={HERE.parent}=.")


def interface() -> int:
    """What stands for everything that the module is compiled of: 31 bits."""
    sources = sorted([*HERE.glob("*.[ch]"), HERE.parent / "bpf" / "event.h"])
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).digest()
    return int.from_bytes(digest[:4], "big") >> 1


class CannotBuildError(Exception):
    """Why there is no module; one sentence."""


def build(directory: Path) -> Path:
    """The module's file, made in a directory. Raises CannotBuildError."""
    include = Path(sysconfig.get_path("include"))
    if not (include / "Python.h").exists():
        raise CannotBuildError(f"{include}/Python.h is missing (Debian's python3-dev has it)")
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise CannotBuildError("there is no C compiler (Debian's gcc and libc6-dev)")
    module = directory / f"_sstrace{sysconfig.get_config_var('EXT_SUFFIX')}"
    sources = sorted(str(path) for path in HERE.glob("*.c"))
    command = [*compiler.split(), *OPTIONS, f"-DINTERFACE={interface()}", f"-I{include}", "-o", str(module), *sources]
    try:
        done = subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotBuildError(f"{compiler} does not run: {error}") from None
    if done.returncode != 0:
        raise CannotBuildError(f"{compiler} cannot compile native/*.c:\n{done.stderr}")
    return module


def main() -> int:
    """Build from the command line."""
    try:
        print(build(Path(sys.argv[1] if len(sys.argv) > 1 else ".")))
    except CannotBuildError as error:
        print(f"native/build.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
