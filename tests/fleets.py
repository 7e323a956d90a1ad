"""Recordings of several hosts, written out by hand."""

from collections.abc import Iterable
from typing import Any

import msgspec

SECOND = 1_000_000_000
T = "2026-11-20T15:{:02d}:{:02d}.{:09d}Z"
Told = tuple[str, float, int, dict[str, Any]]
"""Type, seconds after 15:00, id, what else the line says."""


def stamp(at_s: float) -> str:
    """The time of day in UTC, so many seconds after 15:00."""
    seconds, nanoseconds = divmod(round(at_s * SECOND), SECOND)
    return T.format(seconds // 60, seconds % 60, nanoseconds)


def recorded(host: str, told: Iterable[Told], *, boot_s: float = 7, seq: int = 0, **meta: Any) -> bytes:
    """A recording that begins with its first line. ``boot_s``: seconds before 15:00 at which its machine was booted."""
    lines = list(told)
    begun = meta.pop("begun", lines[0][1] if lines else 0)
    values = {
        "kernel": "6",
        "boot_id": f"boot of {host}",
        "netns": 1,
        "interfaces": {"lo": 1, f"eth-{host}": 9},
        **meta,
    }
    written: list[dict[str, Any]] = [
        {
            "type": "meta", "schema": "sstrace/1", "version": "0", "ts": stamp(begun),
            "mono_ns": round((begun + boot_s) * SECOND), "host": host, "ephemeral": [40000, 50000], **values,
        }
    ]  # fmt: skip
    for number, (kind, at_s, row, fields) in enumerate(lines, seq + 1):
        written.append({
            "type": kind, "ts": stamp(at_s), "mono_ns": round((at_s + boot_s) * SECOND), "seq": number, "id": row,
            "netid": "tcp", "family": "inet", "netns": values["netns"], **fields,
        })  # fmt: skip
    return b"".join(msgspec.json.encode(line) + b"\n" for line in written)


def ends(src: str, sport: int, dst: str, dport: int) -> dict[str, Any]:
    """Both ends of a row."""
    return {"src": src, "sport": sport, "dst": dst, "dport": dport}


def held_by(comm: str, pid: int, ino: int) -> dict[str, Any]:
    """An owner."""
    return {"ino": ino, "uid": 0, "owners": [{"comm": comm, "pid": pid, "fd": 3}], "owner_source": "walk"}


WEB = ends("10.0.0.1", 40000, "10.0.0.9", 5432)
DB = ends("10.0.0.9", 5432, "10.0.0.1", 40000)
LISTENER = ends("0.0.0.0", 5432, "0.0.0.0", 0)
