"""/proc/kallsyms bytes → addresses of functions, and the ranges they span.

Pure. The vmlinux part of the file is sorted by address (kernel/kallsyms.c), so a function ends where the next different
address begins. Without CAP_SYSLOG (or with kernel.kptr_restrict=2) every address reads 0: then nothing is found.
"""

from sstrace.errors import DecodeError

__all__ = ["Symbols"]


class Symbols:
    """Function addresses of one kernel boot. ``text`` is the content of /proc/kallsyms."""

    def __init__(self, text: bytes) -> None:
        self._text = text

    def span(self, name: str) -> tuple[int, int] | None:
        """(address, size in bytes) of a function; ``None`` when there is none or addresses are hidden.

        A compiler may have moved parts or copies of it to ``name.isra.0`` and the like: those only ``spans`` finds.
        """
        return self._span_at(b" " + name.encode() + b"\n", 0)[0]

    def spans(self, name: str) -> list[tuple[int, int]]:
        """(address, size) of a function; where the compiler renamed it (``name.isra.0``, ``name.part.0``), of every
        such copy.
        """
        plain = self.span(name)
        if plain is not None:
            return [plain]
        found, at = [], 0
        while at >= 0:
            span, at = self._span_at(b" " + name.encode() + b".", at)
            if span is not None:
                found.append(span)
        return found

    def _span_at(self, needle: bytes, start: int) -> tuple[tuple[int, int] | None, int]:
        """The first function whose line holds ``needle`` at or after ``start``, and where to look for the next (-1:
        nowhere).
        """
        text = self._text
        at = text.find(needle, start)
        while at >= 0 and text[at - 1 : at] not in (b"t", b"T", b"W", b"w"):
            at = text.find(needle, at + 1)
        if at < 0:
            return None, -1
        return self._span_of_line(at), at + 1

    def _span_of_line(self, at: int) -> tuple[int, int] | None:
        text = self._text
        line = text.rfind(b"\n", 0, at) + 1
        address = self._address(line)
        if address == 0:
            return None
        while True:
            line = text.find(b"\n", line) + 1
            if line == 0 or line >= len(text):
                return address, 1
            following = self._address(line)
            if following > address:
                return address, following - address
            if following < address:  # the module part of the file begins: the last function of vmlinux
                return address, 1

    def _address(self, line: int) -> int:
        end = self._text.find(b" ", line)
        try:
            return int(self._text[line:end], 16)
        except ValueError:
            raise DecodeError(f"kallsyms: no address at byte {line}: {self._text[line : line + 16]!r}") from None
