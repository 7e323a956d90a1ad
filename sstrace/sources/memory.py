"""Memory that Python has let go of, back to the system."""

import ctypes

__all__ = ["give_back"]


def give_back() -> None:
    """Shrink the process to what it holds, after much has been made and let go: malloc_trim(3), 10 ms for 100 MB. Where
    the C library has no such function (it is glibc's), nothing happens.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
