"""The live socket table: Facts in, changes out. Owns the identity of sockets.

A shard for each space (network namespace and protocol): its rows and keys (``index``), what events mean for them
(``fold``, which executes lifecycle), what sweeps and probes show (``sweep``), and what died meanwhile (``tombstones``).
Nothing that a fact says of one space touches a row of another.
"""

from sstrace.table.rows import Ends, Resync, Row, Transition
from sstrace.table.table import Shard, SocketTable

__all__ = ["Ends", "Resync", "Row", "Shard", "SocketTable", "Transition"]
