"""Lines of the native schema → rows of the engine's table ``lines`` (sstrace.fleet.schema).

Enters: chunks of whole lines as a recorder writes them. Leaves: the same lines, each with the members more that make it
a row: ``host``, ``run``, and ``nth`` where that is not 0. The engine reads the JSON itself, so nothing is decoded here
but the few lines that repeat a ``seq``.
"""

import re
from typing import Final

import msgspec

from sstrace.errors import DecodeError
from sstrace.lines import CheckpointLine, MarkLine, MetaLine

__all__ = ["Rows", "run_of"]

_REPEATING: Final = re.compile(rb'\n\{"type":"(?:checkpoint|mark|meta)"')
_KEPT: Final = frozenset(("ts", "mono_ns"))
"""Members of a meta line that have columns."""

_SEQ: Final = re.compile(rb'"seq":(\d+)')
_repeating = msgspec.json.Decoder(CheckpointLine | MarkLine | MetaLine)


def run_of(meta: MetaLine) -> str:
    """What the rows of one stream have in common, and no other's: the same stream, put in twice, has the same rows.
    ``meta``: its first line; of a rotation, that of the first file.
    """
    return f"{meta.boot_id}/{meta.mono_ns}"


class Rows:
    """Makes rows of one stream, from its beginning on."""

    def __init__(self, host: str, run: str) -> None:
        """``host``, ``run``: of all of its rows."""
        encoded = msgspec.json.encode({"host": host, "run": run})
        self._head = b"{" + encoded[1:-1] + b","
        self._seq = 0
        """The last one that was repeated, or 0."""
        self._nth = -1
        """How often."""

    def take(self, lines: bytes | bytearray, *, cut: bool = False) -> bytes:
        """Whole lines → as many rows. A checkpoint's lines must come together; ``cut``: the last ones may be missing,
        because the stream ends there. Raises DecodeError.
        """
        lines = bytes(lines)
        out: list[bytes] = []
        done = 0
        # Behind a newline each, so a search looks for newlines, not at every byte.
        for at in [match.start() for match in _REPEATING.finditer(b"\n" + lines)]:
            if at < done:
                continue
            out.append(self._plain(lines[done:at]))
            done = self._repeats(lines, at, out, cut=cut)
        out.append(self._plain(lines[done:]))
        return b"".join(out)

    def _plain(self, lines: bytes) -> bytes:
        if not lines:
            return b""
        return self._head + lines[1:].replace(b"\n{", b"\n" + self._head)

    def _repeats(self, lines: bytes, at: int, out: list[bytes], *, cut: bool) -> int:
        """A line that repeats a ``seq``, and what follows of a checkpoint; where that ends."""
        end = lines.index(b"\n", at) + 1
        try:
            line = _repeating.decode(lines[at:end])
        except msgspec.DecodeError as error:
            raise DecodeError(f"a line that is none of sstrace's: {error}") from None
        seq = _seq_behind(lines[end:]) if isinstance(line, MetaLine) and line.part else getattr(line, "seq", 0)
        self._nth = self._nth + 1 if seq == self._seq else 1
        self._seq = seq
        if isinstance(line, MetaLine):
            out.append(self._meta(lines[at:end], seq))
            return end
        out.append(self._numbered(lines[at:end]))
        for _ in range(line.rows + (line.places or 0) if isinstance(line, CheckpointLine) else 0):
            at, end = end, lines.find(b"\n", end) + 1
            if not end:
                if cut:
                    return len(lines)
                raise DecodeError("a checkpoint is cut off")
            self._nth += 1
            out.append(self._numbered(lines[at:end]))
        return end

    def _numbered(self, line: bytes) -> bytes:
        return b'%s"nth":%d,%s' % (self._head, self._nth, line[1:])

    def _meta(self, line: bytes, seq: int) -> bytes:
        """The row of a meta line, which has no ``seq`` of its own."""
        members = msgspec.json.decode(line)
        rest = {key: value for key, value in members.items() if key not in _KEPT and key != "type"}
        row = {
            "type": "meta",
            **{key: members[key] for key in _KEPT if key in members},
            "seq": seq,
            "rest": msgspec.json.encode(rest).decode(),
        }
        return self._numbered(msgspec.json.encode(row) + b"\n")


def _seq_behind(lines: bytes) -> int:
    """The number that a file of a rotation, but for the first, begins with: that of the last line before it, which the
    checkpoint at its beginning repeats.
    """
    found = _SEQ.search(lines[: lines.find(b"\n")])
    return int(found[1]) if found is not None else 0
