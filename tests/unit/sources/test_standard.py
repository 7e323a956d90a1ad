"""The standard streams: all of it or an error, and sentences that never raise."""

import os
import pty
import subprocess
import sys
import termios
import threading

import pytest

from sstrace.plain import broken
from sstrace.sources.standard import say, write_all


def test_what_a_pipe_takes_in_pieces_arrives_whole() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    data = bytes(range(256)) * 4096  # sixteen pipes full
    found = bytearray()

    def drain() -> None:
        while piece := os.read(read, 1 << 16):
            found.extend(piece)

    reader = threading.Thread(target=drain)
    reader.start()
    write_all(write, data, patient=True)
    os.close(write)
    reader.join()
    os.close(read)
    assert bytes(found) == data


def test_a_full_pipe_that_nobody_waits_for_is_an_error() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    with pytest.raises(BlockingIOError):
        write_all(write, bytes(1 << 20))
    os.close(read)
    with pytest.raises(BrokenPipeError):
        write_all(write, b"x")
    os.close(write)


def test_a_sentence_is_one_line_whatever_was_named(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    say("cannot read caf\u00e9\udcff\x1b[2J\n\ud800")
    assert capfdbinary.readouterr().err == "sstrace: cannot read caf\u00e9\\xff\\x1b[2J\\n\\ud800\n".encode()


def test_a_sentence_that_nobody_can_read_is_none() -> None:
    kept = os.dup(2)
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        os.dup2(full, 2)
        say("nobody hears this")
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(full)


@pytest.mark.parametrize(
    ("line", "broken_at_16"),
    [
        ("sstrace: it fits", "sstrace: it fits"),
        ("sstrace: it fits.", "sstrace: it\n  fits."),
        ("sstrace: one two three four", "sstrace: one two\n  three four"),
        ("sstrace: /a/path/without/a/blank is it", "sstrace: /a/path/without/a/blank\n  is it"),
        ("sstrace: 日本語 日本", "sstrace: 日本語\n  日本"),
        ("sstrace: 'two  blanks' stay", "sstrace: 'two \n  blanks' stay"),
    ],
)
def test_a_line_is_broken_between_words(line: str, broken_at_16: str) -> None:
    assert broken(line, 16) == broken_at_16


@pytest.mark.parametrize(
    ("words", "is_broken"),
    [
        (["nonsense"], True),
        (["--snapshot", "dst", "a.name.that.is.rather.long.invalid."], False),  # the sentence is ss's
    ],
)
def test_a_terminal_gets_our_sentences_broken_at_its_width(words: list[str], is_broken: bool) -> None:
    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, (24, 40))
    command = [sys.executable, "-m", "sstrace", *words]
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=end, check=False)
    shown = os.read(terminal, 4096).decode().replace("\r\n", "\n")
    os.close(end)
    os.close(terminal)
    whole = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, text=True).stderr
    assert len(max(whole.splitlines(), key=len)) > 40
    assert shown.replace("\n  ", " ") == whole
    assert (len(max(shown.splitlines(), key=len)) <= 40) is is_broken
