"""Lines for log daemons and for terminals."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from bpf_events import reporting
from hypothesis import given
from hypothesis import strategies as st
from smallworld import SmallWorld
from test_schemas import META, PATHS, row, transitions

from sstrace.dialect import NEWEST, dialect
from sstrace.fields import REPORTED
from sstrace.model import AF_INET6, Owner, Show, State
from sstrace.render.ends import Ends
from sstrace.render.events import EventWriter
from sstrace.render.trace import TraceText
from sstrace.render.writers import JournalWriter, SyslogWriter, TextWriter, Writer
from sstrace.table import Transition

OFFSET = 1_700_000_000_000_000_000
ENDS = Ends(Show(numeric=True), dialect(NEWEST), SmallWorld())


def change(new: int = 1, **given: Any) -> Transition:
    fields: dict[str, Any] = {"at_ns": 2_000_123_456, "old": 2, "new": new, "held_ns": 1500, "cause": None}
    fields = {**fields, **{key: given.pop(key) for key in list(given) if key in fields}}
    told = reporting({key: given.pop(key) for key in list(given) if key in REPORTED})
    return Transition(row=row(**given), **told, listed=True, ended=fields["cause"] is not None, **fields)


def journal_fields(data: bytes) -> list[tuple[str, bytes]]:
    """Read the journal's native protocol."""
    found = []
    while data:
        line, _, rest = data.partition(b"\n")
        key, equals, value = line.partition(b"=")
        if equals:
            data = rest
        else:
            size = int.from_bytes(rest[:8], "little")
            value, data = rest[8 : 8 + size], rest[8 + size :]
            assert data[:1] == b"\n"
            data = data[1:]
        found.append((key.decode(), value))
    return found


def test_a_journal_message_names_the_device() -> None:
    writer, out = JournalWriter(OFFSET, PATHS.get, "v{}".format), bytearray()
    writer.state(change(ifindex=3), out)
    writer.state(change(ifindex=3, family=AF_INET6, src=bytes(15) + b"\1", dst=bytes(15) + b"\2"), out)
    assert [value for key, value in journal_fields(bytes(out)) if key == "MESSAGE"] == [
        b"10.0.0.1%v3:45678 SYN-SENT -> ESTAB 10.0.0.2:443",
        b"[::1]%v3:45678 SYN-SENT -> ESTAB [::2]:443",
    ]


def test_who_only_holds_the_listener_is_marked() -> None:
    writer, out = JournalWriter(OFFSET, PATHS.get), bytearray()
    writer.state(change(owners=(Owner(b"nginx", 7, None), Owner(b"nginx", 8, None)), owner_source="listener"), out)
    assert dict(journal_fields(bytes(out)))["MESSAGE"].endswith(b" ~nginx/7,~nginx/8")


def test_a_journal_message() -> None:
    writer, out = JournalWriter(OFFSET, PATHS.get), bytearray()
    owners = (Owner(b"nginx", 7, 3), Owner(b"ba\nd", 8, None))
    writer.state(change(owners=owners, owner_source="walk", cgroup=8, role="client"), out)
    fields = journal_fields(bytes(out))
    assert dict(fields) | {"SSTRACE_OWNER": b""} == {
        "MESSAGE": b"10.0.0.1:45678 SYN-SENT -> ESTAB 10.0.0.2:443 nginx/7/3,ba\\nd/8",
        "PRIORITY": b"6",
        "SYSLOG_IDENTIFIER": b"sstrace",
        "SSTRACE_TYPE": b"state",
        "SSTRACE_TS": b"2023-11-14T22:13:22.000123456Z",
        "SSTRACE_MONO_NS": b"2000123456",
        "SSTRACE_SEQ": b"1",
        "SSTRACE_ID": b"17",
        "SSTRACE_NETID": b"tcp",
        "SSTRACE_FAMILY": b"inet",
        "SSTRACE_FROM": b"SYN-SENT",
        "SSTRACE_TO": b"ESTAB",
        "SSTRACE_SRC": b"10.0.0.1",
        "SSTRACE_SPORT": b"45678",
        "SSTRACE_DST": b"10.0.0.2",
        "SSTRACE_DPORT": b"443",
        "SSTRACE_NETNS": b"4026531840",
        "SSTRACE_HELD_US": b"1.5",
        "SSTRACE_INO": b"99",
        "SSTRACE_SK": b"4711",
        "SSTRACE_UID": b"33",
        "SSTRACE_CGROUP": b"/system.slice/nginx.service",
        "SSTRACE_OWNER_SOURCE": b"walk",
        "SSTRACE_ROLE": b"client",
        "SSTRACE_UNIT": b"nginx.service",
        "SSTRACE_OWNER": b"",
    }
    assert [value for key, value in fields if key == "SSTRACE_OWNER"] == [b"nginx/7/3", b"ba\nd/8"]


