"""The pieces of a page: texts, numbers, tables, and drawings in SVG that stretch with it.

What others have named goes through ``said``, and nothing else that they can choose gets into a page. The markup is
XHTML's, so that any reader of XML can check it. Drawings have no letters in them, which would shrink with them on a
phone: what is to be read stands beside them, and what each part means in its title, for who points at it or has it read
aloud.
"""

from collections.abc import Iterable, Sequence
from html import escape

from sstrace.plain import plain
from sstrace.render.times import span_text
from sstrace.render.width import amount

__all__ = ["bar", "carried", "columns", "number", "ribbon", "said", "span", "svg", "table"]


def said(text: str) -> str:
    """A text of anybody's as one of HTML, in an attribute, too; what would not be seen is escaped as everywhere."""
    return escape(plain(text), quote=True)


def number(count: int) -> str:
    """How many."""
    return f'<data value="{count}">{count}</data>'


def carried(octets: int) -> str:
    """Bytes, in short; the page knows them all."""
    return f'<data value="{octets}" title="{octets} bytes">{amount(octets)}</data>'


def span(ns: int) -> str:
    """A duration; its value is in microseconds, as NDJSON has it."""
    return f'<data value="{ns / 1000}">{span_text(ns)}</data>'


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are markup already, the first of each row a name."""
    head = "".join(f'<th scope="col">{said(name)}</th>' for name in heads)
    body = "".join(
        f'<tr><th scope="row">{cells[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in cells[1:]) + "</tr>\n"
        for cells in rows
    )
    return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>\n'


def bar(weight: int, greatest: int) -> str:
    """How much it is of the greatest."""
    width = 100 * weight / greatest if greatest else 0
    return f'<span class="bar" style="width:{width:.1f}%"></span>'


def svg(title: str, width: float, height: float, parts: Iterable[str]) -> str:
    """A drawing, as large as what is around it."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{said(title)}" '
        f'viewBox="0 0 {width:g} {height:g}" preserveAspectRatio="none">\n{"".join(parts)}</svg>\n'
    )


def columns(title: str, count: int, stacks: Iterable[tuple[int, str, Sequence[tuple[str, int]]]]) -> str:
    """Stacked columns, as high as the highest: of each its place, its title, and the classes and counts of its
    parts, the lowest first.
    """
    stacks = list(stacks)
    highest = max((sum(count for _, count in parts) for _, _, parts in stacks), default=0)
    drawn = []
    for place, said_of, parts in stacks:
        drawn.append(f"<g><title>{said(said_of)}</title>")
        top = 100.0
        for kind, part in parts:
            height = 100 * part / highest
            top -= height
            drawn.append(f'<rect class="{kind}" x="{place + 0.05:g}" y="{top:.3f}" width="0.9" height="{height:.3f}"/>')
        drawn.append("</g>\n")
    return svg(title, count, 100, drawn)


def ribbon(kind: str, title: str, left: float, right: float, thick: float) -> str:
    """From a height on the left to one on the right of a drawing 100 wide."""
    return (
        f'<path class="{kind}" d="M0 {left:.3f}C50 {left:.3f} 50 {right:.3f} 100 {right:.3f}V{right + thick:.3f}'
        f'C50 {right + thick:.3f} 50 {left + thick:.3f} 0 {left + thick:.3f}Z"><title>{said(title)}</title></path>\n'
    )
