"""A real terminal for tests: tmux, with a server of its own, and waiting for what it shows."""

import itertools
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

__all__ = ["Tmux"]

_numbers = itertools.count(1)


class Tmux:
    """One pane in which a command line ran or runs, between two looks at the terminal's modes.

    ``directory`` takes the files that the pane's shell writes: its modes before and after, the command's process id.
    """

    def __init__(
        self,
        directory: Path,
        words: Sequence[str],
        *,
        columns: int = 80,
        lines: int = 24,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self._server = f"sstrace-test-{os.getpid()}-{next(_numbers)}"
        exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in (env or {}).items())
        script = directory / "pane.sh"
        script.write_text(
            f"{exports}cd {shlex.quote(str(Path.cwd()))}\n"
            # A key that ends the command must not end this shell.
            f"trap : INT QUIT HUP\necho the screen before\nstty -g >{directory}/before\n"
            f"""sh -c 'echo $$ >{directory}/pid; exec "$@"' - {shlex.join(words)}\n"""
            f"code=$?\nstty -g >{directory}/after\necho exit=$code\nread line\n"
        )
        self("-f", "/dev/null", "-u", "new-session", "-d", "-x", str(columns), "-y", str(lines), f"sh {script}")

    def __call__(self, *words: str) -> str:
        """Run a tmux command."""
        done = subprocess.run(
            ["tmux", "-L", self._server, *words], capture_output=True, text=True, timeout=30, check=False
        )
        return done.stdout

    def screen(self, *, attributes: bool = False) -> list[str]:
        """What the pane shows, blanks at line ends away."""
        return self("capture-pane", "-p", *(["-e"] if attributes else [])).split("\n")

    def type(self, *keys: str) -> None:
        """Press keys, by tmux's names of them."""
        self("send-keys", *keys)

    def text(self, text: str) -> None:
        """Type text as it is."""
        self("send-keys", "-l", text)

    def until(self, fact: Callable[[list[str]], object], seconds: float = 30) -> list[str]:
        """Look until the screen says so; what it shows then. It may be caught half drawn, one line new and the next one
        old, or the end of a line missing: ``fact`` says all that has to be so at once, and where what it looks for is
        not there (LookupError, StopIteration, ValueError), or it asserts what is not so, that is not yet.
        """
        end = time.monotonic() + seconds
        while True:
            lines, why = self.screen(), None
            try:
                if fact(lines):
                    return lines
            except (LookupError, StopIteration, ValueError, AssertionError) as error:
                why = error
            if time.monotonic() > end:
                raise AssertionError("the terminal never showed it; it shows:\n" + "\n".join(lines)) from why

    def until_text(self, text: str, seconds: float = 30) -> list[str]:
        """Look until this stands anywhere."""
        return self.until(lambda lines: any(text in line for line in lines), seconds)

    def resize(self, columns: int, lines: int) -> None:
        """Make the terminal another size."""
        self("resize-window", "-x", str(columns), "-y", str(lines))

    def pid(self) -> int:
        """The command's process id."""
        return int((self.directory / "pid").read_text())

    def ended(self) -> int:
        """Wait for the command's end; its exit code."""
        lines = self.until_text("exit=")
        return int(next(line for line in lines if line.startswith("exit=")).removeprefix("exit="))

    def restored(self) -> bool:
        """Whether the terminal is as it was: modes, ordinary screen, visible cursor, wrapping."""
        flags = self("display-message", "-p", "#{alternate_on} #{cursor_flag} #{wrap_flag}").strip()
        before, after = ((self.directory / name).read_text() for name in ("before", "after"))
        return before == after and flags == "0 1 1" and self.screen()[0] == "the screen before"

    def close(self) -> None:
        """End the server and all that runs in it; tmux itself leaves its socket behind."""
        path = self("display-message", "-p", "#{socket_path}").strip()
        self("kill-server")
        if path:
            Path(path).unlink(missing_ok=True)
