"""NDJSON lines: against the schema that their types are, keys that are absent when unknown, times, and odd bytes."""

import json
from datetime import UTC, datetime
from typing import Any

import jsonschema
import msgspec
import pytest
from bpf_events import CLIENT, NETNS, SERVER, reporting
from hypothesis import given
from hypothesis import strategies as st

from sstrace.changes import NetnsNews
from sstrace.lines import EventLine, MetaLine
from sstrace.model import AF_INET, AF_INET6, STATE_TEXT, Finer, Kind, Label, Netns, Owner, State
from sstrace.render.events import EventWriter, timestamp
from sstrace.render.views import RowView
from sstrace.table import Row, Transition

OFFSET = 1_700_000_000_123_456_789
VALIDATOR = jsonschema.Draft202012Validator(msgspec.json.schema(EventLine))


def row(**fields: Any) -> Row:
    values = {
        "id": 7,
        "kind": Kind.SOCKET,
        "state": int(State.ESTABLISHED),
        "family": AF_INET,
        "protocol": 6,
        "net": 1,
        "netns": NETNS,
        "src": CLIENT,
        "sport": 40000,
        "dst": SERVER,
        "dport": 443,
        "ino": 0,
        "uid": 0,
        "ifindex": 0,
        "cookie": None,
        "sk": 1,
        "since_ns": 500,
        "exact": True,
        "touched_ns": 500,
        **fields,
    }
    return Row(**values)


def transition(of: Row | None = None, **fields: Any) -> Transition:
    values = {
        "at_ns": 5_000_000_000,
        "row": of or row(),
        "old": int(State.SYN_SENT),
        "new": int(State.ESTABLISHED),
        "held_ns": None,
        "cause": None,
        "listed": True,
        **reporting(fields),
    }
    return Transition(**values)


def writer(**fields: Any) -> EventWriter:
    values: dict[str, Any] = {"offset_ns": OFFSET, "cgroup": {5: "/a/b"}.get, "ifname": "if{}".format, **fields}
    return EventWriter(**values)


def parsed(out: bytearray) -> list[dict[str, Any]]:
    """Every line: one object, ended by a newline, of the schema, ``type`` first, nothing null."""
    assert not out or out.endswith(b"\n")
    lines = []
    for text in out.decode().splitlines():
        line = json.loads(text)
        VALIDATOR.validate(line)
        assert next(iter(line)) == "type"
        assert None not in line.values()
        lines.append(line)
    return lines


def state_line(change: Transition, **fields: Any) -> dict[str, Any]:
    out = bytearray()
    writer(**fields).state(change, out)
    (line,) = parsed(out)
    return line


def test_a_bare_transition_has_the_promised_keys_and_no_others() -> None:
    assert state_line(transition()) == {
        "type": "state",
        "ts": "2023-11-14T22:13:25.123456789Z",
        "mono_ns": 5_000_000_000,
        "seq": 1,
        "id": 7,
        "netid": "tcp",
        "family": "inet",
        "from": "SYN-SENT",
        "to": "ESTAB",
        "src": "127.0.0.1",
        "sport": 40000,
        "dst": "127.0.0.2",
        "dport": 443,
        "netns": NETNS,
        "uid": 0,
    }


def test_a_full_transition_has_every_key() -> None:
    of = row(
        family=AF_INET6,
        protocol=262,
        src=bytes(15) + b"\1",
        dst=bytes(10) + b"\xff\xff" + CLIENT,
        ino=9,
        uid=77,
        ifindex=3,
        cookie=0x1001,
        owners=(Owner(b"curl", 12, 3, Finer(13)), Owner(b"sh", 11, None)),
        owner_source="connect",
        cgroup=5,
        v6only=False,
        role="client",
    )
    line = state_line(
        transition(
            of,
            new=int(State.CLOSE),
            held_ns=1500,
            cause="refused",
            err=111,
            retransmits=2,
            approximate=True,
            source="poll",
            ended=True,
            lifetime_ns=1_000_000_000,
        )
    )
    assert {key: line[key] for key in line if key not in ("type", "ts", "mono_ns", "seq", "id", "netns")} == {
        "netid": "mptcp",
        "family": "inet6",
        "from": "SYN-SENT",
        "to": "UNCONN",
        "src": "::1",
        "sport": 40000,
        "dst": "::ffff:127.0.0.1",
        "dport": 443,
        "held_us": 1.5,
        "ino": 9,
        "sk": 0x1001,
        "uid": 77,
        "ifindex": 3,
        "ifname": "if3",
        "cgroup": "/a/b",
        "owners": [{"comm": "curl", "pid": 12, "fd": 3, "tid": 13}, {"comm": "sh", "pid": 11}],
        "owner_source": "connect",
        "v6only": False,
        "cause": "refused",
        "err": 111,
        "errno": "ECONNREFUSED",
        "retransmits": 2,
        "approximate": True,
        "source": "poll",
        "role": "client",
        "ended": True,
        "lifetime_us": 1_000_000.0,
    }


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"ino": 0}, "ino"),
        ({"cookie": None}, "sk"),
        ({"ifindex": 0}, "ifindex"),
        ({"ifindex": 0}, "ifname"),
        ({"cgroup": None}, "cgroup"),
        ({"cgroup": 6}, "cgroup"),
        ({"owners": ()}, "owners"),
        ({"owner_source": None}, "owner_source"),
        ({"v6only": None}, "v6only"),
        ({"role": None}, "role"),
    ],
)
def test_what_is_not_known_of_a_row_is_absent(fields: dict[str, Any], key: str) -> None:
    assert key not in state_line(transition(row(**fields), new=int(State.CLOSE)))


