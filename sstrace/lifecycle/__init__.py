"""What a report of the kernel means for a row of the table: one module for each family of protocols that has a life of
its own, each a table that the fold executes (sstrace.table.fold).
"""

from sstrace.lifecycle.tcp import LISTED, STEPS, TRANSITIONS, is_listed
from sstrace.lifecycle.words import Guard, Held, Report, Rule, Sight, Step

__all__ = [
    "LISTED",
    "STEPS",
    "TRANSITIONS",
    "Guard",
    "Held",
    "Report",
    "Rule",
    "Sight",
    "Step",
    "is_listed",
]
