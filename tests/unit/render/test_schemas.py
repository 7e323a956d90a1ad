"""The three event schemas: shipped as they are, obeyed by what is written, and telling the same story."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sstrace.causes import CAUSES
from sstrace.fields import NOTHING, Reported
from sstrace.lines import MetaLine
from sstrace.model import AF_INET, AF_INET6, STATE_TEXT, Kind, Owner, State
from sstrace.render.ecs import EcsWriter
from sstrace.render.events import EventWriter
from sstrace.render.otel import OtelWriter
from sstrace.table import Row, Transition

ROOT = Path(__file__).resolve().parents[3]
WRITERS = {"native": EventWriter, "ecs": EcsWriter, "otel": OtelWriter}
CONTAINER = "3f4e8b1c9d2a7f60" * 4
PATHS = {
    7: f"/system.slice/docker-{CONTAINER}.scope",
    8: "/system.slice/nginx.service",
    9: f"/kubepods.slice/kubepods-pod8f2b7c1e_4a5d_4c3b_9e8f_0a1b2c3d4e5f.slice/cri-containerd-{CONTAINER}.scope",
    10: "/",
}
META = MetaLine(
    schema="sstrace/1",
    version="1",
    ts="2026-01-01T00:00:00.000000000Z",
    mono_ns=5,
    host="web1",
    kernel="6.18",
    boot_id="b",
    netns=4026531840,
)


def writer(name: str) -> tuple[EventWriter, bytearray]:
    out = bytearray()
    made = WRITERS[name](1_700_000_000_000_000_000, PATHS.get, lambda index: f"eth{index}")
    made.meta(META, out)
    return made, out


def row(**given: Any) -> Row:
    fields: dict[str, Any] = {
        "id": 17, "kind": Kind.SOCKET, "state": 1, "family": AF_INET, "protocol": 6, "net": 1, "netns": 4026531840,
        "src": b"\x0a\0\0\1", "sport": 45678, "dst": b"\x0a\0\0\2", "dport": 443, "ino": 99, "uid": 33, "ifindex": 0,
        "cookie": 4711, "sk": 1, "since_ns": 1000, "exact": True, "touched_ns": 1000,
    }  # fmt: skip
    return Row(**{**fields, **given})


def validator(name: str) -> Any:
    schema = json.loads((ROOT / "sstrace" / "schemas" / f"{name}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


VALIDATORS = {name: validator(name) for name in WRITERS}


def keys_of(schema: Any, definitions: Any) -> set[str]:
    found = set()
    for part in schema.get("anyOf", [schema]):
        one = definitions[part["$ref"].rpartition("/")[2]] if "$ref" in part else part
        for key, inner in one.get("properties", {}).items():
            found.add(key)
            below = inner.get("items") or inner
            found |= {f"{key}/{name}" for name in keys_of(below, definitions)} if "$ref" in below else set()
    return found


KEYS = {name: keys_of(found.schema, found.schema["$defs"]) for name, found in VALIDATORS.items()}


def paths(value: Any, head: str = "") -> set[str]:
    found = set()
    for key, inner in value.items() if isinstance(value, dict) else ():
        found.add(head + key)
        for below in inner if isinstance(inner, list) else [inner]:
            found |= paths(below, f"{head}{key}/")
    return found


def lines(name: str, out: bytearray) -> list[dict[str, Any]]:
    assert out.endswith(b"\n")
    found = [json.loads(line) for line in out.splitlines()]
    for line in found:
        VALIDATORS[name].validate(line)
        unknown = paths(line) - KEYS[name] - {"interfaces/lo", "host/boot/id"}
        assert not unknown, f"keys that the schema does not know: {unknown}"
        assert None not in line.values()
    return found


addresses = st.one_of(
    st.tuples(st.just(AF_INET), st.binary(min_size=4, max_size=4), st.binary(min_size=4, max_size=4)),
    st.tuples(st.just(AF_INET6), st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16)),
)
owners = st.lists(
    st.builds(Owner, st.binary(min_size=1, max_size=15), st.integers(1, 1 << 22), st.none() | st.integers(0, 1 << 20)),
    max_size=3,
).map(tuple)
states = st.integers(1, 12)


@st.composite
def transitions(draw: st.DrawFn) -> Transition:
    family, src, dst = draw(addresses)
    at_ns = draw(st.integers(10**9, 10**15))
    old, new = draw(states), draw(states)
    made = row(
        family=family,
        src=src,
        dst=dst,
        sport=draw(st.integers(0, 65535)),
        dport=draw(st.integers(0, 65535)),
        owners=draw(owners),
        owner_source=draw(st.sampled_from([None, "walk", "connect"])),
        cgroup=draw(st.sampled_from([None, 7, 8, 9, 10, 11])),
        cookie=draw(st.none() | st.integers(1, (1 << 64) - 1)),
        ino=draw(st.integers(0, (1 << 32) - 1)),
        uid=draw(st.integers(0, (1 << 32) - 1)),
        ifindex=draw(st.integers(0, 5)),
        v6only=draw(st.none() | st.booleans()),
        role=draw(st.sampled_from([None, "client", "server"])),
    )
    held = draw(st.none() | st.integers(0, 10**14))
    cause = draw(st.none() | st.sampled_from(sorted(CAUSES)))
    reported = Reported(err=draw(st.none() | st.integers(1, 140)), retransmits=draw(st.none() | st.integers(1, 20)))
    return Transition(
        at_ns, made, old, new, held, cause, reported, True, draw(st.booleans()),
        draw(st.sampled_from([None, "poll"])), draw(st.booleans()), draw(st.none() | st.integers(0, 10**15)),
    )  # fmt: skip


@given(transitions())
def test_a_transition_reads_the_same_in_every_schema(change: Transition) -> None:
    said = {}
    for name in WRITERS:
        made, out = writer(name)
        made.state(change, out)
        made.state(change, out)
        first, second = lines(name, out)[1:]
        said[name] = first
        for key in ("seq", "event", "sstrace.seq"):
            first.pop(key, None) if key != "event" else None
            second.pop(key, None) if key != "event" else None
        if name == "ecs":
            assert second["event"].pop("sequence") == first["event"].pop("sequence") + 1
        assert first == second, "what is kept from line to line changes nothing"
    native, ecs, otel = said["native"], said["ecs"], said["otel"]
    assert native["ts"] == ecs["@timestamp"] == otel["timestamp"]
    assert native["from"] == ecs["sstrace"]["from"]
    assert native["to"] == ecs["sstrace"]["to"]
    here, there = ("destination", "source") if native.get("role") == "server" else ("source", "destination")
    assert native["src"] == ecs[here]["ip"] == otel["network.local.address"]
    assert native["sport"] == ecs[here]["port"] == otel["network.local.port"]
    if native["dport"]:
        assert native["dst"] == ecs[there]["ip"] == otel["network.peer.address"]
        assert native["dport"] == ecs[there]["port"] == otel["network.peer.port"]
    else:
        assert there not in ecs
        assert "network.peer.port" not in otel
    assert native.get("cause") == ecs["event"].get("reason") == otel.get("sstrace.cause")
    assert native.get("held_us") == ecs["sstrace"].get("held_us") == otel.get("sstrace.held_us")
    assert native.get("container_id") == ecs.get("container", {}).get("id") == otel.get("container.id")
    assert native.get("container_runtime") == ecs.get("container", {}).get("runtime")
    assert native.get("container_runtime") == otel.get("container.runtime.name")
    assert native.get("unit") == ecs.get("systemd", {}).get("unit") == otel.get("sstrace.unit")
    assert native.get("pod_uid") == ecs.get("orchestrator", {}).get("resource", {}).get("id") == otel.get("k8s.pod.uid")
    assert native.get("cgroup") == ecs["sstrace"].get("cgroup") == otel.get("process.linux.cgroup")
    assert str(native["uid"]) == ecs["user"]["id"] == otel["user.id"]
    first_owner = native.get("owners", [{}])[0]
    assert first_owner.get("pid") == ecs.get("process", {}).get("pid") == otel.get("process.pid")
    assert first_owner.get("comm") == ecs.get("process", {}).get("name") == otel.get("process.executable.name")
    assert ("owners" in ecs["sstrace"]) == ("sstrace.owners" in otel) == (len(native.get("owners", ())) > 1)
    assert native.get("ended") is ecs["sstrace"].get("ended") is otel.get("sstrace.ended")
    if "lifetime_us" in native:
        assert native["lifetime_us"] == otel["sstrace.lifetime_us"] == ecs["event"]["duration"] / 1000
    else:
        assert "duration" not in ecs["event"]
        assert "sstrace.lifetime_us" not in otel
    assert ecs["event"].get("outcome") == otel.get("sstrace.outcome")


@given(transitions(), st.none() | st.integers(0, 10**12))
def test_a_life_reads_the_same_in_every_schema(end: Transition, handshake_ns: int | None) -> None:
    carried = Reported(bytes_sent=77, bytes_received=0, segs_out=5, segs_in=4, retrans=1, rtt_us=90)
    change = msgspec.structs.replace(end, ended=True, reported=carried)
    said, same = {}, {}
    for name in WRITERS:
        made, out = writer(name)
        made.life(change, handshake_ns, out)
        made.state(change, out)
        said[name], same[name] = lines(name, out)[1:]
    native, ecs, otel = said["native"], said["ecs"], said["otel"]
    took = handshake_ns / 1000 if handshake_ns is not None else None
    assert native.get("handshake_us") == ecs["sstrace"].get("handshake_us") == otel.get("sstrace.handshake_us") == took
    for line in (native, ecs["sstrace"]):
        assert line["type"] == "life"
        line["type"] = "state"
    assert (ecs["event"].pop("dataset"), otel.pop("event_name")) == ("sstrace.life", "sstrace.life")
    here, there = ("destination", "source") if native.get("role") == "server" else ("source", "destination")
    assert (ecs[here].pop("bytes"), ecs[here].pop("packets")) == (77, 5)
    if there in ecs:
        assert (ecs[there].pop("bytes"), ecs[there].pop("packets")) == (0, 4)
    # Besides, it is the line of that transition, in each.
    for line, other, key in (
        (native, same["native"], "handshake_us"),
        (ecs["sstrace"], same["ecs"]["sstrace"], "handshake_us"),
        (otel, same["otel"], "sstrace.handshake_us"),
    ):
        line.pop(key, None)
        for number in ("seq", "sstrace.seq", "event_name"):
            other.pop(number, None)
            line.pop(number, None)
    assert native == same["native"]
    assert otel == same["otel"]
    for document in (ecs, same["ecs"]):
        document["event"].pop("sequence")
        document["event"].pop("dataset", None)
    assert ecs == same["ecs"]


@pytest.mark.parametrize(
    ("old", "new", "cause", "said"),
    [
        (State.CLOSE, State.SYN_SENT, None, (["connection", "start"], "syn-sent", None)),
        (State.LISTEN, State.SYN_RECV, None, (["connection", "start"], "syn-recv", None)),
        (State.SYN_SENT, State.ESTABLISHED, None, (["connection", "info"], "established", "success")),
        (State.ESTABLISHED, State.CLOSE_WAIT, None, (["connection", "info"], "close-wait", None)),
        (State.SYN_SENT, State.CLOSE, "refused", (["connection", "end"], "closed", "failure")),
        (State.SYN_SENT, State.CLOSE, "abandoned", (["connection", "end"], "closed", None)),
        (State.LAST_ACK, State.CLOSE, "fin-by-peer", (["connection", "end"], "closed", "success")),
        (State.ESTABLISHED, State.CLOSE, "unknown", (["connection", "end"], "closed", None)),
        (State.CLOSE, State.LISTEN, None, (["start"], "listening", None)),
        (State.LISTEN, State.CLOSE, "closed", (["end"], "closed", "success")),
        (State.FIN_WAIT2, State.TIME_WAIT, "fin-by-us", (["connection", "end"], "time-wait", "success")),
        (State.FIN_WAIT2, State.FIN_WAIT2, "fin-by-us", (["connection", "end"], "fin-wait-2", "success")),
        (State.TIME_WAIT, State.CLOSE, "expired", (["connection", "info"], "closed", None)),
    ],
)
def test_ecs_says_what_sort_of_event(
    old: int, new: int, cause: str | None, said: tuple[list[str], str, str | None]
) -> None:
    made, out = writer("ecs")
    ended = "end" in said[0] and old != State.LISTEN
    lifetime = 1000 if "end" in said[0] else None
    change = Transition(2000, row(), old, new, None, cause, NOTHING, True, ended=ended, lifetime_ns=lifetime)
    made.state(change, out)
    event = lines("ecs", out)[1]["event"]
    assert event["kind"] == "event"
    assert event["category"] == ["network"]
    assert (event["type"], event["action"], event.get("outcome")) == said
    assert event.get("duration") == lifetime


def test_ecs_puts_the_caller_first() -> None:
    made, out = writer("ecs")
    for role in ("client", "server", None):
        made.state(Transition(2000, row(role=role), 3, 1, None, None, NOTHING, True), out)
    client, server, unknown = lines("ecs", out)[1:]
    assert (client["source"]["ip"], client["network"]["direction"]) == ("10.0.0.1", "egress")
    assert (server["source"]["ip"], server["network"]["direction"]) == ("10.0.0.2", "ingress")
    assert unknown["source"]["ip"] == "10.0.0.1"
    assert "direction" not in unknown["network"]


def test_otel_states_are_those_of_the_conventions() -> None:
    made, out = writer("otel")
    for state in range(1, 12):
        made.state(Transition(2000, row(), 7, state, None, None, Reported(err=111), True), out)
    found = lines("otel", out)[1:]
    assert [line["network.connection.state"] for line in found] == [
        "established", "syn_sent", "syn_received", "fin_wait_1", "fin_wait_2", "time_wait", "closed", "close_wait",
        "last_ack", "listen", "closing",
    ]  # fmt: skip
    assert found[0]["sstrace.state.previous"] == "closed"
    assert found[0]["error.type"] == "ECONNREFUSED"


@pytest.mark.parametrize("name", WRITERS)
def test_lines_that_are_few(name: str) -> None:
    made, out = writer(name)
    some = row(cgroup=9, owners=(Owner(b"a\xff", 1, 2), Owner(b"b", 3, None)), owner_source="walk", role="server")
    made.seen(some, 5000, out)
    made.gone(some.id, some.state, 6000, out)
    made.gap(1, 42, 100, 7000, out)
    made.resync(8000, (1, 2, 3), out)
    made.skip(20)
    made.dropped(9000, 20, "slow-reader", out)
    made.checkpoint([], [some], 9500, 3, out)
    found = lines(name, out)
    types = ["meta", "seen", "gone", "gap", "resync", "dropped", "checkpoint", "seen"]
    if name == "native":
        assert [line["type"] for line in found] == types
        dropped, seen, gap = found[5], found[1], found[3]
        assert (seen["state"], seen["pod_uid"][:8], seen["owners"][1]) == ("ESTAB", "8f2b7c1e", {"comm": "b", "pid": 3})
        assert (dropped["first_seq"], dropped["count"], dropped["seq"]) == (5, 20, 25)
    elif name == "ecs":
        assert [line["event"]["dataset"] for line in found] == [f"sstrace.{one}" for one in types]
        assert all(line["host"]["name"] == "web1" for line in found)
        dropped, seen, gap = found[5]["sstrace"], found[1], found[3]["sstrace"]
        assert (seen["event"]["kind"], seen["event"]["action"]) == ("state", "established")
        assert (seen["source"]["ip"], seen["process"]) == ("10.0.0.2", {"pid": 1, "name": "a\\xff"})
        assert seen["orchestrator"]["resource"]["id"].startswith("8f2b7c1e")
        assert found[0]["sstrace"]["schema"] == "sstrace-ecs/1"
    else:
        assert [line["event_name"] for line in found] == [f"sstrace.{one}" for one in types]
        assert all(line["host.name"] == "web1" for line in found)
        dropped, gap, seen = (
            {key.removeprefix("sstrace."): value for key, value in found[i].items()} for i in (5, 3, 1)
        )
        assert (seen["network.connection.state"], seen["process.executable.name"]) == ("established", "a\\xff")
        assert (found[3]["severity_text"], found[5]["severity_text"]) == ("WARN", "WARN")
        assert found[0]["sstrace.schema"] == "sstrace-otel/1"
    assert (dropped["count"], dropped["first_seq"], dropped["reason"]) == (20, 5, "slow-reader")
    assert (gap["cpu"], gap["count"]) == (1, 42)


def test_unknown_states_are_words() -> None:
    assert len(STATE_TEXT) == 14
    made, out = writer("native")
    made.state(Transition(2000, row(), 12, 13, None, None, NOTHING, True), out)
    assert lines("native", out)[1]["to"] == "UNDEF"
