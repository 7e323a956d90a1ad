"""What one event tells of a whole life (bpf/lives.h) → the facts that it stands for, as if told one by one."""

import struct

from msgspec.structs import replace

from sstrace.errors import DecodeError
from sstrace.fields import KINDS, LIFE, NOTHING
from sstrace.model import Changed, Kind, Lived, State

__all__ = ["LIVES", "lived"]

_LIFE = struct.Struct("=" + "".join(code for _, code in LIFE))
_SO_FAR, _CLOSED, _TIMEWAIT = (KINDS[f"EVENT_LIFE{end}"] for end in ("", "_CLOSED", "_TIMEWAIT"))
LIVES = frozenset((_SO_FAR, _CLOSED, _TIMEWAIT))
"""The kinds of such events."""
_OPEN, _FIN = int(State.ESTABLISHED), frozenset((int(State.FIN_WAIT1), int(State.LAST_ACK)))
_WAYS: dict[int, tuple[int, ...]] = {
    state: tuple(map(int, way))
    for state, way in {
        State.SYN_SENT: (),
        State.SYN_RECV: (),
        State.ESTABLISHED: (State.ESTABLISHED,),
        State.FIN_WAIT1: (State.ESTABLISHED, State.FIN_WAIT1),
        State.FIN_WAIT2: (State.ESTABLISHED, State.FIN_WAIT1, State.FIN_WAIT2),
        State.CLOSING: (State.ESTABLISHED, State.FIN_WAIT1, State.CLOSING),
        State.CLOSE_WAIT: (State.ESTABLISHED, State.CLOSE_WAIT),
        State.LAST_ACK: (State.ESTABLISHED, State.CLOSE_WAIT, State.LAST_ACK),
    }.items()
}
"""How a connection came into the state that it is in. Of the steps between those that the event has times of, the last
one's is theirs."""


def lived(kind: int, told: Changed, stack: bytes, end: tuple[str, bool]) -> Lived:
    """``told``: the event, as far as it is one of a full socket, with who holds it; ``end``: the cause, and whether it
    was its holder's call. Raises DecodeError.
    """
    open_ns, moved_ns, sk, request, listener, owned = _LIFE.unpack_from(stack)
    state = told.new if kind == _SO_FAR else told.old
    born_ns, way = told.since_ns, _WAYS.get(state)
    if born_ns is None or way is None:
        raise DecodeError(f"BPF event of a life in state {state}: bpf/ and sstrace/ are from different builds")
    one = replace(told, sk=sk, since_ns=None, owner=None, reported=NOTHING)
    if request:
        at = State.SYN_RECV
        birth = replace(
            one, at_ns=born_ns, kind=Kind.REQUEST, old=int(State.LISTEN), new=int(at), sk=request, ino=None,
            cgroup=None, listener=listener or None,
        )  # fmt: skip
    else:
        at = State.SYN_SENT
        birth = replace(one, at_ns=born_ns, old=int(State.CLOSE), new=int(at), owner=told.owner)
    before, was = [birth], int(at)
    for step in way:
        when, owner = (open_ns, None) if step == _OPEN else (moved_ns, told.owner if owned and step in _FIN else None)
        before.append(replace(one, at_ns=when, old=was, new=step, owner=owner))
        was = step
    last = None
    if kind == _CLOSED:
        cause, by_call = end
        last = replace(told, since_ns=None, owner=told.owner if by_call else None, cause=cause)
    elif kind == _TIMEWAIT:
        last = replace(told, kind=Kind.TIMEWAIT, old=0, since_ns=None, owner=None, ino=None, cgroup=None)
    return Lived(told.at_ns, tuple(before), last, open_ns - born_ns if open_ns else None)
