"""What makes the cells of sockets outside of the internet's families: a module of this room for each, found by name."""

from importlib import import_module
from typing import Any

from sstrace.render.common import Context

__all__ = ["outside"]


def outside(family: str, context: Context) -> Any:
    """The cell maker of a family, as ``protocols.Family`` calls it: its ``cells`` takes a socket, and gives a Row."""
    module = import_module(f"sstrace.render.{family}")
    return getattr(module, f"{family.capitalize()}Cells")(context)
