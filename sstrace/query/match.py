"""An expression as a predicate over rows: ss's own pass over everything that the kernel sends.

The comparison is ss's, which knows less of families than the kernel does: the first bits of one address are compared
with the first bits of the other whatever they are, and an IPv4 pattern is tried again on the IPv4 address inside a
mapped one. Rows of other families are matched through the few numbers that ss keeps of them: a unix socket's port is
its inode, a netlink socket's its port id, a packet socket's its interface.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from sstrace.fields import Reported
from sstrace.model import (
    AF_INET,
    AF_NETLINK,
    AF_PACKET,
    AF_UNIX,
    AF_VSOCK,
    AF_XDP,
    Extras,
    InetSocket,
    Label,
    Names,
    NetlinkSocket,
    Owner,
    Owners,
    PacketSocket,
    Socket,
    State,
    UnixSocket,
    VsockSocket,
    XdpSocket,
)
from sstrace.query.expression import (
    Amount,
    Autobound,
    Cgroup,
    Chain,
    Compare,
    Device,
    Expr,
    Host,
    Mark,
    Match,
    Named,
    Not,
    tests_of,
)
from sstrace.query.glob import compile_glob
from sstrace.query.where import in_netns, in_workload

__all__ = ["Known", "Predicate", "owners_among", "predicate", "thresholds"]

Predicate = Callable[[Socket], bool]


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """Who answers what a socket does not say of itself: each is given the row; None, as its answer or in its place,
    where nobody knows.
    """

    held: Callable[[Socket], int | None] | None = None
    """How long it has been in its state, ns."""
    lifetime: Callable[[Socket], int | None] | None = None
    """How long the connection lived that ends with the event that is asked about, ns."""
    reported: Callable[[Socket], Reported | None] | None = None
    """What was reported with the event that is asked about."""
    owners: Callable[[Socket], Sequence[Owner] | None] | None = None
    """Who holds it, or did last."""
    role: Callable[[Socket], str | None] | None = None
    cause: Callable[[Socket], str | None] | None = None
    """Why it ends, of the event that is asked about."""
    netns: Callable[[Socket], tuple[int, Label]] | None = None
    """The network namespace that it is in: inode, and what that is called."""


_NOBODY: Final = Known()


def owners_among(owners: Owners | None) -> Callable[[Socket], Sequence[Owner] | None] | None:
    """Those who are known by the inode that they hold; None: nobody was looked for."""
    return (lambda row: owners.get(getattr(row, "ino", 0))) if owners is not None else None


class _View(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A row that is not inet, with the attributes of one; and what only unix has."""

    family: int
    sport: int
    dport: int = 0
    src: bytes = b"\0\0\0\0"
    """b"": an address that equals nothing."""
    dst: bytes = b"\0\0\0\0"
    ifindex: int = 0
    extras: Extras | None = None
    name: str | None = None
    peer: str | None = None
    row: Socket


_Row = InetSocket | _View


def _of(row: _Row) -> Socket:
    """What the row is a view of."""
    return row.row if isinstance(row, _View) else row


_Test = Callable[[_Row], bool]


def predicate(
    expression: Expr | None, names: Names, known: Known = _NOBODY, *, signed_ports: bool = False
) -> Predicate | None:
    """Compile a filter; None when there is none: every row passes.

    ``names`` is asked for the ephemeral range, once, if the filter asks for ``autobound``. Where ``known`` has no
    answer, a test of an amount fails, and so does its opposite; one of a name fails. TIPC rows always pass: ss does not
    filter them.
    ``signed_ports``: what stands for the port of unix, XDP and vsock rows is a signed number of 32 bits, as before 7.3.
    """
    if expression is None:
        return None
    test = _compile(expression, names, known)
    views = _VIEWS
    if signed_ports:
        views = {kind: _with_signed_ports(view) for kind, view in _VIEWS.items()}

    def passes(row: Socket) -> bool:
        if type(row) is InetSocket:
            return test(row)
        view = views.get(type(row))
        return view is None or test(view(row))

    return passes


def thresholds(expression: Expr | None) -> tuple[int, ...]:
    """The durations, ns, after which a filter's answer may change without an event: those of its ``held`` tests."""
    held = (test for test in tests_of(expression) if isinstance(test, Amount) and test.word == "held")
    # "at most" holds up to and with the duration, "at least" from it on.
    return tuple(sorted({test.value if test.at_least else test.value + 1 for test in held}))


