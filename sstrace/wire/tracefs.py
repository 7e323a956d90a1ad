"""A tracepoint's ``format`` file in tracefs → its id and where its fields lie.

Pure. The format of the file: Documentation/trace/events.rst of the kernel; lines ``field:TYPE NAME[N]; offset:O;
size:S; signed:B;``.
"""

import re

from sstrace.errors import DecodeError

__all__ = ["decode_format"]

_ID = re.compile(r"^ID:\s*(\d+)$", re.MULTILINE)
_FIELD = re.compile(r"^\s*field:[^;]*?(\w+)(?:\[[^\]]*\])?;\s*offset:(\d+);\s*size:(\d+);", re.MULTILINE)


def decode_format(text: str) -> tuple[int, dict[str, tuple[int, int]]]:
    """The event's id, and field name → (offset, size) in bytes within the record. Raises DecodeError."""
    found = _ID.search(text)
    fields = {name: (int(offset), int(size)) for name, offset, size in _FIELD.findall(text)}
    if found is None or not fields:
        raise DecodeError(f"no tracepoint format: {text[:60]!r}")
    return int(found[1]), fields
