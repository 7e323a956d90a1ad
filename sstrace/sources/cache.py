"""The directory for what a later start can use again; a cache, so everything in it may vanish at any time."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["cache_directory", "cached"]


def cache_directory(env: Mapping[str, str]) -> Path | None:
    """/var/cache/sstrace for root; else ``sstrace`` in $XDG_CACHE_HOME or ~/.cache (XDG Base Directory Specification
    0.8). None where neither names a directory: a relative path names none.
    """
    if os.geteuid() == 0:
        return Path("/var/cache/sstrace")
    home = env.get("HOME", "")
    base = env.get("XDG_CACHE_HOME", "")
    if not base.startswith("/"):
        base = f"{home}/.cache" if home.startswith("/") else ""
    return Path(base) / "sstrace" if base else None


def cached(env: Mapping[str, str]) -> Sequence[str]:
    """The names of the compiled programs in the cache. Raises OSError where it cannot be read."""
    directory = cache_directory(env)
    try:
        names = [path.name for path in directory.iterdir()] if directory is not None else []
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [name for name in names if name.startswith("bpf-") and name.endswith(".msgpack")]
