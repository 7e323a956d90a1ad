"""What ``--metrics`` counts of datagram sockets, where they are followed: each with its port, and at its end."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from sstrace.lifecycle.udp import UNSEEN
from sstrace.live.tracer import Tracer
from sstrace.model import State
from sstrace.output.carried import Carried
from sstrace.protocols import DATAGRAMS, INET, NETID_OF_NUMBER, OF_TABLE, UNNAMED
from sstrace.table import Transition

__all__ = ["Datagrams"]

_STATES = {int(State.ESTABLISHED): "established", int(State.CLOSE): "unconnected"}


class Datagrams:
    """``carried``: counts what they sent and received."""

    def __init__(self, tracer: Tracer, carried: Carried) -> None:
        self._table = tracer.table
        self._followed = [number for table in tracer.tables if (number := OF_TABLE[table].number) in DATAGRAMS]
        self._carried = carried
        self._opens: Counter[tuple[int, int, str]] = Counter()
        self._closes: Counter[tuple[int, int]] = Counter()

    def count(self, change: Transition) -> None:
        """A transition of one of them."""
        row = change.row
        if change.old == UNSEEN:
            self._opens[row.protocol, row.family, row.role or "server"] += 1
        if change.ended:
            self._closes[row.protocol, row.family] += 1
            self._carried.count(change)

    def families(self) -> Iterator[Any]:
        """Gauges and counters, as prometheus_client has them; none where none are followed."""
        if not self._followed:
            return
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        there = Counter((row.protocol, row.family, row.state) for row in self._table if row.protocol in DATAGRAMS)
        labels = ("protocol", "family")
        sockets = GaugeMetricFamily(
            "sstrace_datagram_sockets", "Datagram sockets now, by state.", labels=(*labels, "state")
        )
        opens = CounterMetricFamily(
            "sstrace_datagram_opens",
            "Datagram sockets that got a port: by a call, or to be called.",
            labels=(*labels, "role"),
        )
        closes = CounterMetricFamily("sstrace_datagram_closes", "Datagram sockets that have ended.", labels=labels)
        for protocol in self._followed:
            name = NETID_OF_NUMBER.get(protocol, UNNAMED)
            for family, number in INET.words.items():
                for state, word in _STATES.items():
                    sockets.add_metric((name, family, word), there[protocol, number, state])
                for role in ("client", "server"):
                    opens.add_metric((name, family, role), self._opens[protocol, number, role])
                closes.add_metric((name, family), self._closes[protocol, number])
        yield from (sockets, opens, closes)
        yield from self._carried.families()
