"""GNU getopt_long over a list: what glibc 2.36 does with ss's option table, message for message.

Enters: arguments and the options that exist. Leaves: the options in the order in which they act, then the
operands. Options and operands may be mixed (unless POSIXLY_CORRECT), ``--`` ends the options, a long name may be
shortened as far as one option is meant, an exact name wins over longer ones. sstrace's own options join in with
``whole=True``: they can only be spelled in full, so that no abbreviation that ss accepts becomes ambiguous.
"""

from collections.abc import Iterator, Sequence

import msgspec

__all__ = ["BadOption", "Option", "getopt"]


class Option(msgspec.Struct, frozen=True):
    """One long option, and the key that the caller switches on."""

    name: str
    key: str
    """The short letter where there is one, so that ``-t`` and ``--tcp`` yield the same."""
    arguments: int = 0
    """How many: 0, 1, or 2 (only sstrace's own; both are separate words, or the first stands after ``=``)."""
    optional: bool = False
    """Takes an argument after ``=``, or none."""
    whole: bool = False
    """Cannot be abbreviated."""


class BadOption(Exception):  # noqa: N818 - a signal to the caller, who makes the user's error of it
    """getopt's own sentence, without the program name that it starts with."""

    def __init__(self, sentence: str, word: str = "") -> None:
        super().__init__(sentence)
        self.word = word
        """The argument that names no option; empty for other mistakes."""


def getopt(
    arguments: Sequence[str], short: str, long: Sequence[Option], operands: list[str], *, posix: bool = False
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield (key, arguments) for each option; fill ``operands`` with the rest, complete when the iterator ends.

    ``short`` is getopt's string of letters, ``:`` after one that takes an argument. ``posix`` stops at the first
    operand, which is what POSIXLY_CORRECT asks for. Raises BadOption at the first mistake, as late as getopt
    would notice it.
    """
    index = 0
    end = len(arguments)
    while index < end:
        word = arguments[index]
        index += 1
        if word[:1] != "-" or word == "-":
            operands.append(word)
            if posix:
                break
        elif word == "--":
            break
        elif word[1] == "-":
            option, value = _long(word[2:], long)
            values = [] if value is None else [value]
            while len(values) < option.arguments:
                if index == end:
                    raise BadOption(f"option '--{option.name}' requires an argument")
                values.append(arguments[index])
                index += 1
            yield option.key, tuple(values)
        else:
            at = 1
            while at < len(word):
                letter = word[at]
                at += 1
                where = short.find(letter)
                if where < 0 or letter in ":;":
                    raise BadOption(f"invalid option -- '{letter}'", word)
                if short[where + 1 : where + 2] != ":":
                    yield letter, ()
                    continue
                if at < len(word):
                    value = word[at:]
                elif index < end:
                    value = arguments[index]
                    index += 1
                else:
                    raise BadOption(f"option requires an argument -- '{letter}'")
                yield letter, (value,)
                break
    operands.extend(arguments[index:])


def _long(text: str, options: Sequence[Option]) -> tuple[Option, str | None]:
    name, equals, value = text.partition("=")
    found = next((option for option in options if option.name == name), None)
    if found is None:
        candidates = [option for option in options if not option.whole and option.name.startswith(name)]
        if not candidates:
            raise BadOption(f"unrecognized option '--{text}'", text)
        found = candidates[0]
        # Two names of one option (--query, --socket) are no ambiguity; glibc compares with the first candidate only.
        ambiguous = [o for o in candidates if o is found or (o.key, o.arguments) != (found.key, found.arguments)]
        if len(ambiguous) > 1:
            possibilities = "".join(f" '--{option.name}'" for option in ambiguous)
            raise BadOption(f"option '--{text}' is ambiguous; possibilities:{possibilities}")
    if not equals:
        return found, None
    if not found.arguments and not found.optional:
        raise BadOption(f"option '--{found.name}' doesn't allow an argument")
    return found, value
