"""Which tables, families and states the options select: ss's two ways to add to them, and how it completes them."""

from typing import Final

from sstrace.dialect import Dialect
from sstrace.model import AF_INET, AF_INET6, AF_UNSPEC, Table
from sstrace.protocols import FAMILIES, INET, OF_TABLE, PROTOCOLS
from sstrace.query.states import (
    ALL_TABLES,
    FAMILY_TABLES,
    TABLE_FAMILIES,
    connected_states,
    family_states,
    table_states,
)

__all__ = ["FAMILY_KEYS", "FAMILY_WORDS", "QUERY_WORDS", "TABLE_KEYS", "Masks"]

FAMILY_WORDS: Final = {word: number for family in FAMILIES for word, number in family.words.items()}
"""-f: word → family."""

FAMILY_KEYS: Final = {key: number for family in FAMILIES for key, number in family.keys.items()}
"""Option → family."""

TABLE_KEYS: Final = {each.key: each.table for each in PROTOCOLS if each.key}
"""Option → table."""


_TABLES: Final = {family.name: [table for table in Table if OF_TABLE[table].family is family] for family in FAMILIES}
_GROUPS: Final = {name: sum(1 << table for table in tables) for name, tables in _TABLES.items() if len(tables) > 1}

QUERY_WORDS: Final = {
    "all": ALL_TABLES,
    **{
        word: mask
        for family, tables in _TABLES.items()
        for word, mask in ((family, _GROUPS.get(family)), *((table.name.lower(), 1 << table) for table in tables))
        if mask is not None
    },
}
"""-A: word → mask of tables; the name of a family that has several stands before theirs."""

_NETIDS: Final = {
    each.netid: 1 << each.table for each in PROTOCOLS if each.family is not INET and each.family.name in _GROUPS
}
"""-A has these words too."""


class Masks:
    """Tables, families and states while options accumulate: ss's struct filter, and its two ways to add to it."""

    def __init__(self, release: Dialect) -> None:
        self.dialect = release
        self.tables = 0
        self.families = 0
        self.states = 0
        self.chosen = 0
        """The last of -a -l -B, or of the state words; 0: none."""
        self.preferred = AF_UNSPEC
        self.default = True
        self.named = False
        """Whether a table is named, or a family that has its own."""
        self.saw_query = False

    def add_table(self, table: Table) -> None:
        """Take a table, with the states that it brings along."""
        self.tables |= 1 << table
        self.states |= table_states(table, self.dialect)
        self.default = False

    def add_family(self, family: int) -> None:
        """Take a family, with the states that it brings along."""
        self.families |= 1 << family
        self.states |= family_states(family, self.dialect)
        self.preferred = family
        self.default = False

    def _add_tables(self, mask: int) -> None:
        for table in Table:
            if mask >> table & 1:
                self.add_table(table)

    def query(self, text: str) -> str | None:
        """-A: give the word that is no table, or None."""
        if not self.saw_query:
            self.saw_query = True
            self.tables = 0
            self.chosen = self.chosen or connected_states(self.dialect)
            self.default = False
        for word in text.split(","):
            name = word.removeprefix("!")
            mask = QUERY_WORDS.get(name, _NETIDS.get(name))
            if mask is None or (mask == 1 << Table.DCCP and not self.dialect.dccp):
                return word
            if word[:1] == "!":
                self.tables &= ~mask
            else:
                self._add_tables(mask)
        return None

    def settle(self, *, live: bool) -> None:
        """Apply the defaults, then complete tables by families and families by tables."""
        self.named = bool(self.tables or self.families & ~(1 << AF_INET | 1 << AF_INET6) or self.saw_query)
        if live and not self.named:
            self.default = False
            self.add_table(Table.TCP)
        if self.default:
            self.chosen = self.chosen or connected_states(self.dialect)
            self._add_tables(ALL_TABLES)
        self.states = self.chosen or self.states
        for number, families in TABLE_FAMILIES.items():
            if self.tables >> number & 1 and not self.families & families:
                self.families |= families
        for family, tables in FAMILY_TABLES.items():
            if self.families >> family & 1 and not self.tables & tables:
                self.tables |= tables
        if not self.dialect.dccp:
            self.tables &= ~(1 << Table.DCCP)
