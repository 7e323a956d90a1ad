"""The line in which a filter is typed, and the command that comes of it."""

import shlex

import msgspec

from sstrace.errors import UsageError
from sstrace.query import options
from sstrace.query.command import Command, Early
from sstrace.render.watch import Prompt
from sstrace.sources.names import SystemNames

__all__ = ["edited", "filter_text", "with_filter"]


def edited(prompt: Prompt, key: str) -> Prompt:
    """The line after a key that neither ends nor leaves it; keys that mean nothing change nothing."""
    text, cursor = prompt.text, prompt.cursor
    if key in ("left", "ctrl-b"):
        cursor = max(0, cursor - 1)
    elif key in ("right", "ctrl-f"):
        cursor = min(len(text), cursor + 1)
    elif key in ("home", "ctrl-a"):
        cursor = 0
    elif key in ("end", "ctrl-e"):
        cursor = len(text)
    elif key == "backspace":
        if cursor:
            text, cursor = text[: cursor - 1] + text[cursor:], cursor - 1
    elif key in ("delete", "ctrl-d"):
        text = text[:cursor] + text[cursor + 1 :]
    elif key == "ctrl-u":
        text, cursor = text[cursor:], 0
    elif key == "ctrl-k":
        text = text[:cursor]
    elif key == "ctrl-w":
        left = text[:cursor].rstrip(" ")
        left = left[: left.rfind(" ") + 1]
        text, cursor = left + text[cursor:], len(left)
    elif len(key) == 1:
        text, cursor = text[:cursor] + key + text[cursor:], cursor + 1
    return Prompt(prompt.label, text, cursor)


def filter_text(command: Command) -> str:
    """The words of a command's filter as one would type them; quoted only where it matters."""
    words = [word.encode("latin-1", "replace").decode("utf-8", "replace") for word in command.operands]
    text = " ".join(words)
    return shlex.join(words) if any(char in text for char in "'\"\\") else text


def with_filter(command: Command, text: str, names: SystemNames) -> Command:
    """The command with another filter, whose ``state`` words, if there are any, replace the states asked for. Raises
    SstraceError, and ValueError for quotes that are not closed.
    """
    words = [word.encode(errors="replace").decode("latin-1") for word in shlex.split(text)]
    parsed = options.parse(["sstrace", "--watch", "-t", "--", *words], release=command.dialect)
    if isinstance(parsed, Early):
        raise UsageError(parsed.stderr or parsed.stdout)
    states = command.selection.states
    if words and words[0] in ("state", "exclude", "excl"):
        states = parsed.selection.states
    selection = msgspec.structs.replace(command.selection, states=states, filter=None)
    return options.resolve(
        msgspec.structs.replace(command, operands=parsed.operands, filter_file=None, selection=selection), names
    )
