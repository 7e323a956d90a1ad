"""What every table of one ss invocation goes through: its filter, and where its rows go."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sstrace.query.command import Command
from sstrace.sources.diag import Netlink
from sstrace.sources.names import SystemNames
from sstrace.sources.proc import ProcFiles

if TYPE_CHECKING:
    from sstrace.snapshot.sources import Sink

__all__ = ["Invocation"]


class Invocation:
    """A command line whose selection is settled. ``match``: its filter, None where there is none; ``diag`` opens a
    sock_diag socket; ``known``: see TableSource.
    """

    def __init__(
        self,
        command: Command,
        names: SystemNames,
        files: ProcFiles,
        sink: "Sink",
        match: Callable[[Any], bool] | None,
        *,
        diag: Callable[[], Netlink],
        known: Callable[[Sequence[Any]], Sequence[Any]] = lambda shown: shown,
    ) -> None:
        self.command = command
        self.selection = command.selection
        self.show = command.show
        self.dialect = command.dialect
        self.names = names
        self.files = files
        self.sink = sink
        self.match = match
        self.diag = diag
        self.known = known

    def feed(self, rows: Sequence[Any]) -> None:
        """Rows that passed every mask: through the filter, to the sink."""
        rows = self.matching(rows)
        if rows:
            self.sink.feed(rows)

    def matching(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Those that the filter lets pass."""
        match = self.match
        return rows if match is None else [row for row in rows if match(row)]
