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

        A compiler may have moved parts or copies of it to ``name.isra.0`` and the like: those are other names.
        """
        text = self._text
        needle = b" " + name.encode()
        at = text.find(needle + b"\n")
        while at >= 0 and text[at - 1 : at] not in (b"t", b"T", b"W", b"w"):
            at = text.find(needle + b"\n", at + 1)
        if at < 0:
            return None
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
