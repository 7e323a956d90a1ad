"""The compiled twins (native/*.c) of what every event, and every row of many, goes through, where they have been built.

Three Python methods take nearly all of a busy trace's time: ``EventDecoder.events``, ``SocketTable.apply`` and
``EventWriter.state``; two that of many sockets, ``Sweep.seen`` of the live table, and ``InetCells.columns`` with its
layout in a plain table. Each has a twin in C that does the same for what nearly all are, and hands the rest back to it.
The Python says what is right, and works alone; the C makes it fast: an event three to five times as fast
(scripts/bench/trace, with and without).

They are built with the package where there are a C compiler and Python's headers (native/build.py).
SSTRACE_WITHOUT=native does without.
"""

import os
from typing import Any

from sstrace.without import without

__all__ = ["INTERFACE", "is_outdated", "twins"]

INTERFACE = 0x45FC7FF5
"""Stands for the sources of the module, and was put into it when it was compiled (native/build.py; scripts/twins writes
it here): one that was compiled of others is not used.
"""


def _twins() -> Any:
    if "native" in without(os.environ):
        return None
    compiled = _compiled()
    return compiled if compiled is not None and compiled.INTERFACE == INTERFACE else None


def _compiled() -> Any:
    try:
        import _sstrace
    except ImportError:
        return None
    return _sstrace


twins: Any = _twins()
"""The module ``_sstrace``; None where there is none."""


def is_outdated() -> bool:
    """Whether there is one, which is not used because it was compiled of other sources."""
    compiled = _compiled()
    return compiled is not None and compiled.INTERFACE != INTERFACE
