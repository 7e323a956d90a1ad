"""Processes beside a server, forked before anything is traced: each keeps something of root that a server gives up."""

import os
import signal
from collections.abc import Callable

from sstrace.errors import SstraceError
from sstrace.sources import bugs, privilege, seccomp, service
from sstrace.sources.standard import say

__all__ = ["Remover", "apart", "heedless"]


def apart(what: Callable[[], None]) -> int:
    """Have a child do this, and end; its pid. A server that has gone is no news to it."""
    child = os.fork()
    if child:
        return child
    code = bugs.SOFTWARE
    try:
        what()
        code = 0
    except ConnectionError:  # the server has gone
        code = 0
    except SstraceError as error:
        say(str(error))
    except Exception as error:
        say(f"what a server keeps of root met {bugs.sentence(error)}")
    finally:
        os._exit(code)


def heedless() -> None:
    """Ignore what a terminal or a service manager sends to all of a service's processes: the server needs this one to
    its end.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


class Remover:
    """Takes a server's socket file away in the end, out of a directory of root's, where the server may not. It stays
    uid 0, without capabilities, sees nothing but that directory, and does nothing else.
    """

    def __init__(self, path: str) -> None:
        # No socket, which ss would show.
        read, self._write = os.pipe()

        def wait() -> None:
            os.close(self._write)
            heedless()
            privilege.shed(None, (), seccomp.REMOVER, privilege.Reach([], [service.folder(path)]))
            told = os.read(read, 64)
            if told:  # else the server has died, and who serves next replaces it
                device, inode = map(int, told.split())
                service.remove(path, (device, inode))

        self._child = apart(wait)
        os.close(read)

    def remove(self, which: tuple[int, int]) -> None:
        """Have it done, as ``service.remove`` does."""
        try:
            os.write(self._write, b"%d %d" % which)
        except BrokenPipeError:  # it has been killed
            return
        finally:
            os.close(self._write)
        os.waitpid(self._child, 0)
