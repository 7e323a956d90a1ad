"""A directory of recordings: which files are in it."""

import os
import stat
from pathlib import Path

from sstrace.errors import DecodeError, reason

__all__ = ["absolute", "files_below", "is_folder", "is_there", "version_of"]


def is_folder(path: str) -> bool:
    """Whether there is a directory of that name."""
    return Path(path).is_dir()


def is_there(path: str) -> bool:
    """Whether there is anything of that name."""
    return os.path.lexists(path)


def absolute(path: str) -> str:
    """The same from the root on, links and all as they were typed."""
    return str(Path(path).absolute())


def version_of(path: str) -> tuple[int, int]:
    """Bytes of a file, and when they were changed, ns since 1970: of another content, as a rule, another pair. Raises
    DecodeError.
    """
    try:
        status = Path(path).stat()
    except OSError as error:
        raise DecodeError(f"cannot read {path}: {reason(error)}") from None
    return status.st_size, status.st_mtime_ns


def files_below(folder: str) -> tuple[list[str], list[tuple[str, str]]]:
    """Every regular file in a directory and below it, in the order of their names; and what could not be looked into,
    with the reason. Names that begin with a dot are left out: those who copy files write to such ones first. Links to
    directories are not followed. Raises DecodeError where the directory itself cannot be read.
    """
    found: list[str] = []
    refused: list[tuple[str, str]] = []

    def fail(error: OSError) -> None:
        if error.filename == folder:
            raise DecodeError(f"cannot read {folder}: {reason(error)}") from None
        refused.append((str(error.filename), reason(error)))

    for where, below, names in os.walk(folder, onerror=fail):
        below[:] = sorted(name for name in below if name[:1] != ".")
        for name in sorted(names):
            path = Path(where) / name
            if name[:1] == ".":
                continue
            try:
                if stat.S_ISREG(path.stat().st_mode):
                    found.append(str(path))
            except OSError as error:  # a link to nothing; one that has just gone
                refused.append((str(path), reason(error)))
    return found, refused
