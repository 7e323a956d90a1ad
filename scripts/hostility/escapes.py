"""Ways out of a server that has given up root: refused, or documented as what remains. The list is the test's."""

from test_privileges import REFUSED, REMAINS, UNREACHED, WAYS_OUT, attempts

from hostility.campaign import Bounds, Tally, namespace
from sstrace.sources import landlock


def run(bounds: Bounds, tally: Tally) -> None:
    """Try each once."""
    elsewhere = bounds.scratch / "file"
    elsewhere.touch()
    elsewhere.chmod(0o666)
    bounds.scratch.chmod(0o777)
    with namespace() as netns:
        outcomes = attempts(netns, "server", elsewhere)
    refused = {**WAYS_OUT, **(UNREACHED if landlock.version() else {})}
    for name in {**WAYS_OUT, **REMAINS, **UNREACHED}:
        outcome = outcomes.get(name, "not tried")
        if name in refused:
            tally.note("refused", None if outcome in REFUSED else outcome, name)
        else:
            tally.note("documented", None if outcome == "worked" else outcome, name)
