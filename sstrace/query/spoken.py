"""What a command line asks for, told back to whoever typed it: in words, and as another command line."""

import shlex
from typing import Final

from sstrace.causes import FIN_BY_US
from sstrace.incidents import SORTS
from sstrace.model import AF_INET, AF_INET6, ALL_STATES, State, Table
from sstrace.protocols import FAMILIES, FOLLOWED, INET, OF_TABLE, PROTOCOLS, RAW, Protocol
from sstrace.query.command import Act, Command, Mode, Selection
from sstrace.query.expression import Amount, Named, tests_of
from sstrace.query.masks import QUERY_WORDS
from sstrace.query.states import state_words
from sstrace.query.words import WORDS

__all__ = ["followed", "letters", "named", "naming", "protocols", "table_beside", "told", "unheard", "unlooked"]

_INET: Final = 1 << AF_INET
_INET6: Final = 1 << AF_INET6


def followed(command: Command) -> str:
    """Which transitions a trace prints: ``every transition of TCP that enters or leaves listening``."""
    selection = command.selection

    def some(mask: int) -> str:
        return " or ".join(state_words(mask, command.dialect))

    text = f"every transition of {protocols(selection)}"
    if selection.ended:
        what = "connection" if selection.tables == 1 << Table.TCP else "socket"
        text = f"the end of every {protocols(selection)} {what}"
    if selection.from_states != ALL_STATES:
        text += f" from {some(selection.from_states)}"
    if selection.to_states != ALL_STATES:
        text += f" to {some(selection.to_states)}"
    if selection.avoid:
        text += f" that neither enters nor leaves {some(selection.avoid)}"
    elif selection.touch != ALL_STATES:
        text += f" that enters or leaves {some(selection.touch)}"
    text += {_INET: " over IPv4", _INET6: " over IPv6"}.get(selection.families & (_INET | _INET6), "")
    return text + (f" where {shlex.join(command.operands)}" if command.operands else "")


def told(command: Command) -> str:
    """What a trace prints: that, and what else --events names: ``every drop of UDP``."""
    selection = command.selection
    words = [sort.noun for sort in SORTS if sort.word in command.own.events]
    if not words:
        return followed(command)
    *others, last = words
    incidents = f"every {', '.join(others)} and {last}" if others else f"every {last}"
    if "state" in command.own.events:
        return f"{followed(command)}, and {incidents}"
    where = f" where {shlex.join(command.operands)}" if command.operands else ""
    return f"{incidents} of {protocols(selection)}{where}"


def protocols(selection: Selection) -> str:
    """Whose sockets are followed: ``TCP``, ``UDP and TCP``."""
    return named(selection.tables & FOLLOWED)


def named(tables: int) -> str:
    """The same of a mask of tables."""
    *others, last = dict.fromkeys(_name(each) for each in _of(tables))
    return f"{', '.join(others)} and {last}" if others else last


def _of(tables: int) -> list[Protocol]:
    return [each for each in PROTOCOLS if OF_TABLE[each.table] is each and tables >> each.table & 1]


def _name(protocol: Protocol) -> str:
    """``TCP``, ``unix``."""
    if protocol.family is INET and protocol.number != RAW:
        return protocol.netid.upper()
    return protocol.netid if protocol.family is INET else protocol.family.name


def unheard(selection: Selection) -> str:
    """What following these does not tell that was asked for, a sentence; empty where it tells all."""
    left = _of((selection.tables | selection.asked) & ~(selection.tables & FOLLOWED))
    names = dict.fromkeys(each.netid if each.family is INET else each.family.name for each in left)
    if not names:
        return ""
    return f"{', '.join(names)} sockets do not tell what happens to them: look at these with --snapshot"


def unlooked(command: Command) -> str:
    """What the filter asks for and nobody knows who hears nothing and looks at the kernel instead; empty: nothing."""
    heard = ("role",) if command.mode is Mode.WATCH else _HEARD
    tests = [test for test in tests_of(command.selection.filter) if isinstance(test, Amount | Named)]
    words = dict.fromkeys(test.word for test in tests if test.word in heard and test.value != FIN_BY_US)
    return f"looks alone do not tell {' and '.join(words)}, for which the filter asks" if words else ""


_HEARD: Final = ("role", "cause", "held", "lifetime", "rtt", "sent", "received", "retransmits")


def letters(tables: int) -> str:
    """The options that name tables, a mask, as one word has them behind its dash; empty where letters do not say it."""
    found = ""
    for family in FAMILIES:
        mine = [each for each in _of(tables) if each.family is family]
        if family is INET:
            found += "".join(each.key for each in mine)
        elif mine:
            key = next((key for key in family.keys if len(key) == 1), "")
            if not key or any(each.family is family and each not in mine for each in _of(FOLLOWED)):
                return ""
            found += key
    return found


def naming(tables: int, more: str = "") -> list[str]:
    """The words that name them on a command line, and ``more`` letters."""
    found = letters(tables)
    if found:
        return [f"-{found}{more}"]
    words, left = [], tables
    for word, mask in QUERY_WORDS.items():
        if mask & left == mask:
            words.append(word)
            left &= ~mask
    return ["-A", ",".join(words), *([f"-{more}"] if more else [])]


def table_beside(command: Command) -> str:
    """The command line that shows the sockets that a trace follows, as they are now."""
    selection, show = command.selection, command.show
    listening = selection.touch == 1 << State.LISTEN
    chosen = "l" if listening else "a"
    chosen += "".join(letter for letter, wanted in (("n", show.numeric), ("p", show.processes)) if wanted)
    chosen += {_INET: "4", _INET6: "6"}.get(selection.families & (_INET | _INET6), "")
    words = naming(selection.tables & FOLLOWED, chosen)
    words += ["-N", selection.netns] if selection.netns is not None else []
    if selection.avoid:
        words += [word for name in state_words(selection.avoid, command.dialect) for word in ("exclude", name)]
    elif selection.touch != ALL_STATES and not listening:
        words += [word for name in state_words(selection.touch, command.dialect) for word in ("state", name)]
    own = [WORDS[word] for operand in command.operands for word in operand.split() if word in WORDS]
    for act in (Act.SNAPSHOT, Act.WATCH):  # the kernel knows nothing of a row's past
        if all(act in word.acts for word in own):
            return shlex.join(["sstrace", act.value, *words, *command.operands])
    return shlex.join(["sstrace", Act.SNAPSHOT.value, *words])
