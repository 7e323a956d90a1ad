"""What ``--metrics`` says of each network namespace that is followed.

One that is gone is told no more. How many are told is bounded: of those beyond ``MOST`` there is one sum, ``other``, so
that a host with any number of containers costs its Prometheus no more.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from sstrace.causes import has_failed
from sstrace.live.places import Places
from sstrace.model import Label
from sstrace.table import SocketTable, Transition

__all__ = ["LABELS", "MOST", "ByNetns"]

MOST = 1000
LABELS = ("netns", "netns_name", "container", "pod", "pod_namespace")
_OTHER = ("other", "", "", "", "")


class _Counts(msgspec.Struct, gc=False):
    opened: int = 0
    ended: int = 0
    failed: int = 0


class ByNetns:
    """Counts by namespace. ``places``: those that are followed, of whose sockets ``table`` is."""

    def __init__(self, table: SocketTable, places: Places) -> None:
        self._table = table
        self._places = places
        self._counts: dict[int, _Counts] = {}

    def count(self, change: Transition, *, opened: bool) -> None:
        """A connection came about (``opened``), or ended."""
        counts = self._counts.get(change.row.net)
        if counts is None:
            counts = self._counts[change.row.net] = _Counts()
        if opened:
            counts.opened += 1
        else:
            counts.ended += 1
            counts.failed += has_failed(change.cause)

    def forget(self, net: int) -> None:
        """One is gone, by its cookie."""
        self._counts.pop(net, None)

    def families(self) -> Iterator[Any]:
        """Gauges and counters, as prometheus_client has them."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        sockets = GaugeMetricFamily("sstrace_netns_sockets", "TCP sockets now, by network namespace.", labels=LABELS)
        opens, closes, failures = (
            CounterMetricFamily(f"sstrace_netns_{name}", f"{text}, by network namespace.", labels=LABELS)
            for name, text in (
                ("opens", "Connections that were established"),
                ("closes", "Connections that ended"),
                ("failures", "Connections that ended as nobody wanted"),
            )
        )
        sizes = self._table.sizes()
        rest = [0, 0, 0, 0]
        # The oldest have numbers of their own for good. (Cookies grow with time.)
        followed = sorted(self._places, key=lambda place: place.netns.cookie)
        # What was told of one after it had gone is not kept for ever.
        for net in self._counts.keys() - self._table.nets() - {place.netns.cookie for place in followed}:
            self.forget(net)
        for number, place in enumerate(followed):
            counts = self._counts.get(place.netns.cookie) or _Counts()
            values = sizes.get(place.netns.cookie, 0), counts.opened, counts.ended, counts.failed
            if number < MOST:
                for family, value in zip((sockets, opens, closes, failures), values, strict=True):
                    family.add_metric((str(place.netns.inode), *_names(place.label)), value)
            else:
                rest = [one + value for one, value in zip(rest, values, strict=True)]
        if len(followed) > MOST:
            for family, value in zip((sockets, opens, closes, failures), rest, strict=True):
                family.add_metric(_OTHER, value)
        yield from (sockets, opens, closes, failures)


def _names(label: Label) -> tuple[str, str, str, str]:
    return label.netns_name or "", label.container_id or "", label.pod or "", label.pod_namespace or ""
