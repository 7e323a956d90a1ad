"""A filter over the table's rows, and over what happens to them."""

from functools import partial

from sstrace.fields import Reported
from sstrace.model import Label, Names, Socket
from sstrace.query.expression import Expr
from sstrace.query.match import Known, Predicate, predicate
from sstrace.render.views import Where
from sstrace.rows import shown_as
from sstrace.table import Row, Transition

__all__ = ["RowFilter"]

_UNNAMED = Label()


class RowFilter:
    """What the filter asks besides what a socket says of itself, the row knows, and what happens to it."""

    def __init__(self, expression: Expr | None, names: Names, where: Where | None = None) -> None:
        """``where``: what the namespaces are called, where there are several."""
        self._expression = expression
        self._names = names
        self._tests: dict[int, tuple[Names, Predicate | None]] = {}
        """By network namespace: its names, and what they make of the expression."""
        self._row: Row | None = None
        self._held_ns: int | None = None
        self._lifetime_ns: int | None = None
        self._cause: str | None = None
        self._reported: Reported | None = None
        self._known = Known(
            held=lambda _: self._held_ns,
            lifetime=lambda _: self._lifetime_ns,
            reported=lambda _: self._reported,
            owners=lambda _: self._row.owners if self._row is not None else None,
            role=lambda _: self._row.role if self._row is not None else None,
            cause=lambda _: self._cause,
            netns=partial(self._netns, where) if where is not None else None,
        )

    def _netns(self, where: Where, _: Socket) -> tuple[int, Label]:
        row = self._row
        return (row.netns, where.label(row.net)) if row is not None else (0, _UNNAMED)

    def __bool__(self) -> bool:
        """Whether there is a filter."""
        return self._expression is not None

    def row(
        self,
        row: Row,
        held_ns: int | None = None,
        lifetime_ns: int | None = None,
        cause: str | None = None,
        reported: Reported | None = None,
    ) -> bool:
        """Whether a row is let pass that has been in its state for so long, or was until something happened to it;
        of an end, how long the connection lived, why it ended, and what was reported of it. None: nobody knows.
        """
        if self._expression is None:
            return True
        names, test = self._tests.get(row.net, (None, None))
        if names is None or names is not self._names.of(row.net):
            names = self._names.of(row.net)
            test = predicate(self._expression, names, self._known)
            self._tests[row.net] = names, test
        self._row, self._held_ns, self._lifetime_ns = row, held_ns, lifetime_ns
        self._cause, self._reported = cause, reported
        return test is None or test(shown_as(row))

    def change(self, change: Transition) -> bool:
        """Whether a transition is let pass."""
        return self.row(change.row, change.held_ns, change.lifetime_ns, change.cause, change.reported)
