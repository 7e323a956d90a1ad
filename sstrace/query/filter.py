"""Filter expressions: tokens, grammar, AST.

Enters: the operands of a command line (latin-1 text), the bytes of a -F file, a ``model.Names`` for what must be
looked up. Leaves: the selection with its filter, and with its families narrowed as operands ask.

The language is ss's, with its ways: words are cut at blanks, ``\\`` takes the next character literally; ``and`` and
``or`` bind alike, from left to right; an operand means what the last keyword says; an operand that fixes a family (by
prefix, or because a family option was given) narrows the tables to it and is the family of all operands after it. A
word is looked up as soon as it is read, so of two mistakes the earlier one is told.

sstrace adds one test, ``held OP DURATION``. ``held`` is a keyword only where a test may begin: there ss knows no
operand, so nothing that ss accepts changes its meaning (``src held`` is still a host).
"""

from _socket import inet_pton  # socket takes a millisecond to import
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal, NoReturn

import msgspec

from sstrace.dialect import Dialect, link_protocol_number
from sstrace.errors import LookupFailed, UsageError
from sstrace.model import (
    AF_INET,
    AF_INET6,
    AF_NETLINK,
    AF_PACKET,
    AF_UNIX,
    AF_UNSPEC,
    AF_VSOCK,
    Names,
    Table,
)
from sstrace.query.numbers import get_integer, get_unsigned, scan_integer, strtoul

__all__ = [
    "EXAMPLES",
    "Autobound",
    "Cgroup",
    "Chain",
    "Compare",
    "Device",
    "Expr",
    "Held",
    "Host",
    "Mark",
    "Match",
    "Not",
    "Scope",
    "awaited",
    "gathered",
    "parse_filter",
]


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """One host operand: an address prefix of a family, a port, or for unix a glob."""

    family: int = AF_UNSPEC
    """The pattern's own family; AF_UNSPEC for a bare port, ``*`` and ``any``."""
    address: bytes = b"\0\0\0\0"
    """16 bytes for IPv6, else 4: network order for IPv4; for packet and netlink the protocol, for vsock the CID, as
    ss keeps them, in the machine's order (written here as little-endian)."""
    bits: int = 0
    """Prefix length; 0 matches every address."""
    port: int = -1
    """-1: any."""
    glob: str | None = None
    """unix: the pattern, latin-1 text."""


class Match(msgspec.Struct, frozen=True):
    """``src``/``dst`` HOST, and ``sport``/``dport`` = PORT."""

    local: bool
    hosts: tuple[Host, ...]
    """More than one when a host name has several addresses: any of them."""


class Compare(msgspec.Struct, frozen=True):
    """``sport``/``dport`` >= or <= PORT; the other operators are these negated."""

    local: bool
    at_least: bool
    """>= when set, else <=."""
    port: int


class Device(msgspec.Struct, frozen=True):
    """``dev`` = index."""

    index: int
    """When the filter was read; -1 where nothing bore the name yet."""
    name: str | None = None
    """Where it was named: whatever bears this name then is meant, as time goes on."""


class Mark(msgspec.Struct, frozen=True):
    """``fwmark``: (mark & mask) == value."""

    value: int
    mask: int


class Cgroup(msgspec.Struct, frozen=True):
    """``cgroup`` = id."""

    id: int


class Autobound(msgspec.Struct, frozen=True):
    """``autobound``."""


class Held(msgspec.Struct, frozen=True):
    """``held`` OP DURATION: how long the socket has been in its state."""

    at_least: bool
    """>= when set, else <=."""
    ns: int


class Not(msgspec.Struct, frozen=True):
    """Negation."""

    inner: "Expr"


class Chain(msgspec.Struct, frozen=True):
    """Tests joined by ``and`` and ``or``, evaluated strictly from left to right: ``A or B and C`` is ``(A or B) and
    C``.

    Two or more tests: one alone is not wrapped.
    """

    first: "Expr"
    rest: tuple[tuple[Literal["and", "or"], "Expr"], ...]


Expr = Chain | Not | Match | Compare | Device | Mark | Cgroup | Autobound | Held


