"""The one registry of columns: headers, separators and alignment of ss's table, and the NDJSON keys of the same facts.

Everything that needs to know what a column is asks here: the layout engine, the cell makers, the NDJSON schema and the
documentation. Source of the texts: ``ss`` itself (ss(8), iproute2 6.1 to 7.3); the last column is used from 6.8 on.
"""

import msgspec

__all__ = [
    "COLUMNS",
    "EXTRA",
    "LOCAL_ADDRESS",
    "LOCAL_PORT",
    "NETID",
    "PEER_ADDRESS",
    "PEER_PORT",
    "PROCESS",
    "RECV_Q",
    "SEND_Q",
    "STATE",
    "Column",
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


class Column(msgspec.Struct, frozen=True):
    """One column of the table."""

    header: str
    """Text of the header cell, without padding."""
    delimiter: str
    """Printed before the cell, unless the cell is the first of its row; counts as part of the column's width."""
    right: bool
    """Blanks go before the text (True) or behind it (False)."""
    key: str | None
    """NDJSON key that carries the same fact; ``None`` where several keys share one text column."""


COLUMNS = (
    Column("Netid", "", False, "netid"),
    Column("State", " ", False, "state"),
    Column("Recv-Q", " ", False, "recv_q"),
    Column("Send-Q", " ", False, "send_q"),
    # The colon is part of the address cell, and the port is a cell of its own: so rows line up on the colon.
    Column("Local Address:", " ", True, "src"),
    Column("Port", "", False, "sport"),
    Column("Peer Address:", " ", True, "dst"),
    Column("Port", "", False, "dport"),
    Column("Process", "", False, "owners"),
    Column("", "", False, None),
)
"""Every column by its index, in printing order."""
