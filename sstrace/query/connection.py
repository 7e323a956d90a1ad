"""``--explain WHICH``: one connection, by its ends, or one of them, or by its number in a recording.

``10.0.0.1:40000-10.0.0.2:443``, in either order; IPv6 in brackets; an address may be left away (``:40000-:443``), and
one end (``:40000``). ``#17``: the ``id`` of its lines.
"""

import re
from ipaddress import IPv6Address, ip_address
from typing import Final

import msgspec

__all__ = ["End", "Which", "address_of", "parse_which", "without_hosts"]

_ANY: Final = ("", "*")
_HOST: Final = r"(?:\[[^]]*\]|[^]:[]*)"
_HOSTS_AND_PORTS: Final = re.compile(rf"{_HOST}(:[0-9]+)(?:(-){_HOST}(:[0-9]+))?")

End = tuple[str | None, int]
"""Address (None: any) and port."""


class Which(msgspec.Struct, frozen=True):
    """Either an ``id``, or ``ends``, one or both: address (None: any) and port."""

    text: str
    id: int | None = None
    ends: tuple[End, ...] = ()

    def means(self, here: tuple[str, int], there: tuple[str, int]) -> bool:
        """Whether a connection between these ends is meant; addresses as ``address_of`` gives them."""
        if len(self.ends) < 2:
            return any(_is(end, here) or _is(end, there) for end in self.ends)
        one, other = self.ends
        return (_is(one, here) and _is(other, there)) or (_is(one, there) and _is(other, here))


def _is(wanted: End, found: tuple[str, int]) -> bool:
    return wanted[1] == found[1] and wanted[0] in (None, found[0])


def address_of(text: str) -> str | None:
    """An address in the one way in which we compare: a v4-mapped one as IPv4; None for what is none."""
    try:
        found = ip_address(text)
    except ValueError:
        return None
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return str(found)


def parse_which(text: str) -> Which | None:
    """None for what is neither."""
    if text[:1] == "#":
        number = text[1:]
        return Which(text, id=int(number)) if number.isascii() and number.isdecimal() and len(number) < 19 else None
    ends = [_end(part) for part in text.split("-", 1)]
    known = tuple(end for end in ends if end is not None)
    return Which(text, ends=known) if len(known) == len(ends) else None


def without_hosts(text: str) -> str | None:
    """The ports alone of what ``parse_which`` does not take because a host stands in it by its name; None for what it
    does not take either.
    """
    ports = _HOSTS_AND_PORTS.fullmatch(text)
    left = "".join(filter(None, ports.groups())) if ports is not None else ""
    return left if parse_which(left) is not None else None


def _end(text: str) -> End | None:
    host, colon, port = text.rpartition(":")
    if not (colon and port.isascii() and port.isdecimal() and len(port) < 6 and int(port) < 65536):
        return None
    if host in _ANY:
        return None, int(port)
    address = address_of(host[1:-1] if host[:1] == "[" and host[-1:] == "]" else host)
    return (address, int(port)) if address is not None else None
