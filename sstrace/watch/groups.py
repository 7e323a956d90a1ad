"""The page of groups: the rows that the filter lets pass, put together by process, container, peer or port.

A look at all rows takes a tenth of a second where there are 100,000, so pictures are drawn of the last one.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from sstrace.causes import has_failed
from sstrace.coordinates import name_text
from sstrace.model import State
from sstrace.output.texts import work_text
from sstrace.plain import plain, printable
from sstrace.protocols import SWEPT
from sstrace.render.ends import Ends
from sstrace.render.watch_frame import Look, Screen, fixed_rows
from sstrace.render.watch_groups import Group, groups
from sstrace.table import Row, Transition
from sstrace.watch.hub import Hub

__all__ = ["GroupsPage"]

_ESTABLISHED, _LISTEN, _WAIT = int(State.ESTABLISHED), int(State.LISTEN), int(State.TIME_WAIT)
_EVERY_NS: Final = 1_000_000_000
_RUN: Final = 1000
"""Rows between two looks at the keyboard: a millisecond."""
_SORTS: Final[Mapping[str, Callable[[Group], float]]] = {
    "rows": lambda group: group.rows,
    "opened": lambda group: group.opened,
    "closed": lambda group: group.closed,
    "failed": lambda group: group.failed,
}
_TITLES: Final = {"process": "Process", "container": "Container, unit", "peer": "Peer", "port": "Port"}


class GroupsPage:
    """Groups of the rows of ``hub``, and what happens in each while somebody looks."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.by = next(iter(_TITLES))
        self._ends = Ends(msgspec.structs.replace(hub.lines.show, numeric=True), hub.command.dialect, hub.names)
        self._work = work_text(hub.names)
        self._sort = next(iter(_SORTS))
        self._counts: dict[str, list[int]] = {}
        self._since_ns = self._due_ns = 0
        self._groups: list[Group] = []
        self._filters: dict[str, str] = {}
        self._cursor = self._top = 0
        self._page = 1

    def note(self, change: Transition) -> None:
        """Count what opens and ends, by group."""
        opened = change.new == _ESTABLISHED != change.old
        if opened or change.ended:
            counts = self._counts.setdefault(self._name(change.row)[0], [0, 0, 0])
            counts[0 if opened else 2 if has_failed(change.cause) else 1] += 1

    def renew(self, changes: Iterable[Transition], since_ns: int) -> None:
        """Show another moment, before which all this has happened, since ``since_ns``."""
        self._counts.clear()
        for change in changes:
            self.note(change)
        self._since_ns, self._due_ns = since_ns, 0

    def key(self, key: str) -> str | None:
        """Do what a key asks for; the filter of the group that was chosen, and ``""`` to leave the page."""
        if key in ("escape", "backspace", "left"):
            return ""
        if key == "enter":
            chosen = self._groups[self._cursor : self._cursor + 1]
            wanted = self._filters.get(chosen[0].name) if chosen else None
            if wanted is None:
                self.hub.say("there is no filter for that")
            return wanted
        if key in ("g", "G"):
            names = list(_TITLES)
            self.by = names[(names.index(self.by) + (1 if key == "g" else -1)) % len(names)]
            self._counts.clear()
            self._groups.clear()
            self._since_ns = self._due_ns = self._cursor = 0
        elif key == "s":
            names = list(_SORTS)
            self._sort = names[(names.index(self._sort) + 1) % len(names)]
            self._order()
        else:
            steps = {"down": 1, "j": 1, "up": -1, "k": -1, "pagedown": self._page, "pageup": -self._page}
            steps |= {"home": -len(self._groups), "end": len(self._groups), "wheelup": -3, "wheeldown": 3}
            self._cursor += steps.get(key, 0)
            self._clamp()
        return None

    def _clamp(self) -> None:
        """The cursor stays among the groups; while they are still to be gathered, where it was moved to."""
        most = len(self._groups) - 1 if self._groups else self._cursor
        self._cursor = max(0, min(self._cursor, most))

    def _name(self, row: Row) -> tuple[str, str | None]:
        """What the group of a row is called, and the filter that lets it pass alone, where there is one."""
        if self.by == "process":
            owners = row.owners
            if not owners:
                return "-", None
            name = f"{printable(owners[0].comm.decode('latin-1'))}/{owners[0].pid}"
            return (f"~{name}", None) if row.owner_source == "listener" else (name, f"pid {owners[0].pid}")
        if self.by == "container":
            work = self._work(row.cgroup) if row.cgroup else None
            if work is None or (work.container_id is None and work.unit is None):
                return "-", None
            return plain(work.container_id[:12] if work.container_id is not None else work.unit or "-"), None
        if row.protocol in SWEPT:  # whose ports are no services
            return name_text(row.dst if self.by == "peer" else row.src or row.dst) or "-", None
        local, peer = self._ends.within(row.net).of(row)
        if self.by == "peer":
            host = peer.rpartition(":")[0]
            return (host, f"dst {host}") if row.dport else ("-", None)
        # The port of the service: ours where the connection came to us.
        theirs = row.role == "client" or (row.role is None and row.dport and row.dport < row.sport)
        port = (peer if theirs else local).rpartition(":")[2]
        return f"{'to' if theirs else 'at'} {port}", f"{'dport' if theirs else 'sport'} = :{port}"

    def _gather(self) -> None:
        """Look at all rows; in between the keys may have asked for other groups."""
        by, heed = self.by, self.hub.heed
        if by == "process":
            self.hub.own_all()
        now_ns = self.hub.now_ns()
        seconds = (now_ns - self._since_ns) / 1e9 if self._since_ns else 0.0
        counts, self._counts = self._counts, {}
        self._since_ns, self._due_ns = now_ns, now_ns + _EVERY_NS
        found: dict[str, Group] = {}
        filters: dict[str, str] = {}
        view = self.hub.shown
        for number, entry in enumerate(view.living(0, len(view))):
            if number % _RUN == 0:
                heed()
            if self.by != by:
                return
            name, wanted = self._name(entry.row)
            if wanted is not None:
                filters[name] = wanted
            group = found.get(name)
            if group is None:
                group = found[name] = Group(name)
            group.rows += 1
            group.established += entry.state == _ESTABLISHED
            group.listening += entry.state == _LISTEN
            group.waiting += entry.state == _WAIT
        for name, (opened, closed, failed) in counts.items():
            group = found.setdefault(name, Group(name))
            if seconds:
                group.opened, group.closed, group.failed = opened / seconds, closed / seconds, failed / seconds
        self._groups, self._filters = list(found.values()), filters
        self._order()

    def _order(self) -> None:
        self._groups.sort(key=lambda group: (-_SORTS[self._sort](group), -group.rows, group.name))

    def picture(self, base: Look, width: int, height: int) -> Screen:
        """Draw it: ``base`` has what is the same on every page."""
        if self.hub.now_ns() >= self._due_ns:
            self.hub.later("groups", self._gather)
        self._page = max(1, height - fixed_rows(height))
        self._clamp()
        self._top = max(0, min(self._top, self._cursor, len(self._groups) - self._page))
        self._top = max(self._top, self._cursor - self._page + 1)
        look = msgspec.structs.replace(
            base,
            total=len(self._groups),
            top=self._top,
            cursor=self._cursor - self._top,
            sort=self._sort,
            order="most first",
            keys="Esc back  g group by  s sort  Enter filter by it  q quit",
        )
        return groups(look, _TITLES[self.by], self._groups[self._top : self._top + self._page], width, height)
