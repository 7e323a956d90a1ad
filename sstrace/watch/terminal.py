"""A terminal as a full-screen program needs it: keys in, lines out, its size, and everything put back at the end.

What is changed, and put back by ``leave`` whatever ends the program: the modes of the terminal (termios), the alternate
screen, the cursor's visibility, automatic wrapping, the mouse. Only SIGKILL cannot be helped.

A terminal may be slow, or stop taking anything (a stalled SSH connection). Output goes through a descriptor of our own
that does not block; what the terminal does not take at once is kept, and no new picture begins before it is out.
"""

import base64
import contextlib
import os
import select
import signal
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Final, Literal

from sstrace.errors import UsageError

__all__ = ["ESCAPE_S", "Terminal", "colors_of", "decode_keys"]

ESCAPE_S: Final = 0.03
"""After ESC: so long until it is the Escape key and not the beginning of an arrow."""

_ENTER = b"\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[?1000h\x1b[?1006h\x1b[2J"
"""xterm's control sequences, which every terminal emulator in use follows: the alternate screen, no cursor, no
wrapping; buttons and wheel of the mouse, in decimal numbers; clear."""
_LEAVE = b"\x18\x1b[0m\x1b[?1006l\x1b[?1000l\x1b[?7h\x1b[?25h\x1b[H\x1b[2J\x1b[?1049l"
"""The first byte (CAN) ends a sequence that was cut. Empty and with the cursor on top, because tmux (3.3) leaks lines
of an alternate screen that was resized into the ordinary one.
"""

_LEAVE_NS = 1_000_000_000
"""A terminal that takes nothing for so long gets no farewell."""

_NAMES: Mapping[bytes, str] = {
    b"\r": "enter",
    b"\n": "enter",
    b"\x7f": "backspace",
    b"\x08": "backspace",
    b"\t": "tab",
    **{bytes((number,)): f"ctrl-{chr(number + 96)}" for number in (*range(1, 8), 11, 12, *range(14, 27))},
}
_SEQUENCES: Mapping[bytes, str] = {
    b"A": "up",
    b"B": "down",
    b"C": "right",
    b"D": "left",
    b"H": "home",
    b"F": "end",
    b"1~": "home",
    b"7~": "home",
    b"4~": "end",
    b"8~": "end",
    b"3~": "delete",
    b"5~": "pageup",
    b"6~": "pagedown",
    b"1;2C": "shift-right",
    b"1;2D": "shift-left",
}
"""What follows ``ESC [`` or ``ESC O``, by terminals in use (xterm, linux, rxvt, tmux)."""


def decode_keys(data: bytes, *, final: bool) -> tuple[list[str], bytes]:
    """Keys that the bytes make, and the bytes of a key that is not whole yet.

    A key is a character (as typed) or a name (``up``, ``enter``, ``ctrl-u``, ``escape``). ``final``: nothing more came
    for a while, so a lone ESC is the Escape key. Sequences that mean nothing here are left out.
    """
    keys: list[str] = []
    at = 0
    while at < len(data):
        byte = data[at]
        if byte == 0x1B:
            length, key = _sequence(data[at:])
            if length == 0:
                if not final:
                    return keys, data[at:]
                length, key = len(data) - at, "escape" if len(data) - at == 1 else ""
            if key:
                keys.append(key)
            at += length
            continue
        size = 1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
        char = data[at : at + size]
        if len(char) < size and not final:
            return keys, data[at:]
        at += size
        name = _NAMES.get(char)
        if name is not None:
            keys.append(name)
            continue
        with contextlib.suppress(UnicodeDecodeError):
            text = char.decode()
            if text.isprintable():
                keys.append(text)
    return keys, b""


def _sequence(data: bytes) -> tuple[int, str]:
    """Length and key of the sequence that begins with ESC; length 0: it is not whole; key "": it means nothing here."""
    if len(data) == 1:
        return 0, ""
    if data[1] not in b"[O":
        return 1, "escape"  # Escape, and then the next key
    at = 2
    # Parameter and intermediate bytes, then one final byte (ECMA-48 5.4).
    while at < len(data) and 0x20 <= data[at] <= 0x3F:
        at += 1
    if at == len(data):
        return 0, ""
    if data[2:3] == b"<":
        return at + 1, _mouse(data[3:at], pressed=data[at] == ord("M"))
    return at + 1, _SEQUENCES.get(data[2 : at + 1], "")


