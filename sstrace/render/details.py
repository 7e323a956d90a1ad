"""What stands behind the peer's port in tcp rows with details, for many rows at once: the columns of
``render.inet.InetCells`` whose text differs from row to row.

Attributes are the same in most rows: their texts are made once for each combination of them, by the very functions
that make them row by row. tcp_info's items: see ``render.info_columns``.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sstrace.model import Extras, InetSocket, Table
from sstrace.render.common import Context
from sstrace.render.info import memory_item, own_words, ulp_items
from sstrace.render.info_columns import TcpItems
from sstrace.render.protocol import tcp_timer, timer_item

__all__ = ["Details"]


class Details:
    """Texts of groups of tcp rows, for one invocation. ``users`` makes the item of those who hold a socket, where it
    belongs to the same column; ``between`` makes what stands between a row's own numbers and the block of -m and -i.
    """

    def __init__(
        self,
        context: Context,
        users: Callable[[int], str] | None,
        between: Sequence[Callable[[InetSocket], str]],
    ) -> None:
        self._context = context
        self._users = users
        self._items = TcpItems(context)
        show = context.show
        self._has_block = show.memory or show.info
        self._opening = "\n\t" if self._has_block and not show.oneline else ""
        self._between = between
        self._forget(())

    def _forget(self, known: Sequence[tuple[int, Extras]]) -> None:
        # By the number in ``known``: a text in each of the four places that attributes speak of.
        self._known: Sequence[tuple[int, Extras]] = known
        self._before: dict[int, str] = {}
        self._control: dict[int, str] = {}
        self._own: dict[int, str] = {}
        self._behind: dict[int, str] = {}
        self._odd: set[int] = set()
        self._any_own = self._any_behind = False

    def _learn(self, known: Sequence[tuple[int, Extras]], which: Sequence[int]) -> None:
        """Make the texts of the attributes that are new here; others may have met them before."""
        if known is not self._known:
            self._forget(known)
        context = self._context
        for number in set(which).difference(self._before):
            family, extras = known[number]
            if self._is_odd(extras):
                self._odd.add(number)
                texts = ("", "", "", "")
            else:
                row = InetSocket(Table.TCP, family, 1, extras=extras)
                before = "".join([part(row) for part in self._between]) + self._opening
                texts = (
                    before + memory_item(extras) if self._has_block else before,
                    f" {extras.congestion}" if extras.congestion else "",
                    own_words(extras, context),
                    ulp_items(extras, context) if self._has_block else "",
                )
            self._before[number], self._control[number], self._own[number], self._behind[number] = texts
            self._any_own |= texts[2] != ""
            self._any_behind |= texts[3] != ""

    def _is_odd(self, extras: Extras) -> bool:
        """Whether rows with these attributes must be made one by one: another protocol, keys (which are written past
        the table), vegas (which has a say in the rate), a cgroup that is gone (which is told once a row).
        """
        if extras.protocol is not None or extras.md5 is not None or extras.vegas is not None:
            return True
        show = self._context.show
        return bool(
            (show.extended or show.cgroup)
            and extras.cgroup_id is not None
            and self._context.cgroup_path(extras.cgroup_id) is None
        )

    def texts(self, group: Any) -> Sequence[str] | None:
        """The text of each row of a group (see ``wire.inet_groups.Group``); None where that is not known here."""
        which = group.which
        self._learn(group.attributes.known, which)
        if self._odd and not self._odd.isdisjoint(which):
            return None
        show = self._context.show
        template: list[str] = []
        columns: list[Iterable[Any]] = []

        def add(texts: Iterable[str]) -> None:
            template.append("%s")
            columns.append(texts)

        if self._users is not None:
            add(map(self._users, group.inodes))
        if show.timers and any(group.timers):
            add(map(self._timer, group.timers, group.expires, group.retrans))
        if show.extended:
            add(map(_identity, group.uids, group.inodes, group.cookies))
        add(map(self._before.__getitem__, which))
        info = group.info
        if info is not None and self._has_block:
            for number, part in enumerate(self._items.plan(info.constants)):
                if number == 1:
                    add(map(self._control.__getitem__, which))
                elif number == 2 and self._any_own:
                    add(map(self._own.__getitem__, which))
                for literal, fill in part:
                    template.append(literal)
                    if fill is not None:
                        piece, filling = fill(info.columns)
                        template.append(piece)
                        columns += filling
        if self._any_behind:
            add(map(self._behind.__getitem__, which))
        return list(map("".join(template).__mod__, zip(*columns, strict=True)))

    def _timer(self, timer: int, expires_ms: int, retrans: int) -> str:
        dialect = self._context.dialect
        return timer_item(tcp_timer(timer, dialect), expires_ms, retrans, dialect) if timer else ""


def _identity(uid: int, inode: int, cookie: int) -> str:
    return f" uid:{uid} ino:{inode} sk:{cookie:x}" if uid else f" ino:{inode} sk:{cookie:x}"
