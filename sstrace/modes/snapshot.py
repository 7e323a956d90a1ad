"""``--snapshot``: the life of one ss invocation, in ss's order, to the byte.

What happens when (ss does it in this order, and error texts, partial output and side effects hang on it): the owner
scan, the summary of -s, an early "no … to show", the dump of -D, the filter, -E, then the tables netlink, packet,
unix, raw, udp, tcp, dccp, sctp, vsock, tipc, xdp, mptcp; at last what the layout holds back. A table that fails says
so on standard error where ss does, and never changes the exit code.
"""

import gc
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from sstrace.decoders import decoders
from sstrace.errors import DecodeError, KernelError, SstraceError, reason
from sstrace.live.width import screen_width
from sstrace.model import (
    AF_INET,
    AF_INET6,
    AF_NETLINK,
    AF_PACKET,
    AF_UNIX,
    AF_VSOCK,
    AF_XDP,
    SOCK_DGRAM,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    InetSocket,
    Owners,
    PacketSocket,
    Socket,
    State,
    Table,
    UnixSocket,
    XdpSocket,
)
from sstrace.query.command import Command, Selection
from sstrace.query.options import resolve
from sstrace.render.common import Context
from sstrace.render.ss import Text
from sstrace.sources.diag import Diag
from sstrace.sources.names import SystemNames
from sstrace.sources.openfiles import worth_walking
from sstrace.sources.proc import ProcFiles, owners
from sstrace.wire import inet_columns, inet_diag
from sstrace.wire.netlink import Batch

if TYPE_CHECKING:
    from sstrace.sources.sk_storage import StorageMaps

__all__ = ["Elsewhere", "Sink", "TcpSource", "run"]

_ENOENT = 2
_EISDIR = 21
_EOPNOTSUPP = 95
_QUIET = (_ENOENT, _EOPNOTSUPP)
"""What a kernel answers that lacks a table: nothing to tell the user."""

_BLOCK = 1 << 20

_UNIX = (Table.UNIX_DGRAM, Table.UNIX_STREAM, Table.UNIX_SEQPACKET)
_PACKET = (Table.PACKET_DGRAM, Table.PACKET_RAW)
_VSOCK = (Table.VSOCK_STREAM, Table.VSOCK_DGRAM)


class Sink(Protocol):
    """What takes the rows: ss's text, or NDJSON."""

    def begin(self, table: Table) -> None:
        """The rows that follow are of this table."""
        ...

    def feed(self, sockets: Sequence[Socket]) -> None:
        """Rows, in the order in which they are to stand."""
        ...

    def flush(self) -> None:
        """Write what is held back."""
        ...


class TcpSource(Protocol):
    """Where the tcp table comes from when not from the kernel: a live table, a recording."""

    def rows(
        self,
        selection: Selection,
        *,
        ext: int,
        attributes: bool,
        bytecode: bytes,
        take: Callable[[memoryview], bool] | None,
        complain: Callable[[int], None],
    ) -> Iterator[Sequence[InetSocket]]:
        """The selected rows, in order. ``ext``, ``attributes``: what of each will be looked at (see wire.inet_diag);
        ``bytecode``: the filter, for whoever can have the kernel apply it; ``take``: takes a datagram of the kernel's
        whole, where all of its rows are wanted as they are, and says whether it has; ``complain`` of an errno.
        """
        ...

    def held_ns(self, row: Socket) -> int | None:
        """How long one of these rows has been in its state; None when nobody knows."""
        ...

    def at_least(self, row: Socket) -> bool:
        """Whether that is a lower bound: the row is older than the trace."""
        ...


