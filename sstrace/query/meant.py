"""What somebody meant who wrote a word that sstrace does not know: the nearest word that would be right.

In --snapshot ss's own sentence stays, and only a word that is near one of sstrace's is spoken of, behind it. What is
suggested can be typed as it stands.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Final

from sstrace.errors import UsageError
from sstrace.query.catalog import MODES, OWN, SS, Entry
from sstrace.query.command import Act
from sstrace.query.filter import EXAMPLES, OPERATORS
from sstrace.query.masks import FAMILY_KEYS, TABLE_KEYS
from sstrace.query.nearest import nearest
from sstrace.query.words import WORDS

__all__ = ["joined", "ours", "stray"]

_RECORDINGS: Final = (".ndjson", ".json", ".jsonl", ".gz", ".zst", ".log")
_OFTEN: Final = ("src", "dport", "port", "comm", "held")
_OTHERS: Final = {"autobound": "autobound", "state": "state established", "exclude": "exclude listening"}
_EXAMPLES: Final = {**EXAMPLES, **_OTHERS}
_FOLLOWED: Final = ("udp", "raw", "mptcp", "unix", "packet", "vsock", "xdp")
"""Options whose names are taken for words of the filter."""
_OTHERWISE: Final = {
    **dict.fromkeys(("ms", "us", "s", "min", "m", "h"), "a number and its unit are one word, as in held > 5ms"),
    **dict.fromkeys(("k", "kb", "mb", "gb", "g"), "a number and its unit are one word, as in sent > 10k"),
    "help": "sstrace --help has it",
    "net": "a network is host 10.0.0.0/8, or src, or dst",
    "process": "a process is pid 4711 or comm nginx",
    "name": "a process is pid 4711 or comm nginx",
    "uid": "a user is user 1000 or user www-data",
    "tcp": "did you mean -t?",
    "tcp4": "did you mean -t -4?",
    "tcp6": "did you mean -t -6?",
}


_Right = Callable[[Sequence[str]], bool]
"""Whether some words are a test, or a word about states and its states."""


def stray(word: str, following: Sequence[str], act: Act, states: Iterable[str], is_right: _Right) -> UsageError:
    """Make the sentence about a word that stands where a test of a filter, or a state word, should begin."""
    return UsageError(f'sstrace: "{word}" is no filter: {_meant(word, following, act, states, is_right)}')


def joined(word: str, typed: Sequence[str]) -> UsageError | None:
    """The same of a word that was typed behind an option that takes its value in one word with it, or takes none."""
    before = next((before for before, after in pairwise(typed) if after == word), "")
    entry = next((entry for entry in OWN if f"--{entry.name}" == before and entry.argument.startswith("[=")), None)
    return UsageError(f'sstrace: "{word}" is no filter: did you mean {before}={word}?') if entry is not None else None


def ours(word: str, following: Sequence[str], act: Act, is_right: _Right) -> str:
    """Say which of sstrace's own tests was meant by such a word, unless it is nearer to one of ss's; of one that is
    right, but not here, where it is; empty: none.
    """
    name, test = _test(word, following)
    if elsewhere := _elsewhere(name, act):
        return elsewhere
    near = nearest(name, {*_examples(act), *(entry.name for entry in SS), *TABLE_KEYS, *FAMILY_KEYS})
    if near is None or near not in WORDS:
        return ""
    return f"did you mean {_completed(near, test, is_right)}?"


def _elsewhere(name: str, act: Act) -> str:
    """Of one of sstrace's own tests that means nothing to an act: who knows it; empty: it is none."""
    if name not in WORDS:
        return ""
    acts = WORDS[name].acts
    if act in acts:
        return "netns selects among the namespaces of --netns all" if name == "netns" else ""
    beside = (Act.REPLAY,) if act.source in ("file", "between") else (Act.SNAPSHOT, Act.TRACE, Act.WATCH)
    *others, last = (other.value for other in beside if other in acts)
    who = f"{', '.join(others)} and {last} do" if others else f"{last} does"
    return f"{act.value} does not know {name}: {who}"


def _examples(act: Act) -> dict[str, str]:
    return {name: text for name, text in EXAMPLES.items() if name not in WORDS or act in WORDS[name].acts}


def _test(word: str, following: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The name that a test begins with, in lower case, and the rest of it, which may stand in the same word."""
    at = next((at for at, char in enumerate(word) if char in "=!<>"), 0)
    if at:
        signs = 2 if word[at : at + 2] in OPERATORS else 1
        return word[:at].lower(), (word[at : at + signs], word[at + signs :])
    return word.lower(), following[: 2 if following and following[0] in OPERATORS else 1]


def _completed(name: str, test: Sequence[str], is_right: _Right) -> str:
    """With what was written behind it, where that can be; else with what could be."""
    return " ".join((name, *test)) if test and is_right((name, *test)) else _EXAMPLES[name]


def _meant(word: str, following: Sequence[str], act: Act, states: Iterable[str], is_right: _Right) -> str:
    low, test = _test(word, following)
    if low in ("from", "to"):
        return "from and to are of events; a table has state and exclude"
    if elsewhere := _elsewhere(low, act):
        return elsewhere
    if word.partition("(")[0].isalpha() and "(" in word and not low.endswith(_RECORDINGS):
        return f'a blank stands before "(", as in {word.replace("(", " (", 1)}'
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
        return f"did you mean --snapshot {_option(tables[low])}?"
    if low in _FOLLOWED:
        return f"did you mean {_option(next(entry for entry in SS if entry.name == low))}?"
    options = {entry.name: f"--{entry.name}" for entry in OWN if entry.name in MODES or act in entry.acts}
    examples = _examples(act)
    every = {**dict.fromkeys(states, ""), **options, **examples, **_OTHERS}
    near = low if low in every else nearest(low, every)
    if near is None:
        program = _is_name(word) and "comm" in examples
        few = ", ".join(text for name, text in examples.items() if name in _OFTEN and not (program and name == "comm"))
        first = f"a program is comm {word}; other tests are" if program else "one is"
        return f"{first} {few} or state established; sstrace --help has them all"
    if near in _EXAMPLES:
        return f"did you mean {_completed(near, test, is_right)}?"
    return f"did you mean {every[near] or f'state {near}'}?"


def _option(entry: Entry) -> str:
    return f"-{entry.letters}" if entry.letters else f"--{entry.name}"


def _is_port(word: str) -> bool:
    return word[:1] == ":" and word[1:].isascii() and word[1:].isalnum()


def _is_address(word: str) -> bool:
    """Whether it is written with the signs of an address, and begins as one."""
    signs = set(word.lower())
    return (signs <= set("0123456789./:") and "." in signs) or (signs <= set("0123456789abcdef./:[]") and ":" in signs)


def _is_name(word: str) -> bool:
    """Whether a program may be called so."""
    return word.isascii() and word.replace("-", "").replace("_", "").isalnum()
