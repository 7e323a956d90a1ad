"""The event source of a tracer, as good as this kernel allows: the tiers of what it is capable of, and what each cannot
see.

* Raw tracepoints, with offsets from BTF: everything.
* Without the timer tracepoints, or without kernel symbols: no request and no timewait sockets by events; sweeps find
  them.
* Without BTF, or where programs may not read kernel memory: the fields of the tracepoint sock:inet_sock_set_state
  alone.
* Datagram sockets without the cgroup hooks or the system calls' tracepoints: sweeps find them.

Without BPF there is no event source; ``--poll`` then lives on sweeps alone (live.tracer).
SSTRACE_WITHOUT tries a lesser tier (sstrace.without); SSTRACE_PAGES is the size of each CPU's perf buffer in pages, a
power of two; for tests of loss.
"""

import select
import sys
import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping

from msgspec.structs import replace

from sstrace.errors import FeatureError, PrivilegeError, SstraceError, UsageError
from sstrace.live.calls import Calls
from sstrace.live.kernel import Kernel
from sstrace.model import Netns, Table
from sstrace.protocols import DATAGRAMS, OF_TABLE
from sstrace.sources.bpf.compile import ready
from sstrace.sources.bpf.config import Config, config
from sstrace.sources.bpf.programs import LIVES, PLAIN, TRACE
from sstrace.sources.cache import cache_directory
from sstrace.sources.fired import Fired
from sstrace.sources.perf import DOUBLE, PerfBuffers, Runs, online
from sstrace.sources.privilege import may_trace
from sstrace.sources.proc import kallsyms
from sstrace.sources.tracefs import event_format
from sstrace.wire.cause import CauseReader
from sstrace.wire.event import SIZE, Event, EventDecoder, as_sample
from sstrace.wire.kallsyms import Symbols
from sstrace.wire.tracefs import decode_format
from sstrace.without import without

__all__ = ["Hooks", "attached"]

_TIMERS = ("timer_start", "timer_cancel", "timer_expire_entry", "timer_expire_exit")
_CALM_TRIES = 50
_LISTEN_TRIES = 5
_WAITING_NS = 250_000_000
"""Where nothing happens, it is looked this often for connects that wait."""
_FLYING = 4
"""Firings of one CPU that a program has heard and the kernel not yet counted: one in each context."""
_OPTIONS = {Table.RAW: "CONFIG_INET_RAW_DIAG", Table.MPTCP: "CONFIG_MPTCP, Linux 5.13"}
"""What it takes for a kernel to list them, where some do not."""
_LOOKS_KEPT = 1000
_CALLED = {Table.UDP: "UDP", Table.RAW: "raw", Table.MPTCP: "MPTCP"}
_NEEDED = ("tcp_write_timer", "reqsk_timer_handler", "tw_timer_handler")


