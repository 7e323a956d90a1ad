"""The items of tcp_info for many rows at once: text by column, put together by one template a shape.

What each item says is defined in ``render.info.tcp_items``, row by row; here the same items are *slots*, in the same
order, each with the fields it hangs on. Where all rows of a group have the same fields, the slot's text is part of the
template; where they differ, the slot's texts are made by column and remembered by value, because rates, round-trip
times and windows mostly come again and again. Where they do not, numbers go into the template as they are (``form``).
A slot with nothing to say is an empty text. Tests prove that all ways give the same bytes.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from sstrace.render.common import Context, millis, signed
from sstrace.render.info import limited, option_words

__all__ = ["Plan", "TcpItems"]

_ALL_ONES = 0xFFFFFFFFFFFFFFFF
_ALL_ONES32 = 0xFFFFFFFF
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
"""Texts that a slot remembers at most."""
_TRIAL = 1024
"""Texts after which it is judged whether remembering pays."""

Columns = Sequence[Sequence[int]]
Filled = tuple[str, Sequence[Iterable[Any]]]
"""A piece of a template, and the columns that fill it."""
Form = Callable[..., Filled | None]
Plan = Sequence[Sequence[tuple[str, Callable[[Columns], Filled] | None]]]
"""Pieces of a template: literal text, each followed by a slot that differs from row to row: told the columns of the
fields that differ, it gives what stands in its place.
"""


class Slot(msgspec.Struct, frozen=True):
    """An item and what it hangs on."""

    fields: tuple[int, ...]
    """Numbers of its fields."""
    make: Callable[..., str]
    """Their values → its text."""
    form: Form | None = None
    """Their columns → a template, where all the texts are alike but for numbers; else None. The fast way where
    remembering does not pay.
    """


class _Memory(dict[Any, str]):
    """Values of a slot's fields → its text. For most fields that pays many times over; where hardly two rows are alike,
    remembering takes longer than making anew, and is given up.
    """

    def __init__(self, make: Callable[..., str]) -> None:
        super().__init__()
        self._make = make
        self._asked = 0

    def __missing__(self, value: Any) -> str:
        text = self._make(value)
        if len(self) < _MEMORY:
            self[value] = text
        return text

    def pays(self, count: int) -> bool:
        """Whether to ask it for ``count`` more texts."""
        if self._asked >= 0:
            if len(self) <= _TRIAL or self._asked > 3 * len(self):
                self._asked += count
                return True
            self._asked = -1
            self.clear()
        return False


class TcpItems:
    """Makes the items of groups of rows, for one invocation."""

    def __init__(self, context: Context) -> None:
        self._slots = _slots(context)
        self._plans: dict[tuple[int | None, ...], Plan] = {}

    def plan(self, constants: tuple[int | None, ...]) -> Plan:
        """How rows are printed that agree in ``constants`` (None: they differ), in three parts: what stands before the
        name of the congestion control, before its own words, and behind them.
        """
        plan = self._plans.get(constants)
        if plan is None:
            plan = self._plans[constants] = self._compile(constants)
        return plan

    def _compile(self, constants: tuple[int | None, ...]) -> Plan:
        column_of = {field: number for number, field in enumerate(at for at, v in enumerate(constants) if v is None)}
        plan: list[list[tuple[str, Callable[[Columns], Filled] | None]]] = []
        for slots in self._slots:
            part: list[tuple[str, Callable[[Columns], Filled] | None]] = []
            literal = ""
            for slot in slots:
                values = [constants[field] for field in slot.fields]
                columns = [column_of[field] for field in slot.fields if field in column_of]
                if columns:
                    part.append((literal, _filler(slot, values, columns)))
                    literal = ""
                else:
                    literal += slot.make(*values).replace("%", "%%")
            part.append((literal, None))
            plan.append(part)
        return plan


def _filler(slot: Slot, values: Sequence[int | None], columns: Sequence[int]) -> Callable[[Columns], Filled]:
    """What fills a slot where only the fields differ whose ``values`` are None."""
    make, form = slot.make, slot.form
    if len(values) == 1:
        made = make
    elif len(columns) == 1:
        place = values.index(None)
        before, behind = values[:place], values[place + 1 :]

        def made(value: int) -> str:
            return make(*before, value, *behind)

    else:

        def made(differing: tuple[int, ...]) -> str:
            rest = iter(differing)
            return make(*[next(rest) if value is None else value for value in values])

    memory = _Memory(made)
    known = memory.__getitem__

    def fill_one(found: Columns) -> Filled:
        column = found[first]
        count = len(column)
        if memory.pays(count):
            return "%s", (map(known, column),)
        filled = form(*[column if value is None else (value,) * count for value in values]) if form else None
        return filled or ("%s", (map(made, column),))

    def fill(found: Columns) -> Filled:
        chosen = [found[column] for column in columns]
        count = len(chosen[0])
        if memory.pays(count):
            return "%s", (map(known, zip(*chosen, strict=True)),)
        rest = iter(chosen)
        filled = form(*[next(rest) if value is None else (value,) * count for value in values]) if form else None
        return filled or ("%s", (map(made, zip(*chosen, strict=True)),))

    first = columns[0]
    return fill_one if len(columns) == 1 else fill


def _number_form(label: str) -> Form:
    """The form of an item that is one number, and nothing when that is 0."""
    template = f" {label}:%d"
    return lambda values: None if 0 in values else (template, (values,))


def _time_form(label: str) -> Form:
    """The form of an item that is one time, and nothing when that is 0 or the highest."""
    template = f" {label}:%s"
    return lambda values: None if 0 in values or _ALL_ONES32 in values else (template, (map(millis, values),))


def _rtt_form(rtts: Sequence[int], rttvars: Sequence[int]) -> Filled | None:
    return None if 0 in rtts else (" rtt:%s/%s", (map(millis, rtts), map(millis, rttvars)))


def _busy_form(busy: Sequence[int], rwnd_limited: Sequence[int], sndbuf_limited: Sequence[int]) -> Filled | None:
    if 0 in busy or any(rwnd_limited) or any(sndbuf_limited):
        return None
    return " busy:%dms", ([micros // 1000 for micros in busy],)


def _slots(context: Context) -> Sequence[list[Slot]]:
    """The slots of the three pieces."""
    show, dialect, bits = context.show, context.dialect, context.rate

    def slot(make: Callable[..., str], *names: str, form: Form | None = None) -> Slot:
        return Slot(tuple(_NUMBER[name] for name in names), make, form)

    def number(name: str, label: str = "") -> Slot:
        label = label or name
        return slot(lambda value: f" {label}:{value}" if value else "", name, form=_number_form(label))

    def narrow(name: str, label: str) -> Slot:
        return slot(lambda value: f" {label}:{signed(value)}" if value else "", name)

    def time(name: str, label: str) -> Slot:
        return slot(lambda value: f" {label}:{millis(value)}" if value else "", name, form=_time_form(label))

    def send(rtt: int, mss: int, cwnd: int) -> str:
        return f" send {bits(float(cwnd) * float(mss) * 8000000.0 / rtt)}bps" if rtt and mss and cwnd else ""

    def pacing(rate: int, most: int) -> str:
        if not rate or rate == _ALL_ONES:
            return ""
        limit = f"/{bits(most * 8.0)}bps" if most and most != _ALL_ONES else ""
        return f" pacing_rate {bits(rate * 8.0)}bps{limit}"

    def send_form(rtts: Sequence[int], sizes: Sequence[int], windows: Sequence[int]) -> Filled | None:
        if 0 in rtts or 0 in sizes or 0 in windows:
            return None
        rates = [
            float(cwnd) * float(mss) * 8000000.0 / rtt for rtt, mss, cwnd in zip(rtts, sizes, windows, strict=True)
        ]
        return " send %sbps", (map(bits, rates),)

    def pacing_form(rates: Sequence[int], limits: Sequence[int]) -> Filled | None:
        if 0 in rates or _ALL_ONES in rates or limits.count(_ALL_ONES) != len(limits):
            return None
        return " pacing_rate %sbps", (map(bits, [rate * 8.0 for rate in rates]),)

    def delivery_form(rates: Sequence[int]) -> Filled | None:
        return None if 0 in rates else (" delivery_rate %sbps", (map(bits, [rate * 8.0 for rate in rates]),))

    def retrans(now: int, total: int) -> str:
        return f" retrans:{now}/{total}" if now or total else ""

    words = [slot(lambda options: option_words(options, dialect), "options")] if show.timers else []
    first = [
        slot(
            lambda options, scales: f" wscale:{scales & 15},{scales >> 4}" if options & 4 else "", "options", "scales"
        ),
        slot(lambda rto: f" rto:{millis(rto)}" if rto and rto != 3_000_000 else "", "rto"),
        number("backoff"),
        slot(
            lambda rtt, rttvar: f" rtt:{millis(rtt)}/{millis(rttvar)}" if rtt else "", "rtt", "rttvar", form=_rtt_form
        ),
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
        slot(send, "rtt", "snd_mss", "snd_cwnd", form=send_form),
        number("last_data_sent", "lastsnd"),
        number("last_data_recv", "lastrcv"),
        number("last_ack_recv", "lastack"),
        slot(pacing, "pacing_rate", "max_pacing_rate", form=pacing_form),
        slot(lambda rate: f" delivery_rate {bits(rate * 8.0)}bps" if rate else "", "delivery_rate", form=delivery_form),
        number("delivered"),
        number("delivered_ce"),
        slot(lambda flags: " app_limited" if flags & 1 else "", "flags"),
        slot(limited, "busy", "rwnd_limited", "sndbuf_limited", form=_busy_form),
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
        slot(
            lambda value: f" minrtt:{millis(value)}" if value and value != _ALL_ONES32 else "",
            "min_rtt",
            form=_time_form("minrtt"),
        ),
        number("rcv_ooopack"),
        number("snd_wnd"),
    ]
    if dialect.tcp_rcv_wnd:
        second += [number("rcv_wnd"), number("rehash")]
    return words, first, second
