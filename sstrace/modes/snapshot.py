"""``--snapshot``: the life of one ss invocation, in ss's order, to the byte.

What happens when (ss does it in this order, and error texts, partial output and side effects hang on it): the owner
scan, the summary of -s, an early "no … to show", the dump of -D, the filter, -E, then the tables (in which order,
``protocols`` says); at last what the layout holds back. A table that fails says so on standard error where ss does,
and never changes the exit code.
"""

import gc
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sstrace.decoders import decoders
from sstrace.errors import DecodeError
from sstrace.fields import Reported
from sstrace.model import AF_UNIX, Owners, Socket, Table
from sstrace.protocols import INET, OF_TABLE, SHOWN, TIPC
from sstrace.query.command import Command
from sstrace.query.options import resolve
from sstrace.query.states import FAMILY_TABLES, INET_TABLES
from sstrace.render.columns import NETNS
from sstrace.render.common import Context
from sstrace.render.ss import Text
from sstrace.snapshot.inet import InetTables
from sstrace.snapshot.inet_dump import InetDump, write_dump
from sstrace.snapshot.invocation import Invocation
from sstrace.snapshot.streams import Output, complain, warn
from sstrace.sources.diag import Diag, Netlink
from sstrace.sources.names import SystemNames
from sstrace.sources.proc import ProcFiles, owners
from sstrace.sources.standard import screen_width

if TYPE_CHECKING:
    from sstrace.snapshot.sources import Origin, Place, PlacesSource, Sink, TableSource
    from sstrace.sources.sk_storage import StorageMaps

__all__ = ["Into", "run"]

_WITH_SERVICES = FAMILY_TABLES[AF_UNIX] | INET_TABLES & ~(1 << Table.RAW)
"""For these ss asks rpcbind what its ports are called."""


Into = Callable[[Context, "Sink", Callable[[], "TableSource | None"], Callable[[bytes], object]], "Sink"]
"""Makes a sink of its own: of the context, of ss's sink, of what tells where the rows come from that are fed to it, and
of what it writes with.
"""


def run(command: Command, env: Mapping[str, str], origin: "Origin | None" = None, into: Into | None = None) -> int:
    """Print the tables that ``command`` selects; the exit code. Raises SstraceError where ss would exit with an
    error. ``into``: makes what takes the rows instead.
    """
    output = Output(json=command.own.json)
    # A snapshot makes hundreds of thousands of small objects, no cycles, and soon ends: collecting costs a fifth of
    # its time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _Snapshot(command, env, output, origin, into).run()
    finally:
        if collecting:
            gc.enable()
        # Also when it ends in an error: what ss had written by then is out.
        if sys.exc_info()[0] is not BrokenPipeError:
            output.flush()


