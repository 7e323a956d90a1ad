"""inet_diag with attributes, by column: a datagram's rows in groups of one shape, without an object a row.

What ``inet_columns`` is for plain tables this is for those with details: rows whose messages are equally long and have
tcp_info at the same place become columns; attributes on either side of tcp_info are few and the same again and again,
so they are told as numbers of ``Extras`` already decoded. Of a datagram that holds anything unusual it says ``None``,
and the caller decodes it the long way.

Layout: ``inet_layout``.
"""

import struct
from _socket import ntohs
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, chain, compress, repeat
from typing import Any

import msgspec

from sstrace.errors import DecodeError
from sstrace.model import Extras, InetSocket, State, Table
from sstrace.wire import inet_diag, inet_layout
from sstrace.wire.netlink import Data
from sstrace.wire.tcp_info import InfoColumns, info_columns

__all__ = ["Attributes", "Group", "decode", "select"]


class Attributes(msgspec.Struct):
    """The attributes that rows may have besides tcp_info, each combination once."""

    known: list[tuple[int, Extras]]
    """Family and attributes of a row; the list only grows. When it has grown too long, later groups have a new one."""
    numbers: dict[tuple[int, bytes, bytes], int]
    """Family, attribute bytes before and behind tcp_info → index in ``known``."""


class Group(msgspec.Struct):
    """Rows of one shape. Columns are in the order of the datagram; ports are in network order, as the host reads it:
    ``ntohs`` gives the number.
    """

    family: int
    states: Sequence[int]
    timers: Sequence[int]
    retrans: Sequence[int]
    sports: Sequence[int]
    dports: Sequence[int]
    sources: Sequence[bytes]
    destinations: Sequence[bytes]
    cookies: Sequence[int]
    expires: Sequence[int]
    """Milliseconds."""
    recv_qs: Sequence[int]
    send_qs: Sequence[int]
    uids: Sequence[int]
    inodes: Sequence[int]
    attributes: Attributes
    which: Sequence[int]
    """Each row's attributes without tcp_info, as an index in ``attributes.known``."""
    info: InfoColumns | None
    """tcp_info; None: these rows have none."""


_READ = [name for name in inet_layout.MEMBERS if name not in ("nlmsg_seq", "nlmsg_pid")]
_FIXED = inet_layout.SIZE
_FAMILY = inet_layout.OFFSET["family"]
_FORMAT = {family: "=" + inet_layout.codes(family, *_READ) for family in inet_layout.FAMILIES}

_ATTRIBUTE = struct.Struct("=HH")
_LENGTH = struct.Struct("=I")
_INFO = 2  # INET_DIAG_INFO
_LISTEN = int(State.LISTEN)
_ROOM = 4096
"""Combinations of attributes worth keeping."""
_KINDS_MOST = 8
"""A datagram of more shapes than this has nothing to win by columns."""

# (family, stride, offset of tcp_info behind the fixed part or -1, its length) → the struct of a whole message.
_structs: dict[tuple[int, int, int, int], struct.Struct] = {}
# Stride → offset and length of tcp_info in the last message of that stride.
_places: dict[int, tuple[int, int]] = {}
_attributes = Attributes([], {})


def decode(datagram: Data) -> tuple[list[Group], Sequence[int] | None] | None:
    """The rows of a datagram, all of one family, in groups; ``None`` where it holds anything else than such rows.

    The second part says how to put the rows of all groups, one group behind the other, into the datagram's order:
    the n-th row of the datagram stands at ``order[n]``. ``None``: they are in order.

    Besides what is not plain for ``inet_columns``, listeners are left to the long way, whose tcp_info means other
    things, and attributes that are cut off.
    """
    size = len(datagram)
    if size < _FIXED:
        return None
    family = datagram[_FAMILY]
    if family not in _FORMAT:
        return None
    length: int = _LENGTH.unpack_from(datagram)[0]
    if length >= _FIXED and length & 3 == 0 and size % length == 0:
        group = _group(datagram, family, length)
        if group is not None:
            return [group], None
    return _mixed(datagram, family)


def select(
    groups: list[Group], order: Sequence[int] | None, match: Callable[[InetSocket], bool]
) -> tuple[list[Group], Sequence[int] | None]:
    """Of what ``decode`` gave only the rows that ``match`` wants. It sees each without tcp_info."""
    kept = [[bool(match(row)) for row in _rows(group)] for group in groups]
    if all(map(all, kept)):
        return groups, order
    if order is not None:
        flags = [*chain.from_iterable(kept)]
        places = [*accumulate(flags, initial=0)]
        order = [places[place] for place in order if flags[place]]
    chosen = [_compressed(group, flags) for group, flags in zip(groups, kept, strict=True) if any(flags)]
    return chosen, order if len(chosen) > 1 else None


def _rows(group: Group) -> Iterator[InetSocket]:
    known, family = group.attributes.known, group.family
    for state, inode, source, sport, destination, dport, uid, which in zip(
        group.states, group.inodes, group.sources, group.sports, group.destinations, group.dports, group.uids,
        group.which, strict=True,
    ):  # fmt: skip
        yield InetSocket(
            Table.TCP, family, state, 0, 0, inode, 0, source, ntohs(sport), destination, ntohs(dport),
            uid, 0, 0, 0, 0, known[which][1],
        )  # fmt: skip


