"""What hurt a connection, in the words of a text line, and as a line of NDJSON."""

from typing import Any, Final, Protocol

from sstrace.lines import (
    DropLine,
    ErrorLine,
    EventLine,
    IncidentLine,
    OverflowLine,
    ResetLine,
    RetransmitLine,
    SeenLine,
)
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


LINES: Final[dict[What, type[RetransmitLine | ResetLine | DropLine | ErrorLine | OverflowLine]]] = {
    "retransmit": RetransmitLine,
    "reset": ResetLine,
    "drop": DropLine,
    "error": ErrorLine,
    "overflow": OverflowLine,
}


def incident_line(happened: HappenedView, seen: SeenLine) -> EventLine:
    """``seen``: the line of its row at that moment."""
    made = LINES[happened.what]
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
    words: list[str] = [what]
    if what == "retransmit":
        words += [word for word in (details.segment, _number(details.bytes), details.by) if word]
        if details.retransmits:
            words.append(f"×{details.retransmits}")
    elif what == "overflow":
        words += [f"×{details.count}", f"queue {details.queue}/{details.backlog}"]
    else:
        words += [word for word in (details.direction, details.reason, _number(details.bytes)) if word]
        if details.window == 0:
            words.append("zero window")
    return " ".join(words)


def _number(number: int | None) -> str:
    return str(number) if number else ""
