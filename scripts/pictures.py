"""What a terminal shows → a picture: SVG that needs no font of its own and no network, legible on light and on dark.

Enters: lines with the escape sequences for colour that tmux writes (``capture-pane -e``; ECMA-48 8.3.117, and xterm's
38 and 48). Leaves: one ``<svg>``. Every piece of text says where it begins and how wide it is, so columns stand below
one another in whatever monospaced font there is.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import NamedTuple

__all__ = ["DARK", "LIGHT", "Run", "contrast", "legible", "runs", "svg"]

Color = tuple[int, int, int]

_CELL, _LINE, _SIZE = 8.4, 18, 14
"""Pixels: a column, a line, the font."""
_MARGIN, _BAR = 14, 30

LIGHT: Color = (255, 255, 255)
DARK: Color = (13, 17, 23)
_INK = {LIGHT: (31, 35, 40), DARK: (230, 237, 243)}
_DIM = {LIGHT: (89, 99, 110), DARK: (145, 152, 161)}
_ENOUGH = 4.5
"""Of the contrast between letters and what they stand on, by WCAG 2.1 1.4.3."""

_BASIC: Sequence[Color] = (
    (0, 0, 0), (205, 49, 49), (13, 125, 77), (148, 111, 0), (36, 114, 200), (188, 63, 188), (17, 130, 160),
    (150, 150, 150), (102, 102, 102), (241, 76, 76), (35, 209, 139), (200, 170, 20), (59, 142, 234), (214, 112, 214),
    (41, 184, 219), (229, 229, 229),
)  # fmt: skip


class Run(NamedTuple):
    """A piece of a line that looks the same all along."""

    column: int
    text: str
    bold: bool = False
    dim: bool = False
    underlined: bool = False
    reverse: bool = False
    color: Color | None = None


def runs(line: str) -> Iterator[Run]:
    """The pieces of a line; blanks alone are none, unless they are reversed."""
    look = Run(0, "")
    column = 0
    for text, codes in re.findall(r"([^\x1b]+)|\x1b\[([\d;]*)m", line):
        if text:
            if text.strip() or look.reverse:
                yield look._replace(column=column, text=text)
            column += len(text)
        else:
            look = _looked(look, [int(code or 0) for code in codes.split(";")])


_SWITCHES = {
    1: {"bold": True},
    2: {"dim": True},
    4: {"underlined": True},
    7: {"reverse": True},
    22: {"bold": False, "dim": False},
    24: {"underlined": False},
    27: {"reverse": False},
}


def _looked(look: Run, codes: list[int]) -> Run:
    while codes:
        code = codes.pop(0)
        if code == 0:
            look = Run(0, "")
        elif code in (38, 48):
            color = _color(codes)
            look = look._replace(color=color) if code == 38 else look
        elif code == 39:
            look = look._replace(color=None)
        elif 30 <= code < 38 or 90 <= code < 98:
            look = look._replace(color=_BASIC[code - 30 if code < 90 else code - 82])
        else:
            look = look._replace(**_SWITCHES.get(code, {}))  # type: ignore[arg-type]  # names of switches
    return look


def _color(codes: list[int]) -> Color | None:
    """What follows 38: 5 and a number of xterm's 256, or 2 and three parts."""
    kind = codes.pop(0) if codes else 0
    if kind == 2 and len(codes) >= 3:
        return codes.pop(0), codes.pop(0), codes.pop(0)
    if kind != 5 or not codes:
        return None
    number = codes.pop(0)
    if number < 16:
        return _BASIC[number]
    if number >= 232:
        return (grey := 8 + 10 * (number - 232), grey, grey)
    steps = (0, 95, 135, 175, 215, 255)
    number -= 16
    return steps[number // 36], steps[number // 6 % 6], steps[number % 6]


def contrast(one: Color, other: Color) -> float:
    """Between 1 and 21, by WCAG 2.1."""
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _luminance(color: Color) -> float:
    parts = [part / 255 for part in color]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def legible(color: Color, paper: Color) -> Color:
    """The colour, or as much nearer to ink as it takes to be read on this paper."""
    ink = _INK[paper]
    for step in range(21):
        mixed: Color = tuple(round(old + (new - old) * step / 20) for old, new in zip(color, ink, strict=True))  # type: ignore[assignment]
        if contrast(mixed, paper) >= _ENOUGH:
            return mixed
    return ink


def svg(lines: Sequence[str], columns: int, command: str) -> str:
    """The picture. ``command``: what was typed, which stands above."""
    found = [list(runs(line)) for line in lines]
    colors = sorted({run.color for line in found for run in line if run.color is not None})
    width = round(columns * _CELL + 2 * _MARGIN)
    height = len(lines) * _LINE + _BAR + _MARGIN
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" aria-label="{escape(command)}">',
        f"<title>{escape(command)}</title>",
        f"<style>{_style(colors)}</style>",
        f'<rect class="paper" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>',
        *(f'<circle class="dot" cx="{20 + 16 * number}" cy="15" r="5"/>' for number in range(3)),
        f'<text class="dim" x="{width / 2:g}" y="20" text-anchor="middle">{escape(command)}</text>',
    ]
    for number, line in enumerate(found):
        out += _drawn(line, _BAR + number * _LINE, colors)
    return "\n".join([*out, "</svg>", ""])


def _drawn(line: Iterable[Run], top: int, colors: Sequence[Color]) -> Iterator[str]:
    for run in line:
        x, wide = _MARGIN + run.column * _CELL, len(run.text) * _CELL
        names = [name for name in ("bold", "dim", "underlined") if getattr(run, name)]
        if run.color is not None:
            names = [*(name for name in names if name != "dim"), f"c{colors.index(run.color)}"]
        if run.reverse:
            yield f'<rect class="bar" x="{x:g}" y="{top + 1}" width="{wide:g}" height="{_LINE}"/>'
            names.append("on")
        text = run.text.rstrip()
        begin = len(text) - len(text.lstrip())
        text = text.lstrip()
        if text:
            x, wide = x + begin * _CELL, len(text) * _CELL
            looks = f' class="{" ".join(names)}"' if names else ""
            yield (
                f'<text{looks} x="{x:g}" y="{top + 14}" textLength="{wide:g}" lengthAdjust="spacingAndGlyphs" '
                f'xml:space="preserve">{escape(text)}</text>'
            )


def _style(colors: Sequence[Color]) -> str:
    def themed(paper: Color) -> str:
        ink, dim = _INK[paper], _DIM[paper]
        rules = [
            f".paper{{fill:{_hex(paper)};stroke:{_hex(dim)}}}",
            f"text{{fill:{_hex(ink)}}}.dim{{fill:{_hex(dim)}}}.dot{{fill:{_hex(dim)};opacity:.5}}",
            *(f".c{number}{{fill:{_hex(legible(color, paper))}}}" for number, color in enumerate(colors)),
            f".bar{{fill:{_hex(ink)};shape-rendering:crispEdges}}.on{{fill:{_hex(paper)}}}",
        ]
        return "".join(rules)

    fonts = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"
    return (
        f"text{{font:{_SIZE}px {fonts};white-space:pre}}"
        ".bold{font-weight:700}.underlined{text-decoration:underline}"
        f"{themed(LIGHT)}@media (prefers-color-scheme:dark){{{themed(DARK)}}}"
    )


def _hex(color: Color) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)
