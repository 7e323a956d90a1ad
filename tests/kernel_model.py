"""A kernel in miniature: connections that live by the rules of TCP, what BPF programs would report of them, and dumps.

It reproduces what makes the table's work hard: kernel addresses that are used again at once, a cookie that exists only
once somebody has asked for it (and then is inherited along a connection's objects), sockets that connect or listen
again while the timewait socket of their last connection has their cookie, request and timewait sockets that speak
through their timers, dumps that take a while and may miss a socket, and reports that get lost.
"""

import random
from collections.abc import Iterator

import msgspec
from bpf_events import CLIENT, SERVER, changed, gone

from sstrace.model import AF_INET, AF_INET6, Changed, Gone, InetSocket, Kind, State, Table

S = State
MAPPED = bytes(10) + b"\xff\xff"

# State → the states that a full socket goes to next, CLOSE aside. (A timewait socket takes over in TIME_WAIT.)
ONWARD = {
    S.SYN_SENT: [S.ESTABLISHED],
    S.SYN_RECV: [S.ESTABLISHED],
    S.ESTABLISHED: [S.FIN_WAIT1, S.CLOSE_WAIT],
    S.FIN_WAIT1: [S.FIN_WAIT2, S.CLOSING],
    S.CLOSE_WAIT: [S.LAST_ACK],
}


class Thing(msgspec.Struct, eq=False):
    """One kernel object: what holds a connection now, or a listener."""

    kind: Kind
    state: State
    sk: int
    family: int
    src: bytes
    sport: int
    dst: bytes
    dport: int
    ino: int = 0
    uid: int = 0
    cookie: int | None = None
    since_ns: int = 0


Life = tuple[int, int, bytes, int, bytes, int]
"""state, kind, and both endpoints: what the table has to know of a thing."""


