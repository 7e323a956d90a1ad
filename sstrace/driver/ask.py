"""The client's side of a question to a serving sstrace: its command line goes there, its streams are fed from there.

Small, because every ``--from live`` pays for what it imports.
"""

import os
import threading

import msgspec

from sstrace.errors import DecodeError, SstraceError
from sstrace.query.command import Command
from sstrace.sources import service

__all__ = ["Answer", "Request", "snapshot"]


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


class Answer(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The end of the answer: one line of JSON."""

    code: int
    """The exit code."""


def snapshot(command: Command, width: int | None) -> int:
    """Have a serving sstrace answer this command line; the exit code."""
    source = command.own.source
    path = source.path if source is not None and source.path is not None else service.DEFAULT_PATH
    request = Request(
        argv=list(command.words),
        width=width,
        ss=".".join(map(str, command.dialect.version)),
        filter=command.filter_file().decode("latin-1") if command.filter_file is not None else None,
    )
    pumps = [_Pump(1), _Pump(2)]
    try:
        line = service.ask(path, msgspec.json.encode(request) + b"\n", [pump.write_end for pump in pumps])
    finally:
        for pump in pumps:
            pump.finish()
    if pumps[0].broken:
        raise BrokenPipeError
    try:
        return msgspec.json.decode(line, type=Answer).code
    except msgspec.MsgspecError:
        if line:
            raise DecodeError(f"{path} answered what no sstrace answers: {line[:60]!r}") from None
        raise SstraceError(f"the sstrace that serves at {path} broke off its answer") from None


class _Pump:
    """A pipe to the server whose other end flows into one of our streams."""

    def __init__(self, stream: int) -> None:
        self._stream = stream
        self._read_end, self.write_end = os.pipe()
        self.broken = False
        self._thread = threading.Thread(target=self._flow, daemon=True)
        self._thread.start()

    def _flow(self) -> None:
        try:
            while data := os.read(self._read_end, 1 << 18):
                view = memoryview(data)
                while view:
                    view = view[os.write(self._stream, view) :]
        except BrokenPipeError:
            self.broken = True
        finally:
            os.close(self._read_end)

    def finish(self) -> None:
        """Close our copy of the write end and wait until all has flowed."""
        os.close(self.write_end)
        self._thread.join()
