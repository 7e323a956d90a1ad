"""What a living connection has carried so far, out of its tcp_info, as the event of its end would tell it."""

from sstrace.fields import Reported
from sstrace.model import InetSocket, Socket, State, Table
from sstrace.wire.tcp_info import TcpInfo, decode_tcp_info

__all__ = ["payload", "reported_of", "tcp_info_of"]

_LISTEN = int(State.LISTEN)
_FIN_CAME = {int(State.CLOSE_WAIT), int(State.CLOSING), int(State.LAST_ACK)}
"""States of full sockets in which the peer's FIN has come."""


def tcp_info_of(socket: Socket | None) -> TcpInfo | None:
    """A socket's tcp_info; None where there is none: TIME-WAIT, SYN-RECV, it was not asked for, or it is another
    protocol's: what those have under that name is laid out otherwise.
    """
    if not isinstance(socket, InetSocket) or socket.table is not Table.TCP or socket.extras is None:
        return None
    return decode_tcp_info(socket.extras.info) if socket.extras.info else None


def payload(info: TcpInfo) -> tuple[int, int]:
    """Bytes of payload sent, each once, and received. tcpi_bytes_sent counts again what is sent again (Linux 4.19),
    tcpi_bytes_received the peer's FIN (tcp_rcv_nxt_update in net/ipv4/tcp_input.c).
    """
    return max(0, info.bytes_sent - info.bytes_retrans), max(0, info.bytes_received - (info.state in _FIN_CAME))


def reported_of(socket: Socket) -> Reported | None:
    """Bytes and segments each way, what was sent again, and the round-trip time, where it was measured; None of what
    carries nothing: a listener, and where there is no tcp_info.
    """
    info = tcp_info_of(socket)
    if info is None:
        return None
    assert isinstance(socket, InetSocket)
    if socket.state == _LISTEN:
        return None
    sent, received = payload(info)
    return Reported(
        bytes_sent=sent,
        bytes_received=received,
        bytes_retrans=info.bytes_retrans,
        segs_out=info.segs_out,
        segs_in=info.segs_in,
        retrans=info.total_retrans,
        rtt_us=info.rtt or None,
    )
