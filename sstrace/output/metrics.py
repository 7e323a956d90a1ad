"""``--metrics``: what the tracer knows, as Prometheus and OpenMetrics read it, through ``prometheus_client`` (the
optional extra ``sstrace[metrics]``).

Everything is counted over the whole live table, whatever the trace selects. Transitions are counted as they are folded
in. Gauges are read from the table when somebody asks, and by the tracer's own thread, between two batches: the HTTP
server runs in a thread of its own and only waits for that; a scraper that waits in vain gets the latest numbers that
there are, and among them from when they are.
"""

import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, TypeVar

from sstrace import __version__
from sstrace.causes import has_failed
from sstrace.changes import NetnsNews
from sstrace.errors import FeatureError, SstraceError, reason
from sstrace.live.callers import Callers
from sstrace.live.living import Living
from sstrace.live.tracer import Tracer
from sstrace.model import AF_INET, STATE_TEXT, Lost, State
from sstrace.output.by_netns import ByNetns
from sstrace.output.carried import Carried
from sstrace.output.datagrams import Datagrams
from sstrace.output.looked import Looked
from sstrace.plain import spelled
from sstrace.protocols import APPEARING, DATAGRAMS, IPPROTO_TCP, SWEPT
from sstrace.sources.http import serve
from sstrace.table import Resync, Transition

__all__ = ["HANDSHAKE_SECONDS", "LIFETIME_SECONDS", "RTT_SECONDS", "Metrics", "state_word"]

HANDSHAKE_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0, 7.0)
"""Upper bounds: from a connection on the same host to three SYNs (1, 3, 7 s: the kernel's own retransmissions)."""
LIFETIME_SECONDS = (0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 300.0, 1800.0, 7200.0, 43200.0, 86400.0)
"""Upper bounds: from a request to a day."""
RTT_SECONDS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Upper bounds: from loopback to a satellite."""

_ESTABLISHED, _CLOSE = int(State.ESTABLISHED), int(State.CLOSE)
_OPENING = (int(State.SYN_SENT), int(State.SYN_RECV))
_WAIT_S = 5.0
"""Half of what Prometheus waits unless told otherwise (scrape_timeout)."""
_T = TypeVar("_T")


def state_word(state: int) -> str:
    """A state as the label ``state`` has it: ss's words in small letters."""
    return STATE_TEXT[state].lower()