class Hooks:
    """Attached programs, their buffers and decoder. Raises PrivilegeError or FeatureError where there is no tier."""

    perf: PerfBuffers
    decoder: EventDecoder

    def __init__(
        self,
        env: Mapping[str, str],
        home: Netns,
        only: int | None,
        pages: int | None,
        tables: Collection[Table] = (Table.TCP,),
        *,
        lives: bool = False,
    ) -> None:
        """``home``: the network namespace of this process. ``only``: inode of the one to hear of; 0: all;
        None: those that are chosen (``choose``). ``tables``: what is to be heard of; nothing is attached for others.
        ``lives``: connections may be kept back until they end (``keep``).
        """
        self.limits: list[str] = []
        """What this kernel keeps from us, one sentence each; empty in the first tier."""
        self._tcp, self._mptcp = Table.TCP in tables, Table.MPTCP in tables
        self._datagrams = [table for table in tables if OF_TABLE[table].number in DATAGRAMS]
        self.minisockets = self._tcp
        """Whether request and timewait sockets make events."""
        self.deaf = False
        """Whether there is something to be heard of that makes no events here: sweeps have to find it."""
        self.unheard = ""
        """Why datagram sockets make none, one of ``limits``; empty where they do, or nobody asks."""
        self.apart = ""
        """Of whom more they make none, one of ``limits``; empty where all do."""
        self.unlisted = ""
        """Which sockets a sweep does not find, one of ``limits``; empty where it finds all."""
        self._calls: Calls | None = None
        self._looks = [0]
        """When births were taken."""
        self.uncounted = ""
        """Why ``missed`` cannot tell; empty where it can."""
        self._hearing: _Hearing | None = None
        self._wait_ns = 0
        self._lives = lives
        self._settings = Config()
        self._without = without(env)
        if pages is None and "SSTRACE_PAGES" in env:
            pages = _pages(env["SSTRACE_PAGES"])
        symbols = Symbols(kallsyms(self._without))
        try:
            if "btf" in self._without:
                raise FeatureError("told to do without BTF")
            self._full(env, home, only, pages, symbols)
            self._list(tables)
        except FeatureError as error:
            if not self._tcp:
                raise
            if not only:
                error.advice = "without that, network namespaces are not told apart: do without --netns"
                raise
            try:
                self._plain(env, home, pages, symbols)
            except FeatureError:
                # The better tier's sentence says more of what is wrong; where bcc is missing, both say so.
                raise error from None
            self.limits.append(
                f"{error}; so no source port at SYN-SENT, no inode, no cookie, no network namespaces kept apart"
            )
            self._lose_minisockets()
            if self._mptcp:
                self.limits.append("MPTCP's own sockets are found by sweeps, up to a second late")
            if self._datagrams:
                self._lose_calls(str(error))

    def _list(self, tables: Collection[Table]) -> None:
        unlisted = [table for table in _OPTIONS if table in tables and not Kernel(lambda: None).lists(table)]
        if unlisted:
            names = " and ".join(f"{_CALLED[table]} sockets ({_OPTIONS[table]})" for table in unlisted)
            self.unlisted = f"this kernel does not list {names}; so those that are older than the trace are not known"
            self.limits.append(self.unlisted)

    def _full(self, env: Mapping[str, str], home: Netns, only: int | None, pages: int | None, symbols: Symbols) -> None:
        times = DOUBLE if self._datagrams else 1
        source = LIVES if self._lives else TRACE
        self._loaded, self.perf = ready(source, cache_directory(env), lambda loaded: PerfBuffers(loaded, pages, times))
        try:
            whom = {"choosy": only is None, "tcp": self._tcp, "mptcp": self._mptcp}
            settings = config(symbols.span, only or 0, **whom)
            timers = "timers" not in self._without and all(symbols.span(name) is not None for name in _NEEDED)
            if not timers:
                settings = config(lambda _: None, only or 0, **whom)
            self._settings = settings
            self._loaded.update("configs", 0, settings.pack())
            if self._tcp or self._mptcp:
                self._loaded.attach(without=() if timers and self._tcp else _TIMERS[timers:])
            self.decoder = EventDecoder(CauseReader(symbols.spans), home)
        except BaseException:
            self._loaded.close()
            raise
        if self._datagrams:
            self._call(env)
        if self._tcp or self._mptcp:
            self._listen_to_streams(symbols, timers=timers)

    def _listen_to_streams(self, symbols: Symbols, *, timers: bool) -> None:
        if any(hook in self._loaded.missing for hook in (_TIMERS if self._tcp else _TIMERS[:1])):
            why = "kernel symbols are hidden (kernel.kptr_restrict=2, or no CAP_SYSLOG)"
            if timers or "timers" in self._without:
                why = "this kernel has no timer tracepoints"
            self.limits.append(f"{why}; so no source port at SYN-SENT")
            if self._tcp:
                self._lose_minisockets()
        try:
            self._hearing = _Hearing(self.perf, symbols if self.minisockets else None)
        except (SstraceError, OSError) as error:
            self.uncounted = str(error)

    def _call(self, env: Mapping[str, str]) -> None:
        try:
            if "cgroup" in self._without:
                raise FeatureError("told to do without the hooks of cgroups")
            shared = ("configs", "chosen", "events", "counts", "losing")
            self._calls = Calls(env, {name: self._loaded.maps[name] for name in shared}, self._datagrams)
            if not self._calls.hears_all:
                self.deaf = True
                self.apart = (
                    f"in a cgroup namespace {self._whose} sockets of its own cgroups alone are heard, and others found "
                    "by sweeps, up to a second late"
                )
                self.limits.append(self.apart)
        except (SstraceError, OSError) as error:
            self._lose_calls(str(error))

    def _lose_calls(self, why: str) -> None:
        self.deaf = True
        self.unheard = (
            f"{why}; so {self._whose} sockets are found by sweeps, up to a second late, and short-lived ones not"
        )
        self.limits.append(self.unheard)

    @property
    def _whose(self) -> str:
        return " and ".join(_CALLED[table] for table in self._datagrams)

    def _plain(self, env: Mapping[str, str], home: Netns, pages: int | None, symbols: Symbols) -> None:
        event_id, fields = decode_format(event_format("sock/inet_sock_set_state"))
        macros = {f"OFF_{name}": offset for name, (offset, _) in fields.items()}
        self.uncounted = "the program on the tracepoint itself does not count what it hears"
        cache = cache_directory(env)
        self._loaded, self.perf = ready(PLAIN, cache, lambda loaded: PerfBuffers(loaded, pages), macros)
        try:
            self._loaded.attach_tracepoint("inet_sock_set_state", event_id)
            self.decoder = EventDecoder(CauseReader(symbols.spans), home)
        except BaseException:
            self._loaded.close()
            raise

    def _lose_minisockets(self) -> None:
        self.minisockets, self.deaf = False, True
        self.limits.append("SYN-RECV and TIME-WAIT are found by sweeps, up to a second late")

    @property
    def holds(self) -> bool:
        """Whether something has come."""
        return self.perf.holds

    def register(self, poll: select.poll) -> None:
        """Have a poll object wake up when there is much to read."""
        self.perf.register(poll)

    def missed(self) -> int | None:
        """How often, since the start, the kernel fired a tracepoint and ran no program of ours, as far as can be told;
        None where it cannot.
        """
        calls = self._calls.missed() if self._calls is not None else 0
        if self._hearing is None:
            return calls or None
        try:
            return calls + self._hearing.missed()
        except (OSError, SstraceError) as error:
            self._end_hearing(str(error))
            return None

    def losses(self) -> dict[int, int]:
        """How many events were lost, by the inode of the network namespace; empty where nobody counts that. Once
        events count as unread, they are in here.
        """
        if "losing" not in self._loaded.maps:
            return {}
        found = self._loaded.elements("losing", 4, 8)
        return {int.from_bytes(key, sys.byteorder): int.from_bytes(count, sys.byteorder) for key, count in found}

    @property
    def counts_datagrams(self) -> bool:
        """Whether what datagram sockets send and receive is counted."""
        return self._calls is not None and self._calls.counts

    def read(self, into: list[Event], *, counting: bool = False) -> Runs:
        """See ``PerfBuffers.read``; births that wait in the kernel (bpf/datagrams.bpf.c) go into a list."""
        if self._calls is None:
            return self.perf.read(counting=counting)
        # What was born before is among these, or was told of at its end, before the rings are read.
        began = time.monotonic_ns()
        into += self.decoder.births(self._calls.births())
        self._looks = [*self._looks[-_LOOKS_KEPT:], began]
        return replace(self.perf.read(counting=counting), until_ns=began)

    def whole_until(self, at_ns: int) -> int:
        """Up to when nothing is missing, where records have been taken up to ``at_ns``, and more are left: what these
        tell of may have been born since the look before.
        """
        if self._calls is None:
            return at_ns
        return self._looks[max(bisect_right(self._looks, at_ns) - 1, 0)]

    def beside(self) -> Callable[[], bool]:
        """See ``PerfBuffers.beside``."""
        return self.perf.beside() if self._calls is None else lambda: True

    def shared(self) -> dict[str, int]:
        """The maps that say whom to hear of, for programs besides these. Raises FeatureError where there are none."""
        if "connecting" not in self._loaded.maps:
            raise FeatureError("incidents take BTF, and programs that may read kernel memory")
        return {name: self._loaded.maps[name] for name in ("configs", "chosen")}

    def waiting(self, until_ns: int, *, quiet: bool) -> list[Event]:
        """Take connects that began by then, and that still wait in the kernel for their port (bpf/tcp.h): whoever
        should have let them out was not heard, or is held up. ``quiet``: nothing else has come, so that they will
        not be too late a little later.
        """
        now_ns = time.monotonic_ns()
        if "connecting" not in self._loaded.maps or (quiet and now_ns < self._wait_ns):
            return []
        self._wait_ns = now_ns + _WAITING_NS
        found: list[Event] = []
        for key, value in self._loaded.elements("connecting", 8, SIZE + 8):
            told = int.from_bytes(value[SIZE + 4 :], sys.byteorder)
            (event,) = self.decoder.events(0, as_sample(value[:SIZE]))
            if event.at_ns <= until_ns and self._loaded.delete("connecting", key) and not told:
                found.append(event)
        return found

    def keep(self) -> None:
        """Have connections that are born from here on be told of when they end; no-op where that is not asked for."""
        if self._keeps_back:
            self._loaded.update("configs", 0, replace(self._settings, keeps=True).pack())

    def reveal(self) -> list[Event]:
        """Take what is kept back, as of now: from here on, until ``keep``, everything tells of itself."""
        if not self._keeps_back:
            return []
        self._loaded.update("configs", 0, self._settings.pack())
        now = time.monotonic_ns().to_bytes(8, sys.byteorder)
        lives = self._loaded.take_all("lives", 8, SIZE)
        return self.decoder.events(0, b"".join(as_sample(now + life[len(now) :]) for life in lives))

    @property
    def _keeps_back(self) -> bool:
        return "lives" in self._loaded.maps

    def choose(self, netns: Netns, *, heard: bool) -> None:
        """Hear of a network namespace from here on, or no longer."""
        key = netns.inode.to_bytes(4, sys.byteorder)
        if heard:
            self._loaded.put("chosen", key, b"\1")
        else:
            self._loaded.delete("chosen", key)

    def _end_hearing(self, why: str) -> None:
        if self._hearing is not None:
            self._hearing.close()
            self._hearing, self.uncounted = None, why

    def close(self) -> None:
        """Detach; harmless when done twice."""
        self._end_hearing("closed")
        if self._calls is not None:
            self._calls.close()
        self.perf.close()
        self._loaded.close()


