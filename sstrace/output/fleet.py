"""``--sink clickhouse:URL``: the whole stream, as ``--record`` writes it, into an engine that keeps many hosts' lines.

Lines become rows (sstrace.fleet) and wait in a spool on disk for a thread that puts them into the engine, in order.
While the engine is away they stay there, also over the end of this process: the next one takes them along. At the
spool's bound the recorder is told that there is no room, and does what it does when a disk is full: it counts what is
missing, and writes the whole table as soon as there is room. A row that is put in again, because an answer was lost, is
the same row (sstrace.fleet.schema), so trying again is always right.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping

import msgspec

from sstrace import __version__
from sstrace.errors import FeatureError, SstraceError, UsageError
from sstrace.fleet import schema
from sstrace.fleet.rows import Rows, run_of
from sstrace.lines import MetaLine
from sstrace.plain import counted
from sstrace.query.quantity import parse_size
from sstrace.sources.clickhouse import Address, Away, Engine, Refused, address_of, pack, unpack
from sstrace.sources.spool import Piece, Spool
from sstrace.sources.stream import count_lines

__all__ = ["KIND", "FleetFile", "check", "spool_folder"]

KIND = "clickhouse"
"""How --sink calls it."""

_GATHERED_S = 1.0
"""Engines like few and large inserts; who looks on likes soon ones."""
_BATCH = 8 << 20
_SPOOL = 1 << 30
_INSERT = {**schema.WRITE, "async_insert": 1, "wait_for_async_insert": 1}
"""A server gathers what many hosts insert at once, and answers when it has it."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
_GRACE_S = 2.0
"""At the end, for an engine that takes nothing any more."""
_BAD_DATA = frozenset((6, 26, 27, 38, 41, 53, 70, 72, 117, 130, 441, 676))
"""ClickHouse's numbers for rows that it cannot read: trying again would end in the same."""


