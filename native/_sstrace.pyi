# What sstrace.native lends of the compiled module. Held to the module by tests/unit/test_packaging.py.

from collections.abc import Callable, Iterator, Mapping
from typing import Any, final

INTERFACE: int

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
class Decoder:
    """The twin of sstrace.wire.event.EventDecoder."""

    def __init__(
        self,
        facts: Callable[[int, bytes], list[Any]],
        kinds: tuple[Any, ...],
        plain: Mapping[Any, Any],
        addresses: dict[bytes, bytes],
        owners: dict[tuple[bytes, int, int], Any],
        owner: Callable[..., Any],
        cause: Callable[..., Any],
        /,
    ) -> None: ...
    def __call__(self, records: bytes, cpu: int, /) -> list[Event | Any] | None: ...

@final
class Folder:
    """The twin of sstrace.table.fold.Fold.apply, and of sstrace.table.sweep.Sweep.seen, for one shard."""

    is_easy: bool
    silent: dict[int, Any] | None
    by_state: Mapping[int, dict[int, Any]] | None
    @property
    def last_ns(self) -> int: ...
    def __init__(self, *given: Any) -> None: ...
    def met(
        self,
        datagram: bytes,
        number: int,
        began_ns: int,
        shared: dict[Any, Any],
        added: list[Any],
        may_add: bool,
        doubted: bool,
        otherwise: Callable[[bytes], object],
        /,
    ) -> bool: ...

@final
class Dispatcher:
    """An event → what its shard's Folder makes of it, or what ``otherwise`` does."""

    def __init__(
        self, folders: dict[Any, Folder], otherwise: Callable[[Any], Any], home: tuple[int, int], /
    ) -> None: ...
    def __call__(self, event: Event | Any, /) -> Any: ...

@final
class Liner:
    """The twin of sstrace.render.events.EventWriter.state."""

    def __init__(self, texts: dict[str, dict[Any, Any] | None], nothing: Any, /) -> None: ...
    def line(self, change: Any, prefix: str, second_ns: int, seq: int, out: bytearray, /) -> bool: ...
    def run(
        self, changes: Iterator[Any], prefix: str, second_ns: int, seq: int, out: bytearray, most: int, /
    ) -> tuple[int, Any]: ...
