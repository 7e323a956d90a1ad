"""argv → Command → dispatch; every outcome → bytes on the two streams and an exit code.

In snapshot mode the words on standard error are ss's own, beginning with ``ss:`` where ss's do, so that whoever put
``sstrace --snapshot`` behind the name ss reads what they always read. getopt's sentences begin with ``ss:`` too;
under a link named ``ss`` they begin with that name as typed, as ss's do, and --snapshot need not be said. In every
other mode, and for mistakes that ss cannot know, sentences begin with ``sstrace:``.

Arguments travel as latin-1 text, one character a byte: ss compares and prints bytes.

Start-up is a feature: modules are imported where they are needed, because a question to a live table needs hardly any.
"""

import _signal as signal  # type: ignore[import-not-found] # signal takes a millisecond to make enums of it
import errno
import gc
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from sstrace.errors import LookupFailed, SstraceError, UsageError
from sstrace.sources.standard import our_line, refusal, tell, write_all

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

    from sstrace.dialect import Dialect
    from sstrace.query.command import Early, Mode

__all__ = ["SystemEffects", "installed_dialect", "main", "program"]


def program() -> int:
    """Run this process's command line: ``main``, and what only a process of its own may do to start and end sooner."""
    gc.disable()  # what is imported stays: nothing to collect until there is something to do
    try:
        snapshot = _starts_snapshot(sys.argv)
        if snapshot and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it as it ends ss
        code = main()
    except KeyboardInterrupt:  # before a mode could see to it
        return 0
    if snapshot:
        # All is written and closed. Taking the interpreter down in good order costs as much as a short table does.
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, AttributeError):  # full; closed, then there is none
                stream.flush()
        os._exit(code)
    return code


def _starts_snapshot(words: Sequence[str]) -> bool:
    """As query.options.mode_of has it; a question to a live table does not need that module."""
    return "--snapshot" in words[1:] or words[0].rpartition("/")[2] == "ss"


def _import_msgspec(words: Sequence[str]) -> None:
    """Import msgspec without typing_extensions, from which, where it is installed, it takes three names that typing has
    too; and, for a snapshot, with submodules that are executed when somebody asks for what is in them, which hardly any
    does. Each is a tenth of the time that a short table takes.
    """
    if "msgspec" in sys.modules:
        return
    refused = "typing_extensions" not in sys.modules
    if refused:
        sys.modules["typing_extensions"] = None  # type: ignore[assignment] # the documented way to have it refused
    if _starts_snapshot(words):
        sys.meta_path.insert(0, _Later)
    with suppress(ImportError):  # then whoever needs it meets the reason
        import msgspec  # noqa: F401
    if refused:
        del sys.modules["typing_extensions"]
    if _Later in sys.meta_path:
        sys.meta_path.remove(_Later)


