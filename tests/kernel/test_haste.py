"""The priority of a reader that more comes to than it can take."""

import os
import threading
from collections.abc import Callable

import pytest

from sstrace.sources import privilege
from sstrace.sources.haste import Haste, reserve

pytestmark = pytest.mark.root


def nice() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


def apart(function: Callable[[], object]) -> None:
    """In a thread of its own: what it does to its priority ends with it."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    for error in errors:
        raise error


def test_it_lasts_until_some_time_after_no_ring_fills() -> None:
    def hastes() -> None:
        usual, haste = nice(), Haste()
        haste.hurry(0)
        assert nice() < usual
        haste.hurry(1_000_000_000)
        haste.ease(2_999_999_999)
        assert nice() < usual
        haste.ease(3_000_000_000)
        assert nice() == usual
        haste.leave()
        assert nice() == usual

    apart(hastes)


def test_a_child_has_its_own_priority() -> None:
    def hastes() -> None:
        usual, haste = nice(), Haste()
        haste.hurry(0)
        child = os.fork()
        if child == 0:
            os._exit(0 if nice() == usual else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert nice() < usual
        haste.leave()

    apart(hastes)


def test_who_is_in_more_haste_already_stays_so() -> None:
    def hastes() -> None:
        os.setpriority(os.PRIO_PROCESS, 0, -19)
        haste = Haste()
        haste.hurry(0)
        assert nice() == -19
        haste.ease(10_000_000_000)
        assert nice() == -19

    apart(hastes)


@pytest.mark.parametrize("asks", [True, False])
def test_who_gives_up_root_keeps_it_by_a_limit(asks: bool) -> None:
    """A server, whose system calls are a list; without the limit nothing changes, and nothing fails."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            reserved = asks and reserve()
            privilege.shed(privilege.service_user())
            usual, haste = nice(), Haste()
            haste.hurry(0)
            hurried = nice()
            haste.leave()
            code = 0 if (hurried < usual) is reserved and nice() == usual else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
