"""How the line of a transition comes about, key by key: what the compiled twin is made from (scripts/twins)."""

from typing import Final

__all__ = ["PLAN"]

PLAN: Final[tuple[tuple[str, str, str, str, str], ...]] = (
    ("ts", "time", "transition", "at_ns", ""),
    ("mono_ns", "number", "transition", "at_ns", ""),
    ("seq", "seq", "transition", "at_ns", ""),
    ("id", "number", "row", "id", ""),
    ("netid", "named", "row", "protocol", "protocols"),
    ("family", "named", "row", "family", "families"),
    ("from", "named", "transition", "old", "states"),
    ("to", "named", "transition", "new", "states"),
    ("src", "named", "row", "src", "addresses"),
    ("sport", "number", "row", "sport", ""),
    ("dst", "named", "row", "dst", "addresses"),
    ("dport", "number", "row", "dport", ""),
    ("netns", "number", "row", "netns", ""),
    ("held_us", "micros", "transition", "held_ns", ""),
    ("ino", "nonzero", "row", "ino", ""),
    ("sk", "number", "row", "cookie", ""),
    ("uid", "number", "row", "uid", ""),
    ("ifindex", "never", "row", "ifindex", ""),
    ("cgroup", "members", "row", "cgroup", "places"),
    ("owners", "owners", "row", "owners", "owners"),
    ("owner_source", "word", "row", "owner_source", ""),
    ("cause", "word", "transition", "cause", ""),
    ("approximate", "never", "transition", "approximate", ""),
    ("v6only", "truth", "row", "v6only", ""),
    ("source", "never", "transition", "source", ""),
    ("role", "word", "row", "role", ""),
    ("ended", "true", "transition", "ended", ""),
    ("lifetime_us", "micros", "transition", "lifetime_ns", ""),
    ("container_id", "members", "row", "cgroup", "works"),
    ("netns_name", "members", "row", "net", "spaces"),
)
"""The line of a transition as the compiled twin writes it, key by key in the order of StateLine: how (native/line.c),
from which attribute of the row or the transition, with which texts. scripts/twins makes C of it. ``seq``: the number of
the line. ``never``: a line that has it is for ``state_line``. ``members`` and ``owners``: what the texts have of it,
with its keys, which may be several or none: what runs in a cgroup, the names of a network namespace where there are
several. What is only reported (sstrace.fields) follows.
"""
