"""tracefs: where it is mounted, and what stands in it. Mounts it where nobody has, for tracepoints that only it
describes.
"""

import ctypes
import os
from pathlib import Path

from sstrace.errors import FeatureError

__all__ = ["event_format", "mount_point"]

_PLACES = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")


def mount_point() -> Path | None:
    """Where tracefs is mounted; None when nowhere."""
    for place in _PLACES:
        try:
            if Path(place, "events").is_dir():
                return Path(place)
        except OSError:
            continue
    return None


def event_format(event: str) -> str:
    """The ``format`` file of a tracepoint, ``sock/inet_sock_set_state``. Raises FeatureError with the remedy."""
    place = mount_point()
    if place is None and _mount():
        place = mount_point()
    if place is None:
        raise FeatureError("tracefs is not mounted: mount -t tracefs tracefs /sys/kernel/tracing")
    try:
        return (place / "events" / event / "format").read_text()
    except OSError as error:
        raise FeatureError(f"this kernel has no tracepoint {event.replace('/', ':')}: {error.strerror}") from None


def _mount() -> bool:
    target = _PLACES[0].encode()
    if not os.path.isdir(target):  # noqa: PTH112
        return False
    return bool(ctypes.CDLL(None, use_errno=True).mount(b"tracefs", target, b"tracefs", 0, None) == 0)
