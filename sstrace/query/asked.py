"""The filter of a command line, and what is said of one that cannot be read.

In --snapshot the sentence is ss's own; where somebody may have meant a word of sstrace's, that is told behind it.
"""

from collections.abc import Callable, Sequence

import msgspec

from sstrace.errors import LookupFailed, SstraceError, UsageError
from sstrace.model import Names
from sstrace.query import states
from sstrace.query.command import Command, Mode, Selection
from sstrace.query.expression import Amount, Named, tests_of
from sstrace.query.filter import parse_filter
from sstrace.query.operands import Scope
from sstrace.query.words import WORDS, words_of

__all__ = ["with_filter"]

_Stray = Callable[[str, Sequence[str]], UsageError]
"""See parse_filter."""


_NO_TEST = UsageError("sstrace: no test begins so")


def with_filter(command: Command, names: Names) -> Command:
    """See ``options.resolve``."""
    selection = command.selection
    file = command.filter_file() if command.filter_file is not None else None

    def parsed(operands: Sequence[str], file: bytes | None, stray: _Stray | None) -> Selection:
        scope = Scope(selection.tables, selection.families, selection.preferred)
        expression = parse_filter(
            operands,
            file,
            names,
            scope,
            command.dialect,
            rpc=command.show.resolve and not command.show.numeric,
            words=words_of(
                command.act, namespaces=bool(command.own.netns) or command.act.source in ("file", "between")
            ),
            stray=stray,
        )
        return msgspec.structs.replace(selection, filter=expression, families=scope.families, preferred=scope.preferred)

    def is_right(words: Sequence[str]) -> bool:
        try:
            if words[0] in ("state", "exclude"):
                states.read_states(words[1], command.dialect)
            else:
                parsed(words, None, lambda *_: _NO_TEST)
        except (IndexError, SstraceError):
            return False
        return True

    def stray(word: str, following: Sequence[str]) -> UsageError:
        from sstrace.query import meant  # only for mistakes

        joined = meant.joined(word, command.words)
        if joined is not None:
            return joined
        return meant.stray(word, following, command.act, states.keywords(command.dialect), is_right)

    snapshot = command.mode is Mode.SNAPSHOT
    try:
        resolved = parsed(command.operands, file, None if snapshot else stray)
    except (LookupFailed, UsageError) as error:
        if snapshot and error.strange is not None:
            from sstrace.query import meant  # only for mistakes

            error.hint = meant.ours(*error.strange, command.act, is_right)
        raise
    for test in tests_of(resolved.filter):
        if isinstance(test, Amount | Named):
            known = WORDS[test.word].tables_of(command.act)
            if not known & selection.tables:
                from sstrace.query.spoken import named  # only for mistakes

                raise UsageError(
                    f"sstrace: {test.word} is known of {named(known)} sockets, not of {named(selection.tables)} ones"
                )
    return msgspec.structs.replace(command, selection=resolved)
