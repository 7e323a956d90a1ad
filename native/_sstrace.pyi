# What sstrace.native lends of the compiled module. Held to the module by tests/unit/test_packaging.py.

from collections.abc import Callable, Iterator
from typing import Any, final

INTERFACE: int

def teach(
    classes: dict[str, type], kinds: tuple[Any, ...], own: Callable[..., Any], inherited: Callable[..., Any], /
) -> None:
    """Make the classes known whose slots are read, and what else the others below need."""

def events(lent: tuple[Any, ...], records: bytes, cpu: int, /) -> list[Event] | None:
    """The twin of sstrace.wire.event.EventDecoder, which lends what it takes."""

def met(
    index: Any,
    datagram: bytes,
    number: int,
    began_ns: int,
    shared: dict[Any, Any],
    added: list[Any],
    may_add: bool,
    doubted: bool,
    otherwise: Callable[[bytes], object],
    /,
) -> bool:
    """The twin of sstrace.table.sweep.Sweep.seen."""

def columns(
    datagram: bytes | memoryview, addresses: dict[bytes, str], ports: dict[int, str], with_inodes: bool, /
) -> tuple[Any, ...] | None:
    """inet_diag by column, ends as text: the twin of sstrace.wire.inet_columns.decode and what renders its columns."""

def lines(pieces: tuple[tuple[bytes, int], ...], after: bytes, columns: list[Any], /) -> bytes | None:
    """Cells → lines: the twin of sstrace.render.layout.Layout's template."""

@final
class Event:
    """An event that is no fact yet: at_ns, and every member of sstrace.fields.Reported."""

    @property
    def at_ns(self) -> int: ...
    # sstrace.fields.Reported, by scripts/twins:
    @property
    def err(self) -> int | None: ...
    @property
    def retransmits(self) -> int | None: ...
    @property
    def bytes_sent(self) -> int | None: ...
    @property
    def bytes_received(self) -> int | None: ...
    @property
    def bytes_retrans(self) -> int | None: ...
    @property
    def segs_out(self) -> int | None: ...
    @property
    def segs_in(self) -> int | None: ...
    @property
    def retrans(self) -> int | None: ...
    @property
    def delivered(self) -> int | None: ...
    @property
    def lost(self) -> int | None: ...
    @property
    def rcv_ooopack(self) -> int | None: ...
    @property
    def rtt_us(self) -> int | None: ...
    @property
    def minrtt_us(self) -> int | None: ...
    def fact(self) -> Any: ...

@final
class Folder:
    """An event → what its shard makes of it, or ``otherwise``: the twin of sstrace.table.fold.Fold.apply."""

    def __new__(
        cls, shards: dict[Any, Any], otherwise: Callable[[Any], Any], taught: bytes, home: tuple[int, int], /
    ) -> Folder: ...
    def __call__(self, event: Event | Any, /) -> Any: ...

@final
class Liner:
    """The twin of sstrace.render.events.EventWriter.state."""

    def __init__(self, texts: dict[str, dict[Any, Any] | None], nothing: Any, /) -> None: ...
    def line(self, change: Any, prefix: str, second_ns: int, seq: int, out: bytearray, /) -> bool: ...
    def run(
        self,
        changes: Iterator[Any],
        protocols: frozenset[int],
        prefix: str,
        second_ns: int,
        seq: int,
        out: bytearray,
        most: int,
        took: dict[int, int] = ...,
        over: set[int] = ...,
        /,
    ) -> tuple[int, Any]: ...