class _Later:
    """Finds the modules that are executed later. Only where nothing stands in the way of reading files then: not in a
    server, which gives up the right to.
    """

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: object = None) -> "ModuleSpec | None":
        """As importlib.abc.MetaPathFinder."""
        if name.removeprefix("msgspec.") not in ("inspect", "json", "msgpack", "toml", "yaml"):
            return None
        from importlib.machinery import PathFinder
        from importlib.util import LazyLoader

        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (without the program's name; default: this process's own); give the exit code."""
    _open_standard()
    typed = sys.argv if argv is None else ["sstrace", *argv]
    words = [os.fsencode(word).decode("latin-1") for word in typed]
    try:
        return _main(words)
    except Exception as error:
        _write(2, _unforeseen(error, words))
        return _SOFTWARE


_SOFTWARE = 70
"""As sources.bugs has it, which may be what is missing."""


def _unforeseen(error: Exception, words: Sequence[str]) -> str:
    """Give what goes to standard error for what nobody foresaw, and leave a report behind."""
    sentence = "out of memory" if isinstance(error, MemoryError) else type(error).__name__
    with suppress(Exception):  # no memory, no module, no place to write: then less is said
        from sstrace.sources import bugs

        sentence = bugs.sentence(error)
        report = bugs.text(error, words)
        if "--debug" in words[1:]:
            return f"{report}sstrace: {sentence}\n"
        return f"sstrace: {sentence}; {bugs.keep(report)} says more, for whom you report it to\n"
    return f"sstrace: {sentence}; --debug shows where\n"


def _main(words: Sequence[str]) -> int:
    release: Dialect | None = None
    try:
        if any(word.startswith("--from") for word in words):
            from sstrace.server import forward

            code = forward.snapshot(words, os.environ)
            if code is not None:
                return code
        _import_msgspec(words)
        from sstrace.query.command import Early
        from sstrace.query.options import parse

        mode = _mode(words)
        release = installed_dialect(words, os.environ)
        effects = SystemEffects(mode)
        command = parse(words, release=release, effects=effects, posix="POSIXLY_CORRECT" in os.environ)
        if isinstance(command, Early):
            return _early(command, mode)
        from sstrace.dispatch import run

        gc.enable()
        return run(command, os.environ)
    except SstraceError as error:
        _write(2, _report(error, _mode(words), release))
        return error.exit_code
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:
        # The reader has gone. What is buffered must not be tried again at exit, with a complaint.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141 if _is_snapshot(_mode(words)) else 0
    except OSError as error:
        # A full disk, a limit of the process: the system's refusal where nobody had a better sentence for it.
        what = error.filename if error.filename is not None else "cannot write" if error.errno in _FULL else ""
        reason = os.strerror(error.errno) if error.errno else str(error)
        _write(2, our_line(f"{what}{': ' if what else ''}{reason}"))
        return 1


_FULL = (errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC)


def _open_standard() -> None:
    """Occupy the standard streams that were closed, so that no socket or map takes their numbers and gets the output.

    Opened the wrong way round: whoever uses one gets the error that a closed stream gives.
    """
    for fd, how in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_RDONLY)):
        try:
            os.fstat(fd)
        except OSError:
            with suppress(OSError):  # without /dev there is nothing to put there
                os.open(os.devnull, how)


def _mode(words: Sequence[str]) -> "Mode":
    from sstrace.query.options import mode_of

    return mode_of(words)


def _is_snapshot(mode: "Mode") -> bool:
    return mode.value == "snapshot"


def installed_dialect(words: Sequence[str], env: Mapping[str, str]) -> "Dialect":
    """Give the release to be identical to: --ss-version, else that of the ss on PATH, else the newest known."""
    from sstrace.dialect import dialect, parse_version
    from sstrace.query.options import version_of

    version = version_of(words)
    if version is not None:
        return dialect(version)
    from sstrace.sources.installed import ss_release

    release = ss_release(env.get("PATH"))
    if release is None:
        return dialect()
    try:
        return dialect(parse_version(release), release)
    except UsageError:
        return dialect()


class SystemEffects:
    """What options do to the system where they stand: see ``query.options.Effects``."""

    def __init__(self, mode: "Mode") -> None:
        self._mode = mode

    def enter_netns(self, name: str) -> None:
        """-N."""
        from sstrace.sources.netns import enter_netns

        enter_netns(_native(name), mounts=_is_snapshot(self._mode))

    def require_selinux(self) -> None:
        """-Z, -z."""
        from sstrace.sources.selinux import selinux_enabled

        if not selinux_enabled():
            raise LookupFailed("ss: SELinux is not enabled.")

    def open_filter(self, path: str) -> Callable[[], bytes]:
        """-F: the file is opened here and read when the filter is parsed, as ss does."""
        if path[:1] == "-":
            return lambda: _read(0, path)
        try:
            fd = os.open(path.encode("latin-1"), os.O_RDONLY | os.O_CLOEXEC)
        except (OSError, ValueError) as error:
            # ValueError: a NUL in the name, which no file has.
            number = error.errno if isinstance(error, OSError) else None
            raise UsageError(f"fopen filter file: {os.strerror(number or errno.ENOENT)}") from None
        return lambda: _read(fd, path)


_LONGEST = 1 << 20
"""Bytes of a filter: more of them than anybody types, and no more than memory has."""


def _read(fd: int, path: str) -> bytes:
    parts = []
    size = 0
    try:
        while part := os.read(fd, 1 << 16):
            parts.append(part)
            size += len(part)
            if size > _LONGEST:
                raise UsageError(f"sstrace: {path}: a filter has no more than {_LONGEST} bytes")
    except OSError:
        # A directory opens but does not read; ss takes it for an empty file.
        pass
    return b"".join(parts)


def _native(text: str) -> str:
    return os.fsdecode(text.encode("latin-1"))


def _early(early: "Early", mode: "Mode") -> int:
    try:
        _write(1, early.stdout)
    except OSError as error:
        # ss does not look whether its output got anywhere.
        if not _is_snapshot(mode) or isinstance(error, BrokenPipeError):
            raise
    _write(2, early.stderr)
    return early.code


def _report(error: SstraceError, mode: "Mode", release: "Dialect | None") -> str:
    """Give what goes to standard error for an error."""
    from sstrace.dialect import dialect
    from sstrace.query.usage import ss_usage

    usage = isinstance(error, UsageError) and error.usage
    snapshot = _is_snapshot(mode)
    said = refusal(error, snapshot=snapshot)
    if usage:
        said += ss_usage(release or dialect()) if snapshot else 'Try "sstrace --help".\n'
    return said + (our_line(error.hint) if error.hint else "")


def _write(fd: int, text: str) -> None:
    """Write text whole: bytes where every character is one, else UTF-8."""
    try:
        data = text.encode("latin-1")
    except UnicodeEncodeError:
        data = text.encode("utf-8", "surrogateescape")
    if fd == 2:
        tell(data)
    else:
        write_all(fd, data)