def awaited(expression: Expr | None) -> Iterator[str]:
    """The names of devices that nothing bore when the filter was read."""
    if isinstance(expression, Chain):
        for one in (expression.first, *(test for _, test in expression.rest)):
            yield from awaited(one)
    elif isinstance(expression, Not):
        yield from awaited(expression.inner)
    elif isinstance(expression, Device) and expression.index < 0 and expression.name is not None:
        yield expression.name


_AND: Final = frozenset(("&", "&&", "and"))
_OR: Final = frozenset(("|", "||", "or"))
_NOT: Final = frozenset(("!", "not"))
_OPERATORS: Final = {
    ">=": ">=",
    "ge": ">=",
    "geq": ">=",
    "<=": "<=",
    "le": "<=",
    "leq": "<=",
    "!=": "!=",
    "ne": "!=",
    "neq": "!=",
    "=": "=",
    "==": "=",
    "eq": "=",
    ">": ">",
    "gt": ">",
    "<": "<",
    "lt": "<",
}
_KEYWORDS: Final = frozenset(("dst", "src", "dport", "sport", "dev", "fwmark", "cgroup", "autobound"))
EXAMPLES: Final = {
    "src": "src 10.0.0.1",
    "dst": "dst 10.0.0.1:443",
    "sport": "sport = :443",
    "dport": "dport = :443",
    "dev": "dev eth0",
    "fwmark": "fwmark = 7",
    "cgroup": "cgroup /user.slice",
    "held": "held > 5m",
}
"""Of each test that compares, one that can be typed."""

# Parentheses and negations inside one another. ss stops at 10,000; nobody writes hundreds, and each is a call inside a
# call when rows are matched, of which Python allows 1,000.
_DEEPEST: Final = 200

_LONGEST_LINE: Final = 1022
"""Of a -F file, its newline counted: ss reads lines into 1,024 bytes and takes a full buffer for a line too long."""


class Scope(msgspec.Struct):
    """What operands read and change while a filter is parsed."""

    tables: int
    families: int
    preferred: int


class _Token(msgspec.Struct):
    kind: str
    """A keyword, an operator, ``and or ! ( )``, ``operand``, or ``end``."""
    value: "tuple[Host, ...] | Expr | int | None" = None


def parse_filter(
    operands: Sequence[str],
    file: bytes | None,
    names: Names,
    scope: Scope,
    release: Dialect,
    *,
    rpc: bool = False,
    held: bool = False,
    stray: Callable[[str], UsageError] | None = None,
) -> Expr | None:
    """Parse a filter; None when there is none. ``scope`` is changed as operands fix families.

    ``file`` is the content of -F, whose lines follow the operands. ``rpc``: services may be named as rpcbind does (-r).
    ``held``: the word is known. Raises UsageError for mistakes of syntax, LookupFailed for names that do not exist,
    with ss's sentences; with ``stray``, which makes the one about a word that begins no test, with sstrace's own, which
    also refuse ports that cannot be.
    """
    values = _Operands(names, scope, release, rpc=rpc, ours=stray is not None)
    return _Parser(_words(operands, file), values, held=held, stray=stray).parse()


def gathered(operands: list[str], takes: dict[str, int]) -> list[str]:
    """Put state words, wherever they stand between the tests of a filter, in front of it. ``takes``: how many words
    follow each. They are always joined by "and", which may be written. Raises UsageError where they are not.
    """
    words = [word for operand in operands for word in ([operand] if "\\" in operand else _cut(operand))]
    front: list[str] = []
    rest: list[str] = []
    at = 0
    while at < len(words):
        word = words[at]
        if word not in takes or _wants_operand(rest):
            rest.append(word)
            at += 1
            continue
        after = at + 1 + takes[word]
        following = "".join(words[after : after + 1])
        if {*rest[-1:], following} & (_OR | _NOT) or rest.count("(") > rest.count(")"):
            raise UsageError(f'sstrace: "{word}" is always joined by "and": "or", "not" and parentheses are for tests')
        front += words[at:after]
        if rest and rest[-1] in _AND:
            rest.pop()
        elif not rest and following in _AND:
            after += 1
        at = after
    return front + (rest if front else operands)