@pytest.mark.parametrize(
    "key", ["held_us", "cause", "err", "retransmits", "approximate", "source", "ended", "lifetime_us"]
)
def test_what_is_not_known_of_a_transition_is_absent(key: str) -> None:
    assert key not in state_line(transition())


def test_nought_is_a_value_where_it_can_be_one() -> None:
    line = state_line(transition(row(sport=0, dport=0, uid=0, cookie=0, owners=(Owner(b"a", 1, 0),)), held_ns=0))
    assert (line["sport"], line["dport"], line["uid"], line["held_us"], line["owners"][0]["fd"]) == (0, 0, 0, 0.0, 0)


def test_the_time_held_keeps_its_nanoseconds() -> None:
    assert state_line(transition(held_ns=1_234_567_891))["held_us"] == 1_234_567.891


@pytest.mark.parametrize(
    ("comm", "text"),
    [
        (b"python3", "python3"),
        ("grüß".encode(), "grüß"),
        (b"\xff\xfe", "\\xff\\xfe"),
        (b'a"b\\c', 'a"b\\c'),
        (b"\x1b[2J\n\t\0", "\x1b[2J\n\t\0"),
        (b"", ""),
    ],
)
def test_odd_names_of_processes(comm: bytes, text: str) -> None:
    assert state_line(transition(row(owners=(Owner(comm, 1, None),))))["owners"] == [{"comm": text, "pid": 1}]


@pytest.mark.parametrize("number", range(len(STATE_TEXT)))
def test_every_state_that_decodes_has_a_name(number: int) -> None:
    assert state_line(transition(old=number, new=number))["to"] == STATE_TEXT[number]


def test_lines_are_numbered_through_all_types() -> None:
    out, lines = bytearray(), writer()
    lines.meta(meta(), out)
    lines.seen(row(since_ns=5), 10, out)
    lines.state(transition(), out)
    lines.gap(1, 3, 10, 20, out)
    lines.resync(30, (1, 1, 0), out)
    lines.gone(7, int(State.ESTABLISHED), 30, out)
    lines.seen(row(since_ns=5), 30, out)
    assert [(line["type"], line.get("seq")) for line in parsed(out)] == [
        ("meta", None),
        ("seen", 1),
        ("state", 2),
        ("gap", 3),
        ("resync", 4),
        ("gone", 5),
        ("seen", 6),
    ]


def meta() -> MetaLine:
    return MetaLine(
        schema="sstrace/1", version="1", ts=timestamp(OFFSET), mono_ns=0, host="h", kernel="k", boot_id="b", netns=NETNS
    )


def test_the_other_types_say_what_they_must() -> None:
    out, lines = bytearray(), writer()
    lines.gap(1, 3, 10, 20, out)
    lines.resync(30, (1, 2, 3), out)
    lines.gone(7, int(State.TIME_WAIT), 30, out)
    lines.seen(row(ino=4, v6only=True), 600, out)
    gap, resync, gone, seen = parsed(out)
    assert (gap["cpu"], gap["count"], gap["after_ns"], gap["before_ns"], gap["mono_ns"]) == (1, 3, 10, 20, 20)
    assert (resync["added"], resync["removed"], resync["changed"]) == (1, 2, 3)
    assert (gone["id"], gone["state"]) == (7, "TIME-WAIT")
    assert (seen["state"], seen["ino"], seen["v6only"], seen["held_us"]) == ("ESTAB", 4, True, 0.1)


def test_the_time_in_a_state_that_was_not_seen_to_begin_is_absent() -> None:
    out = bytearray()
    writer().seen(row(exact=False), 600, out)
    assert "held_us" not in parsed(out)[0]


# ------------------------------------------------------------------------------------------------------------ times


@pytest.mark.parametrize(
    ("realtime_ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000000000Z"),
        (1, "1970-01-01T00:00:00.000000001Z"),
        (1_709_251_199_999_999_999, "2024-02-29T23:59:59.999999999Z"),
        (1_709_251_200_000_000_000, "2024-03-01T00:00:00.000000000Z"),
    ],
)
def test_timestamps(realtime_ns: int, text: str) -> None:
    assert timestamp(realtime_ns) == text


