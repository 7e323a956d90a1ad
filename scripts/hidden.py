"""What no BPF program could hear, for the proofs that compare the live table with ss.

Some sandboxes shut process 1 off, even from root, and run no BPF program while a task of it is current: what a softirq
does that happens to interrupt it stays missed by any BPF tracer. ftrace hears it.
"""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from sstrace.sources import tracefs
from sstrace.sources.btf import Btf
from sstrace.table import Row

HEARD = ("sock/inet_sock_set_state", "timer/timer_start", "timer/timer_cancel", "timer/timer_expire_entry")
"""What ftrace listens to, where BPF may not."""

Key = tuple[str, str, str]
"""State, local, peer: as ss prints them."""


class Hidden:
    """What ftrace heard of TCP while a task of process 1 was current."""

    def __init__(self) -> None:
        self._instance = tracefs.directory() / "instances" / f"verify-churn-{os.getpid()}"
        self.events: list[str] = []
        self._on = False
        try:
            Path("/proc/1/fd/0").readlink()
        except PermissionError:
            self._on = True
        except OSError:
            pass
        if not self._on:
            return
        with Btf() as btf:
            self._offsets = [btf.offset("inet_timewait_sock", "tw_timer"), btf.offset("request_sock", "rsk_timer")]
        self._instance.mkdir()
        self._write("options/hash-ptr", "0")
        self._write("buffer_size_kb", "8192")
        self._names: set[str] = set()
        self._follow()
        for event in HEARD:
            self._write(f"events/{event}/enable", "1")
        # Read and emptied at once: no event can come between.
        self._pipe = os.open(self._instance / "trace_pipe", os.O_RDONLY | os.O_NONBLOCK)

    def _follow(self) -> None:
        """Process 1's threads come and go, one perhaps since we looked; but a new one bears the name of an old one."""
        names = set()
        for task in Path("/proc/1/task").iterdir():
            with contextlib.suppress(OSError):
                names.add((task / "comm").read_text().rstrip("\n"))
        if names != self._names:
            self._names = names
            for event in HEARD:
                self._write(f"events/{event}/filter", " || ".join(f'comm == "{name}"' for name in sorted(names)))

    def _write(self, name: str, value: str) -> None:
        (self._instance / name).write_text(value)

    def clock(self, name: str) -> None:
        """Have the events' times of another clock than ftrace's own."""
        if self._on:
            self._write("trace_clock", name)

    def read(self) -> None:
        """Take what has been heard since the last time."""
        if not self._on:
            return
        self._follow()
        text = b""
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(self._pipe, 1 << 16):
                text += piece
        keep = ("inet_sock_set_state", "tw_timer_handler", "reqsk_timer_handler", "timer_cancel")
        self.events += [
            line for line in text.decode(errors="replace").splitlines() if any(word in line for word in keep)
        ]
        del self.events[:-200_000]

    def explains(self, key: Key, rows: Iterable[Row]) -> bool:
        """Whether something was heard of the row's addresses, or of a timer of the table's rows between them. A birth
        names addresses that no row has: then a timer that started must be of nobody we know.
        """
        if not self._on:
            return False
        local, peer = (end.rsplit(":", 1)[1] for end in key[1:])
        ports = {f" sport={local} dport={peer} ", f" sport={peer} dport={local} "}
        timers = {
            f"timer={row.sk + at:x}" for row in rows if row.sk is not None for at in self._offsets if at is not None
        }
        born = key[0] in ("SYN-RECV", "TIME-WAIT", "FIN-WAIT-2")
        for line in self.events:
            if "inet_sock_set_state" in line:
                if any(pair in line for pair in ports):
                    return True
            elif any(timer in line for timer in timers) or (born and not timers and "timer_start" in line):
                return True
        return False

    def close(self) -> None:
        """Remove the instance."""
        if not self._on:
            return
        self._write("events/enable", "0")
        os.close(self._pipe)
        self._instance.rmdir()
