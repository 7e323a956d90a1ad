"""``--snapshot --from live`` at once: the serving sstrace reads the command line anyway, so it is sent unread.

That is right where nothing of it can concern this process. So only plain words pass here: switches of ss that take no
value, and what follows them. Everything else goes the long way (server.client), which reads the command line first.
"""

import os
from collections.abc import Mapping, Sequence

__all__ = ["snapshot"]

_SWITCHES = frozenset("ntaluwxroempiTHOMSb460")
"""ss's switches that need nothing from here: not -s (counters), -h and -V (text), -Z (SELinux), -N, -F, -D, -E, -K."""


def snapshot(words: Sequence[str], env: Mapping[str, str]) -> int | None:
    """Have a serving sstrace answer a command line (program's name first, one character a byte); the exit code, None
    when it is not plain.
    """
    live = _server(words)
    if live is None or "POSIXLY_CORRECT" in env or "COLUMNS" in env:
        return None
    from sstrace.sources.asking import DEFAULT_PATH, feed
    from sstrace.sources.installed import ss_release

    release = ss_release(env.get("PATH"))
    if release is None or not _plain(release):
        return None
    try:
        width = os.get_terminal_size(1).columns
    except (OSError, ValueError):
        width = 0
    argv = ",".join(f'"{word}"' for word in words[1:])
    screen = f',"width":{width}' if width > 0 else ""
    return feed(live or DEFAULT_PATH, f'{{"argv":[{argv}],"ss":"{release}"{screen}}}\n'.encode())


def _server(words: Sequence[str]) -> str | None:
    """The path after ``live:``, empty for the usual place; None when the command line is not plain."""
    snapshot = words[0].rpartition("/")[2] == "ss" if words else False
    live: str | None = None
    rest = iter(words[1:])
    for word in rest:
        if not _plain(word):
            return None
        if word == "--snapshot":
            snapshot = True
        elif word == "--from" or word.startswith("--from="):
            source = next(rest, "") if word == "--from" else word[7:]
            if live is not None or not _plain(source) or source[:5] not in ("live", "live:") or source == "live:":
                return None
            live = source[5:]
        elif word[:1] == "-" and word != "--json" and (len(word) == 1 or not _SWITCHES.issuperset(word[1:])):
            return None
    return live if snapshot else None


def _plain(word: str) -> bool:
    """Whether it stands in JSON as it is."""
    return word.isascii() and word.isprintable() and '"' not in word and "\\" not in word