@given(st.lists(st.integers(0, 2**62), min_size=1, max_size=5))
def test_times_of_lines_are_those_of_their_clock(times: list[int]) -> None:
    """What is kept of one line's second does not leak into the next."""
    out, lines = bytearray(), writer(offset_ns=1000)
    for at in times:
        lines.state(transition(at_ns=at), out)
    assert [line["ts"] for line in parsed(out)] == [timestamp(at + 1000) for at in times]
    whole = [datetime.fromisoformat(line["ts"][:19] + "+00:00") for line in parsed(out)]
    assert whole == [datetime.fromtimestamp((at + 1000) // 10**9, UTC) for at in times]


def test_a_clock_that_was_set_counts_from_the_next_line() -> None:
    out, lines = bytearray(), writer(offset_ns=0)
    lines.state(transition(at_ns=5), out)
    lines.offset_ns = 10**9
    lines.state(transition(at_ns=5), out)
    assert [line["ts"][17:19] for line in parsed(out)] == ["00", "01"]


# ------------------------------------------------------------------------------------------------------- any content

ROWS = st.builds(
    row,
    state=st.integers(0, 13),
    family=st.sampled_from((AF_INET, AF_INET6)),
    sport=st.integers(0, 65535),
    dport=st.integers(0, 65535),
    ino=st.integers(0, 2**63 - 1),
    uid=st.integers(0, 2**32 - 1),
    ifindex=st.integers(0, 2**31 - 1),
    cookie=st.none() | st.integers(0, 2**64 - 1),
    owners=st.lists(
        st.builds(Owner, st.binary(max_size=16), st.integers(0, 2**22), st.none() | st.integers(0, 10)), max_size=3
    ).map(tuple),
    cgroup=st.none() | st.integers(0, 9),
    v6only=st.none() | st.booleans(),
)


@given(ROWS, st.none() | st.integers(0, 2**62), st.none() | st.integers(0, 2**31 - 1), st.integers(0, 255))
def test_any_row_gives_a_line_of_the_schema(of: Row, held: int | None, err: int | None, retransmits: int) -> None:
    if of.family == AF_INET6:
        of.src, of.dst = of.src * 4, bytes(12) + of.dst
    out = bytearray()
    lines = writer()
    lines.state(transition(of, held_ns=held, err=err, retransmits=retransmits), out)
    lines.seen(of, 2**62, out)
    state, seen = parsed(out)
    assert (state["sport"], seen["dport"]) == (of.sport, of.dport)


class Spaces:
    """What namespaces are called, by cookie; and one row that is the other end of every connection."""

    many = True

    def __init__(self, peer: Row | None = None, **labels: Label) -> None:
        self.labels = {int(net.removeprefix("n")): label for net, label in labels.items()}
        self._peer = peer

    def label(self, net: int) -> Label:
        return self.labels.get(net, Label())

    def ifname(self, net: int, index: int) -> str:
        return f"v{net}.{index}"

    def peer(self, row: RowView) -> RowView | None:
        return self._peer


def test_a_line_says_in_which_namespace_it_is_and_what_that_is_called_by_now() -> None:
    spaces = Spaces(n1=Label(netns_name="web"), n2=Label(pod="db-0", pod_namespace="shop"))
    writes, out = writer(where=spaces), bytearray()
    of = {1: row(ifindex=3), 2: row(net=2, netns=NETNS + 1), 3: row(net=3, netns=NETNS + 2)}
    for net in (1, 2, 3, 1, 2):
        writes.state(transition(of[net]), out)
    writes.seen(of[1], 5_000, out)
    spaces.labels[1] = Label(netns_name="mail", comm="postfix", pid=4)
    for _ in range(2):  # the second time as it is remembered
        writes.netns(NetnsNews(6_000, Netns(1, NETNS), spaces.labels[1], "named"), out)
        writes.state(transition(of[1]), out)
    *lines, named, renamed, again, last = parsed(out)
    assert [line.get("netns_name", line.get("pod")) for line in lines] == ["web", "db-0", None, "web", "db-0", "web"]
    assert [line["ifname"] for line in (lines[0], lines[-1], last)] == ["v1.3"] * 3
    assert lines[1]["pod_namespace"] == "shop"
    keys = {key: named[key] for key in ("type", "event", "netns", "netns_cookie", "netns_name", "comm", "pid")}
    assert list(keys.values()) == ["netns", "named", NETNS, 1, "mail", "postfix", 4]
    assert (renamed["netns_name"], again["type"], last["netns_name"]) == ("mail", "netns", "mail")
    assert [line["seq"] for line in (*lines, named, renamed, again, last)] == list(range(1, 11))


def test_a_line_names_the_other_end_in_another_namespace() -> None:
    peer = row(net=2, netns=NETNS + 1, owners=(Owner(b"nginx", 5, 6),))
    line = state_line(transition(), where=Spaces(peer))
    assert line["peer_netns"] == NETNS + 1
    assert line["peer_owners"] == [{"comm": "nginx", "pid": 5, "fd": 6}]
    assert "peer_netns" not in state_line(transition(), where=Spaces())
