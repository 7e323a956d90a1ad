"""Who follows a served table is told of all that comes after its beginning."""

import json
import os
import select
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from bpf_events import HERE

from sstrace.changes import Change
from sstrace.live.places import Places
from sstrace.model import Lost, Table
from sstrace.server.followers import Followers
from sstrace.sources.names import SystemNames
from sstrace.sources.service import Peer
from sstrace.table import SocketTable


def test_one_who_comes_in_the_midst_of_changes_is_told_of_the_rest() -> None:
    """A server looks for clients while a sweep goes on, whose last changes are yet to come."""
    tracer = SimpleNamespace(
        netns=HERE, names=SystemNames({}), places=Places(), table=SocketTable(HERE), tables=(Table.TCP,)
    )
    following: Any = SimpleNamespace(tracer=tracer, announce=lambda _at_ns: None)
    followers = Followers(following, select.poll())
    ours, theirs = socket.socketpair()

    def changes() -> Iterator[Change]:
        yield Lost(0, 1, 10, 20)
        followers.add(theirs, Peer(os.getpid(), os.geteuid(), os.getegid()), lambda _kept: None)
        yield Lost(0, 2, 20, 30)

    with ours:
        assert len(list(followers.through(changes()))) == 2
        (child,) = followers.children
        followers.reaped(*os.waitpid(child, 0))
        followers.flush()
        followers.close()
        with ours.makefile() as stream:
            lines = [json.loads(line) for line in stream]
    assert lines[0]["type"] == "meta"
    assert [line["count"] for line in lines if line["type"] == "gap"] == [2]
