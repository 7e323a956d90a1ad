"""Where a snapshot comes from when not from this machine's kernel, now, and where its rows go."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from sstrace.model import InetSocket, Label, Owners, Role, Socket, Table
from sstrace.query.command import Command, Selection
from sstrace.sources.diag import Diag, Netlink
from sstrace.sources.names import SystemNames

if TYPE_CHECKING:  # only a command line with a filter pays for it
    from sstrace.query.expression import Expr

__all__ = ["Origin", "Place", "PlacesSource", "Sink", "TableSource"]


class Sink(Protocol):
    """What takes the rows: ss's text, or NDJSON."""

    def enter(self, inode: int, label: Label) -> None:
        """The rows that follow are of this network namespace."""
        ...

    def begin(self, table: Table) -> None:
        """The rows that follow are of this table."""
        ...

    def feed(self, sockets: Sequence[Socket]) -> None:
        """Rows, in the order in which they are to stand."""
        ...

    def flush(self) -> None:
        """Write what is held back."""
        ...


class TableSource(Protocol):
    """Where some tables come from when not from the kernel: a live table, a recording."""

    @property
    def tables(self) -> int:
        """Which tables those are, bit n for ``Table`` n."""
        ...

    def rows(
        self,
        table: Table,
        selection: Selection,
        *,
        ext: int,
        attributes: bool,
        bytecode: bytes,
        take: Callable[[memoryview], bool] | None,
        complain: Callable[[int], None],
    ) -> Iterator[Sequence[InetSocket]]:
        """The selected rows of a table, in order. ``ext``, ``attributes``: what of each will be looked at (see
        wire.inet_diag); ``bytecode``: the filter, for whoever can have the kernel apply it; ``take``: takes a datagram
        of the kernel's whole, where all of its rows are wanted as they are, and says whether it has; ``complain`` of an
        errno.
        """
        ...

    def outside(self, table: Table, selection: Selection) -> Sequence[Socket]:
        """The selected rows of a table outside of the internet's families, of a source that alone knows of them."""
        ...

    def known(self, shown: Sequence[Socket]) -> Sequence[Socket]:
        """Of what the kernel shows of tables outside of the internet's families: what this source knows, where it is of
        its tables, and as it knows it.
        """
        ...

    def held_ns(self, row: Socket) -> int | None:
        """How long one of these rows has been in its state; None when nobody knows."""
        ...

    def role(self, row: Socket) -> Role | None:
        """Which end of its connection the row is; None when nobody knows."""
        ...

    def at_least(self, row: Socket) -> bool:
        """Whether that is a lower bound: the row is older than the trace."""
        ...


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A network namespace of which tables are shown."""

    inode: int
    label: Label
    proc: str | None = None
    """Where it cannot be entered: the directory of a process in it, whose ``net`` has the tables as /proc has them."""
    source: TableSource | None = None
    """Where what is not asked of the kernel comes from."""


class PlacesSource(Protocol):
    """The network namespaces that are meant by --netns."""

    @property
    def several(self) -> bool:
        """Whether there is more than one, and rows have to say of which they are."""
        ...

    def prepare(self, command: Command) -> None:
        """Be told what will be asked in each."""
        ...

    def each(self) -> Iterator[Place]:
        """One after the other, in the order in which they are shown; whoever is asked while it is taken, of names or by
        the system, answers for it.
        """
        ...

    def tell(self) -> None:
        """Say, on standard error, what was not seen."""
        ...

    def check(self, expression: "Expr | None", met: Collection[str]) -> None:
        """Raise LookupFailed where a filter names a device that was in none of them; ``met``: those that were."""
        ...


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where a snapshot comes from, and for whom it is, when not from this machine's kernel, now, for this process's own
    screen.
    """

    source: TableSource | None = None
    """None: see ``places``."""
    within: tuple[int, Label] | None = None
    """The network namespace that it is of, where that is known: inode, and what it is called."""
    places: PlacesSource | None = None
    """Where there may be several network namespaces: those, each with its source."""
    owners: Owners | None = None
    """Who holds which socket; None: find out as always."""
    width: int | None = None
    """The screen's width; None: unknown."""
    names: SystemNames | None = None
    """Whom to ask for names; None: this machine."""
    at_ns: int | None = None
    """The moment of which it tells, ns since 1970 UTC; None: now."""
    diag: Callable[[], Netlink] = Diag
    """Opens a sock_diag socket."""
    closed: bool = False
    """Nothing is known of the tables that the source does not have."""
