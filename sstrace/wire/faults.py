"""What of a recording was not used, and why."""

import msgspec

__all__ = ["Faults"]


class Faults(msgspec.Struct):
    """What was not used, and why."""

    bad: int = 0
    """Lines that are no line of a recording."""
    unknown: int = 0
    """Lines of a type that this version does not know."""
    late: int = 0
    """Lines that came long after the ones that they should precede."""
    foreign: int = 0
    """Lines behind a first line that names another schema …"""
    schema: str = ""
    """… this one."""
    others: int = 0
    """Lines of other hosts than the first: several recordings told as one."""
    cut: bool = False
    """The last line is not whole."""
    used: int = 0

    def sentence(self, name: str) -> str | None:
        """All of it in one sentence, without a period; None when nothing was left out."""
        parts = []
        if self.bad:
            parts.append(f"{_lines(self.bad)} not readable")
        if self.unknown:
            parts.append(f"{_lines(self.unknown)} of a kind that this version of sstrace does not know")
        if self.late:
            parts.append(f"{_lines(self.late)} far out of order")
        if self.foreign:
            parts.append(f"{_lines(self.foreign)} of schema {self.schema[:40]!r}, which this version does not read")
        if self.others:
            parts.append(f"{_lines(self.others)} of other hosts than the first")
        if self.cut:
            parts.append("its last line is cut off")
        if not parts:
            return None
        return f"{name} is used but for what is damaged in it: " + ", ".join(parts)


def _lines(count: int) -> str:
    return "1 line is" if count == 1 else f"{count} lines are"
