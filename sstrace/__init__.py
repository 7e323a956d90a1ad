"""sstrace: ``ss`` that never blinks.

How a socket travels::

    events    bpf/*  →  sources.perf  ─┐ bytes                                   ┌ render.ss      (ss's own lines)
                                       ├→ wire.* → Fact → table → query → render ┼ render.ndjson
    snapshot  kernel →  sources.diag  ─┘                  (lifecycle)            └ render.watch

``errors`` and ``model`` are the nouns and know nothing else. ``wire``, ``lifecycle``, ``query`` and ``render`` are
pure: bytes or values in, values or text out. ``sources`` does the I/O. ``live`` runs a trace, ``recording`` reads one
again; ``output``, ``server`` and ``watch`` are the ways out. ``modes`` has a module for each thing that a command line
can ask for, and knows every room; ``cli`` turns argv into what ``dispatch`` takes, and
exceptions into one sentence and an exit code.
"""

__version__ = "0.1.0"
