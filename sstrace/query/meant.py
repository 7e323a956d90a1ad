"""What somebody meant who wrote a word that sstrace does not know: the nearest word that would be right.

Only outside --snapshot, where ss's own words stay. What is suggested can be typed as it stands.
"""

from collections.abc import Iterable
from typing import Final

from sstrace.errors import UsageError
from sstrace.query.catalog import MODES, OWN, SS
from sstrace.query.command import Act
from sstrace.query.filter import EXAMPLES

__all__ = ["nearest", "stray"]

_RECORDINGS: Final = (".ndjson", ".json", ".jsonl", ".gz", ".log")
_OTHERWISE: Final = {
    "port": "a port is sport = :443 or dport = :443",
    "host": "a host is src 10.0.0.1 or dst 10.0.0.1",
    "net": "a network is src 10.0.0.0/8 or dst 10.0.0.0/8",
    "pid": "no filter asks for a process",
    "tcp": "did you mean -t?",
    "tcp4": "did you mean -t -4?",
    "tcp6": "did you mean -t -6?",
}


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Give the one of some words that another was meant to be: that it begins, or that is spelt much alike."""
    word = word.lower()
    choices = sorted(known)
    begun = [choice for choice in choices if choice.startswith(word)]
    if len(word) > 2 and len(begun) == 1:
        return begun[0]
    from difflib import get_close_matches  # only for mistakes

    found = get_close_matches(word, choices, 1, 0.7)
    return found[0] if found else None


def stray(word: str, act: Act, states: Iterable[str]) -> UsageError:
    """Make the sentence about a word that stands where a test of a filter, or a state word, should begin."""
    return UsageError(f'sstrace: "{word}" is no filter: {_meant(word, act, states)}')


def _meant(word: str, act: Act, states: Iterable[str]) -> str:
    low = word.lower()
    if low in ("from", "to"):
        return "from and to are of events; a table has state and exclude"
    if low in _OTHERWISE:
        return _OTHERWISE[low]
    if ("/" in word.removesuffix("/") and not _is_address(word)) or low.endswith(_RECORDINGS):
        return f"a recording is read with --replay {word}, or --snapshot --from {word}"
    if _is_port(word):
        return f"a port is sport = {word} or dport = {word}"
    if word.isascii() and word.isdecimal():
        return f"a port is sport = :{word} or dport = :{word}, and no filter asks for a process"
    if _is_address(word):
        if word.count(":") > 1 and word[:1] != "[" and "/" not in word:
            word = f"[{word}]"  # or the last part would be a port
        return f"an address is src {word} or dst {word}"
    tables = {entry.name: entry for entry in SS if act not in entry.acts and Act.SNAPSHOT in entry.acts}
    if low in tables:
        entry = tables[low]
        return f"did you mean --snapshot {f'-{entry.letters}' if entry.letters else f'--{low}'}?"
    options = {entry.name: f"--{entry.name}" for entry in OWN if entry.name in MODES or act in entry.acts}
    words = {**EXAMPLES, "autobound": "autobound", "state": "state established", "exclude": "exclude listening"}
    every = {**dict.fromkeys(states, ""), **options, **words}
    near = low if low in every else nearest(low, every)
    if near is None:
        return f"one is {', '.join(EXAMPLES.values())} or autobound"
    return f"did you mean {every[near] or f'state {near}'}?"


def _is_port(word: str) -> bool:
    return word[:1] == ":" and word[1:].isascii() and word[1:].isalnum()


def _is_address(word: str) -> bool:
    """Whether it is written with the signs of an address, and begins as one."""
    signs = set(word.lower())
    return (signs <= set("0123456789./:") and "." in signs) or (signs <= set("0123456789abcdef./:[]") and ":" in signs)
