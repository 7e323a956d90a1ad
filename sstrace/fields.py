"""What an event reports, once: the members of struct sock_event, and those among them that go straight into the lines.

``RECORD`` is bpf/event.h as data (tests/unit/wire/test_event_layout.py holds the two together). Most of its members
drive the table. The others are only carried, from the record to whatever tells of the event. These stand in
``Reported`` too, and that is all that a new one needs: the decoders, the compiled event path, the lines of every
schema, recordings, the JSON Schemas and the documentation take it from here.
"""

import struct
from typing import Annotated

import msgspec

__all__ = [
    "CALLS",
    "FLAGS",
    "KINDS",
    "LIFE",
    "MEMBERS",
    "NOTHING",
    "RECORD",
    "REPORTED",
    "Flag",
    "Reported",
    "report",
    "reported",
]

RECORD: tuple[tuple[str, str], ...] = (
    ("ts_ns", "Q"),
    ("sk", "Q"),
    ("cookie", "Q"),
    ("ino", "Q"),
    ("cgroup", "Q"),
    ("since_ns", "Q"),
    ("net_cookie", "Q"),
    ("file", "Q"),
    ("bytes_sent", "Q"),
    ("bytes_received", "Q"),
    ("bytes_retrans", "Q"),
    ("netns", "I"),
    ("uid", "I"),
    ("tgid", "I"),
    ("fd", "i"),
    ("ifindex", "I"),
    ("err", "i"),
    ("segs_out", "I"),
    ("segs_in", "I"),
    ("retrans", "I"),
    ("delivered", "I"),
    ("lost", "I"),
    ("rcv_ooopack", "I"),
    ("rtt_us", "I"),
    ("minrtt_us", "I"),
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

LIFE: tuple[tuple[str, str], ...] = tuple(
    (name, "Q") for name in ("open_ns", "moved_ns", "sk", "request", "listener", "owned")
)
"""struct sock_life, which some kinds have at the beginning of ``stack``."""

KINDS = {
    "EVENT_STATE": 0,
    "EVENT_REQUEST": 1,
    "EVENT_REQUEST_GONE": 2,
    "EVENT_TIMEWAIT": 3,
    "EVENT_TIMEWAIT_GONE": 4,
    "EVENT_DATAGRAM": 9,
    "EVENT_LIFE": 11,
    "EVENT_LIFE_CLOSED": 12,
    "EVENT_LIFE_TIMEWAIT": 13,
}
"""enum sock_event_kind; those of incidents are sstrace.incidents'."""

CALLS = {"CALL_BIND": 1, "CALL_CREATE": 2, "CALL_SEND": 3, "CALL_CONNECT": 4, "CALL_CLOSE": 5}
"""enum sock_call."""


class Flag:
    """enum sock_event_flags."""

    KTHREAD = 1
    EXPIRED = 2
    MISSED = 4
    ORPHANED = 8
    V6ONLY = 16
    FULL = 32
    FORGOTTEN = 32
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
    bytes_sent: Count | None = None
    """Of the end of a connection, as the following: payload sent, each byte once."""
    bytes_received: Count | None = None
    """Payload received in order."""
    bytes_retrans: Count | None = None
    """Payload sent again."""
    segs_out: Count | None = None
    segs_in: Count | None = None
    retrans: Count | None = None
    """Segments sent again in all."""
    delivered: Count | None = None
    """Segments that the peer has acknowledged."""
    lost: Count | None = None
    """Segments that were taken for lost."""
    rcv_ooopack: Count | None = None
    """Segments received out of order."""
    rtt_us: Count | None = None
    """Smoothed round-trip time."""
    minrtt_us: Count | None = None


NOTHING = Reported()

REPORTED: tuple[str, ...] = Reported.__struct_fields__
_COUNTED = (
    "bytes_sent", "bytes_received", "bytes_retrans", "segs_out", "segs_in", "retrans", "delivered", "lost",
    "rcv_ooopack",
)  # fmt: skip
"""Those that are one more in the record, so that 0 can be told from what was not read."""
MEMBERS: dict[str, tuple[int, str, int]] = {
    name: (struct.calcsize("=" + "".join(code for _, code in RECORD[:at])), code, int(name in _COUNTED))
    for at, (name, code) in enumerate(RECORD)
    if name in REPORTED
}
"""Where each lies in the record, in its order: offset, struct code, and what it is more there."""
_READ = [(name, more) for name, (_, _, more) in MEMBERS.items()]


def reported(values: tuple[int, ...]) -> Reported:
    """Of the members' values, in the order of the record."""
    if not any(values):
        return NOTHING
    return Reported(
        **{name: value - more if value else None for (name, more), value in zip(_READ, values, strict=True)}
    )


def report(line: msgspec.Struct, of: Reported) -> None:
    """Put what was reported into a line, whose class has ``Reported`` as its base."""
    for name in REPORTED:
        setattr(line, name, getattr(of, name))
