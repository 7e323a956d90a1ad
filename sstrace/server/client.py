"""A question to a serving sstrace, from a command line that has been read: what server.forward does not take."""

import os
from collections.abc import Mapping

import msgspec

from sstrace.query.command import Act, Command
from sstrace.sources import asking
from sstrace.sources.standard import give, screen_width

__all__ = ["Request", "run"]


class Request(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The question: one line of JSON."""

    argv: list[str]
    """Words after the program's name, one character a byte."""
    width: int | None = None
    """The screen that the answer is laid out for; absent: none."""
    ss: str | None = None
    """The ss to be identical to, where argv does not say."""
    filter: str | None = None
    """Content of the file that -F names: the server opens no file for a client."""
    follow: bool = False
    """Instead of an answer: the table, and from then on every change, see server.followers."""


def run(command: Command, env: Mapping[str, str]) -> int:
    """Have a serving sstrace answer this command line; the exit code."""
    selection = command.selection
    if command.act is Act.LIVE and (selection.kill or (selection.summary and not selection.listing)):
        from sstrace.modes import snapshot

        return snapshot.run(command, env)  # -s reads counters, not sockets; -K is the kernel's, by the caller's right
    width = screen_width(env, columns_env=command.dialect.columns_env) if command.act is Act.LIVE else None
    source = command.own.source
    path = source.path if source is not None and source.path is not None else asking.DEFAULT_PATH
    request = Request(
        argv=list(command.words),
        width=width,
        ss=".".join(map(str, command.dialect.version)),
        filter=command.filter_file().decode("latin-1") if command.filter_file is not None else None,
    )
    line = msgspec.json.encode(request) + b"\n"
    return asking.feed(path, line) if command.own.html is None else _with_page(command, path, line)


def _with_page(command: Command, path: str, line: bytes) -> int:
    """The same where a page is wanted, too: what is printed comes first, then, behind a NUL, the page."""
    from sstrace.output.page import Page

    with Page(command) as page:
        with open(os.memfd_create("answer", os.MFD_CLOEXEC), "rb", buffering=0) as answer:
            code = asking.feed(path, line, answer.fileno())
            answer.seek(0)
            text, _, data = answer.read().partition(b"\0")
        give(text)
        if data:
            page.write(data)
    return code