def _mouse(numbers: bytes, *, pressed: bool) -> str:
    """``click-LINE`` of the first button, lines counted from 0, and the wheel (xterm's SGR coordinates, mode 1006)."""
    try:
        button, _column, line = map(int, numbers.split(b";"))
    except ValueError:
        return ""
    if not pressed:
        return ""
    return {0: f"click-{max(0, line - 1)}", 64: "wheelup", 65: "wheeldown"}.get(button, "")


def colors_of(
    choice: Literal["auto", "always", "never"], env: Mapping[str, str]
) -> tuple[Literal["standard", "256", "truecolor"], bool]:
    """What the terminal can show, and whether to do without: NO_COLOR (https://no-color.org) unless --color says."""
    plain = choice == "never" or (choice == "auto" and bool(env.get("NO_COLOR")))
    if env.get("COLORTERM", "").lower() in ("truecolor", "24bit"):
        return "truecolor", plain
    if "256" in env.get("TERM", ""):
        return "256", plain
    return "standard", plain


class Terminal:
    """The terminal on standard input and output. Raises UsageError when there is none that could show a full screen."""

    def __init__(self, env: Mapping[str, str]) -> None:
        if not (os.isatty(0) and os.isatty(1)):
            raise UsageError(
                "sstrace: --watch needs a terminal on standard input and output; without one use --snapshot"
            )
        if env.get("TERM", "dumb") in ("", "dumb"):
            raise UsageError(
                "sstrace: --watch needs a terminal that can move its cursor, and TERM says that this one cannot"
            )
        try:
            # Of our own, because O_NONBLOCK is shared with whoever else has the descriptor: the shell.
            self._out = os.open(os.ttyname(1), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
            self._own = True
        except OSError:
            # A terminal of somebody else (su), or of another mount namespace (a container).
            self._out, self._own = 1, False
        self.unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
        self._encoding = sys.stdout.encoding or "ascii"
        self._pending = b""
        self._typed = b""
        self._typed_s = 0.0
        """When the last byte came."""
        self._drawn: list[str] = []
        self._modes: list[int | list[bytes | int]] | None = None
        self._inside = False
        self.hung_up = False
        """SIGHUP or SIGQUIT came: an end, though the terminal may still be there to be put back."""
        self.gone = False
        """The terminal was closed: nothing can be read from it or written to it."""
        self.resized = False
        self.suspend = False
        self.resumed = False
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    # Signals become flags; a pipe wakes the loop that sleeps in poll.

    def enter(self) -> None:
        """Take the terminal. The first call also takes the signals that concern it."""
        if self._modes is None:
            try:
                self._modes = termios.tcgetattr(0)
            except termios.error as error:
                raise UsageError(f"sstrace: --watch cannot ask the terminal for its modes: {error.args[-1]}") from None
            signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
            for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT):
                signal.signal(number, self._signal)
        self._inside = True
        self._take_modes()
        self._drawn = []
        self._put(_ENTER)

    def _take_modes(self) -> None:
        assert self._modes is not None
        modes = list(self._modes)
        control = list(modes[6])  # type: ignore[arg-type]  # the seventh is the list of control characters
        control[termios.VMIN], control[termios.VTIME] = 1, 0
        iflag, lflag = modes[0], modes[3]
        assert isinstance(iflag, int)
        assert isinstance(lflag, int)
        # Ctrl-S must not stop the output, and thereby us; Ctrl-C and Ctrl-Z stay signals.
        modes[0] = iflag & ~(termios.IXON | termios.ICRNL)
        modes[3] = lflag & ~(termios.ICANON | termios.ECHO)
        modes[6] = control
        with contextlib.suppress(termios.error):
            termios.tcsetattr(0, termios.TCSANOW, modes)

    def leave(self) -> None:
        """Put everything back; harmless when done twice."""
        if not self._inside:
            return
        self._inside = False
        self._pending = _LEAVE
        deadline = time.monotonic_ns() + _LEAVE_NS
        while self._pending and not self.gone and time.monotonic_ns() < deadline:
            poll = select.poll()
            poll.register(self._out, select.POLLOUT)
            poll.poll(50)
            self.flush()
        self._pending = b""
        if self._modes is not None:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(0, termios.TCSANOW, self._modes)

    def close(self) -> None:
        """Leave, and give up the signals and descriptors."""
        self.leave()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT):
            signal.signal(number, signal.SIG_DFL)
        if self._own:
            os.close(self._out)
            self._own = False
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _signal(self, number: int, _frame: FrameType | None) -> None:
        if number in (signal.SIGHUP, signal.SIGQUIT):
            self.hung_up = True
        elif number == signal.SIGWINCH:
            self.resized = True
        elif number == signal.SIGTSTP:
            self.suspend = True
        else:
            self.resumed = True

    def pause_process(self) -> None:
        """Do what Ctrl-Z asks for: give the terminal back, stop, and take it again when continued."""
        self.suspend = False
        self.leave()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        # Here only after SIGCONT.
        signal.signal(signal.SIGTSTP, self._signal)
        self.resumed = False
        self.enter()

    # Input.

    def register(self, poll: select.poll) -> None:
        """Have a poll object wake up for keys and signals."""
        poll.register(0, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)

    def waits(self) -> tuple[int, bool]:
        """The descriptor that output goes through, and whether some is still to be taken."""
        return self._out, bool(self._pending)

    def keys(self, *, ready: bool) -> list[str]:
        """Keys typed since the last call. ``ready``: poll said that there is something to read; without that, an ESC
        that has waited for ``ESCAPE_S`` is a key.
        """
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wake_read, 256):
                pass
        data = b""
        if ready:
            try:
                data = os.read(0, 4096)
            except InterruptedError:
                pass
            except OSError:
                self.gone = True
            else:
                self.gone = self.gone or not data
        now = time.monotonic()
        if data:
            self._typed_s = now
        elif not self._typed or now - self._typed_s < ESCAPE_S:
            return []
        found, self._typed = decode_keys(self._typed + data, final=not data)
        return found

    @property
    def half(self) -> bool:
        """Whether a key has begun and is not whole: an ESC that may be the Escape key."""
        return bool(self._typed)

    def size(self) -> tuple[int, int]:
        """Columns and lines; 80 and 24 where the terminal does not know."""
        try:
            size = os.get_terminal_size(1)
        except OSError:
            return 80, 24
        return size.columns or 80, size.lines or 24

    # Output.

    @property
    def busy(self) -> bool:
        """Whether the last picture is not out yet."""
        return bool(self._pending)

    def draw(self, lines: Sequence[str], *, whole: bool = False) -> None:
        """Show these lines from the top; only those that are not there yet are sent."""
        if whole or len(lines) != len(self._drawn):
            self._drawn = [""] * len(lines)
            out = ["\x1b[0m\x1b[2J"]
        else:
            out = []
        for number, line in enumerate(lines):
            if line != self._drawn[number]:
                out.append(f"\x1b[{number + 1};1H{line}")
        self._drawn = list(lines)
        if out:
            self._put("".join(out).encode(self._encoding, "replace"))

    def copy(self, text: str) -> None:
        """Offer a text to the clipboard (OSC 52, which many terminals take, and some ask about or leave alone)."""
        self._put(b"\x1b]52;c;" + base64.b64encode(text.encode()) + b"\x07")

    def _put(self, data: bytes) -> None:
        self._pending += data
        self.flush()

    def flush(self) -> None:
        """Give the terminal what it takes now."""
        try:
            while self._pending:
                if not self._own:
                    poll = select.poll()
                    poll.register(self._out, select.POLLOUT)
                    if not poll.poll(0):
                        return
                self._pending = self._pending[os.write(self._out, self._pending[:4096]) :]
        except BlockingIOError:
            return
        except OSError:
            self.gone = True
            self._pending = b""
