"""One connection, full screen: facts, states, graphs, the kernel's own figures → a screen."""

from collections.abc import Sequence
from typing import Final

import msgspec
from rich.segment import Segment

from sstrace.render.watch_frame import BAR, BOLD, DIM, PLAIN, Look, Screen, cut, fit, fixed_rows, framed

__all__ = ["Detail", "Graph", "detail", "spark"]

_LABEL: Final = 10
_BLOCKS: Final = {True: " ▁▂▃▄▅▆▇█", False: " .:-=+*#@"}
"""From nothing to the most, with Unicode and without."""


class Graph(msgspec.Struct, frozen=True):
    """Something that changes: ``now`` in words, and its past in equal steps, None where it is not known."""

    label: str
    now: str
    past: Sequence[float | None]
    most: str
    """The highest in words."""


class Detail(msgspec.Struct, frozen=True):
    """What is to be said of one connection; every text fit for a terminal."""

    title: str
    facts: Sequence[tuple[str, str]]
    states: Sequence[str]
    """The latest last."""
    graphs: Sequence[Graph]
    span: str
    """How far back the graphs go."""
    figures: str
    """The kernel's, as ss prints them: words, to be broken into lines."""


def detail(look: Look, of: Detail, top: int, width: int, height: int) -> tuple[Screen, int]:
    """The page from its line ``top`` on, and how many lines it has that are not in sight."""
    lines = _lines(of, width, look.glyphs.dot == "·")
    room = max(1, height - fixed_rows(height))
    most = max(0, len(lines) - room)
    top = min(top, most)
    shown = lines[top : top + room]
    place = f"{top + 1}-{top + len(shown)} of {len(lines)}" if most else ""
    bar = [Segment(fit(f" {of.title}", width), BAR)]
    return framed(look, bar, shown, place=place, width=width, height=height), most


def _lines(of: Detail, width: int, unicode: bool) -> list[list[Segment]]:
    out: list[list[Segment]] = []
    for label, text in of.facts:
        for number, part in enumerate(_broken(text, width - _LABEL - 2)):
            out.append([_label(label if not number else ""), Segment(part)])
    out += [[], [Segment(" States", BOLD)]]
    out += [[Segment(cut(f"  {state}", width), PLAIN)] for state in of.states]
    if of.graphs:
        out += [[], [Segment(f" The last {of.span}", BOLD)]]
        room = max(8, width - _LABEL - 40)
        for graph in of.graphs:
            out.append(
                [
                    _label(graph.label),
                    Segment(f"{graph.now:<24} "),
                    Segment(spark(graph.past[-room:], unicode=unicode)),
                    Segment(f" {graph.most}", DIM),
                ]
            )
    if of.figures:
        out += [[], [Segment(" The kernel's figures", BOLD)]]
        out += [[Segment(f"  {part}")] for part in _broken(of.figures, width - 3)]
    return out


def _label(text: str) -> Segment:
    return Segment(f" {text:<{_LABEL}} ", DIM)


def _broken(text: str, width: int) -> list[str]:
    """Into lines between words; a word that is longer than a line is cut."""
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] += f"{' ' if lines[-1] else ''}{word}"
    return [cut(line, max(1, width)) for line in lines]


def spark(past: Sequence[float | None], *, unicode: bool) -> str:
    """A character for each: how high it is between nothing and the highest; a blank where it is not known."""
    blocks = _BLOCKS[unicode]
    most = max((value for value in past if value is not None), default=0.0)
    return "".join(
        " " if value is None else blocks[1 + round(value / most * (len(blocks) - 2))] if most > 0 else blocks[1]
        for value in past
    )
