"""Operands of a filter → values: addresses, ports, names that must be looked up, and the family that sticks.

An operand that fixes a family (by prefix, or because a family option was given) narrows the tables to it and is the
family of all operands after it. A word is looked up as soon as it is read, so of two mistakes the earlier one is told.
"""

from _socket import inet_pton  # socket takes a millisecond to import
from typing import Final, NoReturn

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
from sstrace.query.expression import Cgroup, Device, Expr, Host, Mark
from sstrace.query.numbers import get_integer, get_unsigned, scan_integer, scan_unsigned, strtoul

__all__ = ["Operands", "Scope"]


class Scope(msgspec.Struct):
    """What operands read and change while a filter is parsed."""

    tables: int
    families: int
    preferred: int


class Operands:
    """Operands to values: everything that is looked up, and the family that sticks."""

    def __init__(self, names: Names, scope: Scope, release: Dialect, *, rpc: bool, ours: bool) -> None:
        self._names = names
        self._scope = scope
        self._release = release
        self._rpc = rpc
        self._ours = ours
        self._port_bits = 64 if release.unsigned_inode else 32

    def read(self, kind: str, word: str) -> tuple[Host, ...] | Expr:
        """Read an operand of the last keyword ("": none yet). Raises LookupFailed."""
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
                _several(text) or f'"{text}" is no port, and no service of that name is known',
                f'Error: "{text}" does not look like a port.\nCannot parse dst/src address.',
            )
        return ports[0]


def _several(text: str) -> str:
    """What is said of a list of ports, or a range of them; empty: it is none."""
    ports, (low, dash, high) = text.split(","), text.partition("-")
    if len(ports) > 1 and all(port.isascii() and port.isdecimal() for port in ports):
        return f'"{text}" is several: write {" or ".join(f"port {port}" for port in ports)}'
    if dash and all(port.isascii() and port.isdecimal() for port in (low, high)):
        return f'"{text}" is a range: write port >= {low} and port <= {high}'
    return ""


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