def _compressed(group: Group, flags: Sequence[bool]) -> Group:
    """The rows of a group whose flag is set."""
    info = group.info
    if info is not None:
        info = InfoColumns(info.constants, [tuple(compress(column, flags)) for column in info.columns])
    columns = {
        name: tuple(compress(getattr(group, name), flags))
        for name in Group.__struct_fields__
        if name not in ("family", "attributes", "info")
    }
    return Group(family=group.family, attributes=group.attributes, info=info, **columns)


def _mixed(datagram: Data, family: int) -> tuple[list[Group], Sequence[int] | None] | None:
    """Rows of several lengths: the rows of each length make a group."""
    shapes: dict[int, list[int]] = {}
    offset, size, unpack = 0, len(datagram), _LENGTH.unpack_from
    while offset < size:
        if size - offset < _FIXED:
            return None
        length: int = unpack(datagram, offset)[0]
        if not _FIXED <= length <= size - offset or length & 3:
            return None
        if length in shapes:
            shapes[length].append(offset)
        elif len(shapes) == _KINDS_MOST:
            return None
        else:
            shapes[length] = [offset]
        offset += length
    groups: list[Group] = []
    for length, offsets in shapes.items():
        group = _group(b"".join([datagram[offset : offset + length] for offset in offsets]), family, length)
        if group is None:
            return None
        groups.append(group)
    if len(groups) == 1:
        return groups, None
    found = [offset for offsets in shapes.values() for offset in offsets]
    return groups, sorted(range(len(found)), key=found.__getitem__)


def _group(data: Data, family: int, length: int) -> Group | None:
    """Messages of ``length`` bytes each; None when they differ in more than what they say."""
    place = _places.get(length)
    if place is None or not _stands(data, place):
        place = _places[length] = _find(data, length)
    at, size = place
    shape = _structs.get((family, length, at, size))
    if shape is None:
        shape = _structs[family, length, at, size] = struct.Struct(_FORMAT[family] + _rest(length - _FIXED, at, size))
    fields = list(zip(*shape.iter_unpack(data), strict=True))
    columns = dict(zip(_READ, fields, strict=False))
    before, *rest = fields[len(_READ) :]
    count = len(before)
    if (
        columns["nlmsg_len"].count(length) != count
        or _LISTEN in columns["state"]
        or not inet_layout.is_plain(columns, family)
    ):
        return None
    info = None
    behind: Sequence[bytes] = (b"",) * count
    if at >= 0:
        headers, infos, behind = rest
        if headers.count(_ATTRIBUTE.pack(4 + size, _INFO)) != count:
            return None
        info = info_columns(infos)
    try:
        attributes, which = _sides(family, before, behind)
    except DecodeError:
        return None
    cookies = columns["cookie"]
    if not inet_layout.LITTLE:
        cookies = tuple(map(inet_layout.swap_words, cookies))
    return Group(
        family=family,
        states=columns["state"],
        timers=columns["timer"],
        retrans=columns["retrans"],
        sports=columns["sport"],
        dports=columns["dport"],
        sources=columns["src"],
        destinations=columns["dst"],
        cookies=cookies,
        expires=columns["expires"],
        recv_qs=columns["rqueue"],
        send_qs=columns["wqueue"],
        uids=columns["uid"],
        inodes=columns["inode"],
        attributes=attributes,
        which=which,
        info=info,
    )


def _stands(data: Data, place: tuple[int, int]) -> bool:
    """Whether tcp_info of the first message is where that of an earlier one was."""
    at, size = place
    return at >= 0 and _ATTRIBUTE.unpack_from(data, _FIXED + at) == (4 + size, _INFO)


def _find(data: Data, length: int) -> tuple[int, int]:
    """Where tcp_info stands in the first message, as an offset behind the fixed part, and its length; (-1, 0): none."""
    offset = _FIXED
    while length - offset >= 4:
        size, kind = _ATTRIBUTE.unpack_from(data, offset)
        if size < 4 or size > length - offset:
            break
        if kind == _INFO:
            return offset - _FIXED, size - 4
        offset += (size + 3) & ~3
    return -1, 0


def _rest(length: int, at: int, size: int) -> str:
    """Struct codes of what follows the fixed part: attributes before tcp_info, its header, itself, those behind."""
    if at < 0:
        return f"{length}s"
    end = min(at + 4 + ((size + 3) & ~3), length)
    return f"{at}s4s{size}s{end - at - 4 - size}x{length - end}s"


def _sides(family: int, before: Sequence[bytes], behind: Sequence[bytes]) -> tuple[Attributes, Sequence[int]]:
    """The attributes besides tcp_info, each row's as a number. Raises DecodeError."""
    global _attributes  # noqa: PLW0603 - what is too full is left to those who use it
    if len(_attributes.known) >= _ROOM:
        _attributes = Attributes([], {})
    attributes = _attributes
    count = len(before)
    if before.count(before[0]) == count and behind.count(behind[0]) == count:
        return attributes, (_number(attributes, (family, before[0], behind[0])),) * count
    keys = list(zip(repeat(family), before, behind))
    numbers = attributes.numbers
    for key in set(keys).difference(numbers):
        _number(attributes, key)
    return attributes, list(map(numbers.__getitem__, keys))


def _number(attributes: Attributes, key: tuple[int, bytes, bytes]) -> int:
    number = attributes.numbers.get(key)
    if number is None:
        family, before, behind = key
        fields: dict[str, Any] = {**inet_diag.side(behind), **inet_diag.side(before)}
        if "info" in fields:
            raise DecodeError("inet_diag: tcp_info out of its place")
        number = attributes.numbers[key] = len(attributes.known)
        attributes.known.append((family, Extras(**fields)))
    return number
