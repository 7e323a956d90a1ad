"""The words of ``--netns``."""

from typing import Final

from sstrace.errors import UsageError

__all__ = ["ALL", "is_path", "parse_netns"]

ALL: Final = "all"


def parse_netns(value: str) -> tuple[str, ...]:
    """Read ``all|NAME|PID|INODE|PATH[,…]``: the words, each once. Raises UsageError."""
    words = value.split(",")
    if not all(words) or "\0" in value:
        raise UsageError(f'sstrace: --netns "{value}": write all, or names, pids, inodes and paths, joined by commas')
    return tuple(dict.fromkeys(words))


def is_path(word: str) -> bool:
    """Whether a word is a path; one that is relative begins with a dot, or it would be the name of a pod."""
    return word.startswith(("/", "./", "../"))