class _Snapshot:
    def __init__(
        self,
        command: Command,
        env: Mapping[str, str],
        output: Output,
        origin: "Origin | None",
        into: Into | None,
    ) -> None:
        self._command = command
        self._into = into
        self._show = command.show
        self._env = env
        self._output = output
        self._origin = origin
        self._source = origin.source if origin is not None else None
        self._diag: Callable[[], Netlink] = origin.diag if origin is not None else Diag
        self._files = ProcFiles(env)
        self._places = _places(command, env) if origin is None else origin.places
        self._names = _names(env, origin, anywhere=self._places is not None)
        self._storage: StorageMaps | None = None
        self._holding: Owners | None = None
        self._reported: Callable[[Any], Reported | None] | None = None
        """What a connection has carried, where the filter asks."""

    def run(self) -> int:
        command, show, selection = self._command, self._show, self._command.selection
        storage_fds = self._storage_maps().descriptors(selection.bpf_map_ids) if selection.bpf_map_ids else ()
        owners = self._owners()
        if selection.summary:
            self._summary()
            if not selection.listing:
                return 0
        if command.stop is not None:
            self._output.flush()
            self._output.write(command.stop.stdout.encode("latin-1"))
            if command.stop.stderr:
                warn(command.stop.stderr.removesuffix("\n"))
            return command.stop.code
        if show.resolve and not show.numeric:
            self._learn_rpc()
        if selection.diag_file is not None:
            return write_dump(command, InetDump(command, storage_fds=storage_fds, diag=self._diag), selection.diag_file)
        command = resolve(command, self._names)
        bytecode, asks_held, carried = self._filter(command, owners)
        context = Context(
            show,
            command.dialect,
            self._names,
            decoders,
            owners=owners,
            aside=self._output.write,
            warn=warn,
            storage_text=self._storage_text,
            held=self._held_text if asks_held else None,
        )
        sink = self._sink(context, command)
        if self._into is not None:
            sink = self._into(context, sink, lambda: self._source, self._output.write)
        if command.selection.events:
            from sstrace.snapshot.events import follow

            return follow(self._invocation(command, sink), self._output)

        def show_tables(place: "Place | None" = None) -> None:
            invocation = self._invocation(command, sink, place)
            dump = InetDump(command, bytecode=bytecode, storage_fds=storage_fds, carried=carried, diag=self._diag)
            inet = InetTables(invocation, dump, self._env, bytecode=bytecode, source=self._source, carried=carried)
            if self._origin is None or not self._origin.closed:
                _tables(invocation, inet)
            elif self._source is not None:
                _tables_of(self._source, invocation, inet)

        if self._places is None:
            show_tables()
        else:
            self._places.prepare(command)
            for place in self._places.each():
                self._names.enter()
                self._source = place.source
                sink.enter(place.inode, place.label)
                show_tables(place)
        sink.flush()
        if self._places is not None:
            self._output.flush()
            self._places.tell()
            self._places.check(command.selection.filter, self._names.met)
        return 0

    def _summary(self) -> None:
        from sstrace.snapshot.summary import read_counters, total, write_summary

        if self._places is None:
            counters = read_counters(self._files)
        else:
            counters = total(read_counters(self._files_of(place)) for place in self._places.each())
        write_summary(counters, self._output, json=self._command.own.json)
        if self._places is not None and not self._command.selection.listing:
            self._output.flush()
            self._places.tell()

    def _files_of(self, place: "Place | None") -> ProcFiles:
        if place is None or place.proc is None:
            return self._files
        return ProcFiles({**self._env, "PROC_ROOT": place.proc})

    def _invocation(self, command: Command, sink: "Sink", place: "Place | None" = None) -> Invocation:
        files, match = self._files_of(place), self._match(command, place)
        if self._source is None:
            return Invocation(command, self._names, files, sink, match, diag=self._diag)
        known = self._source.known
        return Invocation(command, self._names, files, sink, match, diag=self._diag, known=known)

    def _owners(self) -> Owners | None:
        """Who holds which socket, where that is to be shown."""
        show, origin = self._show, self._origin
        if origin is not None and origin.owners is not None:
            return origin.owners
        return self._holders() if show.processes or show.threads or show.contexts else None

    @staticmethod
    def _doubt() -> None:
        """Tell who selects by holders, and cannot see all of them, that more may be meant than what is shown."""
        from sstrace.sources.privilege import CAP_SYS_PTRACE, effective

        if not effective() >> CAP_SYS_PTRACE & 1:
            from sstrace.sources.standard import say

            say("what other users' processes hold cannot be seen: run it with sudo")

    def _holders(self) -> Owners:
        """By /proc as ss does, or by the walk where that is known to be faster."""
        show = self._show
        plain = not (show.threads or show.contexts) and self._files.root == "/proc"
        from sstrace.sources.openfiles import worth_walking

        if plain and worth_walking():
            from sstrace.live.owners import OwnerLooks

            walk = OwnerLooks(self._env)
            try:
                return walk.look()
            finally:
                walk.close()
        return owners(self._files.root, threads=show.threads, contexts=show.contexts)

    def _sink(self, context: Context, command: Command) -> "Sink":
        origin = self._origin
        if command.own.json:
            from sstrace.render.ndjson import Lines

            now = origin.at_ns if origin is not None else None
            now = time.time_ns() if now is None else now
            return Lines(context, self._output.write, now, destroyed=command.selection.events)
        if origin is not None:
            width = origin.width
        else:
            width = screen_width(self._env, columns_env=command.dialect.columns_env)
        several = self._places is not None and self._places.several
        return Text(context, self._output.write, screen=width, front=(NETNS,) if several else ())

    def _filter(self, command: Command, owners: Owners | None) -> tuple[bytes, bool, bool]:
        """The filter for the kernel; whether it asks for the time in a state, and for what connections have carried."""
        expression = command.selection.filter
        if expression is None:
            return b"", False, False
        from sstrace.query.bytecode import compile_bytecode
        from sstrace.query.expression import asks_carried, asks_owners
        from sstrace.query.match import thresholds

        asked = asks_owners(expression)
        self._holding = self._holders() if owners is None and asked else owners
        if asked and self._origin is None:
            self._doubt()
        carried = asks_carried(expression)
        if carried:
            from sstrace.wire.carried import reported_of

            self._reported = reported_of
        return compile_bytecode(expression) or b"", thresholds(expression) != (), carried

    def _match(self, command: Command, place: "Place | None") -> Callable[[Any], bool] | None:
        """The filter as a predicate, of rows in a namespace."""
        if command.selection.filter is None:
            return None
        from sstrace.query.match import Known, owners_among, predicate

        source, origin = self._source, self._origin
        within = (place.inode, place.label) if place is not None else origin.within if origin is not None else None
        return predicate(
            command.selection.filter,
            self._names,
            Known(
                held=source.held_ns if source is not None else None,
                role=source.role if source is not None else None,
                reported=self._reported,
                owners=owners_among(self._holding),
                netns=None if within is None else lambda _: within,
            ),
            signed_ports=not command.dialect.unsigned_ports,
        )

    def _held_text(self, row: Socket) -> str:
        """How long a row has been in its state, for whoever selects by it; ``≥`` before a lower bound."""
        held = self._source.held_ns(row) if self._source is not None else None
        if self._source is None or held is None:
            return ""
        from sstrace.render.times import span_text

        bound = "≥" if self._source.at_least(row) else ""
        return f" held:{bound}{span_text(held)}".encode().decode("latin-1")

    def _learn_rpc(self) -> None:
        if not self._command.selection.tables & _WITH_SERVICES:
            return
        from sstrace.sources import rpcbind
        from sstrace.wire import rpcbind as wire

        answer = rpcbind.ask(wire.CALL, wire.size_of_fragment)
        if answer is not None:
            try:
                self._names.learn_rpc(wire.decode(answer))
            except DecodeError:
                return  # names only improve what is printed

    def _storage_maps(self) -> "StorageMaps":
        if self._storage is None:
            from sstrace.sources.sk_storage import StorageMaps

            self._storage = StorageMaps()
        return self._storage

    def _storage_text(self, number: int, value: bytes) -> str | None:
        return self._storage_maps().text(number, value, oneline=self._show.oneline)