class Elsewhere(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot that does not come from this machine's kernel, now, for this process's own screen."""

    tcp: TcpSource
    holders: Owners | None = None
    """Who holds which socket; None: find out as always."""
    width: int | None = None
    """The screen's width; None: unknown."""
    names: SystemNames | None = None
    """Whom to ask for names; None: this machine."""
    at_ns: int | None = None
    """The moment of which it tells, ns since 1970 UTC; None: now."""
    only_tcp: bool = False
    """Nothing is known of the other tables."""


class _Output:
    """Standard output as a run of large writes. A reader that went away raises BrokenPipeError.

    ``careless``: other failures (a full disk) pass in silence, as ss lets them, who does not look; else they raise
    SstraceError.
    """

    def __init__(self, *, careless: bool) -> None:
        self._careless = careless
        self._chunks: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        self._chunks.append(data)
        self._size += len(data)
        if self._size >= _BLOCK:
            self.flush()

    def held(self) -> int:
        return self._size

    def flush(self) -> None:
        data = memoryview(b"".join(self._chunks))
        self._chunks.clear()
        self._size = 0
        try:
            while data:
                data = data[os.write(1, data) :]
        except BrokenPipeError:
            raise
        except OSError as error:
            if not self._careless:
                raise SstraceError(f"sstrace: cannot write: {reason(error)}") from None


def _warn(line: str) -> None:
    """A line on standard error, now."""
    data = f"{line}\n".encode("latin-1", "replace")
    with suppress(OSError):
        while data:
            data = data[os.write(2, data) :]


def _complain(number: int) -> None:
    """Of the kernel's refusal."""
    if number not in _QUIET:
        _warn(f"RTNETLINK answers: {os.strerror(number)}")


def run(command: Command, env: Mapping[str, str], elsewhere: Elsewhere | None = None) -> int:
    """Print the tables that ``command`` selects; the exit code. Raises SstraceError where ss would exit with an
    error.
    """
    output = _Output(careless=not command.own.json)
    # A snapshot makes hundreds of thousands of small objects, no cycles, and soon ends: collecting costs a fifth of
    # its time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _Snapshot(command, env, output, elsewhere).run()
    finally:
        if collecting:
            gc.enable()
        # Also when it ends in an error: what ss had written by then is out.
        if sys.exc_info()[0] is not BrokenPipeError:
            output.flush()


def _names(env: Mapping[str, str], elsewhere: Elsewhere | None) -> SystemNames:
    if elsewhere is None:
        from sstrace.modes.ss_names import SsNames

        return SsNames(env, _warn, _complain)
    return SystemNames(env) if elsewhere.names is None else elsewhere.names


class _Refused(Exception):  # noqa: N818 - an outcome, not an error: another way is tried
    """A table cannot be read this way; standard error has been told why, where ss tells it."""


class _Unsent(_Refused):
    """Not even the request got away, of which ss says nothing."""


class _Snapshot:
    def __init__(
        self,
        command: Command,
        env: Mapping[str, str],
        output: _Output,
        elsewhere: Elsewhere | None,
    ) -> None:
        self._command = command
        self._elsewhere = elsewhere
        self._tcp = elsewhere.tcp if elsewhere is not None else None
        self._holders = elsewhere.holders if elsewhere is not None else None
        self._env = env
        self._output = output
        self._files = ProcFiles(env)
        self._names = _names(env, elsewhere)
        self._selection = command.selection
        self._show = command.show
        self._dialect = command.dialect
        self._sink: Sink
        self._match: Callable[[Any], bool] | None = None
        self._bytecode = b""
        self._asks_held = False
        """Whether the filter selects by the time in a state."""
        self._killer: Diag | None = None
        self._storage: StorageMaps | None = None
        self._storage_fds: Sequence[int] = ()
        self._context: Context

    def run(self) -> int:
        command, show = self._command, self._show
        if self._selection.bpf_map_ids:
            self._storage_fds = self._storage_library().descriptors(self._selection.bpf_map_ids)
        if self._holders is None and (show.processes or show.threads or show.contexts):
            self._holders = self._scan_holders()
        if self._selection.summary:
            self._summary()
            if not self._selection.listing:
                return 0
        if command.stop is not None:
            self._output.flush()
            self._output.write(command.stop.stdout.encode("latin-1"))
            if command.stop.stderr:
                _warn(command.stop.stderr.removesuffix("\n"))
            return command.stop.code
        if show.resolve and not show.numeric:
            self._learn_rpc()
        if self._selection.diag_file is not None:
            return self._dump_raw(self._selection.diag_file)
        self._selection = resolve(command, self._names).selection
        self._compile_filter()
        self._context = Context(
            show,
            self._dialect,
            self._names,
            decoders,
            owners=self._holders,
            aside=self._output.write,
            warn=_warn,
            storage_text=self._storage_text,
            held=self._held_text if self._asks_held else None,
        )
        self._sink = self._make_sink()
        if self._selection.events:
            return self._follow()
        self._tables()
        self._sink.flush()
        return 0

    def _scan_holders(self) -> Owners:
        """Who holds which socket: by /proc as ss does, or by the walk where that is known to be faster."""
        show = self._show
        plain = not (show.threads or show.contexts) and self._files.root == "/proc"
        if plain and worth_walking():
            from sstrace.live.owners import Holders

            walk = Holders(self._env)
            try:
                return walk.look()
            finally:
                walk.close()
        return owners(self._files.root, threads=show.threads, contexts=show.contexts)

    def _make_sink(self) -> Sink:
        if self._command.own.json:
            from sstrace.render.ndjson import Lines

            now = self._elsewhere.at_ns if self._elsewhere is not None else None
            now = time.time_ns() if now is None else now
            return Lines(self._context, self._output.write, now, destroyed=self._selection.events)
        if self._elsewhere is not None:
            width = self._elsewhere.width
        else:
            width = screen_width(self._env, columns_env=self._dialect.columns_env)
        return Text(self._context, self._output.write, screen=width)

    def _compile_filter(self) -> None:
        expression = self._selection.filter
        if expression is None:
            return
        from sstrace.query.bytecode import compile_bytecode
        from sstrace.query.match import predicate, thresholds

        self._asks_held = thresholds(expression) != ()
        self._match = predicate(
            expression,
            self._names,
            self._tcp.held_ns if self._tcp is not None else None,
            signed_ports=not self._dialect.unsigned_ports,
        )
        self._bytecode = compile_bytecode(expression) or b""

    def _held_text(self, row: Socket) -> str:
        """How long a row has been in its state, for whoever selects by it; ``≥`` before a lower bound."""
        held = self._tcp.held_ns(row) if self._tcp is not None else None
        if self._tcp is None or held is None:
            return ""
        from sstrace.render.times import span_text

        bound = "≥" if self._tcp.at_least(row) else ""
        return f" held:{bound}{span_text(held)}".encode().decode("latin-1")

    def _learn_rpc(self) -> None:
        asked = (*_UNIX, Table.TCP, Table.MPTCP, Table.UDP, Table.DCCP, Table.SCTP)
        if not any(self._selection.tables >> table & 1 for table in asked):
            return
        from sstrace.sources import rpcbind
        from sstrace.wire import rpcbind as wire

        answer = rpcbind.ask(wire.CALL, wire.size_of_fragment)
        if answer is not None:
            try:
                self._names.learn_rpc(wire.decode(answer))
            except DecodeError:
                return  # names only improve what is printed

    # ---------------------------------------------------------------------------------------------------------- tables

    def _tables(self) -> None:
        """Every table that is selected, in ss's order."""
        selection = self._selection
        closed = selection.states >> State.CLOSE & 1
        if self._elsewhere is not None and self._elsewhere.only_tcp:
            if selection.tables >> Table.TCP & 1:
                self._inet(Table.TCP)
            return

        def wanted(tables: Sequence[Table], *families: int) -> bool:
            return any(selection.tables >> table & 1 for table in tables) and any(
                selection.families >> family & 1 for family in families
            )

        if closed and wanted([Table.NETLINK], AF_NETLINK):
            self._netlink()
        if closed and wanted(_PACKET, AF_PACKET):
            self._packet()
        if wanted(_UNIX, AF_UNIX):
            self._unix()
        for table in (Table.RAW, Table.UDP, Table.TCP, Table.DCCP, Table.SCTP):
            if wanted([table], AF_INET, AF_INET6):
                self._inet(table)
        if wanted(_VSOCK, AF_VSOCK):
            self._vsock()
        if selection.tables >> Table.TIPC & 1:  # whatever the family of a filter: ss does not look
            self._tipc()
        if closed and wanted([Table.XDP], AF_XDP):
            self._xdp()
        if wanted([Table.MPTCP], AF_INET, AF_INET6):
            self._inet(Table.MPTCP)

    def _feed(self, rows: Sequence[Any]) -> None:
        """Rows that passed every mask: through the filter, to the sink."""
        match = self._match
        if match is not None:
            rows = [row for row in rows if match(row)]
        if rows:
            if isinstance(rows[0], PacketSocket | XdpSocket):
                self._read_interfaces(rows)
            self._sink.feed(rows)

    def _read_interfaces(self, rows: Sequence[PacketSocket | XdpSocket]) -> None:
        """For a row of these that has one, ss reads them all, and ends where it may not. Raises LookupFailed."""
        if any(row.ifindex for row in rows):
            self._names.read_interfaces()

    def _ask(
        self, diag: Diag, request: bytes, decode: Callable[[memoryview], Batch[Any]], *, silent: bool = False
    ) -> Iterator[list[Any]]:
        """The answer to one request, datagram by datagram. Raises _Refused when it ends in an error, which has then
        been told unless ``silent``.
        """
        try:
            diag.send(request)
        except SstraceError as error:
            raise _Unsent from error
        datagrams = diag.ahead()
        while True:
            try:
                datagram = next(datagrams)
            except SstraceError as error:
                _warn(str(error))
                raise _Refused from error
            batch = decode(datagram)
            if batch.rows:
                yield batch.rows
            if batch.done:
                if batch.error:
                    if not silent:
                        _complain(batch.error)
                    raise _Refused
                return

    def _open(self) -> Diag:
        """A socket. Raises _Refused, and has told why."""
        try:
            return Diag()
        except SstraceError as error:
            _warn(str(error))
            raise _Refused from error

    def _dump(self, request: bytes, decode: Callable[[memoryview], Batch[Any]]) -> Iterator[list[Any]]:
        """One request on a socket of its own."""
        with self._open() as diag:
            yield from self._ask(diag, request, decode)

    # ------------------------------------------------------------------------------------------------------------ inet

    def _inet(self, table: Table) -> None:
        self._sink.begin(table)
        file = self._env.get("TCPDIAG_FILE")
        if table is Table.TCP and file is not None:
            self._from_file(file)
            return
        if table is Table.TCP and self._tcp is not None:
            with suppress(_Refused):  # -K, by somebody who may not
                for rows in self._tcp.rows(
                    self._selection,
                    ext=self._extension(),
                    attributes=self._wants_attributes(table),
                    bytecode=self._bytecode,
                    take=self._columns(),
                    complain=_complain,
                ):
                    self._inet_rows(rows)
            return
        name = f"net/{table.name.lower()}"
        if not self._files.replaced(name):
            try:
                self._inet_netlink(table)
                return
            except _Refused:
                pass
        if table in (Table.TCP, Table.UDP, Table.RAW):
            self._inet_proc(table, name)

    def _extension(self) -> int:
        return inet_diag.extensions(memory=self._show.memory, info=self._show.info, tos=self._show.tos)

    def _requests(self, table: Table) -> Iterator[bytes]:
        """The requests of a table, one for each family that is asked of the kernel."""
        preferred = self._selection.preferred
        for family in (AF_INET, AF_INET6):
            if preferred not in (AF_INET, AF_INET6) or preferred == family:
                yield inet_diag.dump_request(
                    table,
                    family,
                    self._selection.states,
                    ext=self._extension(),
                    bytecode=self._bytecode,
                    storage_maps=self._storage_maps(),
                )

    def _storage_maps(self) -> Sequence[int] | None:
        """Descriptors of the sk-storage maps to ask for: none for every map, None for no map."""
        return self._storage_fds if self._show.bpf_maps else None

    def _storage_library(self) -> "StorageMaps":
        if self._storage is None:
            from sstrace.sources.sk_storage import StorageMaps

            self._storage = StorageMaps()
        return self._storage

    def _storage_text(self, number: int, value: bytes) -> str | None:
        return self._storage_library().text(number, value, oneline=self._show.oneline)

    def _wants_attributes(self, table: Table) -> bool:
        """Whether anything but addresses and queues will be looked at."""
        show = self._show
        return bool(
            table in (Table.RAW, Table.SCTP)
            or self._match
            or self._command.own.json
            or show.extended
            or show.memory
            or show.info
            or show.tos
            or show.cgroup
            or show.inet_sockopt
            or show.bpf_maps
        )

    def _inet_netlink(self, table: Table) -> None:
        """The kernel's table, to the sink. Raises _Refused."""
        attributes = self._wants_attributes(table)
        columns = self._columns()

        def decode(datagram: memoryview) -> Batch[InetSocket]:
            if columns is not None and columns(datagram):
                return Batch([])
            return inet_diag.decode(datagram, table, extras=attributes)

        self._ask_inet(table, decode, self._inet_rows)

    def _ask_inet(
        self,
        table: Table,
        decode: Callable[[memoryview], Batch[InetSocket]],
        take: Callable[[Sequence[InetSocket]], None],
    ) -> None:
        """The kernel's table; a request of the old kind where the new one is refused. Raises _Refused."""
        # ss never warned that a kernel lacks mptcp; since 7.0 it does not for the others either.
        silent = self._dialect.netlink_errors_silent or table is Table.MPTCP
        with self._open() as diag:
            if self._selection.kill and self._killer is None:
                self._killer = self._open()
            try:
                for request in self._requests(table):
                    for rows in self._ask(diag, request, decode, silent=silent):
                        take(rows)
            except _Unsent:
                raise
            except _Refused:
                if table not in (Table.TCP, Table.DCCP):
                    raise
                request = inet_diag.legacy_request(
                    table, self._selection.states, ext=self._extension(), bytecode=self._bytecode
                )
                for rows in self._ask(diag, request, decode, silent=silent):
                    take(rows)

    def _columns(self) -> Callable[[memoryview], bool] | None:
        """What prints what is selected of a datagram of the begun table without an object a row, and says whether it
        has; None where nothing can.
        """
        text, match, families = self._sink, self._match, self._selection.families
        if not isinstance(text, Text) or self._selection.kill:
            return None
        if text.raw() and match is None:

            def plain(datagram: memoryview) -> bool:
                fields = inet_columns.decode(datagram)
                if fields is None:
                    return False
                if families >> inet_columns.family_of(datagram) & 1:
                    text.feed_raw(fields)
                return True

            return plain
        if text.grouped():
            from sstrace.wire import inet_groups

            def grouped(datagram: memoryview) -> bool:
                found = inet_groups.decode(datagram)
                if found is None:
                    return False
                if not families >> found[0][0].family & 1:
                    return True
                if match is not None:
                    found = inet_groups.select(*found, match)
                return text.feed_groups(*found)

            return grouped
        return None

    def _inet_rows(self, rows: Sequence[InetSocket]) -> None:
        families = self._selection.families
        if not (families >> AF_INET & 1 and families >> AF_INET6 & 1):
            rows = [row for row in rows if families >> row.family & 1]
        if not self._selection.kill:
            self._feed(rows)
            return
        match = self._match
        for row in rows:
            if (match is None or match(row)) and self._kill(row):
                self._sink.feed([row])

    def _kill(self, row: InetSocket) -> bool:
        """Ask the kernel to close a socket; whether it did. Raises _Refused when it may not be asked."""
        if self._killer is None:
            self._killer = self._open()
        number = self._destroy(self._killer, row)
        if not number:
            return True
        if number in _QUIET:
            return False  # its protocol cannot, or it is gone already
        _warn(f"SOCK_DESTROY answers: {os.strerror(number)}")
        raise _Refused

    @staticmethod
    def _destroy(diag: Diag, row: InetSocket) -> int:
        """Why a socket is not closed, an errno; 0: it is."""
        try:
            diag.send(inet_diag.destroy_request(row))
        except SstraceError as error:
            _warn(f"Cannot talk to rtnetlink: {os.strerror(error.errno)}")
            return error.errno
        try:
            return inet_diag.decode(diag.receive(), row.table).error
        except SstraceError as error:
            _warn(str(error))
            return error.errno

    def _inet_proc(self, table: Table, name: str) -> None:
        from sstrace.wire import proc_net

        selection = self._selection
        for family, path in ((AF_INET, name), (AF_INET6, name + "6")):
            if not selection.families >> family & 1:
                continue
            rows: list[InetSocket] = []
            whole = True
            try:
                text = self._files.read(path)
                whole = text[-1:] in (b"\n", b"")
                for row in proc_net.decode_inet(text, table, family):
                    if selection.states >> row.state & 1:
                        rows.append(row)
            except KernelError:
                return  # ss gives up on the table, and says nothing
            except DecodeError:
                whole = True  # a line that it cannot read ends the file for ss, not the table
            self._feed(rows)
            if not whole:
                return  # but a last line without an end ends both

    def _from_file(self, path: str) -> None:
        """TCPDIAG_FILE: the tcp table from a recorded dump, up to its first DONE; no mask applies, only the filter
        does.
        """
        from sstrace.wire.netlink import whole

        doing = "fopen($TCPDIAG_FILE)"
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            doing = "Reading header from $TCPDIAG_FILE"
            with open(descriptor, "rb") as file:
                data = file.read()
        except OSError as error:
            _warn(f"{doing}: {reason(error)}")
            return
        batch = inet_diag.decode(data[: whole(data)], Table.TCP)
        self._feed(batch.rows)
        if batch.refused:
            _warn(f"TCPDIAG answered: {os.strerror(batch.error)}")
        elif not batch.done:
            with suppress(OSError):
                os.write(2, b"Unexpected EOF reading $TCPDIAG_FILE")

    def _dump_raw(self, path: str) -> int:
        """-D: the kernel's datagrams as they came."""
        standard = path[:1] == "-"
        try:
            descriptor = 1 if standard else os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        except OSError as error:
            if self._dialect.dump_file_error:
                _warn(f"fopen dump file: {reason(error)}")
                return 255
            # An ss that does not say so asks the kernel all the same, and says where that fails.
            standard, descriptor = False, os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)

        def decode(datagram: memoryview) -> Batch[InetSocket]:
            data: memoryview = datagram
            while data:
                data = data[os.write(descriptor, data) :]
            return inet_diag.decode(datagram, Table.TCP, extras=False)

        try:
            self._ask_inet(Table.TCP, decode, lambda rows: None)
        except _Refused:
            pass
        finally:
            if not standard:
                os.close(descriptor)
        return 0

    # ---------------------------------------------------------------------------------------------------------- others

    def _unix(self) -> None:
        from sstrace.wire import unix_diag

        selection, show = self._selection, self._show
        self._sink.begin(Table.UNIX_STREAM)
        if not self._files.replaced("net/unix"):
            request = unix_diag.dump_request(
                selection.states, unix_diag.show(extended=show.extended, memory=show.memory, uid=self._command.own.json)
            )
            try:
                for rows in self._dump(request, unix_diag.decode):
                    self._feed([row for row in rows if selection.tables >> row.table & 1])
                return
            except _Refused:
                pass
        from sstrace.wire import proc_net

        match = self._match

        def keep(row: UnixSocket) -> bool:
            if not selection.states >> row.state & 1:
                return False
            # A bogus row, of a name with a newline in it, has no type; ss leaves out only those that it knows.
            if row.type in (SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET) and not selection.tables >> row.table & 1:
                return False
            # Of this file ss shows the filter no numbers: to it, every port is 0.
            return match is None or match(msgspec.structs.replace(row, ino=0, peer_ino=0))

        try:
            rows = proc_net.decode_unix(self._files.read("net/unix"), keep)
        except (KernelError, DecodeError):
            return
        if rows:
            self._sink.feed(rows)

    def _packet(self) -> None:
        from sstrace.wire import packet_diag

        self._sink.begin(Table.PACKET_RAW)
        if not self._files.replaced("net/packet"):
            try:
                for rows in self._dump(packet_diag.dump_request(), packet_diag.decode):
                    bare = next((at for at, row in enumerate(rows) if row.skmem is None), None)
                    self._feed(rows[:bare])
                    if bare is not None:
                        raise _Refused  # a kernel that does not tell the memory: ss then reads /proc
                return
            except _Refused:
                pass
        from sstrace.wire import proc_net

        tables = self._selection.tables if self._dialect.packet_type_in_proc else -1
        self._proc_rows("net/packet", proc_net.decode_packet, tables)

    def _netlink(self) -> None:
        from sstrace.wire import netlink_diag

        self._sink.begin(Table.NETLINK)
        if not self._files.replaced("net/netlink"):
            try:
                for rows in self._dump(netlink_diag.dump_request(), netlink_diag.decode):
                    self._feed(rows)
                return
            except _Refused:
                pass
        from sstrace.wire import proc_net

        self._proc_rows("net/netlink", proc_net.decode_netlink, -1)

    def _proc_rows(self, name: str, decode: Callable[[bytes], Iterator[Any]], tables: int) -> None:
        """The rows of a file of /proc whose table bit is in ``tables``, up to a line that is none."""
        rows: list[Any] = []
        try:
            for row in decode(self._files.read(name)):
                if tables >> row.table & 1:
                    rows.append(row)
        except (KernelError, DecodeError):
            pass
        self._feed(rows)

    def _vsock(self) -> None:
        from sstrace.wire import vsock_diag

        self._sink.begin(Table.VSOCK_STREAM)
        self._only_netlink(vsock_diag.dump_request(self._selection.states), vsock_diag.decode)

    def _tipc(self) -> None:
        from sstrace.wire import tipc_diag

        self._sink.begin(Table.TIPC)
        self._only_netlink(tipc_diag.dump_request(self._selection.states), tipc_diag.decode)

    def _xdp(self) -> None:
        from sstrace.wire import xdp_diag

        self._sink.begin(Table.XDP)
        self._only_netlink(xdp_diag.dump_request(), xdp_diag.decode)

    def _only_netlink(self, request: bytes, decode: Callable[[memoryview], Batch[Any]]) -> None:
        try:
            for rows in self._dump(request, decode):
                # A vsock seqpacket socket is of neither vsock table, and left out of none.
                tables = self._selection.tables
                self._feed([x for x in rows if tables >> x.table & 1 or (x.family == AF_VSOCK and x.type > SOCK_DGRAM)])
        except _Refused:
            return

    # ---------------------------------------------------------------------------------------------------------- events

    def _follow(self) -> int:
        """-E: a row for each inet socket that is destroyed, until interrupted."""
        from sstrace.sources import diag

        selection = self._selection
        groups = [
            group
            for table, family, group in (
                (Table.TCP, AF_INET, diag.SKNLGRP_INET_TCP_DESTROY),
                (Table.TCP, AF_INET6, diag.SKNLGRP_INET6_TCP_DESTROY),
                (Table.UDP, AF_INET, diag.SKNLGRP_INET_UDP_DESTROY),
                (Table.UDP, AF_INET6, diag.SKNLGRP_INET6_UDP_DESTROY),
            )
            if selection.tables >> table & 1 and selection.families >> family & 1
        ]
        if not groups:
            return 255
        self._sink.begin(Table.MPTCP)  # the service protocol stays unset, so any service name matches
        prompt = self._dialect.events_flush or self._command.own.json or os.isatty(1)
        try:
            source = Diag(groups=groups)
        except SstraceError as error:
            _warn(str(error))
            return 255
        with source:
            while True:
                try:
                    datagram = source.receive()
                except SstraceError as error:
                    _warn(str(error))
                    return 255
                for row in inet_diag.decode_event(datagram).rows:
                    if selection.families >> row.family & 1:
                        self._feed([row])
                self._sink.flush()
                if prompt or self._output.held() >= 4096:
                    self._output.flush()

    # --------------------------------------------------------------------------------------------------------- summary

    def _counters(self, name: str) -> bytes:
        """A file of counters; nothing in it when it opens but does not read: a directory, to ss an empty file."""
        try:
            return self._files.read(name)
        except KernelError as error:
            if error.errno == _EISDIR:
                return b""
            raise

    def _summary(self) -> None:
        from sstrace.render.summary import summary
        from sstrace.wire import proc_net

        count, established = proc_net.SockStat(), 0
        try:
            sockstat = self._counters("net/sockstat")
            try:
                sockstat6 = self._counters("net/sockstat6")
            except KernelError:
                sockstat6 = b""  # a kernel without IPv6
            count = proc_net.decode_sockstat(sockstat, sockstat6)
        except KernelError as error:
            _warn(f"ss: get_sockstat: {os.strerror(error.errno)}")
        except DecodeError as error:
            _warn(f"ss: get_sockstat: {error}")
        try:
            established = proc_net.tcp_established(self._counters("net/snmp"))
        except KernelError as error:
            _warn(f"ss: get_snmpstat: {os.strerror(error.errno)}")
        except DecodeError:
            _warn("ss: get_snmpstat: No such process")  # ESRCH is what ss finds there
        if self._command.own.json:
            from sstrace.render.ndjson import summary_line

            self._output.write(summary_line(count, established))
        else:
            self._output.write(summary(count, established).encode("latin-1"))
