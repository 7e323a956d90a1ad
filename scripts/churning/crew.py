"""Processes that do so many operations and then stand still, and what passes meanwhile, counted."""

import contextlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NoReturn, Protocol

from sstrace.model import STATE_TEXT
from sstrace.table import Transition

__all__ = ["Crew", "Worker", "note"]


class Worker(Protocol):
    """What one process does."""

    def run(self, count: int) -> Counter[str]:
        """So many operations, by name."""
        ...

    def end(self) -> None:
        """No child stays."""
        ...


class Crew:
    """Workers that stand still between two rounds."""

    def __init__(self, make: Callable[[int], Worker], count: int) -> None:
        """``make``: a worker, by its number."""
        self._ways: list[tuple[int, int]] = []
        for number in range(count):
            orders, answers = os.pipe(), os.pipe()
            if os.fork() == 0:
                os.close(orders[1])
                os.close(answers[0])
                for order, answer in self._ways:  # or the end of file would not come
                    os.close(order)
                    os.close(answer)
                _work(make(number), orders[0], answers[1])
            os.close(orders[0])
            os.close(answers[1])
            self._ways.append((orders[1], answers[0]))

    def go(self, operations: int) -> None:
        """Each begins its part of so many."""
        for order, _ in self._ways:
            os.write(order, f"{operations // len(self._ways)}\n".encode())

    def done(self, meanwhile: Callable[[], object]) -> Counter[str]:
        """When all stand still: what they did."""
        done: Counter[str] = Counter()
        for _, answer in self._ways:
            os.set_blocking(answer, False)
            text = b""
            while not text.endswith(b"\n"):
                meanwhile()
                with contextlib.suppress(BlockingIOError):
                    piece = os.read(answer, 65536)
                    if not piece:
                        raise SystemExit("a worker has ended")
                    text += piece
            done.update(json.loads(text))
        return done

    def end(self) -> None:
        """Every worker ends."""
        for order, answer in self._ways:
            os.close(order)
            os.close(answer)
        with contextlib.suppress(ChildProcessError):
            while True:
                os.wait()


def _work(worker: Worker, orders: int, answers: int) -> NoReturn:
    status = 1
    try:
        with open(orders) as lines:
            for line in lines:
                os.write(answers, json.dumps(worker.run(int(line))).encode() + b"\n")
        worker.end()
        status = 0
    finally:
        os._exit(status)


def note(changes: Iterable[object], transitions: Counter[str]) -> None:
    """Count what passes."""
    for change in changes:
        if isinstance(change, Transition):
            transitions[f"{STATE_TEXT[change.old]} {STATE_TEXT[change.new]}"] += 1
