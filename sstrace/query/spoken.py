"""What a command line asks for, told back to whoever typed it: in words, and as another command line."""

import shlex
from typing import Final

from sstrace.model import AF_INET, AF_INET6, ALL_STATES, State, Table
from sstrace.protocols import FOLLOWED, INET, OF_TABLE, PROTOCOLS, RAW
from sstrace.query.command import Act, Command, Selection
from sstrace.query.states import state_words
from sstrace.query.words import WORDS

__all__ = ["followed", "letters", "named", "protocols", "table_beside", "told", "unheard"]

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


_INCIDENTS: Final = {
    "retransmit": "retransmission",
    "reset": "reset",
    "drop": "drop",
    "error": "error",
    "overflow": "overflow",
}
"""One of them, by the word of --events."""


def told(command: Command) -> str:
    """What a trace prints: that, and what else --events names: ``every drop of UDP``."""
    selection = command.selection
    words = [word for what, word in _INCIDENTS.items() if what in command.own.events]
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
    found = (each for each in PROTOCOLS if OF_TABLE[each.table] is each and tables >> each.table & 1)
    *others, last = (each.netid if each.number == RAW else each.netid.upper() for each in found)
    return f"{', '.join(others)} and {last}" if others else last


def unheard(tables: int) -> str:
    """What a trace of these tables, a mask, does not tell, a sentence; empty where it tells all."""
    left = [each for each in PROTOCOLS if OF_TABLE[each.table] is each and (tables & ~FOLLOWED) >> each.table & 1]
    names = dict.fromkeys(each.netid if each.family is INET else each.family.name for each in left)
    if not names:
        return ""
    return f"{', '.join(names)} sockets do not tell what happens to them: look at these with --snapshot"


def letters(tables: int) -> str:
    """The options that name them, as one word has them behind its dash."""
    return "".join(each.key for each in PROTOCOLS if OF_TABLE[each.table] is each and tables >> each.table & 1)


def table_beside(command: Command) -> str:
    """The command line that shows the sockets that a trace follows, as they are now."""
    selection, show = command.selection, command.show
    listening = selection.touch == 1 << State.LISTEN
    chosen = letters(selection.tables & FOLLOWED) + ("l" if listening else "a")
    chosen += "".join(letter for letter, wanted in (("n", show.numeric), ("p", show.processes)) if wanted)
    chosen += {_INET: "4", _INET6: "6"}.get(selection.families & (_INET | _INET6), "")
    words = [f"-{chosen}", *(["-N", selection.netns] if selection.netns is not None else [])]
    if selection.avoid:
        words += [word for name in state_words(selection.avoid, command.dialect) for word in ("exclude", name)]
    elif selection.touch != ALL_STATES and not listening:
        words += [word for name in state_words(selection.touch, command.dialect) for word in ("state", name)]
    own = [WORDS[word] for operand in command.operands for word in operand.split() if word in WORDS]
    for act in (Act.SNAPSHOT, Act.WATCH):  # the kernel knows nothing of a row's past
        if all(act in word.acts for word in own):
            return shlex.join(["sstrace", act.value, *words, *command.operands])
    return shlex.join(["sstrace", Act.SNAPSHOT.value, *words])
