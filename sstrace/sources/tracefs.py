"""tracefs: where it is, and what stands in it. Where nobody has mounted it, it is opened without being mounted, so the
machine is left as it was found.
"""

from functools import cache
from pathlib import Path

from sstrace.errors import FeatureError, reason
from sstrace.sources.mounts import detached

__all__ = ["directory", "event_format", "mount_point"]

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
    """The descriptor of a mount of our own, for as long as the process lives. Raises OSError."""
    return detached("tracefs")
