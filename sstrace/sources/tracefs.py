"""tracefs: where it is, and what stands in it. Where nobody has mounted it, it is opened without being mounted, so the
machine is left as it was found.
"""

import ctypes
import os
from functools import cache
from pathlib import Path

from sstrace.errors import FeatureError, reason

__all__ = ["directory", "event_format", "mount_point"]

_PLACES = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")

# fsopen(2), fsconfig(2), fsmount(2), Linux 5.2: the same numbers on every architecture that we know; glibc has had them
# since 2.36.
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_CLOEXEC = 1
_CMD_CREATE = 6
"""FSCONFIG_CMD_CREATE, include/uapi/linux/mount.h."""

_libc = ctypes.CDLL(None, use_errno=True)


def mount_point() -> Path | None:
    """Where tracefs is mounted; None when nowhere."""
    for place in _PLACES:
        try:
            if Path(place, "events").is_dir():
                return Path(place)
        except OSError:
            continue
    return None


def directory() -> Path:
    """Its root: where it is mounted, else by a descriptor of this process. Raises FeatureError with the remedy."""
    place = mount_point()
    if place is not None:
        return place
    try:
        return Path(f"/proc/self/fd/{_detached()}")
    except OSError as error:
        raise FeatureError(
            f"tracefs is not mounted ({reason(error)}): mount -t tracefs tracefs /sys/kernel/tracing"
        ) from None


def event_format(event: str) -> str:
    """The ``format`` file of a tracepoint, ``sock/inet_sock_set_state``. Raises FeatureError."""
    try:
        return (directory() / "events" / event / "format").read_text()
    except OSError as error:
        raise FeatureError(f"this kernel has no tracepoint {event.replace('/', ':')}: {reason(error)}") from None


@cache
def _detached() -> int:
    """The descriptor of a mount that stands in no tree, for as long as the process lives. Raises OSError."""
    context = _call(_FSOPEN, b"tracefs", _CLOEXEC)
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
