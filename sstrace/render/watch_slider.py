"""What ``--watch`` shows of a recording besides its rows: where one is in it, and the keys of time."""

from typing import Final

from sstrace.render.times import span_text, time_of_day
from sstrace.render.watch_frame import UNICODE, Glyphs

__all__ = ["GUIDE", "slider"]

_PLACE: Final = 22
"""Cells that the foot's own numbers may take beside it."""
_LEAST: Final = 5
_HINT: Final = "  ? help"

GUIDE: Final = """\
  + new   * changed its state   - closed: its last state, how long, and why,
  of the last two seconds before the moment; {ge} in Held: at least that long
  Queues and tcp_info are not in a recording: - stands for them.

  left right     one second            space  play, and pause
  [ ]            one minute, as Shift  < >    play slower, faster
  Home End       the ends              q      quit
  j k G arrows PgUp PgDn, wheel, click   the cursor; Esc: without it
  Enter  look inside the connection    H L    move the columns
  c      copy its line                 p  Process column
  /      search a text in every        n  numbers or names of ports
         column; / Enter: the next     a  every state, or those asked for
  f      filter: [state X]             d  closed rows while they are marked,
         [exclude X] EXPRESSION           or none
  g      groups: by process,           b  columns of bytes, rates and RTT
         container, peer, port         s S 1-9  sort: held, state, local, peer,
  r      reverse the order                owner, {more}sent, received,
  h ?    this help; any key leaves it     sent/s, received/s, rtt
"""


def slider(at_ns: int, span_ns: tuple[int, int], width: int, glyphs: Glyphs, *, utc: bool) -> str:
    """The span of a recording, and where in it a moment is, on a line of so many cells. Ns since 1970 UTC."""
    first_ns, last_ns = span_ns
    begin, end = (time_of_day(at, utc=utc).split()[0] for at in (first_ns, last_ns))
    after = f"+{span_text(at_ns - first_ns) if at_ns > first_ns else '0s'}"
    line, knob = ("─", "●") if glyphs is UNICODE else ("-", "|")
    room = max(_LEAST, width - _PLACE - len(begin) - len(end) - len(_HINT) - 12)
    place = round((at_ns - first_ns) * (room - 1) / max(1, last_ns - first_ns))
    return f"{begin} {line * place}{knob}{line * (room - 1 - place)} {end} {after}{_HINT}"
