"""Tests that ask where a socket is: in which network namespace, and what runs in its cgroup.

Words are latin-1 text, a character a byte, as everywhere in a filter; names are compared as text.
"""

from collections.abc import Callable
from typing import Final

from sstrace.model import Label, Names, Socket
from sstrace.model.workload import workload
from sstrace.plain import spelled
from sstrace.query.glob import compile_glob

__all__ = ["in_netns", "in_workload"]

Asked = Callable[[Socket], tuple[int, Label]] | None
"""The network namespace that a socket is in: inode, and what that is called; None: there is but one."""

_MOST: Final = 10_000
"""Cgroups that are remembered: against a host that makes them without end."""


def in_netns(word: str, ask: Asked) -> Callable[[Socket], bool]:
    """Whether it is in the network namespace of this name, or in one that the pattern fits."""
    if ask is None:
        return lambda _row: False
    fits, typed = _glob(word), spelled(word.encode("latin-1"))

    def passes(row: Socket) -> bool:
        inode, label = ask(row)
        return label.bears(inode, typed) or any(fits(name) for name in label.names(inode))

    return passes


def in_workload(kind: str, word: str, names: Names, ask: Asked) -> Callable[[Socket], bool]:
    """``container``, ``pod``: whether its cgroup is of one whose id begins so, or fits the pattern; a pod's name is
    that of its network namespace. ``unit``: of a unit of this name, whose kind (``.service``) may be left away.
    """
    fits, typed = _glob(word), spelled(word.encode("latin-1"))
    answers: dict[int, bool] = {}

    def bears(path: str) -> bool:
        work = workload(path)
        if kind == "unit":
            unit = work.unit
            return unit is not None and (typed in (unit, unit.rpartition(".")[0]) or fits(unit))
        name = work.container_id if kind == "container" else work.pod_uid
        return name is not None and (name.startswith(typed) or fits(name))

    def within(cgroup: int) -> bool:
        answer = answers.get(cgroup)
        if answer is None:
            path = names.cgroup_path(cgroup)
            if path is None:
                return False  # not remembered: it may be found the next time
            if len(answers) >= _MOST:
                answers.clear()
            answer = answers[cgroup] = bears(spelled(path))
        return answer

    def passes(row: Socket) -> bool:
        extras = getattr(row, "extras", None)
        if extras is not None and extras.cgroup_id and within(extras.cgroup_id):
            return True
        pod = ask(row)[1].pod if kind == "pod" and ask is not None else None
        return pod is not None and (pod == typed or fits(pod))

    return passes


def _glob(word: str) -> Callable[[str], bool]:
    glob = compile_glob(word)
    return lambda name: glob(name.encode("utf-8", "surrogateescape").decode("latin-1"))
