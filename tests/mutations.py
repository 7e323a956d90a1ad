"""Recordings that somebody has damaged, by accident or on purpose: one mutation of a sound one after another, the same
for the same seed.
"""

import random
from collections.abc import Iterator
from typing import Any

import msgspec

__all__ = ["HOSTILE", "mutations"]

HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 65535, 65536, 1 << 31, 1 << 32, 1 << 53, 1 << 63, (1 << 64) - 1, -(1 << 63), 1e308,
    -0.5, 1.5,
    "", "\0", "a\0b", "\x1b]0;owned\x07", "\x1b[2J", "x\n2026 forged", "\r", "\u202e", "\ud7ff", "\x9b1m",
    "é" * 40, "A" * 70000,
    "ESTAB", "ESTABLISHED", "UNCONN", "tcp", "inet", "inet7", "10.0.0.1", "::1", "10.0.0.1.9", "fe80::1%lo",
    "9999-12-31T23:59:59Z",
    "1970-01-01T00:00:00Z", "0000-00-00T00:00:00Z", "2026-11-20T15:00:00+99:99", "state", "meta", "checkpoint",
    [], {}, [[]], {"": {}}, [None], ["x"] * 100, [{"comm": "\x1b[31m", "pid": -1}], [{"comm": "a", "pid": 1, "fd": -7}],
    {"lo": -1}, {"\x1b[5m": 7}, [1, 2], [70000, -1],
)  # fmt: skip
"""Values for any key."""


def _nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def mutations(lines: list[bytes], seed: int, count: int) -> Iterator[tuple[int, bytes]]:
    """``count`` files, with their numbers: most with a value changed, others with bytes, lines or their order."""
    for number in range(count):
        dice = random.Random(f"{seed} {number}")
        file = list(lines)
        for _ in range(dice.choice((1, 1, 1, 2, 5))):
            at = dice.randrange(len(file))
            file[at] = _changed(file[at], dice)
        if dice.random() < 0.1:
            dice.shuffle(file)
        if dice.random() < 0.1:
            del file[: dice.randrange(3)]
        data = b"\n".join(file) + b"\n" * (dice.random() < 0.8)
        if dice.random() < 0.1:
            data = data[: dice.randrange(len(data) + 1)]
        yield number, data


def _changed(line: bytes, dice: random.Random) -> bytes:
    how = dice.random()
    if how < 0.75:
        try:
            value = msgspec.json.decode(line)
        except (msgspec.DecodeError, RecursionError):
            return line
        if not isinstance(value, dict) or not value:
            return line
        key = dice.choice(list(value))
        what = dice.random()
        if what < 0.1:
            del value[key]
        elif what < 0.2:
            value[dice.choice(list(value))] = value[key]
        elif what < 0.25:
            mark = b'"here"'
            value[key] = "here"
            return msgspec.json.encode(value).replace(mark, _nested(dice.choice((20, 600, 2000, 100_000))))
        else:
            value[key] = dice.choice(HOSTILE)
        return msgspec.json.encode(value)
    data = bytearray(line)
    if how < 0.9 and data:
        for _ in range(dice.choice((1, 2, 8))):
            data[dice.randrange(len(data))] = dice.randrange(256)
    elif how < 0.95:
        data = bytearray(dice.randbytes(dice.randrange(300)))
    else:
        data = data[: dice.randrange(len(data) + 1)]
    return bytes(data)
