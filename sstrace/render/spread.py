"""Many durations, in little room: they go into buckets at most 3 % wide."""

import math
from collections.abc import Iterator

__all__ = ["Spread"]

_DIGITS = 6
"""Durations are counted by their first so many binary digits: each bucket is 3 % wide, its middle right to 2 %."""


class Spread:
    """Durations: how many, least and greatest, and percentiles right to 2 %."""

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self.count = 0
        self.least = 0
        self.greatest = 0

    def add(self, ns: int) -> None:
        """One duration."""
        shift = ns.bit_length() - _DIGITS
        bucket = (shift << _DIGITS) + (ns >> shift) if shift > 0 else ns
        buckets = self._buckets
        buckets[bucket] = buckets.get(bucket, 0) + 1
        if not self.count or ns < self.least:
            self.least = ns
        if ns > self.greatest:  # noqa: PLR1730 - half of max()'s price
            self.greatest = ns
        self.count += 1

    def count_all(self, bucket: int, count: int, least: int, greatest: int) -> None:
        """So many durations of one bucket, which somebody else has counted: the least and the greatest of them."""
        self._buckets[bucket] = self._buckets.get(bucket, 0) + count
        self.least = min(self.least, least) if self.count else least
        self.greatest = max(self.greatest, greatest)
        self.count += count

    def merge(self, other: "Spread") -> None:
        """Count all of another's, too."""
        if not other.count:
            return
        for bucket, count in other._buckets.items():
            self._buckets[bucket] = self._buckets.get(bucket, 0) + count
        self.least = min(self.least, other.least) if self.count else other.least
        self.greatest = max(self.greatest, other.greatest)
        self.count += other.count

    def counts(self) -> Iterator[tuple[int, int]]:
        """A duration, ns, in the middle of each bucket, and how many are in that bucket; shortest first."""
        for bucket in sorted(self._buckets):
            yield self._middle(bucket), self._buckets[bucket]

    def percentile(self, share: float) -> int:
        """Duration, ns, that this share of all does not exceed; 0 when there are none."""
        due = math.ceil(self.count * share)
        for bucket in sorted(self._buckets):
            due -= self._buckets[bucket]
            if due <= 0:
                return self._middle(bucket)
        return 0

    def _middle(self, bucket: int) -> int:
        shift, digits = divmod(bucket, 1 << _DIGITS)
        middle = (digits << shift) + (1 << shift >> 1)
        return min(max(middle, self.least), self.greatest)
