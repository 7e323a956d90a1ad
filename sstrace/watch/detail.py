"""The page of one connection: its states with their times, who holds it, what it carries and how fast, why it ended."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from sstrace.causes import CAUSES
from sstrace.errors import KernelError
from sstrace.live.source import look_at
from sstrace.model import STATE_TEXT, Socket
from sstrace.output.texts import work_text
from sstrace.plain import counted, plain, printable
from sstrace.protocols import APPEARING, SWEPT
from sstrace.render.ends import ARROWS, Ends
from sstrace.render.fitted import causes, who
from sstrace.render.times import TimeMode, WallTimes, span_text
from sstrace.render.watch_detail import Detail, Graph, detail
from sstrace.render.watch_frame import Look, Screen
from sstrace.render.width import amount
from sstrace.table import Row, Transition
from sstrace.watch.acts import text_of
from sstrace.watch.hub import Hub
from sstrace.watch.lines import RowLines
from sstrace.wire import inet_diag
from sstrace.wire.carried import payload, tcp_info_of
from sstrace.wire.tcp_info import TcpInfo

__all__ = ["DetailPage"]

_SAMPLES: Final = 300
"""Of the graphs: five minutes, of a second each."""
_STATES_MOST: Final = 50
_STATES: Final = ("-", *STATE_TEXT[1:])
"""A socket without states is in none before it is shown, and after that."""
_EXT: Final = inet_diag.extensions(memory=True, info=True, tos=True)


class _Sample(msgspec.Struct, frozen=True):
    """What the connection had carried, and its round-trip time, at a moment of CLOCK_MONOTONIC."""

    at_ns: int
    sent: int
    received: int
    rtt_us: int


class DetailPage:
    """One row of ``hub``, for as long as somebody looks at it: also when it has gone."""

    def __init__(self, hub: Hub, row: Row, step_ns: int) -> None:
        """``step_ns``: between two points of the graphs."""
        self.hub = hub
        self.row = row
        self._step_ns = step_ns
        self._life: Sequence[Transition] = hub.shown.life(row.id)
        self._samples: deque[_Sample] = deque(maxlen=_SAMPLES)
        self._due_ns = 0
        self._socket: Socket | None = None
        self._info: TcpInfo | None = None
        command = hub.command
        self._ends = Ends(hub.lines.show, command.dialect, hub.names).within(row.net)
        show = msgspec.structs.replace(command.show, info=True, memory=True, timers=True, extended=True, tos=True)
        self._lines = RowLines(msgspec.structs.replace(command, show=show), hub.names, hub.glyphs)
        self._work = work_text(hub.names)
        self._mode: TimeMode = "utc" if command.own.utc else "clock"
        self._top = self._most = 0

    def renew(self, row: Row, life: Sequence[Transition]) -> None:
        """Show it as it was at another moment."""
        self.row, self._life = row, life

    @property
    def copied(self) -> str:
        """The connection, as text."""
        entry = self.hub.shown.entry(self.row.id)
        return text_of(self.hub.lines.make([entry], {}, self.hub.now_ns())) if entry is not None else ""

    def key(self, key: str) -> bool:
        """Do what a key asks for; False: this page is to be left."""
        if key in ("escape", "enter", "backspace", "left"):
            return False
        if key in ("down", "j", "wheeldown"):
            self._top += 1
        elif key in ("up", "k", "wheelup"):
            self._top -= 1
        elif key in ("pagedown", "ctrl-f"):
            self._top += 10
        elif key in ("pageup", "ctrl-b"):
            self._top -= 10
        elif key in ("home", "end", "G"):
            self._top = 0 if key == "home" else self._most
        self._top = max(0, min(self._top, self._most))
        return True

    @property
    def _end(self) -> Transition | None:
        """How it ended, if it has and that was seen."""
        return next((change for change in reversed(self._life) if change.ended), None)

    # What the kernel says.

    def look(self, now_ns: int) -> None:
        """Ask the kernel, once in each step."""
        if now_ns < self._due_ns:
            return
        self._due_ns = now_ns + self._step_ns
        try:
            self._socket = look_at(self.hub.tracer.places, [self.row], _EXT).get(self.row.id)
        except KernelError:  # out of memory, for a moment
            self._socket = None
        self._info = info = tcp_info_of(self._socket)
        if info is not None:
            self._samples.append(_Sample(now_ns, *payload(info), info.rtt))
        if self.hub.frozen is None:
            self.hub.own([self.row], now_ns)

    # The picture.

    def picture(self, base: Look, width: int, height: int) -> Screen:
        """Draw it: ``base`` has what is the same on every page."""
        now = self.hub.now_ns()
        self.look(now)
        base = msgspec.structs.replace(base, keys="Esc back  j k scroll  q quit")
        picture, self._most = detail(base, self._detail(now), self._top, width, height)
        return picture

    def _detail(self, now_ns: int) -> Detail:
        row = self.row
        local, peer = self._ends.outside(row) if row.protocol in SWEPT else self._ends.of(row)
        title = f"{local} {ARROWS[row.role]} {peer}" if row.dport else local
        return Detail(
            title=title,
            facts=list(self._facts(now_ns)),
            states=self._states(now_ns),
            graphs=list(self._graphs()),
            span=span_text(self._step_ns * _SAMPLES),
            figures=self._figures(now_ns),
        )

    def _facts(self, now_ns: int) -> Iterator[tuple[str, str]]:
        row, end = self.row, self._end
        if end is not None:
            word = next(causes(end, brackets=False))
            meaning = CAUSES[end.cause].meaning if end.cause is not None and end.cause in CAUSES else ""
            lasted = f", {span_text(end.lifetime_ns)} after it began" if end.lifetime_ns is not None else ""
            yield "Ended", f"{word or ('closed' if row.protocol in APPEARING else 'nobody knows why')}{lasted}"
            if meaning:
                yield "", meaning
            yield from _carried(end)
        elif row.id not in self.hub.tracer.table:
            why = CAUSES.get(self._life[-1].cause or "") if self._life else None  # of what was left of it: TIME-WAIT
            yield ("Gone", why.meaning) if why is not None else self.hub.absent(row)
        elif row.born_ns is not None:
            yield "Age", span_text(now_ns - row.born_ns)
        where = self.hub.tracer.places.where
        if where is not None and where.many:
            yield where.title, plain(where.label(row.net).text(row.netns))
        yield "Process", who(row, 1 << 16, descriptors=True)
        if row.peer_owners:
            peer = msgspec.structs.replace(row, owners=row.peer_owners, owner_source=None)
            yield "Peer process", who(peer, 1 << 16, descriptors=True)
        if row.protocol in SWEPT:
            yield "Source", "looks: what came and went between two was not seen"
        if row.role is not None:
            yield "Role", row.role
        if row.uid is not None:
            yield "UID", str(row.uid)
        if row.cgroup:
            work = self._work(row.cgroup)
            if work is not None and work.container_id is not None:
                yield "Container", plain(f"{work.container_runtime or ''} {work.container_id}".strip())
            if work is not None and work.unit is not None:
                yield "Unit", plain(work.unit)

    def _states(self, now_ns: int) -> list[str]:
        row = self.row
        times = WallTimes(self._mode, self.hub.offset_ns())
        lines = []
        for change in list(self._life)[-_STATES_MOST:]:
            held = f"{span_text(change.held_ns)} in {_STATES[change.old]}" if change.held_ns is not None else ""
            why = next(causes(change, brackets=False))
            lines.append(f"{times.text(change.at_ns)}  {_STATES[change.new]:<10}  {held:<22} {why}".rstrip())
        if row.id in self.hub.tracer.table:
            held = ("" if row.exact else self.hub.glyphs.at_least) + span_text(now_ns - row.since_ns)
            lines.append(f"{'now':<{times.width}}  {STATE_TEXT[row.state]:<10}  for {held}")
        return lines

    def _graphs(self) -> Iterator[Graph]:
        samples = list(self._samples)
        if not samples:
            return
        last = samples[-1]
        for label, total, of in (
            ("Sent", last.sent, [sample.sent for sample in samples]),
            ("Received", last.received, [sample.received for sample in samples]),
        ):
            rates = [
                (after - before) * 1e9 / max(1, sample.at_ns - earlier.at_ns)
                for before, after, earlier, sample in zip(of, of[1:], samples, samples[1:], strict=False)
            ]
            now = f"{amount(total)}, {amount(round(rates[-1]))}/s" if rates else amount(total)
            yield Graph(label, now, rates, f"at most {amount(round(max(rates)))}/s" if rates else "")
        trips = [float(sample.rtt_us) for sample in samples]
        yield Graph("RTT", span_text(last.rtt_us * 1000), trips, f"at most {span_text(round(max(trips)) * 1000)}")

    def _figures(self, now_ns: int) -> str:
        entry = self.hub.shown.entry(self.row.id)
        if entry is None or self._socket is None:
            return ""
        line = self._lines.make([entry], {self.row.id: self._socket}, now_ns)[0]
        return printable(f"Recv-Q:{line.recv_q} Send-Q:{line.send_q} {line.rest}").strip()


def _carried(end: Transition) -> Iterator[tuple[str, str]]:
    reported = end.reported
    if reported.bytes_sent is not None or reported.bytes_received is not None:
        text = f"sent {amount(reported.bytes_sent)}, received {amount(reported.bytes_received)}"
        if reported.rtt_us:
            text += f", round-trip time {span_text(reported.rtt_us * 1000)}"
        if reported.retrans:
            text += f", {counted(reported.retrans, 'segment')} sent again"
        yield "Carried", text
