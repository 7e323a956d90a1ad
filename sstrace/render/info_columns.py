"""The items of tcp_info for many rows at once: text by column, put together by one template a shape.

What each item says is defined in ``render.info.tcp_items``, row by row; here the same items are *slots*, in the same
order, each with the fields it hangs on. Where all rows of a group have the same fields, the slot's text is part of the
template; where they differ, the slot's texts are made by column and remembered by value, because rates, round-trip
times and windows come again and again. A slot with nothing to say is an empty text. Tests prove that both ways give
the same bytes.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sstrace.render.common import Context, millis, signed
from sstrace.render.info import limited, option_words

__all__ = ["Plan", "TcpItems"]

_ALL_ONES = 0xFFFFFFFFFFFFFFFF
_FIELDS = (
    "state ca_state retransmits probes backoff options scales flags "
    "rto ato snd_mss rcv_mss unacked sacked lost retrans fackets "
    "last_data_sent last_ack_sent last_data_recv last_ack_recv "
    "pmtu rcv_ssthresh rtt rttvar snd_ssthresh snd_cwnd advmss reordering rcv_rtt rcv_space total_retrans "
    "pacing_rate max_pacing_rate bytes_acked bytes_received segs_out segs_in notsent_bytes min_rtt "
    "data_segs_in data_segs_out delivery_rate busy rwnd_limited sndbuf_limited delivered delivered_ce "
    "bytes_sent bytes_retrans dsack_dups reord_seen rcv_ooopack snd_wnd rcv_wnd rehash"
)
"""The fields of tcp_info that items are made of, in its order."""
_NUMBER = {name: number for number, name in enumerate(_FIELDS.split())}

_MEMORY = 16384
"""Texts that a slot remembers; what differs in more rows than that is made anew each time."""

Maker = Callable[..., str]
Slot = tuple[tuple[int, ...], Maker]
Texts = Callable[[Sequence[Sequence[int]]], Iterable[str]]
"""Columns of the fields that differ → the texts of a slot, row by row."""
Plan = Sequence[tuple[str, Sequence[Texts]]]
"""Pieces of a template, each with what makes the texts that go into it."""


class _Memory(dict[Any, str]):
    """Value (or values) of a slot's fields → its text."""

    def __init__(self, make: Maker) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, value: Any) -> str:
        text = self._make(value)
        if len(self) < _MEMORY:
            self[value] = text
        return text


class TcpItems:
    """Makes the items of groups of rows, for one invocation."""

    def __init__(self, context: Context) -> None:
        self._slots = _slots(context)
        self._plans: dict[tuple[int | None, ...], Plan] = {}

    def plan(self, constants: tuple[int | None, ...]) -> Plan:
        """How rows are printed that agree in ``constants`` (None: they differ), in three pieces: what stands before
        the name of the congestion control, before its own words, and behind them.
        """
        plan = self._plans.get(constants)
        if plan is None:
            plan = self._plans[constants] = self._compile(constants)
        return plan

    def _compile(self, constants: tuple[int | None, ...]) -> Plan:
        column_of = {field: number for number, field in enumerate(at for at, v in enumerate(constants) if v is None)}
        plan: list[tuple[str, list[Texts]]] = []
        for slots in self._slots:
            template = ""
            makers: list[Texts] = []
            for fields, make in slots:
                values = tuple(constants[field] for field in fields)
                columns = tuple(column_of[field] for field in fields if field in column_of)
                if columns:
                    template += "%s"
                    makers.append(_texts(make, values, columns))
                else:
                    template += make(*values).replace("%", "%%")
            plan.append((template, makers))
        return tuple(plan)


def _texts(make: Maker, values: Sequence[int | None], columns: Sequence[int]) -> Texts:
    """What makes a slot's texts, where only the fields differ whose ``values`` are None."""
    if len(columns) == 1:
        column, place = columns[0], values.index(None)
        before, behind = values[:place], values[place + 1 :]
        known = _Memory(make if len(values) == 1 else lambda value: make(*before, value, *behind)).__getitem__
        return lambda found: map(known, found[column])

    def made(differing: tuple[int, ...]) -> str:
        rest = iter(differing)
        return make(*[next(rest) if value is None else value for value in values])

    several = _Memory(made).__getitem__
    return lambda found: map(several, zip(*[found[column] for column in columns], strict=True))


