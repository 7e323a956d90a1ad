"""The directory for what a later start can use again; a cache, so everything in it may vanish at any time."""

import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["cache_directory"]


def cache_directory(env: Mapping[str, str]) -> Path:
    """/var/cache/sstrace for root; else ``sstrace`` in $XDG_CACHE_HOME or ~/.cache (XDG Base Directory Specification
    0.8).
    """
    if os.geteuid() == 0:
        return Path("/var/cache/sstrace")
    base = env.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path(env.get("HOME", "/")) / ".cache") / "sstrace"