class _Hearing:
    """What the kernel fired, held against what our programs heard. A kernel may run a program less often than it fires
    its tracepoint: some sandboxes run none while a task of theirs is current, and the kernel itself none that it has
    interrupted. Raises FeatureError or PrivilegeError where this cannot be counted.

    Counted are transitions, and timers of minisockets that expire: timers start, and are stopped, far too often to be
    counted for nothing. While somebody else has a program on the tracepoint itself (bcc's tcpstates has), the kernel
    counts nothing for others.
    """

    def __init__(self, perf: PerfBuffers, symbols: Symbols | None) -> None:
        """``symbols``: where the timers of request and timewait sockets are heard."""
        self._perf = perf
        self._cpus = online()
        self._fired: list[Fired] = []
        try:
            self._count("sock/inet_sock_set_state")
            if symbols is not None:
                spans = (symbols.span("reqsk_timer_handler"), symbols.span("tw_timer_handler"))
                which = " || ".join(f"function == {span[0]:#x}" for span in spans if span is not None)
                self._count("timer/timer_expire_entry", which)
            self._known = [0] * len(self._fired)
            self._ahead = self._calm()
        except BaseException:
            self.close()
            raise

    def _count(self, event: str, which: str | None = None) -> None:
        self._fired.append(Fired(decode_format(event_format(event))[0], self._cpus, which))

    def _read(self) -> tuple[list[int], tuple[int, ...], tuple[int, ...]]:
        """What had fired, and what had been heard before and after that was read."""
        before = self._perf.heard(self._cpus)
        fired = [one.read() for one in self._fired]
        return fired, before, self._perf.heard(self._cpus)

    def _calm(self) -> list[int]:
        """How far the kernel's counts are ahead of ours from the start, at best of a moment in which nothing fired."""
        least: list[int] = []
        for _ in range(_CALM_TRIES):
            fired, before, after = self._read()
            ahead = [count - heard for count, heard in zip(fired, before, strict=False)]
            least = [min(pair) for pair in zip(least or ahead, ahead, strict=True)]
            if before == after:
                break
        return least

    def missed(self) -> int:
        while self._perf.renewed:
            cpu = self._perf.renewed.pop()
            for one in self._fired:
                one.renew(cpu)
            self._cpus = sorted({*self._cpus, cpu})
        # What is heard between two readings hides as much that was not; where that may be so, look again.
        for _ in range(_LISTEN_TRIES):
            fired, before, after = self._read()
            certain = True
            for at, count in enumerate(fired):
                most, least = count - before[at] - self._ahead[at], count - after[at] - self._ahead[at]
                if self._known[at] - most > _FLYING * len(self._cpus):
                    # More was heard than fired: the kernel has not counted for a while.
                    self._ahead[at] -= self._known[at] - most
                    continue
                self._known[at] = max(self._known[at], least)
                certain = certain and most <= self._known[at]
            if certain:
                break
        return sum(self._known)

    def close(self) -> None:
        for one in self._fired:
            one.close()


def _pages(text: str) -> int:
    pages = int(text) if text.isascii() and text.isdigit() else 0
    if pages == 0 or pages & (pages - 1):
        raise UsageError(f"sstrace: SSTRACE_PAGES={text} is not a number of pages: give a power of two")
    return pages


def attached(
    env: Mapping[str, str],
    home: Netns,
    only: int | None,
    pages: int | None,
    tables: Collection[Table],
    *,
    fall_back: bool,
    lives: bool = False,
) -> tuple[Hooks | None, str]:
    """The hooks; None where a privilege is missing for them and a trace may do without, and then why. Raises
    PrivilegeError and FeatureError.
    """
    try:
        return Hooks(env, home, only, pages, tables, lives=lives), ""
    except (PrivilegeError, FeatureError) as error:
        # Who may not trace meets other obstacles on the way to that one.
        unprivileged = isinstance(error, PrivilegeError) or not may_trace()
        if not unprivileged or not fall_back:
            error.advice = error.advice or ("--poll 1s does without, and sees less" if unprivileged else "")
            raise
        return None, f"{error}; until then the kernel is asked every second"
