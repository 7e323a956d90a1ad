"""What hurt a connection, in the words of a text line, and as a line of NDJSON."""

from typing import Any, Final, Protocol, get_args

from sstrace.lines import AnyIncidentLine, IncidentLine, SeenLine
from sstrace.model import Details, What
from sstrace.render.views import RowView

__all__ = ["HappenedView", "incident_line", "incident_words", "told_by"]


class HappenedView(Protocol):
    """What the writers read of an incident."""

    @property
    def at_ns(self) -> int: ...
    @property
    def row(self) -> RowView: ...
    @property
    def what(self) -> What: ...
    @property
    def details(self) -> Details: ...


_LINES: Final[dict[What, type[AnyIncidentLine]]] = {
    line.__struct_config__.tag: line for line in get_args(AnyIncidentLine)
}


def incident_line(happened: HappenedView, seen: SeenLine) -> AnyIncidentLine:
    """``seen``: the line of its row at that moment."""
    made = _LINES[happened.what]
    details: dict[str, Any] = {
        name: value
        for name in Details.__struct_fields__
        if (value := getattr(happened.details, name)) is not None and name in made.__struct_fields__
    }
    return made(**{name: getattr(seen, name) for name in IncidentLine.__struct_fields__}, **details)


def told_by(line: IncidentLine) -> tuple[What, Details]:
    """The other way round."""
    known = {name: getattr(line, name, None) for name in Details.__struct_fields__}
    return line.__struct_config__.tag, Details(**known)  # type: ignore[return-value]  # its tags are these words


def incident_words(what: What, details: Details) -> str:
    """``retransmit data 1000 timer ×2``: a few words, the first of which is --events'."""
    times = details.retransmits or details.count
    words = (
        what,
        details.segment,
        details.direction,
        details.reason,
        str(details.bytes) if details.bytes else None,
        details.by,
        f"×{times}" if times else None,
        f"queue {details.queue}/{details.backlog}" if details.backlog is not None else None,
        "zero window" if details.window == 0 else None,
    )
    return " ".join(filter(None, words))
