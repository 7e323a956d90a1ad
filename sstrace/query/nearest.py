"""The word that another was meant to be."""

from collections.abc import Iterable

__all__ = ["nearest"]


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
