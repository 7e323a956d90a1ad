"""What is mounted: whether that has changed; and filesystems of the kernel's own, opened without being mounted
anywhere, so that the machine is left as it was found.

fsopen(2), fsconfig(2), fsmount(2), Linux 5.2: the same numbers on every architecture that we know; glibc has had them
since 2.36.
"""

import ctypes
import os
import select

__all__ = ["MountNews", "detached"]

_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_CLOEXEC = 1
_CMD_CREATE = 6
"""FSCONFIG_CMD_CREATE, include/uapi/linux/mount.h."""

_libc = ctypes.CDLL(None, use_errno=True)


def detached(filesystem: str) -> int:
    """A descriptor of the root of a mount that stands in no tree, and lives as long as the descriptor. Raises
    OSError.
    """
    context = _call(_FSOPEN, filesystem.encode(), _CLOEXEC)
    try:
        _call(_FSCONFIG, context, _CMD_CREATE, None, None, 0)
        return _call(_FSMOUNT, context, _CLOEXEC, 0)
    finally:
        os.close(context)


def _call(*arguments: int | bytes | None) -> int:
    # Variadic: an int must be passed as a long by hand.
    words = (ctypes.c_long(word) if isinstance(word, int) else word for word in arguments)
    result = int(_libc.syscall(*words))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


class MountNews:
    """Tells when something has been mounted, or is no longer, in the mount namespace of this process (proc(5),
    /proc/PID/mountinfo). Close it to let go.
    """

    def __init__(self) -> None:
        self._poll = select.poll()
        try:
            self._fd: int | None = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._fd = None
        else:
            self._poll.register(self._fd, select.POLLPRI)

    def any(self) -> bool:
        """Whether there is any since this was last asked."""
        return bool(self._poll.poll(0))

    def close(self) -> None:
        """Let go; harmless when done twice."""
        if self._fd is not None:
            self._poll.unregister(self._fd)
            os.close(self._fd)
            self._fd = None
