"""What no transition tells is told besides, and nothing twice."""

from bpf_events import HERE, SPACE

from sstrace.changes import Told
from sstrace.live.announce import Announcer
from sstrace.model import AF_INET, InetSocket, Owner, Seen, State, SweepBegin, SweepEnd, Table
from sstrace.table import Row, SocketTable


def swept(table: SocketTable, *ports: int) -> list[Row]:
    table.begin(SweepBegin(SPACE, 1))
    for port in ports:
        listener = InetSocket(
            Table.TCP, AF_INET, State.LISTEN, src=bytes(4), sport=port, dst=bytes(4), dport=0, ino=port, cookie=port
        )
        table.seen(Seen(SPACE, listener))
    return table.end(SweepEnd(SPACE, 2, complete=True)).added


def test_owners_that_stand_on_lines_still_to_come_are_not_told_besides() -> None:
    table = SocketTable(HERE)
    announcer = Announcer(table)
    announcer.begin(0)
    first, second = swept(table, 1, 2)
    for row in (first, second):
        table.own(row, (Owner(b"server", 7, 3),), "proc", 3)
    table.told([first])
    assert list(announcer.through([])) == [Told(3, second, alive=True)]
