"""Many TCP sockets in a network namespace of their own, for the benchmarks: held quietly by several processes until
the end.
"""

import ctypes
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

CLONE_NEWNET = 0x40000000


def enter_fresh_namespace() -> None:
    """Move this process into a new network namespace with lo up."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        sys.exit(f"unshare: {os.strerror(ctypes.get_errno())} (the benchmarks need root)")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


@contextmanager
def held(connections: int) -> Iterator[list[int]]:
    """``connections`` established loopback connections, both ends held: twice as many sockets, as many descriptors. The
    processes that hold them, any of which may be killed and waited for, and is out of the list then.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = min((hard - 64) // 2, 20_000, connections // 10 or 1)
    children: list[int] = []
    left, number = connections, 0
    try:
        while left:
            count, number = min(most, left), number + 1
            read, write = os.pipe()
            child = os.fork()
            if child == 0:
                _hold(count, f"127.0.1.{number}", write)
            os.close(write)
            children.append(child)
            if os.read(read, 1) != b"x":
                sys.exit("the sockets could not be opened")
            os.close(read)
            left -= count
        yield children
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _hold(count: int, address: str, ready: int) -> None:
    server = socket.create_server((address, 0), backlog=4096)
    kept = []
    for _ in range(count):
        client = socket.create_connection(server.getsockname())
        kept += [client, server.accept()[0]]
    os.write(ready, b"x")
    signal.pause()
    os._exit(0)
