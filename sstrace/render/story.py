"""What a story of one connection is told with (--explain): a few words of each thing, folded at 80 columns."""

from collections.abc import Iterable, Iterator
from functools import partial
from textwrap import wrap
from typing import Final

from sstrace.plain import counted
from sstrace.render.times import span_text
from sstrace.render.width import amount

__all__ = ["ARROWS", "carried", "end", "folded", "round_trips", "span"]

ARROWS: Final = {"client": "→", "server": "←", None: "-"}
_WRAP = partial(wrap, width=80, break_long_words=False, break_on_hyphens=False)


def end(address: str, port: int) -> str:
    """One of its ends."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def span(microseconds: float) -> str:
    """A time."""
    return span_text(round(microseconds * 1000))


def carried(
    sent: int,
    received: int,
    *,
    segs_out: int | None,
    segs_in: int | None,
    again: int | None,
    bytes_again: int | None,
    lost: int | None,
    late: int | None,
    what: str = "segment",
) -> Iterator[str]:
    """What it carried (payload in bytes, each once), and what had to be sent again."""
    yield (
        f"sent {counted(sent, 'byte')} ({amount(sent)}) in {counted(segs_out or 0, what)}, "
        f"received {received} ({amount(received)}) in {counted(segs_in or 0, what)}"
    )
    hurt = (
        f"sent again: {counted(again, what)}, {counted(bytes_again or 0, 'byte')}" if again else "",
        f"taken for lost: {lost}" if lost else "",
        f"received out of order: {late}" if late else "",
    )
    if any(hurt):
        yield "; ".join(filter(None, hurt))


def round_trips(rtt_us: int, least_us: int | None) -> str:
    """Smoothed, and the least."""
    least = f", at best {span(least_us)}" if least_us is not None else ""
    return f"round-trip time {span(rtt_us)}{least}"


def folded(head: str, texts: Iterable[str]) -> Iterator[str]:
    """Texts below one another; the first behind ``head``, the others indented as far and a little more."""
    below = " " * len(head) + "  " * bool(head)
    for number, text in enumerate(texts):
        yield from _WRAP(text, initial_indent=below if number else head, subsequent_indent=below)
