"""Who talks to whom, drawn: processes to the left, peers to the right, and between them a ribbon for each pair."""

from collections.abc import Iterable
from typing import Final

from sstrace.render.digest import Digest, Key, Tally, key_text
from sstrace.render.html_counts import Pictured
from sstrace.render.html_parts import number, ribbon, said, svg
from sstrace.render.width import amount

__all__ = ["flow"]

_COLOURS: Final = 6
_ROOM: Final = 0.8
"""Share of its row that the ribbons of the heaviest end fill."""
_THIN: Final = 0.02
"""Of a row, at least: a ribbon of connections that had begun before anybody looked."""


class _Side:
    """The ends at one side: the heaviest have a row each, the rest one together, and so has who is not known."""

    def __init__(self, digest: Digest, by: str, most: int) -> None:
        keys = digest.top_keys(by, most)
        self._places = {key: place for place, key in enumerate(keys)}
        self._names = [*(key_text(by, key) for key in keys), "(others)", "(not known)"]
        self._rows: dict[int, int] = {}
        self._taken: dict[int, float] = {}
        self.tallies: dict[int, Tally] = {}
        """Of the places that are shown, in their order."""

    def place(self, key: Key) -> int:
        """Where an end stands."""
        unknown = key in ("", b"")
        return self._places.get(key, len(self._places) + unknown)

    def colour(self, place: int) -> str:
        """The class that paints its ribbons: grey for what is not one end."""
        return f"f{place % _COLOURS}" if place < len(self._places) else "closed"

    def name(self, place: int) -> str:
        """What stands there."""
        return self._names[place]

    def settle(self, found: Iterable[tuple[int, Tally]]) -> None:
        """Give each place that has pairs its row."""
        for place, tally in sorted(found, key=lambda item: item[0]):
            self.tallies.setdefault(place, Tally()).take(tally)
        self._rows = {place: row for row, place in enumerate(self.tallies)}
        self._taken = {place: row + (1 - _ROOM) / 2 for place, row in self._rows.items()}

    def reserve(self, place: int, thick: float) -> float:
        """Give the next ribbon of a place its height."""
        top = self._taken[place]
        self._taken[place] += thick
        return top

    def text(self) -> str:
        """The names, as a list."""
        rows = "".join(
            f'<li title="{said(self.name(place))}">{said(self.name(place))}<br/>'
            f"<small><span>{number(tally.opened)} opened,</span> "
            f"<span>{number(tally.failed)} failed</span></small></li>\n"
            for place, tally in self.tallies.items()
        )
        return f"<ol>\n{rows}</ol>\n"


def flow(digest: Pictured, most: int) -> str:
    """The drawing; ``most``: ends a side that have a row of their own."""
    left, right = _Side(digest, "owner", most), _Side(digest, "peer", most)
    pairs: dict[tuple[int, int], Tally] = {}
    for (owner, peer), tally in digest.pairs.items():
        pairs.setdefault((left.place(owner), right.place(peer)), Tally()).take(tally)
    left.settle((place, tally) for (place, _), tally in pairs.items())
    right.settle((place, tally) for (_, place), tally in pairs.items())
    heaviest = max(1, *(tally.weight for side in (left, right) for tally in side.tallies.values()))
    ribbons = []
    by_peer = len(left.tallies) < len(right.tallies)
    for (owner_place, peer_place), tally in sorted(pairs.items(), key=lambda item: item[0]):
        thick = _ROOM * tally.weight / heaviest
        title = (
            f"{left.name(owner_place)}, {right.name(peer_place)}: opened {tally.opened}, failed {tally.failed}, "
            f"closed {tally.closed}, sent {amount(tally.sent)}, received {amount(tally.received)}"
        )
        heights = left.reserve(owner_place, thick), right.reserve(peer_place, thick)
        colour = right.colour(peer_place) if by_peer else left.colour(owner_place)
        ribbons.append(ribbon(colour, title, *heights, max(thick, _THIN)))
    rows = max(len(left.tallies), len(right.tallies))
    drawn = svg("which process has connections with which peer", 100, rows, ribbons)
    return f'<div class="flow">\n{left.text()}<div>{drawn}</div>\n{right.text()}</div>\n'
