"""Who can be asked for lines: a ClickHouse, by its address, and the same engine in this process."""

from collections.abc import Iterator, Mapping
from typing import Final, Protocol

from sstrace import __version__
from sstrace.errors import FeatureError, LookupFailed
from sstrace.fleet.schema import VERSION
from sstrace.query.command import ENGINE
from sstrace.sources.clickhouse import Engine, Refused, address_of

__all__ = ["Asked", "Remote", "check"]

_NO_TABLE: Final = 60
"""UNKNOWN_TABLE"""
_LONGEST: Final = 400
"""Characters of an engine's complaint, which repeats the question."""
_NO_COLUMN: Final = (16, 47)
"""NO_SUCH_COLUMN_IN_TABLE, UNKNOWN_IDENTIFIER"""


class Asked(Protocol):
    """Whoever answers SQL."""

    name: str
    """As it is called in sentences."""

    def ask(self, sql: str) -> bytes:
        """The answer, whole, in the FORMAT that the question names. Raises SstraceError."""
        ...

    def blocks(self, sql: str) -> Iterator[bytes]:
        """The same in pieces, of which the first comes when the engine has the last."""
        ...


class Remote:
    """A ClickHouse. An answer comes whole or not at all: the server makes all of it before it sends the first byte, so
    that what fails in the middle is told, and is not the beginning of an answer.
    """

    def __init__(self, address: str, env: Mapping[str, str], option: str) -> None:
        """``option``: where the address was given. Raises UsageError for what is none, FeatureError without the
        client.
        """
        self._address = address_of(address, option)
        self._engine = Engine(self._address, env, __version__, option=option)
        self.name = f"{ENGINE}{self._address.text}"

    def ask(self, sql: str) -> bytes:
        """See Asked."""
        return b"".join(self.blocks(sql))

    def blocks(self, sql: str) -> Iterator[bytes]:
        """See Asked."""
        try:
            yield from self._engine.ask(sql, settings={"wait_end_of_query": 1})
        except Refused as error:
            if error.code == _NO_TABLE:
                raise LookupFailed(f"sstrace: {self.name} has no tables of sstrace: {self._make()}") from None
            if error.code in _NO_COLUMN:
                raise FeatureError(f"{self.name} has tables of an earlier sstrace: {self._make()}") from None
            said = str(error).partition("\n")[0]
            raise Refused(said if len(said) <= _LONGEST else f"{said[:_LONGEST]}…", error.code) from None

    def _make(self) -> str:
        return f"sstrace --fleet-schema | {self._address.client}"

    def close(self) -> None:
        """Hang up."""
        self._engine.close()


def check(engine: Asked, version: int) -> None:
    """Whether an engine's tables are those that questions know, by their version, 0 for none. Raises FeatureError."""
    if version > VERSION:
        raise FeatureError(
            f"{engine.name} has tables of a later sstrace (version {version}, this one reads {VERSION}): "
            "ask with that sstrace"
        )
    if version < VERSION:
        raise FeatureError(
            f"{engine.name} has tables of an earlier sstrace: sstrace --fleet-schema brings them up to date"
        )
