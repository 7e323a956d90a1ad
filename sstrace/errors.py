"""The exception tree. Every error a user can cause or meet is one of these; anything else that escapes is our bug.

``cli`` prints ``str(error)`` as one sentence on stderr and exits with ``exit_code``. The codes are those of ss where
ss has one (255 for usage, syntax and state names; 1 for a host, device, cgroup or namespace that does not exist).
"""

from collections.abc import Sequence

__all__ = [
    "DecodeError",
    "DriftError",
    "FeatureError",
    "KernelError",
    "LookupFailed",
    "PrivilegeError",
    "SstraceError",
    "UnprovenError",
    "UsageError",
    "reason",
]


def reason(error: OSError | ValueError | RuntimeError) -> str:
    """Why a system call was refused, in the system's words; in Python's where it refused by itself: a path too long for
    a socket, a name with a NUL in it.
    """
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


class SstraceError(Exception):
    """The root; never raised itself. ``exit_code`` is the process's exit status."""

    exit_code = 1
    advice = ""
    """What else there is to know or to do, where the sentence itself is ss's; not printed by a snapshot."""
    strange: tuple[str, Sequence[str]] | None = None
    """The first word of a filter that begins no test, and what follows it, where ss's sentence may be of something
    else."""
    hint = ""
    """What a snapshot says behind ss's sentence: which word that ss has not somebody may have meant."""
    errno = 0
    """The positive error number of the system call behind it; 0: none was told."""


class UsageError(SstraceError):
    """The caller's words are wrong. ``usage`` says whether ss would print its usage text after the sentence."""

    exit_code = 255

    def __init__(self, message: str, *, usage: bool = False) -> None:
        super().__init__(message)
        self.usage = usage


class LookupFailed(SstraceError):  # noqa: N818 - what happened, in words
    """A host, device, mark, cgroup or network namespace named by the caller does not exist."""

    exit_code = 1


class DriftError(SstraceError):
    """``--verify`` found the live table and the kernel in disagreement."""

    exit_code = 2


class UnprovenError(SstraceError):
    """``--verify`` compared nothing, so that it has found neither agreement nor drift."""

    exit_code = 6


class PrivilegeError(SstraceError):
    """Something needs root or a capability that this process has not got; the sentence names it."""

    exit_code = 3


class FeatureError(SstraceError):
    """The kernel, or a package, lacks something that was asked for; the sentence names it and what brings it."""

    exit_code = 4


class KernelError(SstraceError):
    """The kernel refused a system call or a netlink request; ``errno`` is its positive error number."""

    exit_code = 1

    def __init__(self, message: str, errno: int) -> None:
        super().__init__(message)
        self.errno = errno


class DecodeError(SstraceError):
    """Bytes from the kernel, a file or a peer that do not say what their format promises."""

    exit_code = 5
