"""What a story of one connection is told with (--explain): a few words of each thing, folded at 80 columns."""

from collections.abc import Iterable, Iterator
from functools import partial
from textwrap import wrap
from typing import Protocol

from sstrace.model import Role
from sstrace.plain import counted, plain
from sstrace.render.ends import ARROWS
from sstrace.render.times import span_text
from sstrace.render.width import amount

__all__ = ["belongings", "carried", "ends", "folded", "role_words", "round_trips", "span"]

_WRAP = partial(wrap, width=80, break_long_words=False, break_on_hyphens=False)


class Works(Protocol):
    """Of what runs in its cgroup: what is read (model.workload)."""

    @property
    def container_id(self) -> str | None: ...
    @property
    def unit(self) -> str | None: ...


def ends(local: str, sport: int, peer: str, dport: int, role: Role | None) -> str:
    """Both of its ends; the local one alone of what has no peer: a listener, or a socket that is only bound."""
    return f"{_end(local, sport)} {ARROWS[role]} {_end(peer, dport)}" if dport else _end(local, sport)


def _end(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def role_words(role: Role | None, dport: int, *, datagrams: bool = False) -> str:
    """Which end called, with a blank behind it; nothing of what has no peer."""
    unknown = "bound, and called" if datagrams else "which end called was not seen"
    return f"{role or unknown}; " if dport else ""


def belongings(netid: str, uid: int | None, work: Works, netns: str | None, ifname: str | None) -> Iterator[str]:
    """Whose it is, as far as that is known."""
    yield netid
    if uid is not None:
        yield f"uid {uid}"
    if work.container_id is not None:
        yield f"container {plain(work.container_id)[:12]}"
    if work.unit is not None:
        yield plain(work.unit)
    if netns is not None:
        yield f"netns {plain(netns)}"
    if ifname is not None:
        yield f"device {plain(ifname)}"


def span(microseconds: float) -> str:
    """A time."""
    return span_text(round(microseconds * 1000))


def carried(
    sent: int,
    received: int,
    *,
    segs_out: int | None,
    segs_in: int | None,
    again: int | None,
    bytes_again: int | None,
    lost: int | None,
    late: int | None,
    what: str = "segment",
) -> Iterator[str]:
    """What it carried (payload in bytes, each once), and what had to be sent again."""
    yield (
        f"sent {counted(sent, 'byte')} ({amount(sent)}) in {counted(segs_out or 0, what)}, "
        f"received {received} ({amount(received)}) in {counted(segs_in or 0, what)}"
    )
    hurt = (
        f"sent again: {counted(again, what)}, {counted(bytes_again or 0, 'byte')}" if again else "",
        f"taken for lost: {lost}" if lost else "",
        f"received out of order: {late}" if late else "",
    )
    if any(hurt):
        yield "; ".join(filter(None, hurt))


def round_trips(rtt_us: int, least_us: int | None) -> str:
    """Smoothed, and the least."""
    least = f", at best {span(least_us)}" if least_us is not None else ""
    return f"round-trip time {span(rtt_us)}{least}"


def folded(head: str, texts: Iterable[str]) -> Iterator[str]:
    """Texts below one another; the first behind ``head``, the others indented as far and a little more."""
    below = " " * len(head) + "  " * bool(head)
    for number, text in enumerate(texts):
        yield from _WRAP(text, initial_indent=below if number else head, subsequent_indent=below)
