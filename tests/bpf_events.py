"""Makes what the BPF programs send: packed events, perf records around them, and the Facts that come of them."""

import struct
from typing import Any

from sstrace.fields import KINDS, MEMBERS, RECORD, Reported
from sstrace.model import AF_INET, Changed, Gone, Kind, Netns, Owner, Space

EVENT = struct.Struct("=" + "".join(code for _, code in RECORD))
SAMPLE, LOST = 9, 2

CLIENT, SERVER = bytes((127, 0, 0, 1)), bytes((127, 0, 0, 2))
NETNS = 4026531833
HERE = Netns(7001, NETNS)
SPACE = Space(HERE.cookie, 6)


def stack(*addresses: int) -> bytes:
    """Eight native 64-bit return addresses, innermost first."""
    return struct.pack("=8Q", *addresses, *(0,) * (8 - len(addresses)))


def event(**fields: Any) -> bytes:
    """Pack a struct sock_event; members not named are 0, but for ``size`` and ``fd``, which say "right" and "none"."""
    values = {"size": EVENT.size, "fd": -1, "family": AF_INET, "protocol": 6, **fields}
    assert not values.keys() - {name for name, _ in RECORD}
    return EVENT.pack(*(values.get(name, b"" if code.endswith("s") else 0) for name, code in RECORD))


def record(payload: bytes, kind: int = SAMPLE, size: int | None = None) -> bytes:
    """Put a struct perf_event_header before a payload."""
    return struct.pack("=IHH", kind, 0, 8 + len(payload) if size is None else size) + payload


def sample(payload: bytes, raw_size: int | None = None) -> bytes:
    """A PERF_RECORD_SAMPLE of PERF_SAMPLE_RAW, padded as the kernel pads it: u32 size and payload fill whole u64s."""
    pad = -(4 + len(payload)) % 8
    raw = len(payload) + pad if raw_size is None else raw_size
    return record(struct.pack("=I", raw) + payload + bytes(pad))


def lost(count: int) -> bytes:
    """A PERF_RECORD_LOST: id, count."""
    return record(struct.pack("=QQ", 11, count), LOST)


def state(kind: str = "EVENT_STATE", **fields: Any) -> bytes:
    """A whole sample of one kind."""
    return sample(event(kind=KINDS[kind], **fields))


# Facts, as wire.event would have made them.


def reporting(fields: dict[str, Any]) -> dict[str, Any]:
    """The same fields; those that are only reported, where they belong."""
    told = {
        name: (fields[name] - more if fields[name] else None) for name, (*_, more) in MEMBERS.items() if name in fields
    }
    fields = {name: value for name, value in fields.items() if name not in told}
    return {"reported": Reported(**told), **fields}


def changed(at_ns: int, old: int, new: int, sk: int, **fields: Any) -> Changed:
    """A transition of a full socket between CLIENT:40000 and SERVER:443, unless said otherwise."""
    values: dict[str, Any] = {
        "cpu": 0, "kind": Kind.SOCKET, "cookie": None, "ino": None, "net": HERE.cookie, "netns": NETNS,
        "family": AF_INET, "protocol": 6,
        "src": CLIENT, "sport": 40000, "dst": SERVER, "dport": 443, "uid": 0, "ifindex": 0, "since_ns": None,
        "owner": None, "cgroup": None, "cause": None, **reporting(fields),
    }  # fmt: skip
    return Changed(at_ns=at_ns, old=int(old), new=int(new), sk=sk, **values)


def gone(at_ns: int, kind: Kind, sk: int, **fields: Any) -> Gone:
    """The end of a request or timewait socket."""
    values: dict[str, Any] = {
        "cpu": 0, "cookie": None, "net": HERE.cookie, "netns": NETNS, "family": AF_INET, "protocol": 6,
        "src": CLIENT, "sport": 40000, "dst": SERVER,
        "dport": 443, "ifindex": 0, "cause": "expired", **reporting(fields),
    }  # fmt: skip
    return Gone(at_ns=at_ns, kind=kind, sk=sk, **values)


def owner(pid: int = 77, fd: int | None = 5, comm: bytes = b"python3") -> Owner:
    """An owner."""
    return Owner(comm, pid, fd)
