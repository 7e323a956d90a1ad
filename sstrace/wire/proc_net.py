"""The text tables of /proc/net, as ss reads them when netlink is not to be had: bytes of a file → rows.

What these files do not say stays None (no SKV6ONLY, no cgroup, no shutdown marks). Like ss's, these readers are
lenient where the kernel varies: a line may end early (request and time-wait sockets have short ones), and its missing
fields are 0. A line that is no row at all raises DecodeError naming the file's kind and the line's number; the rows
before it have been yielded by then.

Format: Documentation/networking/proc_net_tcp.rst, net/ipv4/tcp_ipv4.c, net/unix/af_unix.c, net/packet/af_packet.c and
net/netlink/af_netlink.c (Linux 6.18).
"""

import struct
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise

import msgspec

from sstrace.errors import DecodeError
from sstrace.model import (
    AF_INET,
    AF_NETLINK,
    AF_PACKET,
    AF_UNIX,
    SOCK_DGRAM,
    SOCK_RAW,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    InetSocket,
    NetlinkSocket,
    PacketSocket,
    ProcTcp,
    State,
    Table,
    UnixSocket,
)

__all__ = [
    "SockStat",
    "decode_inet",
    "decode_netlink",
    "decode_packet",
    "decode_sockstat",
    "decode_unix",
    "tcp_established",
]

_NO_DETAILS = ProcTcp(rto=0, ato=0, qack=0, cwnd=0, ssthresh=-1)


def decode_inet(text: bytes, table: Table, family: int, *, hz: int = 100) -> Iterator[InetSocket]:
    """Rows of /proc/net/{tcp,udp,raw}[6]. ``hz`` is USER_HZ, the unit of the file's times, 100 on every machine of
    today.

    The cookie is what the file gives as address (hashed by the kernel for most readers). ``proc`` is always set: of
    tcp rows it has the details, of others nothing. Raises DecodeError at the first line without two addresses.
    """
    for number, line in _lines(text):
        # ss looks for the colons only: "sl: ADDRESS:PORT ADDRESS:PORT data".
        words = line.split(b":", 1)[-1].split(None, 2)
        try:
            local, remote = words[0], words[1]
            src, sport = _endpoint(local, family)
            dst, dport = _endpoint(remote, family)
        except (IndexError, ValueError, struct.error):
            raise _malformed("inet socket", number, line) from None
        row = InetSocket(table=table, family=family, state=0, src=src, sport=sport, dst=dst, dport=dport)
        row.proc = _NO_DETAILS
        rest = words[2] if len(words) > 2 else b""
        try:
            _inet_fields(row, rest, hz)
        except ValueError:
            raise _malformed("inet socket", number, line) from None
        yield row