def _slots(context: Context) -> Sequence[list[Slot]]:
    """The slots of the three pieces."""
    show, dialect, bits = context.show, context.dialect, context.rate

    def slot(make: Maker, *names: str) -> Slot:
        return tuple(_NUMBER[name] for name in names), make

    def number(name: str, label: str = "") -> Slot:
        return slot(lambda value: f" {label or name}:{value}" if value else "", name)

    def narrow(name: str, label: str) -> Slot:
        return slot(lambda value: f" {label}:{signed(value)}" if value else "", name)

    def time(name: str, label: str) -> Slot:
        return slot(lambda value: f" {label}:{millis(value)}" if value else "", name)

    def send(rtt: int, mss: int, cwnd: int) -> str:
        return f" send {bits(float(cwnd) * float(mss) * 8000000.0 / rtt)}bps" if rtt and mss and cwnd else ""

    def pacing(rate: int, most: int) -> str:
        if not rate or rate == _ALL_ONES:
            return ""
        limit = f"/{bits(most * 8.0)}bps" if most and most != _ALL_ONES else ""
        return f" pacing_rate {bits(rate * 8.0)}bps{limit}"

    def retrans(now: int, total: int) -> str:
        return f" retrans:{now}/{total}" if now or total else ""

    words = [slot(lambda options: option_words(options, dialect), "options")] if show.timers else []
    first = [
        slot(
            lambda options, scales: f" wscale:{scales & 15},{scales >> 4}" if options & 4 else "", "options", "scales"
        ),
        slot(lambda rto: f" rto:{millis(rto)}" if rto and rto != 3_000_000 else "", "rto"),
        number("backoff"),
        slot(lambda rtt, rttvar: f" rtt:{millis(rtt)}/{millis(rttvar)}" if rtt else "", "rtt", "rttvar"),
        time("ato", "ato"),
        narrow("snd_mss", "mss"),
        number("pmtu"),
        narrow("rcv_mss", "rcvmss"),
        narrow("advmss", "advmss"),
        number("snd_cwnd", "cwnd"),
        slot(lambda value: f" ssthresh:{value}" if 0 < value < 0xFFFF else "", "snd_ssthresh"),
        number("bytes_sent"),
        number("bytes_retrans"),
        number("bytes_acked"),
        number("bytes_received"),
        number("segs_out"),
        number("segs_in"),
        number("data_segs_out"),
        number("data_segs_in"),
    ]
    second = [
        slot(send, "rtt", "snd_mss", "snd_cwnd"),
        number("last_data_sent", "lastsnd"),
        number("last_data_recv", "lastrcv"),
        number("last_ack_recv", "lastack"),
        slot(pacing, "pacing_rate", "max_pacing_rate"),
        slot(lambda rate: f" delivery_rate {bits(rate * 8.0)}bps" if rate else "", "delivery_rate"),
        number("delivered"),
        number("delivered_ce"),
        slot(lambda flags: " app_limited" if flags & 1 else "", "flags"),
        slot(limited, "busy", "rwnd_limited", "sndbuf_limited"),
        number("unacked"),
        slot(retrans, "retrans", "total_retrans"),
        number("lost"),
        number("sacked"),
        number("dsack_dups"),
        number("fackets"),
        slot(lambda value: f" reordering:{signed(value)}" if value != 3 else "", "reordering"),
        narrow("reord_seen", "reord_seen"),
        time("rcv_rtt", "rcv_rtt"),
        narrow("rcv_space", "rcv_space"),
        number("rcv_ssthresh"),
        number("notsent_bytes", "notsent"),
        slot(lambda value: f" minrtt:{millis(value)}" if value and value != 0xFFFFFFFF else "", "min_rtt"),
        number("rcv_ooopack"),
        number("snd_wnd"),
    ]
    if dialect.tcp_rcv_wnd:
        second += [number("rcv_wnd"), number("rehash")]
    return words, first, second
