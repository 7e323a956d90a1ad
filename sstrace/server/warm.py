"""What a server loads before it gives up the right to."""

from contextlib import suppress
from importlib import import_module
from pkgutil import iter_modules

from sstrace.query.command import Command

__all__ = ["warm"]

_ROOMS = ("sstrace.query", "sstrace.render", "sstrace.snapshot", "sstrace.wire")
_OF_OTHERS = ("sstrace.render.watch",)
"""Modules of these rooms that no answer needs, and that are dear."""
_LATER = (
    "sstrace.sources.handle", "sstrace.sources.rpcbind", "sstrace.sources.selinux", "sstrace.sources.sk_storage",
    "datetime", "difflib", "encodings.idna", "re", "_queue",
)  # fmt: skip
_OF_METRICS = ("sstrace.output.metrics", "prometheus_client.core", "prometheus_client.exposition")
"""What is imported at its first use."""


def warm(command: Command) -> None:
    """Load now whatever an answer may need: no child has to, and afterwards this process may not be able to read its
    own modules, where they lie in somebody's home.
    """
    for room in _ROOMS:
        for module in iter_modules(import_module(room).__path__, f"{room}."):
            if module.name not in _OF_OTHERS:
                import_module(module.name)
    for name in (*_LATER, *(_OF_METRICS if command.own.metrics is not None else ())):
        with suppress(ImportError):  # who needs it says what is missing
            import_module(name)
