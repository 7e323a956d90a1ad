"""What renderers are lent: wire's decoders of what rows carry undecoded. The two rooms do not know each other."""

from sstrace.render.common import Decoders
from sstrace.wire import inet_diag

__all__ = ["decoders"]


def decoders() -> Decoders:
    """For a ``Context``, which asks when a row needs one: most command lines have no use for the module."""
    from sstrace.wire import tcp_info

    return Decoders(
        tcp_info.decode_tcp_info,
        tcp_info.unpack_tcp_info,
        tcp_info.decode_mptcp_info,
        tcp_info.decode_sctp_info,
        tcp_info.decode_ulp,
        inet_diag.decode_storage,
    )
