"""Names that do harm, invented at random, through every way out: the test has the ways, and what a consumer finds."""

from hostile_names import invented, world
from test_hostile_names import (
    PEOPLE,
    PROGRAMS,
    say,
    test_a_person_reads_it_escaped,
    test_a_program_reads_the_name_itself,
    test_a_snapshot_is_that_of_ss_to_the_byte,
    test_labels_of_metrics,
)

from hostility.campaign import SS, SSTRACE, Bounds, Tally

AT_ONCE = 9


def run(bounds: Bounds, tally: Tally) -> None:
    """Try ``count`` names, some at once."""
    for first in range(0, bounds.count, AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, bounds.count))
        how = f"seed {bounds.seed}, numbers {numbers.start} to {numbers.stop - 1}"
        directory = bounds.scratch / str(first)
        directory.mkdir()
        with world([invented(f"{bounds.seed} {number}") for number in numbers]) as made:
            said = say(made, directory, SSTRACE, SS)
            with tally.attempt("snapshot", how):
                test_a_snapshot_is_that_of_ss_to_the_byte(made, said)
            with tally.attempt("metrics", how):
                test_labels_of_metrics(made, said)
            for place, number in enumerate(numbers):
                for way in PROGRAMS:
                    with tally.attempt(way, f"seed {bounds.seed}, number {number}"):
                        test_a_program_reads_the_name_itself(made, said, way, place)
                for way in PEOPLE:
                    with tally.attempt(way, f"seed {bounds.seed}, number {number}"):
                        test_a_person_reads_it_escaped(made, said, way, place)