def _places(command: Command, env: Mapping[str, str]) -> "PlacesSource | None":
    if not command.own.netns:
        return None
    from sstrace.snapshot.places import Places

    return Places(command.own.netns, env)


def _names(env: Mapping[str, str], origin: "Origin | None", *, anywhere: bool) -> SystemNames:
    if origin is None:
        from sstrace.snapshot.names import SsNames

        return SsNames(env, warn, complain, anywhere=anywhere)
    return SystemNames(env) if origin.names is None else origin.names


def _tables_of(source: "TableSource", to: Invocation, inet: InetTables) -> None:
    """The same, of a source that has all that is known."""
    selection = to.selection
    for tables in SHOWN:
        chosen = [table for table in tables if source.tables & selection.tables & 1 << table]
        if chosen and OF_TABLE[tables[0]].family is INET:
            inet.show(tables[0])
        elif chosen:
            to.sink.begin(tables[0])
            for table in chosen:
                to.feed(source.outside(table, selection))


def _tables(to: Invocation, inet: InetTables) -> None:
    """Every table that is selected, in ss's order."""
    selection = to.selection
    for tables in SHOWN:
        family = OF_TABLE[tables[0]].family
        if not any(selection.tables >> table & 1 for table in tables):
            continue
        # TIPC is shown whatever the family of a filter: ss does not look.
        if family is not TIPC and not any(selection.families >> number & 1 for number in family.numbers):
            continue
        if family is INET:
            inet.show(tables[0])
        else:
            from sstrace.snapshot import others

            others.show(to, family, tables)
