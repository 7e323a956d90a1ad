"""What an event reports, once: the members of struct sock_event, and those among them that go straight into the lines.

``RECORD`` is bpf/event.h as data (tests/unit/wire/test_event_layout.py holds the two together). Most of its members
drive the table. The others are only carried, from the record to whatever tells of the event. These stand in
``Reported`` too, and that is all that a new one needs: the decoders, the compiled event path, the lines of every
schema, recordings, the JSON Schemas and the documentation take it from here.
"""

import struct
from typing import Annotated

import msgspec

__all__ = ["FLAGS", "KINDS", "MEMBERS", "NOTHING", "RECORD", "REPORTED", "Flag", "Reported", "report", "reported"]

RECORD: tuple[tuple[str, str], ...] = (
    ("ts_ns", "Q"),
    ("sk", "Q"),
    ("cookie", "Q"),
    ("ino", "Q"),
    ("cgroup", "Q"),
    ("since_ns", "Q"),
    ("net_cookie", "Q"),
    ("file", "Q"),
    ("netns", "I"),
    ("uid", "I"),
    ("tgid", "I"),
    ("fd", "i"),
    ("ifindex", "I"),
    ("err", "i"),
    ("size", "H"),
    ("family", "H"),
    ("protocol", "H"),
    ("sport", "H"),
    ("dport", "H"),
    ("kind", "B"),
    ("old", "B"),
    ("new", "B"),
    ("flags", "B"),
    ("retransmits", "B"),
    ("shutdown", "B"),
    ("saddr", "16s"),
    ("daddr", "16s"),
    ("comm", "16s"),
    ("stack", "64s"),
)
"""struct sock_event: member and struct code, in order; units and meanings stand in bpf/event.h."""

KINDS = {
    "EVENT_STATE": 0,
    "EVENT_REQUEST": 1,
    "EVENT_REQUEST_GONE": 2,
    "EVENT_TIMEWAIT": 3,
    "EVENT_TIMEWAIT_GONE": 4,
}
"""enum sock_event_kind."""


class Flag:
    """enum sock_event_flags."""

    KTHREAD = 1
    EXPIRED = 2
    MISSED = 4
    ORPHANED = 8
    V6ONLY = 16
    FULL = 32
    ROOM = 64
    PLAIN = 128


FLAGS = {f"EVENT_{name}": value for name, value in vars(Flag).items() if name.isupper()}

Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class Reported(msgspec.Struct, gc=False, kw_only=True, omit_defaults=True):
    """Members of the record that nothing depends on: each under its name there, its name here, and its key in a line. 0
    in the record is None here, and absent there.
    """

    err: int | None = None
    """errno that the socket's owner is told, or will be."""
    retransmits: Count | None = None
    """Segments sent again without an answer, when it happened."""


NOTHING = Reported()

REPORTED: tuple[str, ...] = Reported.__struct_fields__
MEMBERS: dict[str, tuple[int, str]] = {
    name: (struct.calcsize("=" + "".join(code for _, code in RECORD[:at])), code)
    for at, (name, code) in enumerate(RECORD)
    if name in REPORTED
}
"""Where each lies in the record: offset and struct code."""


def reported(values: tuple[int, ...]) -> Reported:
    """Of the members' values, in the order of the record."""
    if not any(values):
        return NOTHING
    return Reported(**{name: value or None for name, value in zip(MEMBERS, values, strict=True)})


def report(line: msgspec.Struct, of: Reported) -> None:
    """Put what was reported into a line, whose class has ``Reported`` as its base."""
    for name in REPORTED:
        setattr(line, name, getattr(of, name))