def _inet_fields(row: InetSocket, rest: bytes, hz: int) -> None:
    # st tx:rx tr:when retrnsmt uid timeout inode refcount address [rto ato quick|pingpong cwnd ssthresh [anything]]
    words = rest.split(None, 14)
    count = len(words)
    if count > 0:
        row.state = int(words[0], 16)
    if count > 1:
        row.send_q, row.recv_q = _pair(words[1])
    tcp = row.table is Table.TCP
    if count > 2 and tcp:
        row.timer, ticks = _pair(words[2])
        row.expires_ms = -(-ticks * 1000 // hz)
    if count > 4:
        row.uid = int(words[4])
    if count > 6:
        row.ino = int(words[6])
    if count > 8:
        row.cookie = int(words[8], 16)
    if not tcp:
        return
    if count > 5:
        # The retransmissions proper only while the retransmit timer runs; otherwise ss shows the probes.
        row.retrans = int(words[3], 16) if row.timer == 1 else int(words[5])
    if count > 13:
        rto, ato, qack, cwnd, ssthresh = (int(word) for word in (*words[9:13], words[13]))
        opt = words[14].decode("latin-1") if count > 14 else ""
        row.proc = ProcTcp(rto=rto, ato=ato, qack=qack, cwnd=cwnd, ssthresh=ssthresh, opt=opt)
    else:
        row.proc = ProcTcp(rto=0, ato=0, qack=0, cwnd=2, ssthresh=-1)


def _endpoint(word: bytes, family: int) -> tuple[bytes, int]:
    """``0100007F:0016`` → (b"\\x7f\\0\\0\\1", 22): each 32-bit word of the address is printed as the host's number."""
    address, _, port = word.partition(b":")
    size = 8 if family == AF_INET else 32
    if len(address) != size:
        raise ValueError
    raw = b"".join(int(address[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, size, 8))
    return raw, int(port, 16) & 0xFFFF


def _pair(word: bytes) -> tuple[int, int]:
    first, _, second = word.partition(b":")
    return int(first, 16), int(second, 16)


# What the file's St column (enum socket_state, include/uapi/linux/net.h, from 1) means to ss.
_UNIX_STATES = {1: State.CLOSE, 2: State.SYN_SENT, 3: State.ESTABLISHED, 4: State.CLOSING}
_LISTENING = 1 << 16  # __SO_ACCEPTCON


def decode_unix(text: bytes, keep: Callable[[UnixSocket], bool], *, batch: int = 1681) -> list[UnixSocket]:
    """Rows of /proc/net/unix that ``keep`` wants, in the order in which ss shows them: by (type, inode), in runs of
    ``batch`` rows (ss sorts what fits one of its buffers, prints it, and goes on).

    A name that holds a newline makes bogus lines; ss makes bogus rows of them, and so does this. Names end at their
    first blank. An ancient header that begins with ``Peer`` says that the first column is the peer's inode and the
    next two the queues.
    """
    import re  # only this table needs it

    # sscanf("%x: %x %x %x %x %x %d %s"): each conversion only after the one before it worked.
    hexadecimal, decimal = rb"\s*([+-]?(?:0[xX])?[0-9a-fA-F]+)", rb"\s*([+-]?[0-9]+)"
    tail = decimal + rb"(?:\s*(\S+))?"
    for _ in range(5):
        tail = hexadecimal + b"(?:" + tail + b")?"
    pattern = re.compile(hexadecimal + b"(?::" + tail + b")?")
    header, _, _ = text.partition(b"\n")
    with_peer = header.startswith(b"Peer")
    finished: list[UnixSocket] = []
    rows: list[UnixSocket] = []
    flags = 0
    for _, line in _lines(text, ragged=True):
        match = pattern.match(line)
        words = match.groups() if match else (None,) * 8
        first, queue_1, queue_2, flag_word, kind, state, ino, name = words
        peer = _u32(first)
        # ss keeps the flags of the line before where a line has none.
        flags = _u32(flag_word) if flag_word is not None else flags
        row = UnixSocket(
            table=Table.UNIX_DGRAM,
            family=AF_UNIX,
            state=_u32(state),
            ino=int(ino[:20] if ino else b"0") & 0xFFFFFFFF,
            type=_u32(kind),
            name=name or b"",
        )
        row.table = _UNIX_TABLES.get(row.type, Table.UNIX_DGRAM)
        if flags & _LISTENING:
            row.state = State.LISTEN.value
        elif row.state in _UNIX_STATES:
            row.state = _UNIX_STATES[row.state].value
            # A quirk of ss: it takes any first column for a peer here, though only the ancient format has one there.
            if row.type == SOCK_DGRAM and row.state == State.CLOSE and peer:
                row.state = State.ESTABLISHED.value
        if not keep(row):
            continue
        if with_peer:
            row.recv_q, row.send_q, row.peer_ino = _u32(queue_1), _u32(queue_2), peer
            if peer:
                row.peer_name = next((other.name or b"*" for other in rows if other.ino == peer), b"?")
        rows.append(row)
        if len(rows) == batch:
            finished += sorted(rows, key=_type_and_inode)
            rows = []
    return finished + sorted(rows, key=_type_and_inode)


_UNIX_TABLES = {
    SOCK_STREAM: Table.UNIX_STREAM,
    SOCK_DGRAM: Table.UNIX_DGRAM,
    SOCK_SEQPACKET: Table.UNIX_SEQPACKET,
}


def _type_and_inode(row: UnixSocket) -> tuple[int, int]:
    return row.type, row.ino


def _u32(word: bytes | None) -> int:
    return int(word, 16) & 0xFFFFFFFF if word else 0


def decode_packet(text: bytes) -> Iterator[PacketSocket]:
    """Rows of /proc/net/packet: sk RefCnt Type Proto Iface R Rmem User Inode. The cookie is 0, as ss shows it."""
    for number, line in _lines(text):
        words = line.split()
        try:
            int(words[0], 16)
            kind, protocol, ifindex = int(words[2]), int(words[3], 16), int(words[4])
            rmem, uid, ino = int(words[6]), int(words[7]), int(words[8])
        except (IndexError, ValueError):
            raise _malformed("packet socket", number, line) from None
        yield PacketSocket(
            table=Table.PACKET_RAW if kind == SOCK_RAW else Table.PACKET_DGRAM,
            family=AF_PACKET,
            state=State.CLOSE.value,
            recv_q=rmem,
            ino=ino,
            type=kind,
            protocol=protocol,
            ifindex=ifindex,
            uid=uid,
        )


def decode_netlink(text: bytes) -> Iterator[NetlinkSocket]:
    """Rows of /proc/net/netlink: sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode."""
    for number, line in _lines(text, ragged=True):
        words = line.split()
        try:
            sk, cb, groups = int(words[0], 16), int(words[6], 16), int(words[3], 16) & 0xFFFFFFFF
            protocol, portid, rmem, wmem = int(words[1]), int(words[2]) & 0xFFFFFFFF, int(words[4]), int(words[5])
            int(words[7])
            ino = int(words[9]) if len(words) > 9 else 0
        except (IndexError, ValueError):
            raise _malformed("netlink socket", number, line) from None
        yield NetlinkSocket(
            table=Table.NETLINK,
            family=AF_NETLINK,
            state=State.CLOSE.value,
            recv_q=rmem,
            send_q=wmem,
            ino=ino,
            protocol=protocol,
            portid=portid - (1 << 32) if portid >= 1 << 31 else portid,
            groups=groups,
            sk=sk,
            cb=cb,
        )


class SockStat(msgspec.Struct, kw_only=True):
    """/proc/net/sockstat and sockstat6: numbers of sockets (``tcp_mem`` in pages); 0 where a file does not say."""

    used: int = 0
    """Sockets of every family."""
    tcp_inuse: int = 0
    tcp_orphan: int = 0
    tcp_tw: int = 0
    tcp_alloc: int = 0
    tcp_mem: int = 0
    udp_inuse: int = 0
    raw_inuse: int = 0
    frag_inuse: int = 0
    tcp6_inuse: int = 0
    udp6_inuse: int = 0
    raw6_inuse: int = 0
    frag6_inuse: int = 0


def decode_sockstat(sockstat: bytes, sockstat6: bytes = b"") -> SockStat:
    """Both files together; unknown lines and words are passed over. Raises DecodeError for a number that is none."""
    stat = SockStat()
    for line in (sockstat + b"\n" + sockstat6).splitlines():
        name, _, rest = line.partition(b":")
        words = rest.split()
        for key, value in zip(words[::2], words[1::2], strict=False):
            field = "used" if name == b"sockets" else f"{name.decode('latin-1').lower()}_{key.decode('latin-1')}"
            if field in SockStat.__struct_fields__:
                try:
                    setattr(stat, field, int(value))
                except ValueError:
                    raise DecodeError(f"sockstat: {value!r} is no number in {line!r}") from None
    return stat


def tcp_established(snmp: bytes) -> int:
    """CurrEstab of /proc/net/snmp: TCP sockets in ESTABLISHED or CLOSE-WAIT. DecodeError when the file has none."""
    for names_line, values_line in pairwise(snmp.splitlines()):
        if not names_line.startswith(b"Tcp:") or not values_line.startswith(b"Tcp:"):
            continue
        names, values = names_line.split(), values_line.split()
        if b"CurrEstab" in names:
            at = names.index(b"CurrEstab")
            try:
                return int(values[at])
            except (IndexError, ValueError):
                break
    raise DecodeError("snmp: no number under Tcp: CurrEstab")


def _lines(text: bytes, *, ragged: bool = False) -> Iterator[tuple[int, bytes]]:
    """The lines below the header, numbered from 2. What follows the last newline is no line to ss, except in those
    tables where it does not look (``ragged``).
    """
    lines = text.split(b"\n")
    if not ragged or not lines[-1]:
        del lines[-1]
    return enumerate(lines[1:], 2)


def _malformed(what: str, number: int, line: bytes) -> DecodeError:
    return DecodeError(f"/proc: line {number} is no {what}: {line[:60]!r}")
