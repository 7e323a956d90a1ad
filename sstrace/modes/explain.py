"""``--explain WHICH``: everything that a recording knows of one connection, as a short story in order.

Where both ends are this host's there are two stories, an end each; where one was closed and opened again between the
same ends, one for each time.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from textwrap import wrap

import msgspec

from sstrace.causes import CAUSES
from sstrace.errors import LookupFailed
from sstrace.lifecycle import LIVES, TRANSITIONS
from sstrace.lines import GapLine, GoneLine, IncidentLine, LifeLine, MetaLine, OwnerLine, SeenLine, StateLine
from sstrace.modes.replay import files, readers
from sstrace.plain import plain
from sstrace.protocols import DATAGRAM_NETIDS, NUMBER_OF_NETID
from sstrace.query.command import Command
from sstrace.query.connection import Which, address_of
from sstrace.recording.reader import STATE_NUMBER, Clock, Reader, is_over, window
from sstrace.render.incidents import incident_words, told_by
from sstrace.render.times import moment, span_text, times
from sstrace.render.width import amount
from sstrace.sources.replay import Recording
from sstrace.sources.standard import give

__all__ = ["run"]

_Told = SeenLine | StateLine | LifeLine | IncidentLine | GoneLine
_WRAP = partial(wrap, width=80, break_long_words=False, break_on_hyphens=False)
_ARROWS = {"client": "→", "server": "←", None: "-"}


class Story:
    """All that was told of one row."""

    def __init__(self, offset_ns: int, number: int) -> None:
        self.number = number
        self.offset_ns = offset_ns
        """CLOCK_REALTIME minus CLOCK_MONOTONIC, of the machine that was recorded."""
        self.lines: list[_Told] = []
        self.gaps: list[GapLine] = []
        """Losses while it lived."""
        self.over = False


def run(command: Command, env: Mapping[str, str]) -> int:
    """Tell; the exit code. Raises DecodeError where no file can be used, LookupFailed where none has such a
    connection.
    """
    own = command.own
    assert own.explain is not None
    sources = files(command)
    stories: list[Story] = []
    for source, reader in readers(sources):
        stories += _stories(command, source, reader, own.explain, alone=len(sources) == 1)
    if not stories:
        names = ", ".join(source.name for source in sources)
        raise LookupFailed(f"sstrace: no connection {own.explain.text} in {names}")
    stories = stories[: own.count]
    if own.json:
        encoder = msgspec.json.Encoder()
        give(encoder.encode_lines([line for story in stories for line in story.lines]))
    else:
        texts = ("\n".join(_text(story, command)) + "\n" for story in stories)
        give("\n".join(texts).encode(errors="backslashreplace"))
    return 0


def _stories(command: Command, source: Recording, reader: Reader, which: Which, *, alone: bool) -> Iterator[Story]:
    """Those of one file, in the order in which they begin."""
    own = command.own
    within = window(source, own.between, utc=own.utc, alone=alone) if own.between is not None else None
    found: dict[int, Story] = {}
    plain_addresses: dict[str, str | None] = {}
    clock = Clock()

    def address(text: str) -> str:
        if text not in plain_addresses:
            plain_addresses[text] = address_of(text)
        return plain_addresses[text] or text

    for item in reader:
        if isinstance(item, MetaLine):
            clock = Clock()
            clock.learn(item)
            if item.part in (None, 1):  # connections of another run have their own numbers
                yield from found.values()
                found.clear()
            continue
        if clock.offset_ns is None:
            clock.learn(item.lines[0])
        offset = clock.offset_ns or 0
        for line in item.lines:
            if within is not None and not within[0] <= line.mono_ns + offset <= within[1]:
                continue
            if isinstance(line, GapLine):
                for story in found.values():
                    if not story.over:
                        story.gaps.append(line)
            elif isinstance(line, GoneLine):
                if line.id in found:
                    found[line.id].lines.append(line)
                    found[line.id].over = True
            elif isinstance(line, SeenLine | StateLine | IncidentLine):
                here, there = (address(line.src), line.sport), (address(line.dst), line.dport)
                if line.id not in found and (line.id == which.id or which.means(here, there)):
                    found[line.id] = Story(offset, line.id)
                if line.id in found:
                    found[line.id].lines.append(line)
                    found[line.id].over = isinstance(line, StateLine) and is_over(line)
    yield from found.values()


def _text(story: Story, command: Command) -> Iterator[str]:
    own = command.own
    told = [line for line in story.lines if not isinstance(line, GoneLine)]
    first, last = told[0], told[-1]
    clock = times("utc" if own.utc else "clock", story.offset_ns)
    role = next((line.role for line in reversed(told) if line.role is not None), None)
    yield f"{_end(last.src, last.sport)} {_ARROWS[role]} {_end(last.dst, last.dport)}  #{story.number}"
    unknown = "bound, and called" if last.netid in DATAGRAM_NETIDS else "which end called was not seen"
    yield f"{role or unknown}; {', '.join(_belongings(last))}"
    yield f"from {moment(first.mono_ns + story.offset_ns, utc=own.utc)}"
    owners: tuple[OwnerLine, ...] = ()
    began = first.mono_ns
    for line in _in_order(story):
        text = _say(line, first)
        if not isinstance(line, GoneLine | GapLine) and line.owners and line.owners != owners:
            owners = line.owners
            source = f" ({line.owner_source})" if line.owner_source is not None else ""
            text = [*text, f"held by {', '.join(map(_owner, owners))}{source}"]
        elif not text:
            continue
        at = line.before_ns if isinstance(line, GapLine) else line.mono_ns
        head = f"{clock.text(at)} {'+' + span_text(at - began):>8}  "
        below = " " * len(head) + "  "
        for number, part in enumerate(text):
            yield from _WRAP(part, initial_indent=below if number else head, subsequent_indent=below)


def _in_order(story: Story) -> Iterator["_Told | GapLine"]:
    gaps = sorted(story.gaps, key=lambda gap: gap.before_ns)
    for line in story.lines:
        while gaps and gaps[0].before_ns <= line.mono_ns:
            yield gaps.pop(0)
        yield line
    yield from gaps


def _say(line: "_Told | GapLine", first: _Told) -> list[str]:
    """What a line says, and what stands below it."""
    if isinstance(line, GapLine):
        return [f"{line.count} events were lost: something of it may be missing here"]
    if isinstance(line, GoneLine):
        return [f"gone from {line.state}: its end was not heard"]
    if isinstance(line, IncidentLine):
        return [incident_words(*told_by(line))]
    if isinstance(line, SeenLine):
        if line is not first:
            return []
        held = f", for {_span(line.held_us)} by then" if line.held_us is not None else ""
        return [f"it was there, in {line.state}{held}"]
    return _of_transition(line)


def _of_transition(line: StateLine) -> list[str]:
    old, new = STATE_NUMBER[line.old], STATE_NUMBER[line.state]
    held = f" after {_span(line.held_us)}" if line.held_us is not None else ""
    why = LIVES.get(NUMBER_OF_NETID.get(line.netid, 0), TRANSITIONS).get(old, {}).get(new)
    moved = f"{'~ ' * line.approximate}{_state(line.old)} -> {_state(line.state)}{held}"
    if line.cause is None:
        text = [moved + (f": {why}" if why else "")]
    else:
        cause = CAUSES.get(line.cause)
        meaning = f": {cause.meaning}" if cause is not None else ""
        errno = f" {line.errno}" if line.errno is not None else ""
        text = [f"{moved} [{plain(line.cause)}{errno}]{meaning}"]
    if line.ended:
        text += _carried(line)
    return text


def _state(name: str) -> str:
    """As in a trace: where ss does not show the socket stands ``-``."""
    return "-" if name == "UNKNOWN" else name


def _carried(line: StateLine) -> list[str]:
    """The sum of its life, where it ends."""
    text = [f"it lived {_span(line.lifetime_us)}" if line.lifetime_us is not None else "its beginning was not seen"]
    if isinstance(line, LifeLine) and line.handshake_us is not None:
        text[0] += f", and came about within {_span(line.handshake_us)}"
    what = "datagram" if line.netid in DATAGRAM_NETIDS else "segment"
    if line.bytes_sent is not None:
        text += [
            f"sent {line.bytes_sent} bytes ({amount(line.bytes_sent)}) in {_counted(line.segs_out, what)}, received "
            f"{line.bytes_received or 0} ({amount(line.bytes_received)}) in {_counted(line.segs_in, what)}"
        ]
        again = f"sent again: {_counted(line.retrans, what)}, {line.bytes_retrans or 0} bytes" if line.retrans else ""
        lost = f"taken for lost: {line.lost}" if line.lost else ""
        late = f"received out of order: {line.rcv_ooopack}" if line.rcv_ooopack else ""
        text += ["; ".join(filter(None, (again, lost, late)))] if again or lost or late else []
    if line.rtt_us is not None:
        least = f", at best {_span(line.minrtt_us)}" if line.minrtt_us is not None else ""
        text.append(f"round-trip time {_span(line.rtt_us)}{least}")
    return text


def _belongings(line: SeenLine | StateLine | IncidentLine) -> Iterator[str]:
    yield line.netid
    if line.uid is not None:
        yield f"uid {line.uid}"
    if line.container_id is not None:
        yield f"container {plain(line.container_id)[:12]}"
    if line.unit is not None:
        yield plain(line.unit)
    yield f"netns {plain(line.netns_name) if line.netns_name is not None else line.netns}"
    if line.ifname is not None:
        yield f"device {plain(line.ifname)}"


def _owner(owner: OwnerLine) -> str:
    return f"{plain(owner.comm)}/{owner.pid}" + (f"/{owner.fd}" if owner.fd is not None else "")


def _end(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _counted(number: int | None, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number or 0} {what}s"


def _span(microseconds: float) -> str:
    return span_text(round(microseconds * 1000))
