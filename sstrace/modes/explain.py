"""``--explain WHICH --from FILE``: everything that recordings know of one connection, as a short story in order.

Where both ends are this host's there are two stories, an end each; where one was closed and opened again between the
same ends, one for each time.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from sstrace.causes import CAUSES
from sstrace.errors import LookupFailed
from sstrace.lifecycle import LIVES, TRANSITIONS
from sstrace.lines import GapLine, GoneLine, IncidentLine, LifeLine, MetaLine, OwnerLine, SeenLine, StateLine
from sstrace.modes.replay import readers
from sstrace.plain import counted, plain
from sstrace.protocols import DATAGRAM_NETIDS, NUMBER_OF_NETID
from sstrace.query.command import Command
from sstrace.query.connection import Which, address_of
from sstrace.recording.files import files
from sstrace.recording.reader import STATE_NUMBER, Clock, Reader, is_over, window
from sstrace.render.incidents import incident_words, told_by
from sstrace.render.story import belongings, carried, ends, folded, role_words, round_trips, span
from sstrace.render.times import moment, span_text, times
from sstrace.sources.standard import give
from sstrace.wire.recording import Fact

__all__ = ["Stories", "Story", "run", "tell"]

_Told = SeenLine | StateLine | LifeLine | IncidentLine | GoneLine


class Story:
    """All that was told of one row."""

    def __init__(self, offset_ns: int, number: int, host: str | None) -> None:
        self.number = number
        self.host = host
        """Of the recordings of several hosts: whose."""
        self.offset_ns = offset_ns
        """CLOCK_REALTIME minus CLOCK_MONOTONIC, of the machine that was recorded."""
        self.lines: list[_Told] = []
        self.gaps: list[GapLine] = []
        """Losses while it lived."""
        self.over = False

    @property
    def began_ns(self) -> int:
        """Since 1970 UTC."""
        return self.lines[0].mono_ns + self.offset_ns


def run(command: Command, env: Mapping[str, str]) -> int:
    """Tell; the exit code. Raises DecodeError where no file can be used, LookupFailed where none has such a
    connection. ``env`` changes nothing.
    """
    own, sources = command.own, files(command)
    assert own.explain is not None
    found = Stories(own.explain)
    for source, reader in readers(sources):
        if own.between is not None:
            found.within = window(source, own.between, utc=own.utc, alone=len(sources) == 1)
        found.take(reader)
    return tell(command, found.end())


def tell(command: Command, stories: Sequence[Story]) -> int:
    """Tell the first --count of these; the exit code. Raises LookupFailed where there is none."""
    own = command.own
    if not stories:
        assert own.explain is not None
        raise LookupFailed(f"sstrace: no connection {own.explain.text} in {', '.join(own.recordings)}")
    stories = stories[: own.count]
    if own.json:
        encoder = msgspec.json.Encoder()
        give(encoder.encode_lines([line for story in stories for line in story.lines]))
    else:
        texts = ("\n".join(_text(story, command)) + "\n" for story in stories)
        give("\n".join(texts).encode(errors="backslashreplace"))
    return 0


class Stories:
    """Those that the files of one recording tell, in the order in which they begin. ``within``: only what happens then,
    ns since 1970 UTC.
    """

    def __init__(self, which: Which, host: str | None = None, within: tuple[int, int] | None = None) -> None:
        self.within = within
        self._which = which
        self._host = host
        self._done: list[Story] = []
        self._found: dict[int, Story] = {}
        self._last: MetaLine | None = None
        self._clock = Clock()
        self._plain: dict[str, str] = {}

    def take(self, reader: Reader) -> None:
        """All of a file; those of a rotation in their order."""
        for item in reader:
            if isinstance(item, MetaLine):
                self._begin(item)
                continue
            if self._clock.offset_ns is None:
                self._clock.learn(item.lines[0])
            offset = self._clock.offset_ns or 0
            for line in item.lines:
                if self.within is None or self.within[0] <= line.mono_ns + offset <= self.within[1]:
                    self._line(line, offset)

    def end(self) -> list[Story]:
        """Every one of them."""
        self._done += self._found.values()
        self._found.clear()
        return self._done

    def _begin(self, meta: MetaLine) -> None:
        last, self._last = self._last, meta
        self._clock = Clock()
        self._clock.learn(meta)
        if last is None or (meta.boot_id, meta.part) != (last.boot_id, (last.part or 0) + 1):
            self.end()  # connections of another run have their own numbers

    def _line(self, line: Fact, offset_ns: int) -> None:
        found = self._found
        if isinstance(line, GapLine):
            for story in found.values():
                if not story.over:
                    story.gaps.append(line)
        elif isinstance(line, GoneLine):
            if line.id in found:
                self._add(found[line.id], line)
                found[line.id].over = True
        elif isinstance(line, SeenLine | StateLine | IncidentLine):
            here, there = (self._address(line.src), line.sport), (self._address(line.dst), line.dport)
            if line.id not in found and (line.id == self._which.id or self._which.means(here, there)):
                found[line.id] = Story(offset_ns, line.id, self._host)
            if line.id in found:
                self._add(found[line.id], line)
                found[line.id].over = isinstance(line, StateLine) and is_over(line)

    def _add(self, story: Story, line: _Told) -> None:
        if self._host is not None:
            line.host = self._host
        story.lines.append(line)

    def _address(self, text: str) -> str:
        if text not in self._plain:
            self._plain[text] = address_of(text) or text
        return self._plain[text]


def _text(story: Story, command: Command) -> Iterator[str]:
    own = command.own
    told = [line for line in story.lines if not isinstance(line, GoneLine)]
    first, last = told[0], told[-1]
    clock = times("utc" if own.utc else "clock", story.offset_ns)
    role = next((line.role for line in reversed(told) if line.role is not None), None)
    host = f"{plain(story.host)}: " if story.host is not None else ""
    yield f"{host}{ends(last.src, last.sport, last.dst, last.dport, role)}  #{story.number}"
    netns = last.netns_name if last.netns_name is not None else str(last.netns)
    whose = belongings(last.netid, last.uid, last, netns, last.ifname)
    yield role_words(role, last.dport, datagrams=last.netid in DATAGRAM_NETIDS) + ", ".join(whose)
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
        yield from folded(head, text)


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
        return [f"{counted(line.count, 'event', 'was/were')} lost: something of it may be missing here"]
    if isinstance(line, GoneLine):
        return [f"gone from {line.state}: its end was not heard"]
    if isinstance(line, IncidentLine):
        return [incident_words(*told_by(line))]
    if isinstance(line, SeenLine):
        if line is not first:
            return []
        held = f", for {span(line.held_us)} by then" if line.held_us is not None else ""
        return [f"it was there, in {line.state}{held}"]
    return _of_transition(line)


def _of_transition(line: StateLine) -> list[str]:
    old, new = STATE_NUMBER[line.old], STATE_NUMBER[line.state]
    held = f" after {span(line.held_us)}" if line.held_us is not None else ""
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
    text = [f"it lived {span(line.lifetime_us)}" if line.lifetime_us is not None else "its beginning was not seen"]
    if isinstance(line, LifeLine) and line.handshake_us is not None:
        text[0] += f", and came about within {span(line.handshake_us)}"
    if line.bytes_sent is not None:
        text += carried(
            line.bytes_sent,
            line.bytes_received or 0,
            segs_out=line.segs_out,
            segs_in=line.segs_in,
            again=line.retrans,
            bytes_again=line.bytes_retrans,
            lost=line.lost,
            late=line.rcv_ooopack,
            what="datagram" if line.netid in DATAGRAM_NETIDS else "segment",
        )
    if line.rtt_us is not None:
        text.append(round_trips(line.rtt_us, line.minrtt_us))
    return text


def _owner(owner: OwnerLine) -> str:
    return f"{plain(owner.comm)}/{owner.pid}" + (f"/{owner.fd}" if owner.fd is not None else "")
