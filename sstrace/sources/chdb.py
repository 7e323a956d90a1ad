"""The engine in this process: chDB, of the extra ``sstrace[fleet]``. It takes a second to come, and much memory: it is
imported by who asks it, and by nobody else.
"""

import re
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, Final

from sstrace.errors import FeatureError, SstraceError, reason
from sstrace.sources import files
from sstrace.sources.clickhouse import Refused

__all__ = ["Local", "installed"]

_CODE: Final = re.compile(r"Code: (\d+)\. ?")


def installed() -> bool:
    """Whether it is there."""
    return find_spec("chdb") is not None


class Local:
    """A database in a directory of its own, which nobody else has open. Raises FeatureError, SstraceError."""

    def __init__(self, path: str, name: str) -> None:
        """``name``: what it is called in sentences."""
        self.name = name
        try:
            from chdb.session import Session
        except ImportError as error:
            raise FeatureError(f"{name} needs chDB ({error.name} is missing): pip install 'sstrace[fleet]'") from None
        make: Any = Session
        try:
            files.own_directory(path, 0o700)
            self._session = make(path)
        except OSError as error:
            raise SstraceError(f"cannot keep lines in {path}: {reason(error)}") from None
        except RuntimeError as error:
            raise SstraceError(f"cannot keep lines in {path}: somebody else is asking, or {_said(error)}") from None

    def ask(self, sql: str) -> bytes:
        """The answer, in the FORMAT that the question names. Raises Refused."""
        try:
            return bytes(self._session.query(sql).bytes() or b"")
        except RuntimeError as error:
            found = _CODE.search(str(error))
            raise Refused(f"{self.name}: {_said(error)}", int(found[1]) if found is not None else 0) from None

    def blocks(self, sql: str) -> Iterator[bytes]:
        """The same, which comes in one piece."""
        yield self.ask(sql)

    def insert(self, table: str, columns: str, rows: str) -> None:
        """Put rows, JSON objects a line each, into a table. Raises Refused."""
        self.ask(f"INSERT INTO {table} ({columns}) FORMAT JSONEachRow\n{rows}")

    def close(self) -> None:
        """Let go."""
        self._session.close()


def _said(error: RuntimeError) -> str:
    text = str(error)
    return (text.partition("DB::Exception: ")[2] or text).partition("\n")[0][:300]
