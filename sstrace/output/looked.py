"""What ``--metrics`` counts of sockets that are followed by looks alone, where any are."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from sstrace.lifecycle.swept import UNSEEN
from sstrace.live.tracer import Tracer
from sstrace.model import STATE_TEXT
from sstrace.protocols import NETID_OF_NUMBER, OF_TABLE, SWEPT
from sstrace.table import Transition

__all__ = ["Looked"]


class Looked:
    """Those of one tracer."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._followed = [number for table in tracer.tables if (number := OF_TABLE[table].number) in SWEPT]
        self._opens: Counter[int] = Counter()
        self._closes: Counter[int] = Counter()

    def count(self, change: Transition) -> None:
        """A transition of one of them."""
        self._opens[change.row.protocol] += change.old == UNSEEN
        self._closes[change.row.protocol] += change.ended

    def families(self) -> Iterator[Any]:
        """Gauges and counters, as prometheus_client has them; none where none are followed."""
        if not self._followed:
            return
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        there = Counter((row.protocol, row.state) for row in self._tracer.table if row.protocol in SWEPT)
        sockets = GaugeMetricFamily(
            "sstrace_looked_for_sockets",
            "Unix, packet, netlink, vsock and XDP sockets as the latest look found them, by state.",
            labels=("protocol", "state"),
        )
        for (number, state), count in sorted(there.items()):
            sockets.add_metric((NETID_OF_NUMBER[number], STATE_TEXT[state].lower()), count)
        opens = CounterMetricFamily(
            "sstrace_looked_for_opens", "Such sockets that a look found new.", labels=("protocol",)
        )
        closes = CounterMetricFamily(
            "sstrace_looked_for_closes", "Such sockets that a look found no more.", labels=("protocol",)
        )
        for number in self._followed:
            opens.add_metric((NETID_OF_NUMBER[number],), self._opens[number])
            closes.add_metric((NETID_OF_NUMBER[number],), self._closes[number])
        yield from (sockets, opens, closes)
        heard, lost = self._tracer.calls
        yield CounterMetricFamily("sstrace_looks", "Looks at these sockets.", value=self._tracer.looks)
        yield CounterMetricFamily("sstrace_calls", "Calls of unix sockets' owners that were heard.", value=heard)
        yield CounterMetricFamily("sstrace_lost_calls", "Such calls that never arrived.", value=lost)
