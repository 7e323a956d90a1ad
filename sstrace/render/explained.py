"""A TCP socket as the kernel has it now → a short story, for people (--explain)."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from sstrace.model import STATE_TEXT, InetSocket, Owner, Role, State
from sstrace.model.workload import Workload
from sstrace.plain import counted, plain, printable
from sstrace.render.common import Decoders
from sstrace.render.story import belongings, carried, ends, folded, role_words, round_trips, span
from sstrace.render.times import span_text

__all__ = ["Known", "story"]

_NO_WORK: Final = Workload()
_LISTEN, _TIME_WAIT = int(State.LISTEN), int(State.TIME_WAIT)
_NO_MINIMUM = 0xFFFFFFFF
"""tcpi_min_rtt before anything was measured."""
_FIN_CAME: Final = (State.CLOSE_WAIT, State.CLOSING, State.LAST_ACK)
_TIMERS: Final = {1: "an answer", 2: "a sign of life", 4: "a window that is closed", 3: "TIME-WAIT to end"}
"""What its timer waits for: idiag_timer."""


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody knows of it besides; None, or nothing, where nobody does."""

    local: str
    peer: str
    """Addresses."""
    owners: Sequence[Owner] = ()
    work: Workload | None = None
    ifname: str | None = None
    netns: str | None = None
    held_ns: int | None = None
    """In its state."""
    at_least: bool = False
    """It had been in it before it was met."""
    lived_ns: int | None = None
    role: Role | None = None


def story(of: InetSocket, known: Known, now: str, decoders: Decoders) -> Iterator[str]:
    """Lines of at most 80 columns. ``now``: the moment, as text."""
    yield ends(known.local, of.sport, known.peer, of.dport, known.role)
    whose = belongings("tcp", of.uid, known.work or _NO_WORK, known.netns, known.ifname)
    yield from folded("", [role_words(known.role, of.dport) + ", ".join(whose)])
    yield from folded(f"{now}  ", _now(of, known, decoders))


def _now(of: InetSocket, known: Known, decoders: Decoders) -> Iterator[str]:
    head: str = STATE_TEXT[of.state]
    if known.held_ns is not None:
        head += f" for {'at least ' * known.at_least}{span_text(known.held_ns)}"
    if known.lived_ns is not None:
        head += f"; it began {span_text(known.lived_ns)} ago"
    yield head
    if known.owners:
        yield f"held by {', '.join(map(_owner, known.owners))}"
    elif of.ino:
        yield "who holds it is not known"
    elif of.state not in (_TIME_WAIT, State.SYN_RECV):
        yield "held by nobody: not accepted yet, or closed"
    if of.state == _LISTEN:
        yield f"{of.recv_q} of {of.send_q} connections wait to be accepted"
        skmem = of.extras.skmem if of.extras is not None else None
        if skmem is not None and len(skmem) > 8 and skmem[8]:
            yield f"{skmem[8]} were dropped"
        return
    blob = of.extras.info if of.extras is not None else None
    if blob:
        yield from _carried(of, decoders.tcp_info(blob))
    if of.state not in (_TIME_WAIT, State.SYN_RECV, State.SYN_SENT) and (of.recv_q or of.send_q):
        yield f"{counted(of.recv_q, 'byte', 'waits/wait')} to be read, {of.send_q} to be acknowledged"
    if of.timer in _TIMERS:
        often = f", sent {of.retrans} times without one" if of.timer == 1 and of.retrans > 1 else ""
        often = ", sent once more without one" if of.timer == 1 and of.retrans == 1 else often
        yield f"waits for {_TIMERS[of.timer]}, another {span(of.expires_ms * 1000)}{often}"


def _carried(of: InetSocket, info: Any) -> Iterator[str]:
    yield from carried(
        max(0, info.bytes_sent - info.bytes_retrans),
        max(0, info.bytes_received - (of.state in _FIN_CAME)),
        segs_out=info.segs_out,
        segs_in=info.segs_in,
        again=info.total_retrans,
        bytes_again=info.bytes_retrans,
        lost=info.lost,
        late=info.rcv_ooopack,
    )
    if info.rtt:
        yield round_trips(info.rtt, info.min_rtt if info.min_rtt != _NO_MINIMUM else None)
    if of.state in (State.ESTABLISHED, State.CLOSE_WAIT):
        yield f"last sent {span(info.last_data_sent * 1000)} ago, received {span(info.last_data_recv * 1000)} ago"
        control = of.extras.congestion if of.extras is not None else None
        segments = f"{counted(info.snd_cwnd, 'segment')} of {info.snd_mss} bytes"
        yield f"{plain(control or 'its window')}: {segments} may be on their way"
    if info.busy_time:
        parts = (("the peer's window", info.rwnd_limited), ("its own buffer", info.sndbuf_limited))
        slowed = [f"{span(time)} of that by {what}" for what, time in parts if time]
        yield f"sending for {span(info.busy_time)}" + (f", held up {' and '.join(slowed)}" if slowed else "")


def _owner(owner: Owner) -> str:
    comm = printable(owner.comm.decode("latin-1"))
    return f"{comm}/{owner.pid}" + (f"/{owner.fd}" if owner.fd is not None else "")
