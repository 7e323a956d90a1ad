"""What connections carry: totals, rates and round-trip times, out of tcp_info as it is read again and again."""

from collections.abc import Collection, Mapping

import msgspec

from sstrace.model import InetSocket, State
from sstrace.render.times import span_text
from sstrace.render.width import amount
from sstrace.table import Transition
from sstrace.wire.tcp_info import TcpInfo, decode_tcp_info

__all__ = ["Carried", "Figures", "payload", "tcp_info_of", "texts"]

_LISTEN = int(State.LISTEN)
_FIN_CAME = {int(State.CLOSE_WAIT), int(State.CLOSING), int(State.LAST_ACK)}
"""States of full sockets in which the peer's FIN has come."""


class Figures(msgspec.Struct, gc=False):
    """Of one connection. ``*_then``: what it had carried at ``then_ns`` (CLOCK_MONOTONIC), from where rates count."""

    sent: int
    """Payload in bytes, each once."""
    received: int
    rtt_us: int
    """Smoothed; 0: not measured yet."""
    sent_rate: float | None = None
    """Bytes per second; None before the second look, and of what has ended."""
    received_rate: float | None = None
    then_ns: int = 0
    sent_then: int = 0
    received_then: int = 0


class Carried:
    """The figures of some rows, by the rows' ids. ``step_ns``: a rate is taken over no less than that."""

    def __init__(self, step_ns: int) -> None:
        self._step_ns = step_ns
        self._known: dict[int, Figures] = {}

    def take(self, sockets: Mapping[int, InetSocket], now_ns: int) -> None:
        """Note what the kernel has just said of rows that it was asked for with tcp_info."""
        for number, socket in sockets.items():
            info = tcp_info_of(socket)
            if info is None or socket.state == _LISTEN:
                continue
            sent, received = payload(info)
            known = self._known.get(number)
            if known is None:
                self._known[number] = Figures(
                    sent, received, info.rtt, then_ns=now_ns, sent_then=sent, received_then=received
                )
                continue
            known.sent, known.received, known.rtt_us = sent, received, info.rtt
            passed_ns = now_ns - known.then_ns
            if passed_ns >= self._step_ns:
                known.sent_rate = (sent - known.sent_then) * 1e9 / passed_ns
                known.received_rate = (received - known.received_then) * 1e9 / passed_ns
                known.then_ns, known.sent_then, known.received_then = now_ns, sent, received

    def keep(self, numbers: Collection[int]) -> None:
        """Forget all but these."""
        self._known = {number: known for number, known in self._known.items() if number in numbers}

    def of(self, number: int, end: Transition | None) -> Figures | None:
        """The figures of a row; ``end``: how it ended, if it has: the kernel's last word goes before ours."""
        if end is not None and end.reported.bytes_sent is not None:
            told = end.reported
            return Figures(told.bytes_sent or 0, told.bytes_received or 0, told.rtt_us or 0)
        return self._known.get(number)


def texts(known: Figures | None) -> dict[str, str]:
    """The cells of the columns of ``render.watch_figures``; what is not known is left out."""
    if known is None:
        return {}
    found = {"sent": amount(known.sent), "received": amount(known.received)}
    if known.sent_rate is not None and known.received_rate is not None:
        found |= {"sent/s": amount(round(known.sent_rate)), "received/s": amount(round(known.received_rate))}
    if known.rtt_us:
        found["rtt"] = span_text(known.rtt_us * 1000)
    return found


def tcp_info_of(socket: InetSocket | None) -> TcpInfo | None:
    """A socket's tcp_info; None where there is none: TIME-WAIT, SYN-RECV, or it was not asked for."""
    blob = socket.extras.info if socket is not None and socket.extras is not None else None
    return decode_tcp_info(blob) if blob else None


def payload(info: TcpInfo) -> tuple[int, int]:
    """Bytes of payload sent, each once, and received. tcpi_bytes_sent counts again what is sent again (Linux 4.19),
    tcpi_bytes_received the peer's FIN (tcp_rcv_nxt_update in net/ipv4/tcp_input.c).
    """
    return max(0, info.bytes_sent - info.bytes_retrans), max(0, info.bytes_received - (info.state in _FIN_CAME))
