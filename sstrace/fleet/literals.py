"""Texts as they stand in SQL."""

from collections.abc import Iterable
from typing import Final

__all__ = ["listed", "quoted"]


def quoted(text: str | bytes) -> str:
    """A string as SQL: every byte but letters, digits and what is harmless by its number."""
    raw = text.encode(errors="surrogateescape") if isinstance(text, str) else text
    return "'" + "".join(chr(byte) if byte in _HARMLESS else f"\\x{byte:02x}" for byte in raw) + "'"


_HARMLESS: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,:;-_/@*+=#")


def listed(texts: Iterable[str]) -> str:
    """Several of them, in one order, as they stand in parentheses."""
    return ", ".join(map(quoted, texts))
