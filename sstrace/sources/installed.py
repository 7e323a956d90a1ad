"""Which ss is installed: the release that ``--snapshot`` imitates unless told otherwise.

Starting ``ss -V`` would cost a process for each run. The release stands in the binary as a string of its own
(iproute2's ``version[]``, include/version.h), so the file is read instead: 200 KB, a millisecond. A file that does not
look like ss (a wrapper script, or sstrace itself under that name) is passed over, and nothing is ever executed.
"""

import os
import re

__all__ = ["release_in", "ss_release"]

_MARK = b"ss utility, iproute2-"
# 6.1.0, 6.15.0, 5.10.0+vendor, v7.0.0 (7.0 says it so), or ss200127 (the dated ones of before 2020); never 802.1Q or
# 0.0.0.0.
_RELEASE = re.compile(rb"(v?(?:[3-9]|[1-9]\d)\.\d{1,2}(?:\.\d{1,3})?(?:[-+~_]\w+)?|ss\d{6})\s*\0")
_BEFORE_DOT = len(b"\0v10")
_MOST = 16 << 20  # a file beyond this is not ss


def release_in(binary: bytes) -> str | None:
    """The release that an ss binary would print, e.g. ``6.1.0``; ``None`` when this is no ss binary.

    The version stands after the banner's format or inside the banner itself, by the compiler's choice.
    """
    at = binary.find(_MARK)
    if at < 0:
        return None
    found = _RELEASE.match(binary, at + len(_MARK)) or _first_alone(binary)
    return found[1].decode("ascii") if found else None


def _first_alone(binary: bytes) -> re.Match[bytes] | None:
    """The first release behind a NUL, ten times as fast as ``search``: a binary is full of NULs, but dots are rare."""
    dated = None
    at = -1
    while dated is None and (at := binary.find(b"\0ss", at + 1)) >= 0:
        dated = _RELEASE.match(binary, at + 1)
    at = -1
    while (at := binary.find(b".", at + 1)) >= 0:
        start = binary.rfind(b"\0", max(at - _BEFORE_DOT, 0), at)
        numbered = _RELEASE.match(binary, start + 1) if start >= 0 else None
        if numbered is not None:
            return numbered if dated is None or numbered.start() < dated.start() else dated
    return dated


def ss_release(search: str | None) -> str | None:
    """The release of the first real ss in the directories of ``search`` (a PATH), or ``None``."""
    for directory in (search or os.defpath).split(os.pathsep):
        try:
            with open(os.path.join(directory or ".", "ss"), "rb") as file:  # noqa: PTH118 - no pathlib on this path
                release = release_in(file.read(_MOST))
        except OSError:
            continue
        if release is not None:
            return release
    return None
