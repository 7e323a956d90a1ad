"""The event source of a tracer, as good as this kernel allows: the ladder of degradation, and what each rung cannot
see.

1. Raw tracepoints, with offsets from BTF: everything.
2. Without the timer tracepoints, or without kernel symbols: no request and no timewait sockets by events; sweeps find
them. 3. Without BTF, or where programs may not read kernel memory: the fields of the tracepoint
sock:inet_sock_set_state alone.

Without BPF there is no event source; ``--poll`` then lives on sweeps alone (driver.tracer).
SSTRACE_WITHOUT names what to do without, for tests and for trying a rung: any of btf, kallsyms, timers, with commas.
SSTRACE_PAGES is the size of each CPU's perf buffer in pages, a power of two; for tests of loss.
"""

from collections.abc import Mapping
from pathlib import Path

from sstrace.errors import FeatureError, UsageError
from sstrace.sources import bpf
from sstrace.sources.cache import cache_directory
from sstrace.sources.perf import PerfBuffers
from sstrace.sources.tracefs import event_format
from sstrace.wire.cause import CauseReader
from sstrace.wire.event import EventDecoder
from sstrace.wire.kallsyms import Symbols
from sstrace.wire.tracefs import decode_format

__all__ = ["Hooks"]

_TIMERS = ("timer_start", "timer_cancel", "timer_expire_entry", "timer_expire_exit")
_NEEDED = ("tcp_write_timer", "reqsk_timer_handler", "tw_timer_handler")


class Hooks:
    """Attached programs, their buffers and decoder. Raises PrivilegeError or FeatureError where there is no rung."""

    perf: PerfBuffers
    decoder: EventDecoder

    def __init__(self, env: Mapping[str, str], netns: int, pages: int | None) -> None:
        self.limits: list[str] = []
        """What this kernel keeps from us, one sentence each; empty on the first rung."""
        self.minisockets = True
        """Whether request and timewait sockets make events."""
        without = frozenset(env.get("SSTRACE_WITHOUT", "").split(","))
        if pages is None and "SSTRACE_PAGES" in env:
            pages = _pages(env["SSTRACE_PAGES"])
        symbols = _symbols(without)
        try:
            if "btf" in without:
                raise FeatureError("told to do without BTF")
            self._full(env, netns, pages, symbols, without)
        except FeatureError as error:
            try:
                self._plain(env, netns, pages, symbols)
            except FeatureError:
                # The better rung's sentence says more of what is wrong; where bcc is missing, both say so.
                raise error from None
            self.limits.append(
                f"{error}; so no source port at SYN-SENT, no inode, no cookie, no network namespaces kept apart"
            )
            self._lose_minisockets()

    def _full(
        self, env: Mapping[str, str], netns: int, pages: int | None, symbols: Symbols, without: frozenset[str]
    ) -> None:
        compiled = bpf.bundle(bpf.TRACE, cache_directory(env))
        self._loaded = bpf.load(compiled)
        try:
            settings = bpf.config(symbols.span, netns)
            timers = "timers" not in without and all(symbols.span(name) is not None for name in _NEEDED)
            if not timers:
                settings = bpf.config(lambda _: None, netns)
            self._loaded.update("configs", 0, settings.pack())
            self.perf = PerfBuffers(self._loaded, pages)
            self._loaded.attach(without=() if timers else _TIMERS)
            self.decoder = EventDecoder(CauseReader(symbols.spans))
        except BaseException:
            self._loaded.close()
            raise
        if any(hook in self._loaded.missing for hook in _TIMERS):
            why = "kernel symbols are hidden (kernel.kptr_restrict=2, or no CAP_SYSLOG)"
            if timers or "timers" in without:
                why = "this kernel has no timer tracepoints"
            self.limits.append(f"{why}; so no source port at SYN-SENT")
            self._lose_minisockets()

    def _plain(self, env: Mapping[str, str], netns: int, pages: int | None, symbols: Symbols) -> None:
        event_id, fields = decode_format(event_format("sock/inet_sock_set_state"))
        macros = {f"OFF_{name}": offset for name, (offset, _) in fields.items()}
        self._loaded = bpf.load(bpf.bundle(bpf.PLAIN, cache_directory(env), macros))
        try:
            self.perf = PerfBuffers(self._loaded, pages)
            self._loaded.attach_tracepoint("inet_sock_set_state", event_id)
            self.decoder = EventDecoder(CauseReader(symbols.spans), netns=netns)
        except BaseException:
            self._loaded.close()
            raise

    def _lose_minisockets(self) -> None:
        self.minisockets = False
        self.limits.append("SYN-RECV and TIME-WAIT are found by sweeps, up to a second late")

    def close(self) -> None:
        """Detach; harmless when done twice."""
        self.perf.close()
        self._loaded.close()


def _pages(text: str) -> int:
    pages = int(text) if text.isascii() and text.isdigit() else 0
    if pages == 0 or pages & (pages - 1):
        raise UsageError(f"SSTRACE_PAGES={text} is not a number of pages: give a power of two")
    return pages


def _symbols(without: frozenset[str]) -> Symbols:
    if "kallsyms" in without:
        return Symbols(b"")
    try:
        return Symbols(Path("/proc/kallsyms").read_bytes())
    except OSError:
        return Symbols(b"")
