"""The one registry of columns: headers, separators and alignment of ss's table.

Everything that needs to know what a column is asks here: the layout engine, the cell makers, --watch. Source of the
texts: ``ss`` itself (ss(8), iproute2 6.1 to 7.3); the last column is used from 6.8 on.
"""

from typing import NamedTuple

import msgspec

__all__ = [
    "COLUMNS",
    "EXTRA",
    "HOST",
    "LOCAL_ADDRESS",
    "LOCAL_PORT",
    "NETID",
    "NETNS",
    "PEER_ADDRESS",
    "PEER_PORT",
    "PROCESS",
    "RECV_Q",
    "SEND_Q",
    "STATE",
    "Column",
    "Row",
]

NETID = 0
STATE = 1
RECV_Q = 2
SEND_Q = 3
LOCAL_ADDRESS = 4
LOCAL_PORT = 5
PEER_ADDRESS = 6
PEER_PORT = 7
PROCESS = 8
EXTRA = 9
NETNS = 10
"""In front of all of ss's, where rows are of several network namespaces."""
HOST = 11
"""The same of several hosts."""


class Column(msgspec.Struct, frozen=True):
    """One column of the table."""

    header: str
    """Text of the header cell, without padding."""
    delimiter: str
    """Printed before the cell, unless the cell is the first of its row; counts as part of the column's width."""
    right: bool
    """Blanks go before the text (True) or behind it (False)."""


COLUMNS = (
    Column("Netid", "", False),
    Column("State", " ", False),
    Column("Recv-Q", " ", False),
    Column("Send-Q", " ", False),
    # The colon is part of the address cell, and the port is a cell of its own: so rows line up on the colon.
    Column("Local Address:", " ", True),
    Column("Port", "", False),
    Column("Peer Address:", " ", True),
    Column("Port", "", False),
    Column("Process", "", False),
    Column("", "", False),
    Column("Netns", "", False),
    Column("Host", "", False),
)
"""Every column by its index, ss's in printing order."""


class Row(NamedTuple):
    """The cells of a row, by the indices of ss's columns; what a family has nothing to say of is empty."""

    netid: str = ""
    state: str = ""
    recv_q: str = ""
    send_q: str = ""
    local_address: str = ""
    local_port: str = ""
    peer_address: str = ""
    peer_port: str = ""
    process: str = ""
    extra: str = ""
