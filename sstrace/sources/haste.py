"""The priority of this thread, while more comes than it can take at the share of the CPUs that everybody has.

Who floods a machine with sockets takes its CPUs, and leaves the reader of the rings the same share as each of those
who flood: less than it needs, so that the rings overflow. So it takes more, as auditd does, from when a ring fills
until some time after none does; what it then takes is what it needs, and those who flood are slowed down to what can be
told. Without CAP_SYS_NICE, or an RLIMIT_NICE that somebody with more rights has left (``reserve``), all stays as it is.
"""

import os
from weakref import WeakSet

__all__ = ["Haste", "reserve"]

_NICE = -15
_CALM_NS = 2_000_000_000
"""So long none has filled."""


def reserve() -> bool:
    """Have this process be allowed it once it has given up its capabilities, and say whether it is; that takes
    CAP_SYS_RESOURCE. RLIMIT_NICE counts from 20 down: getrlimit(2).
    """
    import resource

    try:
        resource.setrlimit(resource.RLIMIT_NICE, (20 - _NICE, 20 - _NICE))
    except ValueError:  # Python's for EPERM
        return False
    return True


class Haste:
    """Of the thread that makes it, which has its own priority back once it is calm, and so have children that it forks
    meanwhile.
    """

    def __init__(self) -> None:
        self._usual: int | None = None
        """Its nice value before; None: it is what it was."""
        self._until_ns = 0
        self._may = True
        _ALL.add(self)

    def hurry(self, now_ns: int) -> None:
        """A ring fills."""
        self._until_ns = now_ns + _CALM_NS
        if self._usual is not None or not self._may:
            return
        try:
            usual = os.getpriority(os.PRIO_PROCESS, 0)
            if usual > _NICE:
                os.setpriority(os.PRIO_PROCESS, 0, _NICE)
                self._usual = usual
        except PermissionError:
            self._may = False

    def ease(self, now_ns: int) -> None:
        """None does now."""
        if self._usual is not None and now_ns >= self._until_ns:
            self.leave()

    def leave(self) -> None:
        """Be as before; harmless when done twice."""
        if self._usual is not None:
            os.setpriority(os.PRIO_PROCESS, 0, self._usual)
            self._usual = None


_ALL: WeakSet[Haste] = WeakSet()


def _calm() -> None:
    for haste in list(_ALL):
        haste.leave()


os.register_at_fork(after_in_child=_calm)