def _compile(expression: Expr, names: Names, known: Known) -> _Test:
    if isinstance(expression, Chain):
        return _chain(
            _compile(expression.first, names, known),
            [(operator == "or", _compile(test, names, known)) for operator, test in expression.rest],
        )
    if isinstance(expression, Not):
        if isinstance(expression.inner, Amount):
            return _amount(expression.inner, known, wanted=False)  # of a time that nobody knows neither is true
        inner = _compile(expression.inner, names, known)
        return lambda row: not inner(row)
    if isinstance(expression, Match):
        return _match(expression)
    if isinstance(expression, Compare):
        return _compare(expression)
    if isinstance(expression, Device):
        return _device(expression, names)
    if isinstance(expression, Mark):
        value, mask = expression.value, expression.mask
        return lambda row: (((row.extras.mark or 0) if row.extras is not None else 0) & mask) == value
    if isinstance(expression, Cgroup):
        cgroup = expression.id
        return lambda row: ((row.extras.cgroup_id or 0) if row.extras is not None else 0) == cgroup
    if isinstance(expression, Autobound):
        return _autobound(names)
    if isinstance(expression, Amount):
        return _amount(expression, known)
    return _named(expression, names, known)


def _chain(first: _Test, rest: list[tuple[bool, _Test]]) -> _Test:
    tests = [first, *(test for _, test in rest)]
    if all(either for either, _ in rest):
        return lambda row: any(test(row) for test in tests)
    if not any(either for either, _ in rest):
        if len(tests) == 2:
            one, two = tests
            return lambda row: one(row) and two(row)
        return lambda row: all(test(row) for test in tests)

    def mixed(row: _Row) -> bool:
        result = first(row)
        for either, test in rest:
            if result is not either:
                result = test(row)
        return result

    return mixed


def _match(match: Match) -> _Test:
    head = match.hosts[0]
    local, port = match.local, head.port
    if head.glob is not None:
        glob = compile_glob(head.glob)
        if local:
            return lambda row: isinstance(row, _View) and row.family == AF_UNIX and glob(row.name or "")
        return lambda row: isinstance(row, _View) and row.family == AF_UNIX and glob(row.peer or "")
    if not head.bits:
        if port == -1:
            return lambda _row: True
        if local:
            return lambda row: row.sport == port
        return lambda row: row.dport == port
    address = _address(match.hosts)
    if port == -1:
        return (lambda row: address(row.src)) if local else (lambda row: address(row.dst))
    if local:
        return lambda row: row.sport == port and address(row.src)
    return lambda row: row.dport == port and address(row.dst)


def _address(hosts: Iterable[Host]) -> Callable[[bytes], bool]:
    tests = [_prefix(host) for host in hosts]
    if len(tests) == 1:
        return tests[0]
    return lambda raw: any(test(raw) for test in tests)


_MAPPED: Final = b"\0\0\0\0\0\0\0\0\0\0\xff\xff"


def _prefix(host: Host) -> Callable[[bytes], bool]:
    """Compare the first bits; the answers are remembered, since few addresses make up a table."""
    bits = host.bits
    length = (bits + 7) // 8
    mask = (1 << 8 * length) - (1 << 8 * length - bits)
    wanted = int.from_bytes(host.address.ljust(16, b"\0")[:length], "big") & mask
    known: dict[bytes, bool] = {}

    def equal(raw: bytes) -> bool:
        return int.from_bytes(raw.ljust(16, b"\0")[:length], "big") & mask == wanted

    def test(raw: bytes) -> bool:
        answer = known.get(raw)
        if answer is None:
            answer = bool(raw) and equal(raw)
            if not answer and host.family == AF_INET and len(raw) == 16 and raw[:12] == _MAPPED:
                answer = equal(raw[12:])
            if len(known) > 65536:
                known.clear()
            known[raw] = answer
        return answer

    return test


def _compare(compare: Compare) -> _Test:
    port = compare.port
    if compare.local:
        return (lambda row: row.sport >= port) if compare.at_least else (lambda row: row.sport <= port)
    return (lambda row: row.dport >= port) if compare.at_least else (lambda row: row.dport <= port)


def _device(device: Device, names: Names) -> _Test:
    index, name = device.index, device.name
    if name is None:
        return lambda row: row.ifindex == index
    return lambda row: row.ifindex == names.ifindex(name)


def _autobound(names: Names) -> _Test:
    low, high = names.ephemeral()

    def test(row: _Row) -> bool:
        if isinstance(row, _View):
            if row.family == AF_UNIX:
                name = row.name
                return name is None or (name[0] == "@" and len(name) == 6 and not name[1:].strip("0123456789abcdef"))
            if row.family == AF_PACKET:
                return row.sport == 0 and row.src == b"\0\0\0\0"
            if row.family == AF_NETLINK:
                return row.sport < 0
            if row.family == AF_VSOCK:
                return row.sport > 1023
        return low <= row.sport <= high

    return test


def _amount(test: Amount, known: Known, *, wanted: bool = True) -> _Test:
    ask = _asked(test.word, known)
    if ask is None:
        return lambda _row: False
    value, at_least = test.value, test.at_least

    def passes(row: _Row) -> bool:
        found = ask(_of(row))
        return found is not None and (found >= value if at_least else found <= value) is wanted

    return passes


