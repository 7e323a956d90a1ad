"""Which tables, families and states the options select: ss's two ways to add to them, and how it completes them."""

from typing import Final

from sstrace.dialect import Dialect
from sstrace.model import (
    AF_INET,
    AF_INET6,
    AF_NETLINK,
    AF_PACKET,
    AF_TIPC,
    AF_UNIX,
    AF_UNSPEC,
    AF_VSOCK,
    AF_XDP,
    Table,
)
from sstrace.protocols import PROTOCOLS
from sstrace.query.states import (
    ALL_TABLES,
    FAMILY_TABLES,
    TABLE_FAMILIES,
    connected_states,
    family_states,
    table_states,
)

__all__ = ["FAMILY_KEYS", "FAMILY_WORDS", "TABLE_KEYS", "Masks"]

FAMILY_WORDS: Final = {
    "inet": AF_INET,
    "inet6": AF_INET6,
    "link": AF_PACKET,
    "unix": AF_UNIX,
    "netlink": AF_NETLINK,
    "tipc": AF_TIPC,
    "vsock": AF_VSOCK,
    "xdp": AF_XDP,
}
"""-f: word → family."""

FAMILY_KEYS: Final = {
    "4": AF_INET,
    "6": AF_INET6,
    "0": AF_PACKET,
    "x": AF_UNIX,
    "tipc": AF_TIPC,
    "vsock": AF_VSOCK,
    "xdp": AF_XDP,
}
"""Option → family."""

TABLE_KEYS: Final = {
    "t": Table.TCP,
    "M": Table.MPTCP,
    "S": Table.SCTP,
    "u": Table.UDP,
    "d": Table.DCCP,
    "w": Table.RAW,
}
"""Option → table."""

_SHORT: Final = (AF_UNIX, AF_PACKET, AF_VSOCK)
"""Families whose tables -A also knows by their netids."""

# -A: word → mask of tables.
_QUERIES: Final = {
    **{table.name.lower(): 1 << table for table in Table},
    **{each.netid: 1 << each.table for each in PROTOCOLS if each.families[0] in _SHORT},
    "inet": FAMILY_TABLES[AF_INET],
    "unix": FAMILY_TABLES[AF_UNIX],
    "packet": FAMILY_TABLES[AF_PACKET],
    "vsock": FAMILY_TABLES[AF_VSOCK],
    "all": ALL_TABLES,
}


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
            mask = _QUERIES.get(word.removeprefix("!"))
            if mask is None or (mask == 1 << Table.DCCP and not self.dialect.dccp):
                return word
            if word[:1] == "!":
                self.tables &= ~mask
            else:
                self._add_tables(mask)
        return None

    def settle(self, *, live: bool) -> None:
        """Apply the defaults, then complete tables by families and families by tables."""
        if live and not self.tables and not self.families & ~(1 << AF_INET | 1 << AF_INET6) and not self.saw_query:
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
