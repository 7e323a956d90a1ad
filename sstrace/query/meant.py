"""What somebody meant who wrote a word that sstrace does not know: the nearest word that would be right.

Only outside --snapshot, where ss's own words stay. What is suggested can be typed as it stands.
"""

from collections.abc import Iterable
from typing import Final

from sstrace.errors import UsageError
from sstrace.query.catalog import MODES, OWN, SS
from sstrace.query.command import Act
from sstrace.query.filter import EXAMPLES
from sstrace.query.nearest import nearest
from sstrace.query.words import WORDS

__all__ = ["stray"]

_RECORDINGS: Final = (".ndjson", ".json", ".jsonl", ".gz", ".zst", ".log")
_OFTEN: Final = ("src", "dport", "port", "comm", "held")
_OTHERWISE: Final = {
    **dict.fromkeys(("ms", "us", "s", "min", "m", "h"), "a number and its unit are one word, as in held > 5ms"),
    **dict.fromkeys(("k", "kb", "mb", "gb", "g"), "a number and its unit are one word, as in sent > 10k"),
    "net": "a network is host 10.0.0.0/8, or src, or dst",
    "process": "a process is pid 4711 or comm nginx",
    "name": "a process is pid 4711 or comm nginx",
    "uid": "a user is user 1000 or user www-data",
    "tcp": "did you mean -t?",
    "tcp4": "did you mean -t -4?",
    "tcp6": "did you mean -t -6?",
}


def stray(word: str, act: Act, states: Iterable[str]) -> UsageError:
    """Make the sentence about a word that stands where a test of a filter, or a state word, should begin."""
    return UsageError(f'sstrace: "{word}" is no filter: {_meant(word, act, states)}')


def _meant(word: str, act: Act, states: Iterable[str]) -> str:
    low = word.lower()
    if low in ("from", "to"):
        return "from and to are of events; a table has state and exclude"
    if low == "netns" and act in WORDS[low].acts:
        return "netns selects among the namespaces of --netns all"
    if low in WORDS and act not in WORDS[low].acts:
        return f"{act.value} does not know {low}"
    if low in _OTHERWISE:
        return _OTHERWISE[low]
    if ("/" in word.removesuffix("/") and not _is_address(word)) or low.endswith(_RECORDINGS):
        if act is Act.STATS:
            return f"a recording is counted with --stats --from {word}"
        if act is Act.WATCH:
            return f"a recording is gone through with --watch --replay {word}"
        return f"a recording is read with --replay {word}, or --snapshot --from {word}"
    if _is_port(word):
        return f"a port is port {word}, or sport = {word}, or dport = {word}"
    if word.isascii() and word.isdecimal():
        return f"a port is port {word}, a process is pid {word}"
    if _is_address(word):
        if word.count(":") > 1 and word[:1] != "[" and "/" not in word:
            word = f"[{word}]"  # or the last part would be a port
        return f"an address is host {word}, or src {word}, or dst {word}"
    tables = {entry.name: entry for entry in SS if act not in entry.acts and Act.SNAPSHOT in entry.acts}
    if low in tables:
        entry = tables[low]
        return f"did you mean --snapshot {f'-{entry.letters}' if entry.letters else f'--{low}'}?"
    if low == "udp":
        return "did you mean -u?"
    options = {entry.name: f"--{entry.name}" for entry in OWN if entry.name in MODES or act in entry.acts}
    examples = {name: text for name, text in EXAMPLES.items() if name not in WORDS or act in WORDS[name].acts}
    words = {**examples, "autobound": "autobound", "state": "state established", "exclude": "exclude listening"}
    every = {**dict.fromkeys(states, ""), **options, **words}
    near = low if low in every else nearest(low, every)
    if near is None:
        program = _is_name(word) and "comm" in examples
        few = ", ".join(text for name, text in examples.items() if name in _OFTEN and not (program and name == "comm"))
        first = f"a program is comm {word}; other tests are" if program else "one is"
        return f"{first} {few} or state established; sstrace --help has them all"
    return f"did you mean {every[near] or f'state {near}'}?"


def _is_port(word: str) -> bool:
    return word[:1] == ":" and word[1:].isascii() and word[1:].isalnum()


def _is_address(word: str) -> bool:
    """Whether it is written with the signs of an address, and begins as one."""
    signs = set(word.lower())
    return (signs <= set("0123456789./:") and "." in signs) or (signs <= set("0123456789abcdef./:[]") and ":" in signs)


def _is_name(word: str) -> bool:
    """Whether a program may be called so."""
    return word.isascii() and word.replace("-", "").replace("_", "").isalnum()