class _Histogram:
    """Cumulates at reading, not at counting."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def read(self) -> tuple[list[tuple[str, float]], float]:
        """Buckets as (upper bound, how many up to it), and the sum."""
        total = 0.0
        buckets = []
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            total += count
            buckets.append(("+Inf" if bound == float("inf") else str(bound), total))
        return buckets, self._sum


class Metrics:
    """Counts, and answers GET /metrics. Raises FeatureError without the library, SstraceError when the address is
    taken.
    """

    def __init__(
        self,
        address: str,
        port: int,
        tracer: Tracer,
        carried: Carried,
        *,
        datagrams: Datagrams | None = None,
        looked: Looked | None = None,
        living: Living | None = None,
    ) -> None:
        """``living``: looks what connections carry that have not ended."""
        try:
            from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
        except ImportError:
            raise FeatureError(
                "--metrics needs prometheus_client: pip install 'sstrace[metrics]', or apt-get install "
                "python3-prometheus-client"
            ) from None
        self._tracer = tracer
        self._carried = carried
        self._datagrams = datagrams
        self._looked = looked
        self._living = living
        self._transitions: Counter[tuple[int, int, int]] = Counter()
        self._opens: Counter[tuple[int, str | None]] = Counter()
        self._closes: Counter[tuple[int, str | None]] = Counter()
        self._repaired: Counter[str] = Counter()
        self._losses = 0
        self._handshakes: dict[tuple[int, str | None], _Histogram] = {}
        self._lifetimes: dict[tuple[int, str | None], _Histogram] = {}
        self._rtts: dict[tuple[int, str | None], _Histogram] = {}
        self._by_netns = ByNetns(tracer.table, tracer.places) if tracer.places.several else None
        self.drift: Callable[[], Mapping[str, int]] | None = None
        """Of --verify: disagreements found so far, by kind."""
        self.sinks: Callable[[], Iterable[Any]] | None = None
        """Of a trace: its ways out (output.sink.Sink), and engines (output.recorder.Recorder)."""
        self._wanted = threading.Event()
        self._done = threading.Event()
        self._families: list[Any] = []
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._read()
        registry.register(self)
        host = address or "::"
        self._callers = Callers()
        try:
            self._server = serve(make_wsgi_app(registry), host, port, self._callers)
        except (OSError, ValueError, RuntimeError) as error:  # no host's name may look like this one; no more threads
            raise SstraceError(f"cannot serve metrics at {address or '*'}:{port}: {reason(error)}") from None

    def through(self, changes: Iterable[_T]) -> Iterator[_T]:
        """The same changes, counted."""
        for change in changes:
            self._take(change)
            yield change

    def _take(self, change: object) -> None:
        if type(change) is Transition:
            self._count(change)
        elif type(change) is Resync:
            self._repaired["added"] += len(change.added)
            self._repaired["removed"] += len(change.removed)
            self._repaired["corrected"] += len(change.changed)
        elif type(change) is Lost:
            self._losses += 1
        elif type(change) is NetnsNews and change.what == "gone" and self._by_netns is not None:
            self._by_netns.forget(change.netns.cookie)

    def _count(self, change: Transition) -> None:
        row, old, new = change.row, change.old, change.new
        if row.protocol in DATAGRAMS:
            if self._datagrams is not None:
                self._datagrams.count(change)
            return
        if row.protocol in SWEPT:
            if self._looked is not None:
                self._looked.count(change)
            return
        if row.protocol != IPPROTO_TCP:  # an MPTCP socket: its subflows are counted
            return
        family = row.family
        self._transitions[family, old, new] += 1
        if self._by_netns is not None and (new == _ESTABLISHED or change.ended):
            self._by_netns.count(change, opened=new == _ESTABLISHED)
        if new == _ESTABLISHED:
            self._opens[family, row.role] += 1
            if change.held_ns is not None and old in _OPENING:
                _observe(self._handshakes, (family, row.role), HANDSHAKE_SECONDS, change.held_ns)
        elif change.ended:
            self._closes[family, change.cause] += 1
            if change.lifetime_ns is not None:
                _observe(self._lifetimes, (family, row.role), LIFETIME_SECONDS, change.lifetime_ns)
            self._carried.count(change)
            if change.reported.rtt_us:
                _observe(self._rtts, (family, row.role), RTT_SECONDS, change.reported.rtt_us * 1000)

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for the numbers: then fold in what has happened, and ``tick``."""
        return self._wanted.is_set()

    def tick(self) -> None:
        """Between two batches: read the numbers if somebody waits for them."""
        if self._wanted.is_set():
            self._wanted.clear()
            self._read()
            self._done.set()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._callers.close()

    def describe(self) -> list[Any]:
        """Names are not asked for at registration."""
        return []

    def collect(self) -> list[Any]:
        """The HTTP server's thread: have the numbers read, and give them."""
        self._done.clear()
        self._wanted.set()
        self._done.wait(_WAIT_S)
        return self._families

    # Reading, by the tracer's thread.

    def _read(self) -> None:
        by_netns = self._by_netns.families() if self._by_netns is not None else ()
        datagrams = self._datagrams.families() if self._datagrams is not None else ()
        if self._living is not None:
            self._carried.look(self._living.look_now_and_then(), self._tracer.table.__contains__)
        carried = self._carried.families()
        looked = self._looked.families() if self._looked is not None else ()
        families = (self._of_sockets(), by_netns, carried, datagrams, looked, self._of_tracer(), self._of_sinks())
        self._families = [*chain.from_iterable(families), self._of_now()]

    def _of_now(self) -> Any:
        from prometheus_client.core import GaugeMetricFamily

        return GaugeMetricFamily(
            "sstrace_read_timestamp_seconds",
            "When these numbers were read, in seconds since 1970: not at this scrape where the tracer is too busy.",
            value=time.time(),
        )

    def _of_sockets(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        states: Counter[tuple[int, int]] = Counter()
        for row in self._tracer.table:
            if row.protocol not in APPEARING:
                states[row.family, row.state] += 1
        gauge = GaugeMetricFamily("sstrace_sockets", "TCP sockets now, by state.", labels=("family", "state"))
        for family in (AF_INET, 10):
            for state in range(1, 12):
                if state != _CLOSE:
                    gauge.add_metric((_family(family), state_word(state)), states[family, state])
        yield gauge
        counter = CounterMetricFamily("sstrace_transitions", "State transitions.", labels=("family", "from", "to"))
        for (family, old, new), count in sorted(self._transitions.items()):
            counter.add_metric((_family(family), state_word(old), state_word(new)), count)
        yield counter
        counter = CounterMetricFamily(
            "sstrace_opens", "Connections that were established, by which end called.", labels=("family", "role")
        )
        for (family, role), count in _sorted(self._opens):
            counter.add_metric((_family(family), role or "unknown"), count)
        yield counter
        closes = CounterMetricFamily("sstrace_closes", "Connections that ended, by cause.", labels=("family", "cause"))
        failures = CounterMetricFamily(
            "sstrace_failures",
            "Connections that ended as nobody wanted: refused, reset, timed out, by cause.",
            labels=("family", "cause"),
        )
        for (family, cause), count in _sorted(self._closes):
            closes.add_metric((_family(family), cause or "unknown"), count)
            if has_failed(cause):
                failures.add_metric((_family(family), cause), count)
        yield closes
        yield failures
        for name, text, found in (
            ("handshake", "Time from SYN to established.", self._handshakes),
            ("lifetime", "Time from the beginning of a connection to its end.", self._lifetimes),
            ("rtt", "Smoothed round-trip time with which a connection ended.", self._rtts),
        ):
            histogram = HistogramMetricFamily(f"sstrace_{name}_seconds", text, labels=("family", "role"))
            for (family, role), one in _sorted(found):
                buckets, total = one.read()
                histogram.add_metric((_family(family), role or "unknown"), buckets, total)
            yield histogram

    def _of_tracer(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

        tracer = self._tracer
        yield InfoMetricFamily(
            "sstrace", "This sstrace.", value={"version": __version__, "netns": str(tracer.netns.inode)}
        )
        for name, text, value in (
            ("events", "Kernel events folded into the table.", tracer.events),
            ("lost_events", "Kernel events that never arrived.", tracer.lost),
            ("losses", "Times that events were lost.", self._losses),
            ("late_events", "Kernel events that came after younger ones.", tracer.late),
            (
                "missed_events",
                "Times that the kernel fired a tracepoint and ran no program of ours, whichever socket it was about.",
                tracer.missed,
            ),
            ("sweeps", "Comparisons of the table with a netlink dump.", tracer.sweeps),
            ("unlisted_transitions", "Transitions that TCP does not know.", tracer.table.unlisted),
        ):
            yield CounterMetricFamily(f"sstrace_{name}", text, value=value)
        repaired = CounterMetricFamily(
            "sstrace_repaired_rows",
            "Rows of the table that a sweep repaired, after a loss or in an audit.",
            labels=("kind",),
        )
        for kind in ("added", "removed", "corrected"):
            repaired.add_metric((kind,), self._repaired[kind])
        yield repaired
        if self.drift is not None:
            drift = CounterMetricFamily(
                "sstrace_drift_rows", "Rows on which table and kernel disagreed (--verify).", labels=("kind",)
            )
            found = self.drift()
            for kind in ("missed", "ghost", "wrong"):
                drift.add_metric((kind,), found.get(kind, 0))
            yield drift
        yield GaugeMetricFamily("sstrace_table_rows", "Rows of the live table.", value=len(tracer.table))

    def _of_sinks(self) -> Iterator[Any]:
        if self.sinks is None:
            return
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        lines = CounterMetricFamily("sstrace_lines", "Lines written.", labels=("sink",))
        dropped = CounterMetricFamily("sstrace_dropped_lines", "Lines that their reader missed.", labels=("sink",))
        queued = GaugeMetricFamily("sstrace_queued_bytes", "Bytes that wait for their reader.", labels=("sink",))
        for sink in self.sinks():
            lines.add_metric((spelled(sink.name),), sink.lines)
            dropped.add_metric((spelled(sink.name),), sink.missed)
            queued.add_metric((spelled(sink.name),), sink.queued)
        yield from (lines, dropped, queued)


def _observe(
    histograms: dict[tuple[int, str | None], _Histogram],
    key: tuple[int, str | None],
    bounds: tuple[float, ...],
    nanoseconds: int,
) -> None:
    histogram = histograms.get(key)
    if histogram is None:
        histogram = histograms[key] = _Histogram(bounds)
    histogram.observe(nanoseconds / 1e9)


def _family(family: int) -> str:
    return "inet" if family == AF_INET else "inet6"


def _sorted(found: Mapping[tuple[int, str | None], _T]) -> list[tuple[tuple[int, str | None], _T]]:
    return sorted(found.items(), key=lambda item: (item[0][0], item[0][1] or ""))
