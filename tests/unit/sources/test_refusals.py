"""Where a system call is refused, or Python refuses it by itself, the sentence says why."""

import errno

import pytest

from sstrace.errors import SstraceError, reason
from sstrace.sources import asking, record, replay, service, stream

LONG = "/tmp/" + "long/" * 40 + "live.sock"


def test_a_reason_is_never_none() -> None:
    assert reason(OSError(errno.ENOENT, "No such file or directory", "x")) == "No such file or directory"
    assert reason(OSError("AF_UNIX path too long")) == "AF_UNIX path too long"
    assert reason(ValueError("embedded null byte")) == "embedded null byte"
    assert reason(OSError()) == "OSError"


def test_a_path_too_long_for_a_socket() -> None:
    with pytest.raises(SstraceError) as caught:
        service.listen(LONG, None)
    assert str(caught.value) == f"cannot serve at {LONG}: AF_UNIX path too long"
    with pytest.raises(SstraceError, match="AF_UNIX path too long"):
        asking.feed(LONG, b"{}\n")


def test_names_that_no_file_has() -> None:
    for attempt in (record.RecordFile, replay.Recording, stream.open_output):
        for name in ("a\0b", "/tmp/" + "a" * 300):
            with pytest.raises(SstraceError) as caught:
                attempt(name)
            assert "None" not in str(caught.value)
