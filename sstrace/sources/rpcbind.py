"""The local rpcbind: one call, one answer, over its unix socket. ``wire.rpcbind`` knows what the bytes mean."""

import socket
from collections.abc import Callable

__all__ = ["PATH", "ask"]

PATH = "/run/rpcbind.sock"

_TIMEOUT_S = 5.0  # ss's own
_MOST = 4 << 20  # an answer of thousands of programs; more is not rpcbind


def ask(call: bytes, size_of_fragment: Callable[[bytes], tuple[int, bool]], path: str = PATH) -> bytes | None:
    """Send ``call`` (record mark included), return the answer without its marks; ``None`` when there is no rpcbind.

    ``size_of_fragment`` reads a four-byte record mark. Nothing is raised for a peer that is silent, slow or gone:
    names of RPC services only improve what is printed.
    """
    answer = b""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            peer.settimeout(_TIMEOUT_S)
            peer.connect(path)
            peer.sendall(call)
            with peer.makefile("rb") as stream:
                last = False
                while not last:
                    mark = stream.read(4)
                    if len(mark) != 4:
                        return None
                    size, last = size_of_fragment(mark)
                    if len(answer) + size > _MOST:
                        return None
                    fragment = stream.read(size)
                    if len(fragment) != size:
                        return None
                    answer += fragment
    except OSError:
        return None
    return answer
