"""Perf records of bpf/incidents.bpf.c → Incidents. They are records of the event path, in a buffer of their own."""

import struct
from collections.abc import Mapping
from errno import ENOBUFS, ENOMEM, errorcode
from typing import Literal

from sstrace.errors import DecodeError
from sstrace.fields import RECORD
from sstrace.incidents import KINDS
from sstrace.model import AF_INET, AF_INET6, Details, Incident, Netns, What
from sstrace.protocols import IPPROTO_UDP
from sstrace.wire.event import SIZE, record_of, samples

__all__ = ["IncidentDecoder"]

_WANTED = (
    "ts_ns", "sk", "cookie", "net_cookie", "bytes_sent", "bytes_received", "bytes_retrans", "netns", "ifindex", "err",
    "size", "family", "protocol", "sport", "dport", "kind", "old", "flags", "retransmits", "shutdown", "saddr", "daddr",
)  # fmt: skip
assert [name for name, _ in RECORD if name in _WANTED] == [*_WANTED]
_SAMPLE: struct.Struct = record_of(_WANTED.__contains__)

_RETRANSMIT, _RESET_SENT = KINDS["EVENT_RETRANSMIT"], KINDS["EVENT_RESET_SENT"]
_RESET_RECEIVED, _DROP, _ERROR = KINDS["EVENT_RESET_RECEIVED"], KINDS["EVENT_DROP"], KINDS["EVENT_ERROR"]

_FULL = {ENOMEM: "SOCKET_RCVBUFF", ENOBUFS: "PROTO_MEM"}
"""Why a datagram is not queued: the receive buffer is full, or what all of UDP may have (__udp_queue_rcv_skb,
net/ipv4/udp.c), in the words of enum skb_drop_reason.
"""

_FIN, _SYN, _ACK = 1, 2, 16
"""Flags of a TCP header."""
_CA_STATE = 0x1F
"""icsk_ca_state is the lowest five bits of its byte on a little-endian machine (include/net/inet_connection_sock.h)."""
_CA_RECOVERY, _CA_LOSS = 3, 4
"""enum tcp_ca_state, include/uapi/linux/tcp.h."""


class IncidentDecoder:
    """``resets``, ``drops``: the kernel's reasons by number. ``home``: what is meant where a record names no network
    namespace's cookie.
    """

    def __init__(self, resets: Mapping[int, str], drops: Mapping[int, str], home: Netns) -> None:
        self._resets = resets
        self._drops = drops
        self._home = home

    def decode(self, data: bytes) -> list[Incident]:
        """Of one CPU's run. Raises DecodeError where the bytes are not whole records of ours."""
        home, here = self._home
        found = []
        for (
            at, sk, cookie, net_cookie, window, received, length, netns, ifindex, err, size, family, protocol, sport,
            dport, kind, state, flags, retransmits, ca_state, saddr, daddr,
        ) in (one for run in samples(data) for one in _SAMPLE.iter_unpack(run)):  # fmt: skip
            if size != SIZE or family not in (AF_INET, AF_INET6):
                raise DecodeError(f"BPF event says {size} bytes, family {family}: bpf/ and sstrace/ do not fit")
            what: What
            if kind == _RETRANSMIT:
                what, details = "retransmit", _retransmission(flags, length, retransmits, ca_state & _CA_STATE)
            elif kind == _RESET_SENT:
                what, details = "reset", Details(direction="sent", reason=self._resets.get(err))
            elif kind == _RESET_RECEIVED:
                what, details = "reset", Details(direction="received")
            elif kind == _DROP:
                if protocol == IPPROTO_UDP:
                    reason = _FULL.get(err) or errorcode.get(err, str(err))
                else:
                    reason = self._drops.get(err, str(err))
                what = "drop"
                details = Details(reason=reason, bytes=received or None, window=window - 1 if window else None)
            elif kind == _ERROR:
                what, details = "error", Details(reason=errorcode.get(err, str(err)))
            else:
                raise DecodeError(f"BPF event of kind {kind} is no incident: bpf/ and sstrace/ do not fit")
            width = 4 if family == AF_INET else 16
            src, dst = saddr[:width], daddr[:width]
            net = net_cookie or (home if netns in (0, here) else netns)
            found.append(
                Incident(
                    at, what, protocol, sk, cookie or None, net, netns, family, src, sport, dst, dport, ifindex, state,
                    details,
                )
            )  # fmt: skip
        return found


def _retransmission(flags: int, length: int, retransmits: int, ca_state: int) -> Details:
    if flags & _SYN and flags & _ACK and not length:
        return Details(segment="syn-ack", retransmits=retransmits or None)
    syn, fin = flags >> 1 & 1, flags & _FIN
    payload = max(length - syn - fin, 0)
    segment: Literal["data", "syn", "fin"] = "data" if payload else "syn" if syn else "fin"
    by: Literal["timer", "fast", "probe"] = "probe"
    if ca_state == _CA_LOSS or syn:
        by = "timer"
    elif ca_state == _CA_RECOVERY:
        by = "fast"
    return Details(segment=segment, by=by, bytes=payload or None, retransmits=retransmits or None)