def _wants_operand(words: list[str]) -> bool:
    """Whether the next word is what a test compares with."""
    if not words:
        return False
    last = words[-1]
    return last in _OPERATORS or (last in EXAMPLES and not _wants_operand(words[:-1]))


def _words(operands: Sequence[str], file: bytes | None) -> Iterator[str]:
    for operand in operands:
        yield from _cut(operand)
    if not file:
        return
    lines = [line + b"\n" for line in file.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    for line in lines:
        # As fgets hands it out: what does not fit is the next line. As C reads it: up to a NUL.
        for at in range(0, len(line), _LONGEST_LINE + 1):
            text = line[at : at + _LONGEST_LINE + 1].partition(b"\0")[0]
            if not text:
                raise UsageError("Invalid line")
            if len(text) > _LONGEST_LINE:
                raise UsageError("Too long line in filter")
            # "0" besides "#": a slip in ss's source that became its behaviour.
            if text[:1] not in (b"#", b"0"):
                yield from _cut(text.removesuffix(b"\n").decode("latin-1"))


def _cut(text: str) -> Iterator[str]:
    """Cut at blanks and tabs; a backslash takes the next character as it is. A lone backslash is an empty word."""
    if "\\" not in text:
        for part in text.split(" "):
            for word in part.split("\t") if "\t" in part else (part,):
                if word:
                    yield word
        return
    at = 0
    while at < len(text):
        if text[at] in " \t":
            at += 1
            continue
        taken = []
        while at < len(text) and text[at] not in " \t":
            if text[at] == "\\":
                at += 1
            taken.append(text[at : at + 1])
            at += 1
        yield "".join(taken)


class _Parser:
    """The grammar. Keeps its own stack, so that no nesting of a user reaches Python's."""

    def __init__(
        self,
        words: Iterator[str],
        operands: "_Operands",
        *,
        held: bool,
        stray: Callable[[str], UsageError] | None,
    ) -> None:
        self._words = words
        self._operands = operands
        self._held = held
        self._stray = stray
        self._kind = ""
        """The last keyword: what an operand means."""

    def parse(self) -> Expr | None:
        """List := test | list ``and`` test | list ``or`` test | list test;  test := ``(`` list ``)`` | ``!`` test |
        …
        """
        outer: list[_Level] = []
        level = _Level()
        token = self._next()
        if token.kind == "end":
            return None
        expecting = True
        while True:
            kind = token.kind
            if kind == "!":
                if not expecting:
                    level.operator = "and"
                    expecting = True
                level.negations += 1
                if level.negations + len(outer) > _DEEPEST:
                    _exhausted()
            elif kind == "(":
                if not expecting:
                    level.operator = "and"
                    expecting = True
                outer.append(level)
                level = _Level()
                if len(outer) > _DEEPEST:
                    _exhausted()
            elif kind in _KEYWORDS or kind == "held":
                if not expecting:
                    level.operator = "and"
                level.add(self._test(kind))
                expecting = False
            elif expecting:
                self._wrong("the filter is not complete" if kind == "end" else f'"{kind}" stands before a test')
            elif kind in ("and", "or"):
                level.operator = kind
                expecting = True
            elif kind == ")" and outer:
                inner = level.expression()
                level = outer.pop()
                level.add(inner)
            elif kind == "end" and not outer:
                return level.expression()
            else:
                self._wrong('a "(" is not closed' if kind == "end" else f'"{kind}" stands behind a whole test')
            token = self._next()

    def _test(self, kind: str) -> Expr:
        if kind == "autobound":
            return Autobound()
        token = self._next(operand=True)
        operator = "="
        if token.kind in (">=", "<=", "!=", "=", ">", "<"):
            operator = token.kind
            allowed = {"src": "=", "dst": "=", "dev": "= !=", "fwmark": "= !=", "cgroup": "= !="}.get(kind)
            if allowed is not None and operator not in allowed.split():
                self._wrong(f"{kind} cannot be compared by {operator}: write {EXAMPLES[kind]}")
            token = self._next(operand=True)
        if token.kind != "operand":
            self._wrong(f"{kind} needs something to compare with: {EXAMPLES[kind]}")
        value = token.value
        if kind == "held":
            return _held(operator, value if isinstance(value, int) else 0)
        if not isinstance(value, tuple):
            # dev, fwmark, cgroup: the operand is the test.
            assert value is not None
            assert not isinstance(value, int)
            return Not(value) if operator == "!=" else value
        local = kind in ("src", "sport")
        if operator in ("=", "!="):
            match = Match(local, value)
            return Not(match) if operator == "!=" else match
        compare = Compare(local, operator in (">=", "<"), value[0].port)
        return Not(compare) if operator in (">", "<") else compare

    def _wrong(self, sentence: str) -> NoReturn:
        if self._stray is not None:
            raise UsageError(f"sstrace: {sentence}")
        _bellow()

    def _next(self, *, operand: bool = False) -> _Token:
        """Read a token; ``operand``: one may stand here, so ``held`` is not a keyword."""
        word = next(self._words, None)
        if word is None:
            return _Token("end")
        if word in _NOT:
            return _Token("!")
        if word in _AND:
            return _Token("and")
        if word in _OR:
            return _Token("or")
        if word in ("(", ")"):
            return _Token(word)
        if word in _KEYWORDS or (word == "held" and self._held and not operand):
            self._kind = word
            return _Token(word)
        operator = _OPERATORS.get(word)
        if operator is not None:
            return _Token(operator)
        if self._stray is not None and not operand:
            raise self._stray(word)
        return _Token("operand", self._operands.read(self._kind, word))


class _Level(msgspec.Struct):
    """What stands between two parentheses while it is read."""

    first: Expr | None = None
    rest: list[tuple[Literal["and", "or"], Expr]] = msgspec.field(default_factory=list)
    operator: str = "and"
    negations: int = 0

    def add(self, test: Expr) -> None:
        while self.negations:
            test = Not(test)
            self.negations -= 1
        if self.first is None:
            self.first = test
        else:
            self.rest.append(("or" if self.operator == "or" else "and", test))

    def expression(self) -> Expr:
        assert self.first is not None
        return Chain(self.first, tuple(self.rest)) if self.rest else self.first


def _bellow(what: str = "syntax error") -> NoReturn:
    raise UsageError(f'ss: bison bellows (while parsing filter): "{what}!" Sorry.', usage=True)


def _exhausted() -> NoReturn:
    # What ss says at its own, deeper limit.
    _bellow("memory exhausted")


def _held(operator: str, ns: int) -> Expr:
    """The six operators; equality means: the same when both are cut to the unit in which the duration was whole."""
    grain = next(unit for unit in (10**9, 10**6, 10**3, 1) if ns % unit == 0)
    if operator == ">=":
        return Held(True, ns)
    if operator == "<":
        return Not(Held(True, ns))
    if operator == "<=":
        return Held(False, ns)
    if operator == ">":
        return Not(Held(False, ns))
    equal = Chain(Held(True, ns), (("and", Held(False, ns + grain - 1)),))
    return Not(equal) if operator == "!=" else equal


class _Operands:
    """Operands to values: everything that is looked up, and the family that sticks."""

    def __init__(self, names: Names, scope: Scope, release: Dialect, *, rpc: bool, ours: bool) -> None:
        self._names = names
        self._scope = scope
        self._release = release
        self._rpc = rpc
        self._ours = ours
        self._port_bits = 64 if release.unsigned_inode else 32

    def read(self, kind: str, word: str) -> tuple[Host, ...] | Expr | int:
        """Read an operand of the last keyword ("": none yet). Raises LookupFailed."""
        if kind == "held":
            from sstrace.query.quantity import parse_duration

            ns = parse_duration(word)
            if ns is None:
                raise UsageError(f'sstrace: held "{word}" is not a time: write 5, 1.5s, 200ms, 5m or 2h')
            return ns
        if kind == "dev":
            return self._device(word)
        if kind == "fwmark":
            return self._mark(word)
        if kind == "cgroup":
            return self._cgroup(word)
        hosts = self._host(word, port_only=kind in ("sport", "dport"))
        if hosts is None:
            self._wrong(f'"{word}" is no address or port: write 10.0.0.1, 10.0.0.0/8, [::1]:443 or :443')
        return hosts

    def _wrong(self, ours: str, theirs: str = "Cannot parse dst/src address.") -> NoReturn:
        raise LookupFailed(f"sstrace: {ours}" if self._ours else theirs)

    def _index(self, name: str) -> int:
        """Give the index of a device, also by the ``if7`` that ss prints for one without a name; 0: none."""
        index = self._names.ifindex(_native(name))
        if index is None and name.startswith("if"):
            index = scan_unsigned(name, 2)
        return index or 0

    def _device(self, word: str) -> Device:
        name = _native(word)
        index = self._names.ifindex(name) or 0
        if index > 0:
            return Device(index, name)
        number = (scan_unsigned(word, 2) if word.startswith("if") else None) or get_unsigned(word)
        if number is not None:
            return Device(number)
        if not index:
            self._wrong(f"there is no device {word}", "Cannot parse device.")
        return Device(index, name)

    def _mark(self, word: str) -> Mark:
        value, at = scan_integer(word)
        mask = 0xFFFFFFFF
        ok = at > 0
        if "/" in word:
            ok = ok and word[at : at + 1] == "/"
            mask, after = scan_integer(word, at + 1)
            ok = ok and after > at + 1
        if not ok:
            self._wrong(f'"{word}" is no mark: write fwmark = 7 or fwmark = 1/255', f"Cannot parse mark {word}.")
        return Mark(value, mask)

    def _cgroup(self, word: str) -> Cgroup:
        try:
            number = self._names.cgroup_id(_native(word))
        except LookupFailed as error:
            self._wrong(f"there is no cgroup {word}", f"{error}\nCannot parse cgroup {word}.")
        if not number:
            self._wrong(f"there is no cgroup {word}", f"Cannot parse cgroup {word}.")
        return Cgroup(number)

    def _host(self, word: str, *, port_only: bool) -> tuple[Host, ...] | None:
        family = self._scope.preferred
        for prefix, fixed in _PREFIXES:
            if word.startswith(prefix):
                family = fixed
                word = word[len(prefix) :]
                break
        hosts: tuple[Host, ...] | None
        if family == AF_UNIX:
            hosts = (Host(family=AF_UNIX, bits=8 * len(word), glob=word),)
        elif family == AF_PACKET:
            hosts = self._packet(word, port_only=port_only)
        elif family == AF_NETLINK:
            hosts = self._netlink(word, port_only=port_only)
        elif family == AF_VSOCK:
            hosts = self._vsock(word, port_only=port_only)
        else:
            hosts = self._inet(word, family, port_only=port_only)
        if hosts is not None and family != AF_UNSPEC:
            self._scope.families = 1 << family
            self._scope.preferred = family
        return hosts

    def _packet(self, word: str, *, port_only: bool) -> tuple[Host, ...] | None:
        protocol, port_text = _split_port(word, port_only=port_only)
        port = -1
        if port_text not in ("", "*", None):
            number = get_integer(port_text, self._port_bits)
            if number is None:
                number = self._index(port_text)
                if number <= 0:
                    return None
            port = number
        if port_only or protocol in ("", "*"):
            return (Host(family=AF_PACKET, port=port),)
        code = link_protocol_number(protocol, self._release)
        if code is None:
            code = get_unsigned(protocol, 0xFFFF)
        if code is None:
            return None
        return (Host(family=AF_PACKET, address=code.to_bytes(4, "little"), bits=32, port=port),)

    def _netlink(self, word: str, *, port_only: bool) -> tuple[Host, ...] | None:
        protocol, port_text = _split_port(word, port_only=port_only)
        port = -1
        if port_text not in ("", "*", None):
            number = get_integer(port_text, self._port_bits)
            if number is None:
                if port_text != "kernel":
                    return None
                number = 0
            port = number
        if port_only or protocol in ("", "*"):
            return (Host(family=AF_NETLINK, port=port),)
        code = self._names.netlink_protocol_number(protocol)
        if code is None:
            code = get_unsigned(protocol, 255)
        if code is None:
            return None
        return (Host(family=AF_NETLINK, address=code.to_bytes(4, "little"), bits=32, port=port),)

    def _vsock(self, word: str, *, port_only: bool) -> tuple[Host, ...] | None:
        cid_text, port_text = _split_port(word, port_only=port_only)
        port = -1
        if port_text is not None and port_text != "*":
            number = get_unsigned(port_text)
            if number is None:
                return None
            # First a signed integer of 32 bits: 4294967295 was -1, and so any. Then one of 64 bits, of which only the
            # lower half was written over the -1 that it began as. From 7.3 on it is what it says.
            half = self._release.unsigned_inode
            port = number - (1 << 32 if not self._release.unsigned_ports and (half or number >> 31) else 0)
        # ss reads the CID, refuses a bad one, and then overwrites the length of the prefix: it is never compared.
        cid = 0xFFFFFFFF if port_only or cid_text in ("", "*") else get_unsigned(cid_text)
        if cid is None:
            return None
        return (Host(family=AF_VSOCK, address=cid.to_bytes(4, "little"), port=port),)

    def _inet(self, word: str, family: int, *, port_only: bool) -> tuple[Host, ...] | None:
        address = word
        if address[:1] == "[":
            address, bracket, port_text = address[1:].partition("]")
            if not bracket:
                return None
        elif address[:1] == "*":
            port_text = address[1:]
        else:
            # A colon before the slash belongs to the address: fe80::/10.
            colon = address.rfind(":", max(address.find("/"), 0))
            port_text = address[colon:] if colon >= 0 else ""
            if colon >= 0 and not port_only:
                address = address[:colon]
        if port_only:
            port_text = address
        port = self._port(port_text.removeprefix(":"))
        if port is None:
            return None
        if port_only or address[:1] in ("", "*"):
            return (Host(port=port),)
        prefix = _prefix(address, family)
        if prefix is not None:
            found, raw, bits = prefix
            return (Host(family=found, address=raw, bits=bits, port=port),)
        addresses: list[tuple[int, bytes]] = []
        for wanted in _lookups(address, family):
            addresses += [pair for pair in self._names.addresses(address, wanted) if pair[0] == wanted]
        if not addresses:
            self._wrong(
                f'"{address}" is no address, and no host of that name is known',
                f'Error: an inet prefix is expected rather than "{address}".\nCannot parse dst/src address.',
            )
        return tuple(Host(family=found, address=raw, bits=8 * len(raw), port=port) for found, raw in addresses)

    def _port(self, text: str) -> int | None:
        """Read a port; -1: any, None: said already that it is none."""
        if text[:1] in ("", "*"):
            return -1
        number = get_integer(text, self._port_bits)
        if number is not None:
            if self._ours and not 0 <= number < 1 << 16:
                raise UsageError(f"sstrace: ports go from 0 to 65535, and {number} is none")
            return number
        protocols = [name for name, table in _SERVICES if self._scope.tables >> table & 1]
        found = {name: self._names.service_port(text, name) for name in protocols}
        if len(found) > 1 and found["udp"] is not None:
            # ss keeps getservbyname's answer for udp by reference, then asks for tcp; glibc answers both in one buffer.
            # So tcp's port counts, and where tcp has none, whatever the search read last. Nothing is ever ambiguous.
            found = {"tcp": self._names.last_service_port() if found["tcp"] is None else found["tcp"]}
        ports = [port for port in found.values() if port is not None]
        if not ports and self._rpc and text.startswith("rpc."):
            ports = [p for p in range(1, 65536) for name in protocols if self._names.rpc(p, name) == text]
        if not ports or ports[0] <= 0:
            self._wrong(
                f'"{text}" is no port, and no service of that name is known',
                f'Error: "{text}" does not look like a port.\nCannot parse dst/src address.',
            )
        return ports[0]


def _lookups(name: str, family: int) -> tuple[int, ...]:
    """Which address families a host name is looked up in when operands are of a family."""
    if family in (AF_INET, AF_INET6):
        return (family,)
    if family == AF_UNSPEC:
        return (AF_INET, AF_INET6)
    # gethostbyname2 knows no names in other families (tipc, xdp), but takes a number for IPv4 before it looks.
    return (AF_INET,) if name[-1:] != "." and not name.strip("0123456789.") and name[0] != "." else ()


# getservbyname is asked for udp first; what counts is only whether both know the name and disagree.
_SERVICES: Final = (("udp", Table.UDP), ("tcp", Table.TCP))

_PREFIXES: Final = (
    ("unix:", AF_UNIX),
    ("link:", AF_PACKET),
    ("netlink:", AF_NETLINK),
    ("vsock:", AF_VSOCK),
    ("inet:", AF_INET),
    ("inet6:", AF_INET6),
)


def _split_port(word: str, *, port_only: bool) -> tuple[str, str | None]:
    """Split ``PROTO:PORT`` of the families that have no colons in their addresses; None: no port was given."""
    if port_only:
        return "", word.removeprefix(":")
    head, colon, tail = word.partition(":")
    return head, tail if colon else None


def _native(word: str) -> str:
    """Turn a word of one character a byte into what functions of the system take: os.fsdecode of its bytes."""
    return word.encode("latin-1").decode("utf-8", "surrogateescape")


def scan_unsigned(text: str, at: int) -> int:
    """Read a decimal number at an index as ``%u`` does: blanks and a sign before it, modulo 2**32; 0 when there is
    none.
    """
    digits = text[at:].lstrip(" \t\n\v\f\r")
    sign = digits[:1]
    if sign in ("+", "-"):
        digits = digits[1:]
    end = 0
    while end < len(digits) and digits[end] in "0123456789":
        end += 1
    # Too large a number sticks at the end of unsigned long; beyond 20 digits its value does not matter.
    number = min(int(digits[: min(end, 25)] or "0"), (1 << 64) - 1)
    return (-number if sign == "-" and number < (1 << 64) - 1 else number) & 0xFFFFFFFF


def _prefix(text: str, family: int) -> tuple[int, bytes, int] | None:
    """Read ADDRESS[/LENGTH]: (family, bytes, prefix length); None when it is no numeric address of the family."""
    address, slash, length = text.partition("/")
    if address in ("any", "all", "default"):
        return None if slash else (family, b"\0" * (16 if family == AF_INET6 else 4), 0)
    if ":" in address:
        found = AF_INET6
        raw = _ipv6(address)
    else:
        found = AF_INET
        raw = _ipv4(address)
    if raw is None or family not in (AF_UNSPEC, found):
        return None
    if not slash:
        return found, raw, 8 * len(raw)
    bits = _netmask(length)
    return None if bits is None or bits > 8 * len(raw) else (found, raw, bits)


def _ipv4(text: str) -> bytes | None:
    """Read one to four numbers joined by dots, as ss does and nobody else: the missing ones are the last."""
    parts: list[int] = []
    while len(parts) < 4:
        number, at, _ = strtoul(text)
        if not at or number > 255:
            return None
        parts.append(number)
        if at == len(text):
            return bytes((*parts, 0, 0, 0)[:4])
        if text[at] != ".":
            return None
        text = text[at + 1 :]
    return None


def _ipv6(text: str) -> bytes | None:
    try:
        return inet_pton(AF_INET6, text)
    except (OSError, ValueError, UnicodeError):
        return None


def _netmask(text: str) -> int | None:
    """Read a prefix length, or an IPv4 netmask without holes."""
    number = get_unsigned(text)
    if number is not None:
        return number
    if text in ("any", "all", "default"):
        return 0
    raw = _ipv4(text) if ":" not in text else None
    if raw is None:
        return None
    host = ~int.from_bytes(raw, "big") & 0xFFFFFFFF
    return None if host & (host + 1) else 32 - host.bit_length()
