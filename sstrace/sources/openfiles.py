"""How many files are open, to choose between two ways of finding out who holds them; and how many may be. Small,
because every -p asks.
"""

import os

__all__ = ["make_room", "open_files", "worth_walking"]

_WORTH_WALKING = 20_000
"""Open files on the machine from which one single look is faster by the walk (sources.owners): /proc takes 4.5 µs a
descriptor, the walk 1 µs and 60 ms to load."""


def open_files() -> int:
    """How many files are open on the machine: first number of /proc/sys/fs/file-nr (proc(5)); 0 when unreadable."""
    try:
        with open("/proc/sys/fs/file-nr", "rb") as file:
            return int(file.read().split()[0])
    except (OSError, ValueError, IndexError):
        return 0


def worth_walking() -> bool:
    """Whether one look at all owners is faster by loading the walk than by reading /proc."""
    return os.geteuid() == 0 and open_files() > _WORTH_WALKING


def make_room(needed: int) -> None:
    """Have this process be allowed so many descriptors, or as many as it can be."""
    import resource

    least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if least != resource.RLIM_INFINITY and least < needed:
        wanted = needed if most == resource.RLIM_INFINITY else min(needed, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
