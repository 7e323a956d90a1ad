"""fnmatch(3) with FNM_CASEFOLD in the C locale, over latin-1 text: how ss matches unix names.

``*`` crosses slashes, a leading dot is not special, ``\\`` takes the next character literally. A bracket that never
ends is an ordinary ``[``. Matching takes time proportional to pattern times name at worst, whatever the pattern.
"""

import functools
from collections.abc import Callable

__all__ = ["compile_glob"]

# A step of a pattern: None is "*", else a test of one character of the name.
_Step = Callable[[str], bool] | None

_CLASSES: dict[str, Callable[[str], bool]] = {
    "alpha": lambda c: c.isascii() and c.isalpha(),
    "digit": lambda c: c in "0123456789",
    "alnum": lambda c: c.isascii() and c.isalnum(),
    "upper": lambda c: "A" <= c <= "Z",
    "lower": lambda c: "a" <= c <= "z",
    "space": lambda c: c in " \t\n\v\f\r",
    "blank": lambda c: c in " \t",
    "punct": lambda c: "!" <= c <= "~" and not c.isalnum(),
    "print": lambda c: " " <= c <= "~",
    "graph": lambda c: "!" <= c <= "~",
    "cntrl": lambda c: c < " " or c == "\x7f",
    "xdigit": lambda c: c in "0123456789abcdefABCDEF",
}


def _fold(text: str) -> str:
    # tolower() in the C locale: ASCII only, where str.lower() would fold Latin-1 letters.
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in text)


@functools.lru_cache(maxsize=64)
def compile_glob(pattern: str) -> Callable[[str], bool]:
    """Give a predicate over names."""
    steps = _parse(pattern)
    if steps is None:
        return lambda _name: False
    if all(step is None for step in steps) and steps:
        return lambda _name: True
    return functools.partial(_run, steps)


def _run(steps: list[_Step], name: str) -> bool:
    at = index = 0
    star = retry = -1
    while at < len(name):
        step = steps[index] if index < len(steps) else _never
        if step is None:
            star = index
            retry = at
            index += 1
        elif step(name[at]):
            at += 1
            index += 1
        elif star >= 0:
            # Let the last star take one more; earlier stars need no second chance.
            retry += 1
            at = retry
            index = star + 1
        else:
            return False
    return all(step is None for step in steps[index:])


def _never(_character: str) -> bool:
    return False


def _literal(character: str) -> Callable[[str], bool]:
    folded = _fold(character)
    return lambda c: _fold(c) == folded


def _parse(pattern: str) -> list[_Step] | None:
    """Give the steps; None when nothing can match (a backslash at the end)."""
    steps: list[_Step] = []
    at = 0
    while at < len(pattern):
        character = pattern[at]
        at += 1
        if character == "*":
            if not steps or steps[-1] is not None:
                steps.append(None)
        elif character == "?":
            steps.append(lambda _c: True)
        elif character == "\\":
            if at == len(pattern):
                return None
            steps.append(_literal(pattern[at]))
            at += 1
        elif character == "[":
            bracket = _bracket(pattern, at)
            if bracket is None:
                steps.append(_literal("["))
            else:
                step, at = bracket
                steps.append(step)
        else:
            steps.append(_literal(character))
    return steps


def _bracket(pattern: str, at: int) -> tuple[Callable[[str], bool], int] | None:
    """Read what follows ``[``: the test and the index behind ``]``. None when the bracket does not end."""
    if pattern.find("]", at + 1) < 0:
        return None
    negated = pattern[at : at + 1] in ("!", "^")
    at += negated
    tests: list[Callable[[str], bool]] = []
    first = True
    while True:
        if at >= len(pattern):
            return None
        character = pattern[at]
        if character == "]" and not first:
            at += 1
            break
        first = False
        if character == "[" and pattern[at + 1 : at + 2] == ":":
            end = pattern.find(":]", at + 2)
            if end > 0 and pattern[at + 2 : end].isalpha():
                # A class that does not exist makes the whole bracket match nothing.
                test = _CLASSES.get(pattern[at + 2 : end])
                if test is None:
                    return _never, _behind(pattern, end + 2)
                tests.append(test)
                at = end + 2
                continue
        if character == "[" and pattern[at + 1 : at + 2] == "=" and pattern[at + 3 : at + 5] == "=]":
            # An equivalence class: of one character, in its own case, and never the start of a range.
            tests.append(pattern[at + 2].__eq__)
            at += 5
            continue
        start = at
        low, at = _member(pattern, at)
        if low is None:
            return None
        if pattern[at : at + 1] == "-" and pattern[at + 1 : at + 2] not in ("]", ""):
            high, at = _member(pattern, at + 1)
            if high is None:
                return None
            tests.append(_between(low, high))
        elif pattern.startswith("[.", start) and at > start + 1:
            tests.append(low.__eq__)  # a collating symbol is not folded either
        else:
            tests.append(_literal(low))
    return (lambda c: not any(test(c) for test in tests)) if negated else (lambda c: any(test(c) for test in tests)), at


def _behind(pattern: str, at: int) -> int:
    end = pattern.find("]", at)
    return end + 1 if end >= 0 else len(pattern)


def _member(pattern: str, at: int) -> tuple[str | None, int]:
    """Read one character of a bracket: plain or escaped (then folded), or ``[.x.]``, as it stands."""
    character = pattern[at]
    if character == "\\":
        return (_fold(pattern[at + 1]), at + 2) if at + 1 < len(pattern) else (None, at)
    if character == "[" and pattern[at + 1 : at + 2] == "." and pattern[at + 3 : at + 5] == ".]":
        return pattern[at + 2], at + 5
    return _fold(character), at + 1


def _between(low: str, high: str) -> Callable[[str], bool]:
    return lambda c: low <= _fold(c) <= high
