"""sstrace: ``ss`` that never blinks.

How a socket travels::

    events    bpf/*  →  sources.perf  ─┐ bytes                                   ┌ render.ss      (ss's own lines)
                                       ├→ wire.* → Fact → table → query → render ┼ render.ndjson
    snapshot  kernel →  sources.diag  ─┘                  (lifecycle)            └ render.watch

``errors``, ``model`` and what stands beside them (``protocols``, ``fields``, ``lines``, ``causes``, ``dialect``,
``plain``) may be known to everybody. ``wire``, ``lifecycle``, ``query``, ``render`` and ``table`` are pure: bytes or
values in, values or text out. ``sources`` does the I/O. ``snapshot`` is the parts of one ss invocation, ``live`` runs a
trace, ``recording`` reads one again; ``output``, ``server`` and ``watch`` are the ways out. ``modes`` has a module for
nearly each thing that a command line can ask for; ``cli`` turns argv into what ``dispatch`` takes, and exceptions into
one sentence and an exit code. docs/architecture.md has more.
"""

__version__ = "0.1.0"
