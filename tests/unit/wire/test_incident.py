"""Records of incidents → what they mean."""

from contextlib import suppress
from typing import Any

import pytest
from bpf_events import CLIENT, NETNS, SERVER, event, sample
from hypothesis import given
from hypothesis import strategies as st

from sstrace.errors import DecodeError
from sstrace.incidents import KINDS
from sstrace.model import Details, Netns
from sstrace.wire.incident import IncidentDecoder

DECODER = IncidentDecoder({5: "TCP_STATE"}, {32: "TCP_ZEROWINDOW"}, Netns(77, NETNS))


def details(kind: str, **fields: Any) -> Details:
    values = {"saddr": CLIENT, "daddr": SERVER, "sport": 40000, "dport": 443, "family": 2, "protocol": 6, **fields}
    (found,) = DECODER.decode(sample(event(kind=KINDS[kind], old=1, new=1, netns=NETNS, **values)))
    assert (found.src, found.dst, found.sport, found.dport, found.state) == (CLIENT, SERVER, 40000, 443, 1)
    assert found.net == 77
    return found.details


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"flags": 0x18, "bytes_retrans": 1000, "retransmits": 2, "shutdown": 4},
         Details(segment="data", by="timer", bytes=1000, retransmits=2)),
        ({"flags": 0x11, "bytes_retrans": 1001, "shutdown": 3}, Details(segment="data", by="fast", bytes=1000)),
        ({"flags": 0x11, "bytes_retrans": 1, "shutdown": 1}, Details(segment="fin", by="probe")),
        ({"flags": 0x02, "bytes_retrans": 1, "retransmits": 1}, Details(segment="syn", by="timer", retransmits=1)),
        ({"flags": 0x12, "retransmits": 3}, Details(segment="syn-ack", retransmits=3)),
    ],
)  # fmt: skip
def test_what_is_sent_again(fields: dict[str, int], told: Details) -> None:
    assert details("EVENT_RETRANSMIT", **fields) == told


def test_resets_and_drops() -> None:
    assert details("EVENT_RESET_SENT", err=5) == Details(direction="sent", reason="TCP_STATE")
    assert details("EVENT_RESET_SENT") == Details(direction="sent")
    assert details("EVENT_RESET_RECEIVED") == Details(direction="received")
    assert details("EVENT_ERROR", protocol=17, err=111) == Details(reason="ECONNREFUSED")
    drop = Details(reason="TCP_ZEROWINDOW", bytes=9, window=0)
    assert details("EVENT_DROP", err=32, bytes_received=9, bytes_sent=1) == drop
    assert details("EVENT_DROP", err=500, bytes_received=9) == Details(reason="500", bytes=9), "a kernel that has more"


@given(st.binary(max_size=900))
def test_any_bytes_give_incidents_or_a_sentence(data: bytes) -> None:
    with suppress(DecodeError):
        assert DECODER.decode(data) == []
