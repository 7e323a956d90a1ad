"""Which ss is installed: the release that ``--snapshot`` imitates unless told otherwise.

Starting ``ss -V`` would cost a process for each run. The release stands in the binary as a string of its own
(iproute2's ``version[]``, include/version.h), so the file is read instead: 200 KB, a millisecond. A file that does not
look like ss (a wrapper script, or sstrace itself under that name) is passed over, and nothing is ever executed.
"""

import os

__all__ = ["release_in", "ss_release"]

_MARK = b"ss utility, iproute2-"
_MOST = 16 << 20  # a file beyond this is not ss


def release_in(binary: bytes) -> str | None:
    """The release that an ss binary would print, e.g. ``6.1.0``; ``None`` when this is no ss binary.

    The version stands after the banner's format or inside the banner itself, by the compiler's choice.
    """
    at = binary.find(_MARK)
    if at < 0:
        return None
    banner = binary[at + len(_MARK) : at + len(_MARK) + 40].split(b"\0", 1)[0].strip()
    for word in [banner, *binary.split(b"\0")]:
        if 3 <= len(word) <= 24 and _is_release(word):
            return word.decode("ascii")
    return None


def _is_release(word: bytes) -> bool:
    # 6.1.0, 6.15.0, 5.10.0, ss200127 (the dated ones of before 2020); never 802.1Q or 0.0.0.0.
    if word[:2] == b"ss" and len(word) == 8:
        return word[2:].isdigit()
    parts = word.split(b".")
    if len(parts) not in (2, 3) or not all(part[:1].isdigit() for part in parts):
        return False
    return parts[0].isdigit() and 3 <= int(parts[0]) < 100 and parts[1].isdigit() and int(parts[1]) < 100


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
