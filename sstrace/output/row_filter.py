"""A filter over the table's rows, and over what happens to them."""

from sstrace.model import Names
from sstrace.query.expression import Expr
from sstrace.query.match import Known, predicate
from sstrace.rows import socket_of
from sstrace.table import Row, Transition

__all__ = ["RowFilter"]


class RowFilter:
    """What the filter asks besides what a socket says of itself, the row knows, and what happens to it."""

    def __init__(self, expression: Expr | None, names: Names) -> None:
        self._row: Row | None = None
        self._held_ns: int | None = None
        self._lifetime_ns: int | None = None
        self._cause: str | None = None
        self._test = predicate(
            expression,
            names,
            Known(
                held=lambda _: self._held_ns,
                lifetime=lambda _: self._lifetime_ns,
                owners=lambda _: self._row.owners if self._row is not None else None,
                role=lambda _: self._row.role if self._row is not None else None,
                cause=lambda _: self._cause,
            ),
        )

    def __bool__(self) -> bool:
        """Whether there is a filter."""
        return self._test is not None

    def row(
        self, row: Row, held_ns: int | None = None, lifetime_ns: int | None = None, cause: str | None = None
    ) -> bool:
        """Whether a row is let pass that has been in its state for so long, or was until something happened to it;
        of an end, how long the connection lived, and why it ended. None: nobody knows.
        """
        if self._test is None:
            return True
        self._row, self._held_ns, self._lifetime_ns, self._cause = row, held_ns, lifetime_ns, cause
        return self._test(socket_of(row))

    def change(self, change: Transition) -> bool:
        """Whether a transition is let pass."""
        return self.row(change.row, change.held_ns, change.lifetime_ns, change.cause)