@given(transitions())
def test_any_journal_message_can_be_read(of: Transition) -> None:
    writer, out = JournalWriter(OFFSET, PATHS.get), bytearray()
    writer.state(of, out)
    fields = journal_fields(bytes(out))
    assert all(re.fullmatch("[A-Z][A-Z_0-9]{0,63}", key) for key, _ in fields)
    assert [key for key, _ in fields][:4] == ["MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "SSTRACE_TYPE"]


def test_the_journal_is_spared_the_baseline() -> None:
    writer, out = JournalWriter(OFFSET, PATHS.get), bytearray()
    writer.meta(META, out)
    writer.seen(row(), 1, out)
    writer.gone(1, 1, 1, out)
    writer.checkpoint([], [row()], 1, 0, out)
    assert not out
    assert writer.seq == 2
    cases: tuple[tuple[Callable[[], None], bytes], ...] = (
        (lambda: writer.gap(1, 42, 0, 5, out), b"42 events of CPU 1 were lost"),
        (lambda: writer.resync(5, (1, 2, 3), out), b"table compared with the kernel: 1 added, 2 removed, 3 corrected"),
        (lambda: writer.dropped(5, 9, "slow-reader", out), b"9 lines are missing here: the reader was slower than the"
         b" events"),
    )  # fmt: skip
    for write, says in cases:
        write()
        fields = dict(journal_fields(bytes(out)))
        assert fields["MESSAGE"] == says
        out.clear()


FAILED = {"new": int(State.CLOSE), "cause": "refused", "err": 111}


@pytest.mark.parametrize(("given", "severity"), [({}, 6), (FAILED, 4)])
def test_a_syslog_message(given: dict[str, Any], severity: int) -> None:
    writer, out = SyslogWriter(EventWriter(OFFSET, PATHS.get), "web 1\n", 4711), bytearray()
    writer.state(change(**given), out)
    head, _, body = bytes(out).partition(b" - ")
    assert head == b"<%d>1 2023-11-14T22:13:22.000123Z web1 sstrace 4711 state" % (24 + severity)
    assert body.startswith(b'{"type":"state",')
    assert b"\n" not in out


def test_syslog_in_text() -> None:
    writer, out = SyslogWriter(TextWriter(TraceText(OFFSET, ENDS), header=True), "h", 1), bytearray()
    writer.meta(META, out)
    writer.seen(row(), 1, out)
    assert not out
    writer.gap(1, 42, 0, 5, out)
    assert out.startswith(b"<28>1 ")
    assert b" h sstrace 1 gap - " in out
    assert out.endswith(b"42 events of CPU 1 were lost within an unknown time")


def test_a_host_without_a_name() -> None:
    writer, out = SyslogWriter(EventWriter(OFFSET, PATHS.get), "\x7f\n", 1), bytearray()
    writer.state(change(), out)
    assert b"Z - sstrace 1 " in out


@pytest.mark.parametrize(
    ("given", "color"),
    [
        ({}, b"\x1b[32mESTAB     \x1b[0m"),
        ({"new": int(State.CLOSE_WAIT)}, b"\x1b[33mCLOSE-WAIT\x1b[0m"),
        ({"new": int(State.CLOSE), "cause": "fin-by-us"}, b"\x1b[2mUNCONN    \x1b[0m"),
        (FAILED, b"\x1b[31mUNCONN    \x1b[0m"),
        (FAILED, b"\x1b[31m[refused ECONNREFUSED]\x1b[0m"),
        ({"new": int(State.TIME_WAIT), "cause": "fin-by-us"}, b"\x1b[2mTIME-WAIT \x1b[0m"),
        ({"new": int(State.FIN_WAIT1)}, b"FIN-WAIT-1"),
    ],
)
def test_colors_change_nothing_else(given: dict[str, Any], color: bytes) -> None:
    plain, colored = bytearray(), bytearray()
    TextWriter(TraceText(OFFSET, ENDS), header=False).state(change(**given), plain)
    TextWriter(TraceText(OFFSET, ENDS), header=False, colors=True).state(change(**given), colored)
    assert color in colored
    assert re.sub(rb"\x1b\[\d*m", b"", bytes(colored)) == bytes(plain)


@given(st.sampled_from(["gap", "dropped", "resync", "hole"]))
def test_text_has_a_line_for_what_is_missing(what: str) -> None:
    writer, out = TextWriter(TraceText(OFFSET, ENDS), header=False), bytearray()
    of: Writer = writer
    {
        "gap": lambda: of.gap(0, 17, 0, 5, out),
        "dropped": lambda: of.dropped(5, 17, "disk-full", out),
        "resync": lambda: of.resync(5, (17, 0, 0), out),
        "hole": lambda: of.checkpoint([], [row()], 5, 17, out),
    }[what]()
    assert out.count(b"\n") == 1
    assert b" 17 " in out
