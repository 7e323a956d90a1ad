"""Ways out of a server that has given up root: refused, or documented as what remains. The list is the test's."""

import subprocess
import sys

from test_privileges import REMAINS, TRY, WAYS_OUT

from hostility.campaign import Bounds, Tally


def run(bounds: Bounds, tally: Tally) -> None:
    """Try each once."""
    errors = bounds.scratch / "err"
    with errors.open("wb") as err:  # no pipe: what it must not kill has it, too, and lives on
        done = subprocess.run([sys.executable, "-c", TRY], stdout=subprocess.PIPE, stderr=err, text=True, check=False)
    outcomes = dict(line.rpartition(":")[::2] for line in done.stdout.splitlines())
    for name in (*WAYS_OUT, *REMAINS):
        outcome = outcomes.get(name, f"not tried: {errors.read_text()[-200:]}")
        if name in REMAINS:
            tally.note("documented", None if outcome == "worked" else outcome, name)
        else:
            tally.note("refused", None if outcome.isdecimal() else outcome, name)