class Kernel:
    """The machine. ``step`` lets something happen; ``facts`` holds what was reported and not lost."""

    def __init__(self, seed: int, *, loss: float = 0.0, ports: int = 4) -> None:
        self.random = random.Random(seed)
        self.loss = loss
        self.now = 1000
        self.things: list[Thing] = []
        self.facts: list[Changed | Gone] = []
        self.lost = 0
        self._ports = ports
        self._free: dict[Kind, list[int]] = {kind: [] for kind in Kind}
        self._idle: list[tuple[int, int, int | None]] = []
        """Closed sockets that their owner will use again: address, inode, cookie."""
        self._next_sk = 0xFFFF888000000000
        self._next_ino = 500
        self._next_cookie = 1

    def alive(self) -> list[Life]:
        """What a table without an error holds, sorted."""
        return sorted(self.life(thing) for thing in self.things)

    @staticmethod
    def life(thing: Thing) -> Life:
        """What the table has to know of a thing."""
        return int(thing.state), int(thing.kind), thing.src, thing.sport, thing.dst, thing.dport

    def step(self) -> None:
        """Something happens: mostly to a socket that is there, sometimes a new one."""
        if not self.things or (len(self.things) < 12 and self.random.random() < 0.25):
            self.random.choice((self._listen, self._connect, self._half_open))()
        else:
            self._advance(self.random.choice(self.things))

    def end_all(self) -> None:
        """Everything dies, as when the namespace goes."""
        while self.things:
            self._die(self.things[0])

    def dump(self, *, steps: int = 0, miss: float = 0.0) -> Iterator[InetSocket]:
        """A dump, bucket by bucket; ``steps`` things happen between two buckets. Gives every socket a cookie."""
        for bucket in range(4):
            for thing in list(self.things):
                if (thing.sport + thing.dport) % 4 == bucket and self.random.random() >= miss:
                    yield self.shown(thing)
            for _ in range(steps):
                self.step()

    def shown(self, thing: Thing) -> InetSocket:
        """A row of sock_diag."""
        if thing.cookie is None:
            thing.cookie, self._next_cookie = self._next_cookie, self._next_cookie + 1
        return InetSocket(
            table=Table.TCP,
            family=thing.family,
            state=int(thing.state),
            src=thing.src,
            sport=thing.sport,
            dst=thing.dst,
            dport=thing.dport,
            ino=thing.ino,
            uid=thing.uid,
            cookie=thing.cookie,
            timer=3 if thing.kind is Kind.TIMEWAIT else 0,
        )

    def find(self, sport: int, dport: int) -> Thing | None:
        """The thing between two ports."""
        return next((thing for thing in self.things if (thing.sport, thing.dport) == (sport, dport)), None)

    # What happens.

    def _listen(self) -> None:
        port = 100 + self.random.randrange(self._ports)
        if self.find(port, 0) is None:
            thing = self._make(Kind.SOCKET, S.LISTEN, SERVER, port, bytes(4), 0)
            self._report(thing, S.CLOSE, S.LISTEN)

    def _connect(self) -> None:
        sport, dport = 1000 + self.random.randrange(self._ports), 100 + self.random.randrange(self._ports)
        holder = self.find(sport, dport)
        if holder is None or holder.kind is Kind.TIMEWAIT:
            if holder is not None:
                self.things.remove(holder)
            thing = self._make(Kind.SOCKET, S.SYN_SENT, CLIENT, sport, SERVER, dport)
            self._report(thing, S.CLOSE, S.SYN_SENT)
            if holder is not None:
                self._end(holder, "reused")  # tcp_v4_connect sets the state before it looks for a port

    def _half_open(self) -> None:
        sport, dport = 100 + self.random.randrange(self._ports), 1000 + self.random.randrange(self._ports)
        if self._available(sport, dport):
            thing = self._make(Kind.REQUEST, S.SYN_RECV, SERVER, sport, CLIENT, dport)
            self._report(thing, S.LISTEN, S.SYN_RECV)

    def _available(self, sport: int, dport: int) -> bool:
        """Whether the addresses are free; a timewait socket makes way for a SYN."""
        holder = self.find(sport, dport)
        if holder is not None and holder.kind is Kind.TIMEWAIT:
            self._die(holder)
            return True
        return holder is None

    def _advance(self, thing: Thing) -> None:
        if self.random.random() < 0.15 or thing.state in (S.LISTEN, S.LAST_ACK):
            self._die(thing)
        elif thing.kind is Kind.REQUEST:
            if self.random.random() < 0.3:
                self._report(thing, S.LISTEN, S.SYN_RECV)  # its SYN-ACK is sent again
            else:
                self._complete(thing)
        elif thing.kind is Kind.TIMEWAIT:
            self._advance_timewait(thing)
        elif thing.state in (S.FIN_WAIT2, S.CLOSING):
            orphan = thing.state is S.FIN_WAIT2 and self.random.random() < 0.5
            self._hand_over(thing, S.FIN_WAIT2 if orphan else S.TIME_WAIT)
        else:
            old, thing.state = thing.state, self.random.choice(ONWARD[thing.state])
            if thing.state is S.ESTABLISHED and not thing.ino:
                thing.ino = self._inode()  # accept
            self._report(thing, old, thing.state)

    def _advance_timewait(self, thing: Thing) -> None:
        if thing.state is S.FIN_WAIT2:
            thing.state = S.TIME_WAIT
            thing.since_ns = self.now
            if self.random.random() < 0.5:
                return  # in silence
        self._report(thing, 0, thing.state)

    def _complete(self, request: Thing) -> None:
        """The handshake: the child is born, then its request socket goes, then the child is established."""
        child = self._make(
            Kind.SOCKET, S.SYN_RECV, request.src, request.sport, request.dst, request.dport, family=request.family
        )
        child.cookie = request.cookie
        self.things.remove(request)
        self._report(child, S.LISTEN, S.SYN_RECV)
        self._end(request, "completed")
        child.state, child.ino = S.ESTABLISHED, self._inode()
        self._report(child, S.SYN_RECV, S.ESTABLISHED)

    def _hand_over(self, full: Thing, substate: State) -> None:
        """tcp_time_wait: the timewait socket comes first, then the full socket closes."""
        after = self._make(
            Kind.TIMEWAIT,
            substate,
            full.src,
            full.sport,
            full.dst,
            full.dport,
            family=full.family,
            index=self.things.index(full),
        )
        after.cookie = full.cookie
        self._report(after, 0, substate)
        self._report(full, full.state, S.CLOSE, cause="fin-by-us")
        self._close(full)

    def _die(self, thing: Thing) -> None:
        self.things.remove(thing)
        if thing.kind is Kind.SOCKET:
            self._report(thing, thing.state, S.CLOSE, cause="killed")
            self._close(thing)
        else:
            self._end(thing, "killed")

    def _close(self, thing: Thing) -> None:
        if thing.ino and self.random.random() < 0.3:
            self._idle.append((thing.sk, thing.ino, thing.cookie))
        else:
            self._free[thing.kind].append(thing.sk)

    # How it is reported.

    def _make(  # noqa: PLR0917 (both endpoints)
        self,
        kind: Kind,
        state: State,
        src: bytes,
        sport: int,
        dst: bytes,
        dport: int,
        *,
        family: int = 0,
        index: int = -1,
    ) -> Thing:
        family = family or self.random.choice((AF_INET, AF_INET6))
        if family == AF_INET6 and len(src) == 4:
            src, dst = MAPPED + src, MAPPED + dst
        free = self._free[kind]
        self._next_sk += 0x1000
        thing = Thing(kind, state, free.pop() if free else self._next_sk, family, src, sport, dst, dport)
        if kind is Kind.SOCKET and state in (S.LISTEN, S.SYN_SENT):
            thing.ino, thing.uid = self._inode(), 1000
            if self._idle and self.random.random() < 0.5:
                self._free[kind].append(thing.sk)
                thing.sk, thing.ino, thing.cookie = self._idle.pop()
        if index < 0:
            self.things.append(thing)
        else:
            self.things[index] = thing
        return thing

    def _inode(self) -> int:
        self._next_ino += 1
        return self._next_ino

    def _report(self, thing: Thing, old: int, new: int, cause: str | None = None) -> None:
        listener = self.find(thing.sport, 0) if thing.kind is Kind.REQUEST else None
        fact = changed(
            self._tick(),
            old,
            new,
            thing.sk,
            kind=thing.kind,
            cookie=thing.cookie,
            ino=thing.ino or None,
            family=thing.family,
            src=thing.src,
            sport=thing.sport,
            dst=thing.dst,
            dport=thing.dport,
            uid=thing.uid,
            cause=cause,
            listener=listener.ino if listener is not None else None,
        )
        thing.since_ns = self.now
        self._send(fact)

    def _end(self, thing: Thing, cause: str) -> None:
        self._free[thing.kind].append(thing.sk)
        self._send(
            gone(
                self._tick(),
                thing.kind,
                thing.sk,
                cookie=thing.cookie,
                family=thing.family,
                src=thing.src,
                sport=thing.sport,
                dst=thing.dst,
                dport=thing.dport,
                cause=cause,
            )
        )

    def _tick(self) -> int:
        self.now += 1 + self.random.randrange(1000)
        return self.now

    def _send(self, fact: Changed | Gone) -> None:
        if self.random.random() < self.loss:
            self.lost += 1
        else:
            self.facts.append(fact)