def _asked(word: str, known: Known) -> Callable[[Socket], int | None] | None:
    if word in ("held", "lifetime"):
        return known.held if word == "held" else known.lifetime
    reported, name, unit = known.reported, *_REPORTED[word]
    if reported is None:
        return None

    def ask(row: Socket) -> int | None:
        found = reported(row)
        number = getattr(found, name) if found is not None else None
        return None if number is None else number * unit

    return ask


_REPORTED: Final = {
    "rtt": ("rtt_us", 1000),
    "sent": ("bytes_sent", 1),
    "received": ("bytes_received", 1),
    "retransmits": ("retrans", 1),
}
"""Word → the member of ``Reported``, and how much one of it is."""


def _named(test: Named, names: Names, known: Known) -> _Test:
    value = test.value
    if test.word == "user":
        return lambda row: _user(_of(row)) == value
    if test.word in ("pid", "comm"):
        owners = known.owners
        if owners is None:
            return lambda _row: False
        holds = _holds(value)
        return lambda row: any(map(holds, owners(_of(row)) or ()))
    if test.word == "netns":
        return _whole(in_netns(str(value), known.netns))
    if test.word in ("container", "pod", "unit"):
        return _whole(in_workload(test.word, str(value), names, known.netns))
    ask = known.role if test.word == "role" else known.cause
    if ask is None:
        return lambda _row: False
    glob = compile_glob(str(value))

    def passes(row: _Row) -> bool:
        found = ask(_of(row))
        return found is not None and glob(found)

    return passes


def _whole(test: Callable[[Socket], bool]) -> _Test:
    return lambda row: test(_of(row))


def _holds(value: int | str) -> Callable[[Owner], bool]:
    if isinstance(value, int):
        return lambda owner: owner.pid == value
    glob = compile_glob(value)
    return lambda owner: glob(owner.comm.decode("latin-1"))


_USERLESS: Final = (State.SYN_RECV, State.TIME_WAIT, State.NEW_SYN_RECV)
"""Held by request and timewait sockets, of which the kernel knows no user."""


def _user(row: Socket) -> int | None:
    """Whose a row is; None where the kernel does not tell."""
    if isinstance(row, InetSocket) and row.state in _USERLESS:
        return None
    return getattr(row, "uid", None)


def _unix(row: Socket) -> _View:
    assert isinstance(row, UnixSocket)
    name = _text(row.name)
    peer = None if row.peer_name in (None, b"*") else _text(row.peer_name or b"")
    return _View(
        family=AF_UNIX,
        sport=row.ino,
        dport=row.peer_ino,
        # ss keeps a pointer to the name where others keep an address: all zero when there is no name.
        src=b"\0\0\0\0" if name is None else b"",
        dst=b"\0\0\0\0" if peer is None else b"",
        name=name,
        peer=peer,
        row=row,
    )


def _text(name: bytes) -> str | None:
    """Give a unix name as ss writes it: NULs of an abstract one as ``@``, a path up to its first NUL; None for no
    name.
    """
    if name[:1] == b"\0":
        return name.decode("latin-1").replace("\0", "@")
    return name.partition(b"\0")[0].decode("latin-1") or None


def _packet(row: Socket) -> _View:
    assert isinstance(row, PacketSocket)
    protocol = row.protocol.to_bytes(4, "little")
    return _View(family=AF_PACKET, sport=row.ifindex, src=protocol, ifindex=row.ifindex, row=row)


def _netlink(row: Socket) -> _View:
    assert isinstance(row, NetlinkSocket)
    protocol = row.protocol.to_bytes(4, "little")
    return _View(family=AF_NETLINK, sport=row.portid, dport=-1, src=protocol, row=row)


def _vsock(row: Socket) -> _View:
    assert isinstance(row, VsockSocket)
    return _View(
        family=AF_VSOCK,
        sport=row.sport,
        dport=row.dport,
        src=(row.src_cid & 0xFFFFFFFF).to_bytes(4, "little"),
        dst=(row.dst_cid & 0xFFFFFFFF).to_bytes(4, "little"),
        row=row,
    )


def _with_signed_ports(view: Callable[[Socket], _View]) -> Callable[[Socket], _View]:
    def signed(row: Socket) -> _View:
        made = view(row)
        return msgspec.structs.replace(made, sport=_signed(made.sport), dport=_signed(made.dport))

    return signed


def _signed(number: int) -> int:
    number &= 0xFFFFFFFF
    return number - (1 << 32) if number >> 31 else number


def _xdp(row: Socket) -> _View:
    assert isinstance(row, XdpSocket)
    return _View(family=AF_XDP, sport=row.queue_id, ifindex=row.ifindex, row=row)


_VIEWS: Final[dict[type[Socket], Callable[[Socket], _View]]] = {
    UnixSocket: _unix,
    PacketSocket: _packet,
    NetlinkSocket: _netlink,
    VsockSocket: _vsock,
    XdpSocket: _xdp,
}
