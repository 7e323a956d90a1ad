"""What the system calls cgroups and interfaces, as text that every way out can hold; what writers are lent."""

from collections.abc import Callable

from sstrace.model import Names
from sstrace.model.workload import Workload, workload
from sstrace.plain import spelled

__all__ = ["cgroup_text", "ifname_text", "work_text"]


def cgroup_text(names: Names) -> Callable[[int], str | None]:
    """Cgroup id → path, None if unknown."""

    def path(cgroup_id: int) -> str | None:
        found = names.cgroup_path(cgroup_id)
        return None if found is None else spelled(found)

    return path


def work_text(names: Names) -> Callable[[int], Workload | None]:
    """Cgroup id → what runs in it, None if unknown."""
    path = cgroup_text(names)

    def work(cgroup_id: int) -> Workload | None:
        found = path(cgroup_id)
        return None if found is None else workload(found)

    return work


def ifname_text(names: Names) -> Callable[[int], str]:
    """Index → name of an interface."""
    return lambda index: spelled(names.ifname(index))
