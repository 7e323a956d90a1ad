"""Where namespaces are mounted, by /proc/PID/mountinfo (proc(5)): ``ID PARENT MAJOR:MINOR ROOT MOUNT-POINT …``. Of nsfs
the root is ``net:[INODE]``, since Linux 3.19.
"""

import re

__all__ = ["netns_mounts"]

_NET = re.compile(rb"net:\[([0-9]+)\]")


def netns_mounts(text: bytes) -> list[tuple[int, str]]:
    """Inode and mount point of each network namespace that is mounted, in the order of the file."""
    found = []
    for line in text.splitlines():
        words = line.split(b" ", 5)
        match = _NET.fullmatch(words[3]) if len(words) == 6 else None
        if match:
            path = _unescaped(words[4]).decode("utf-8", "surrogateescape")
            found.append((int(match[1]), path))
    return found


def _unescaped(path: bytes) -> bytes:
    # Blanks, tabs, newlines and backslashes stand as octal numbers.
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes((int(match[1], 8) & 0xFF,)), path)
