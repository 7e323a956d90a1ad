"""Which rows of a table, and which lines, a command line wants: conditions in SQL that none fails which it shows."""

from sstrace.fleet.literals import listed, quoted
from sstrace.fleet.sql import EVERY, OLD, OPENING
from sstrace.fleet.where import where
from sstrace.model import ALL_STATES, Names
from sstrace.model.states import STATE_TEXT
from sstrace.protocols import APPEARING_NETIDS
from sstrace.query.command import Act, Command, Selection, selected_families, selected_netids
from sstrace.query.connection import End, Which
from sstrace.query.expression import Device, tests_of
from sstrace.recording.reader import RecordedNames

__all__ = ["counted_condition", "line_condition", "row_condition"]


def row_condition(command: Command, names: Names) -> str:
    """SQL that no row fails which a table shows. Lines of JSON say who has the other end of each, and who watches may
    have another filter next: they take all.
    """
    if command.own.json or command.act is Act.WATCH_PAST:
        return "1"
    selection = command.selection
    tests = [f"{EVERY['state']} IN ({_states(selection.states)})", _family(selection)]
    if selection.filter is not None:
        tests.append(where(selection.filter, names, EVERY, moment=True).may)
    return " AND ".join(tests)


def line_condition(command: Command, names: Names) -> str:
    """SQL that no line fails which has to be read: of transitions that are not told those alone that tell something of
    others.
    """
    own, selection = command.own, command.selection
    if own.explain is not None:
        return _of_connection(own.explain)
    if any(isinstance(test, Device) and test.name is not None for test in tests_of(selection.filter)):
        return "1"  # what an interface is called any line may tell
    may = where(selection.filter, names, EVERY, moment=False).may
    told = [_family(selection), *([may] if may != "1" else [])]
    if command.act is Act.STATS_PAST:
        return f"type IN ('checkpoint', 'netns', 'gap') OR (type IN ('state', 'life') AND {' AND '.join(told)})"
    if own.joins:
        return "1"
    for column, states in ((OLD, selection.from_states), ("to", selection.to_states)):
        if states != ALL_STATES:
            told.append(f"{column} IN ({_states(states)})")
    if selection.ended or own.life:
        told.append("ended")
    # Handshakes tell how the clocks of two hosts stand to each other; whose end was lost is told by its newest line.
    return (
        f"type NOT IN ('state', 'life') OR ({' AND '.join(told)}) "
        f"OR {OLD} IN {OPENING} OR to IN {OPENING} "
        f"OR (host, run, id) IN (SELECT host, run, id FROM lines WHERE type = 'gone')"
    )


def _of_connection(which: Which) -> str:
    if which.id is not None:
        meant = f"id = {which.id}"
    else:
        here, there = ([_end(end, *columns) for end in which.ends] for columns in (("src", "sport"), ("dst", "dport")))
        ways: list[tuple[str, ...]] = [*zip(here, there[1:], strict=False), *zip(here[1:], there, strict=False)]
        ways = ways or [tuple(here), tuple(there)]
        meant = " OR ".join(f"({' AND '.join(ends)})" for ends in ways)
    return f"type = 'gap' OR (host, run, id) IN (SELECT host, run, id FROM lines WHERE {meant})"


def _end(end: End, address: str, port: str) -> str:
    tests = [f"{port} = {end[1]}", *([f"{address} = toIPv6({quoted(end[0])})"] if end[0] is not None else [])]
    return " AND ".join(tests)


def counted_condition(command: Command, names: RecordedNames) -> str | None:
    """SQL of the transitions that --stats counts; None where SQL alone cannot tell, or not all that is wanted."""
    own, selection = command.own, command.selection
    if own.html is not None or names.places.chosen:
        return None
    netids = selected_netids(selection)
    found = where(selection.filter, names, EVERY, moment=False)
    if netids & APPEARING_NETIDS or not found.exact:
        return None
    return f"netid IN ({listed(sorted(netids))}) AND {_family(selection)} AND {found.may}" if netids else "0"


def _family(selection: Selection) -> str:
    names = selected_families(selection)
    return f"family IN ({listed(names)})" if names else "0"


def _states(mask: int) -> str:
    return listed(dict.fromkeys(text for number, text in enumerate(STATE_TEXT) if mask >> number & 1)) or "''"
