"""What connections carry: totals, rates and round-trip times, out of tcp_info as it is read again and again."""

from collections.abc import Collection, Mapping

import msgspec

from sstrace.fields import Reported
from sstrace.model import Socket
from sstrace.render.times import span_text
from sstrace.render.width import amount
from sstrace.table import Transition
from sstrace.wire.carried import reported_of

__all__ = ["Carried", "Figures", "texts"]


class Figures(msgspec.Struct, gc=False):
    """Of one connection. ``*_then``: what it had carried at ``then_ns`` (CLOCK_MONOTONIC), from where rates count."""

    reported: Reported
    """The latest."""
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

    def take(self, sockets: Mapping[int, Socket], now_ns: int) -> None:
        """Note what the kernel has just said of rows that it was asked for with tcp_info."""
        for number, socket in sockets.items():
            reported = reported_of(socket)
            if reported is None:
                continue
            sent, received = reported.bytes_sent or 0, reported.bytes_received or 0
            known = self._known.get(number)
            if known is None:
                self._known[number] = Figures(reported, then_ns=now_ns, sent_then=sent, received_then=received)
                continue
            known.reported = reported
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
            return Figures(end.reported)
        return self._known.get(number)


def texts(known: Figures | None) -> dict[str, str]:
    """The cells of the columns of ``render.watch_figures``; what is not known is left out."""
    if known is None:
        return {}
    reported = known.reported
    found = {"sent": amount(reported.bytes_sent or 0), "received": amount(reported.bytes_received or 0)}
    if known.sent_rate is not None and known.received_rate is not None:
        found |= {"sent/s": amount(round(known.sent_rate)), "received/s": amount(round(known.received_rate))}
    if reported.rtt_us:
        found["rtt"] = span_text(reported.rtt_us * 1000)
    return found