class FleetFile:
    """What a recorder writes into, as into a file."""

    def __init__(
        self,
        named: str,
        env: Mapping[str, str],
        say: Callable[[str], None],
        *,
        spool: str | None = None,
    ) -> None:
        """``named``: what --sink was given, ``clickhouse:URL``; ``spool``: DIR[,SIZE]. An engine that does not answer
        now is waited for; one that says no, or has no tables, is an error. Raises SstraceError.
        """
        self.name = named
        option = f"--sink {KIND}:"
        address = address_of(named.partition(":")[2], option)
        self._say = say
        self._engine = Engine(address, env, __version__, option=option.rstrip(":"))
        try:
            check(self._engine)
            self.stuck: str | None = None
        except Away as error:
            self.stuck = str(error)
        folder, most = spool_folder(spool, address, env)
        self._spool = Spool(folder, most, wait_s=_GATHERED_S, pack=pack, unpack=unpack)
        if self.stuck is not None:
            self._say(f"{self.stuck}: tracing goes on, lines wait in {folder} until it answers")
        elif self._spool.adopted:
            self._say(f"{self._spool.adopted} bytes that wait in {folder} from before go to {address.text} first")
        self._rows: Rows | None = None
        self._wake = threading.Event()
        self._closing = self._ending = False
        self.size = 0
        """Bytes written."""
        self.lost = 0
        """Lines that the engine will never take."""
        self._thread = threading.Thread(target=self._work, name=KIND, daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            raise FeatureError(f"cannot send to {address.text}: {error}") from None

    # The recorder's side.

    @property
    def ready(self) -> bool:
        """Whether there is room again."""
        return self._spool.ready

    @property
    def queued(self) -> int:
        """Bytes that wait."""
        return self._spool.size

    def write(self, data: bytes | bytearray) -> None:
        """Take whole lines, of which the first of all is the meta line. An OSError: there is no room, or no disk."""
        if self._rows is None:
            meta = msgspec.json.decode(data[: data.index(b"\n")], type=MetaLine)
            self._rows = Rows(meta.host, run_of(meta))
        rows = self._rows.take(data)
        self._spool.put(rows)
        self.size += len(data)

    def close(self) -> None:
        """Wait for the engine, for as long as it goes on taking, and leave the rest for the next time."""
        self._closing = True
        self._wake.set()
        left, since = self._spool.size, time.monotonic()
        while not self._spool.wait_empty(0.1) and self._thread.is_alive():
            if self._spool.size < left:
                left, since = self._spool.size, time.monotonic()
            elif time.monotonic() - since > _GRACE_S:
                break
        self._ending = True
        self._wake.set()
        self._thread.join(_GRACE_S)
        self._spool.close()

    def summary(self) -> str:
        """What did not get there; empty for nothing."""
        text = f", {self.lost} refused" if self.lost else ""
        if self._spool.size:
            text += f", {self._spool.size} bytes wait in {self._spool.folder} for the next time"
        return text

    # The thread's side.

    def _work(self) -> None:
        wait_s = _FIRST_WAIT_S
        while not self._ending and (pieces := self._spool.take(_BATCH)):
            try:
                self._put(pieces)
            except (OSError, SstraceError) as error:
                self._tell(str(error))
                since = time.monotonic()
                while time.monotonic() - since < wait_s and not self._closing and self._spool.shrink():
                    pass
                self._wake.wait(_FIRST_WAIT_S if self._closing else wait_s)
                self._wake.clear()
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
            else:
                self._tell(None)
                wait_s = _FIRST_WAIT_S
        self._engine.close()

    def _put(self, pieces: list[Piece]) -> None:
        """Raises Away, Refused and OSError where these pieces have to be tried again."""
        rows = self._spool.read(pieces)
        try:
            if rows:
                self._engine.insert("lines", schema.GIVEN, rows, _INSERT)
        except Refused as error:
            if error.code not in _BAD_DATA:
                raise
            if len(pieces) > 1:  # one of them
                for piece in pieces:
                    self._put([piece])
                return
            lines = count_lines(rows)
            self.lost += lines
            self._spool.set_aside(pieces)
            left_out = counted(lines, "line", "is/are")
            self._say(f"{error}: {left_out} left out, and kept as {pieces[0].path}.refused")
            return
        self._spool.done(pieces)

    def _tell(self, stuck: str | None) -> None:
        """Say once that it does not go on, and that it does again."""
        was, self.stuck = self.stuck, stuck
        if self._ending:
            return
        if stuck is not None and was is None:
            self._say(f"{stuck}: tracing goes on, lines wait in {self._spool.folder}")
        elif stuck is None and was is not None:
            self._say(f"{self._engine.address.text} takes lines again")


def check(engine: Engine) -> None:
    """See whether the tables are there. Raises Away and Refused, and FeatureError where something is missing."""
    address = engine.address
    sql = "SELECT table, name FROM system.columns WHERE database = currentDatabase()"
    there = {(table, name) for table, name in engine.lines(sql)}
    lacking = [
        f"{table.name}.{column.name}" if any(one == table.name for one, _ in there) else table.name
        for table in schema.TABLES
        for column in table.columns
        if (table.name, column.name) not in there and "EPHEMERAL" not in column.type
    ]
    if lacking:
        names = ", ".join(list(dict.fromkeys(lacking))[:3])
        raise FeatureError(
            f"{address.text} lacks tables, or columns, that this sstrace writes ({names}): "
            f"sstrace --fleet-schema | {address.client}"
        )


def spool_folder(text: str | None, address: Address, env: Mapping[str, str]) -> tuple[str, int]:
    """Where lines for an engine wait, and how many bytes may. ``text``: what --spool was given. Raises UsageError."""
    folder, most = "", _SPOOL
    for part in (text or "").split(","):
        size = parse_size(part)
        if size:
            most = size
        elif part:
            if folder:
                raise UsageError(f"sstrace: --spool {text}: write DIR, SIZE (500M, 2G), or DIR,SIZE")
            folder = part
    if not folder:
        folder = env.get("STATE_DIRECTORY", "").partition(":")[0]
        if not folder and os.geteuid() == 0:
            folder = "/var/lib/sstrace"
        if not folder:
            home = env.get("XDG_STATE_HOME") or f"{env.get('HOME') or '/tmp'}/.local/state"
            folder = f"{home}/sstrace"
        folder += "/spool"
    return f"{folder.rstrip('/')}/{address.host}-{address.port}-{address.database}".replace(":", "_"), most
