"""Root writes where a lesser user owns the directory, who has put there what is not root's to be written."""

import errno
import os
import re
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from sstrace.errors import SstraceError
from sstrace.live import signals
from sstrace.sources import files, record, service, stream
from sstrace.sources.bpf import compile as compiling
from sstrace.sources.bpf.programs import Bundle

MALLORY = 4321
PRECIOUS = b"root:x:0:0\n"

root = pytest.mark.root


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A directory of Mallory's, beside a file of root's."""
    (tmp_path / "precious").write_bytes(PRECIOUS)
    directory = tmp_path / "theirs"
    directory.mkdir()
    os.chown(directory, MALLORY, MALLORY)
    return directory


def plant_link(name: Path, target: Path) -> None:
    name.symlink_to(target)
    os.chown(name, MALLORY, MALLORY, follow_symlinks=False)


def plant_link_on_the_way(name: Path, target: Path) -> None:
    """``theirs/name`` becomes ``theirs/down/name`` for whoever is told so: see ``PLANTS``."""
    plant_link(name.parent / "down", target.parent)


def plant_hard_link(name: Path, target: Path) -> None:
    name.hardlink_to(target)


def plant_somebody_elses(name: Path, _target: Path) -> None:
    name.write_bytes(b"mine\n")
    os.chown(name, MALLORY + 1, MALLORY + 1)


PLANTS: dict[str, Callable[[Path, Path], None]] = {
    "a link": plant_link,
    "a link to a directory on the way": plant_link_on_the_way,
    "a second name": plant_hard_link,
    "another user's file": plant_somebody_elses,
}
WRITERS: dict[str, Callable[[str], object]] = {
    "--record": lambda path: record.RecordFile(path).close(),
    "--output": lambda path: os.close(stream.open_output(path)),
    "--ready-file": signals.touch,
    "--ready-file of a server": lambda path: signals.touch_later(path)(),
    "-D": lambda path: os.close(files.open_for_writing(path, empty=True)),
}


@root
@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("writer", WRITERS)
def test_what_others_planted_is_not_written(theirs: Path, plant: str, writer: str) -> None:
    target = theirs.parent / "precious"
    before = target.stat()
    name = theirs / "day.ndjson"
    PLANTS[plant](name, target)
    told = theirs / "down" / "precious" if "on the way" in plant else name
    with pytest.raises((SstraceError, OSError)):
        WRITERS[writer](str(told))
    after = target.stat()
    assert target.read_bytes() == PRECIOUS
    assert (after.st_uid, after.st_mode, after.st_mtime_ns) == (before.st_uid, before.st_mode, before.st_mtime_ns)
    assert sorted(path.name for path in theirs.parent.iterdir()) == ["precious", "theirs"]


@root
@pytest.mark.parametrize("writer", WRITERS)
def test_a_link_to_nothing_makes_nothing(theirs: Path, writer: str) -> None:
    plant_link(theirs / "day.ndjson", theirs.parent / "new")
    with pytest.raises((SstraceError, OSError)):
        WRITERS[writer](str(theirs / "day.ndjson"))
    assert not (theirs.parent / "new").exists()


@root
@pytest.mark.parametrize("writer", WRITERS)
def test_what_is_theirs_is_written(theirs: Path, writer: str) -> None:
    """The directory's owner may have the file: root was told to write there."""
    (theirs / "day.ndjson").write_bytes(b"")
    os.chown(theirs / "day.ndjson", MALLORY, MALLORY)
    WRITERS[writer](str(theirs / "day.ndjson"))
    WRITERS[writer](str(theirs / "new.ndjson"))
    assert (theirs / "new.ndjson").is_file()


@root
def test_links_that_root_made_are_followed(theirs: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "way").symlink_to("disk")
    (theirs / "log").symlink_to("../way/log")
    os.close(files.open_for_writing(str(theirs / "log")))
    assert (tmp_path / "disk" / "log").is_file()
    os.close(files.open_for_writing(str(tmp_path / "way" / "." / ".." / "way" / "more")))
    assert (tmp_path / "disk" / "more").is_file()
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(OSError, match="Too many levels"):
        files.open_for_writing(str(tmp_path / "round"))


@pytest.mark.parametrize(
    "name", ["/dev/null", "/dev/stdout", "/dev/fd/{}", "/proc/self/fd/{}", "/proc/thread-self/fd/{}"]
)
def test_what_was_handed_over_is_written(name: str) -> None:
    read, write = os.pipe()
    os.close(files.open_for_writing(name.format(write)))
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("name", ["{}/", "{}/.", "{}", "/", "."])
def test_a_directory_is_no_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(IsADirectoryError):
        files.open_for_writing(name.format(tmp_path))


@pytest.mark.parametrize("name", ["{}/none/file", "{}/file/none"])
def test_nothing_on_the_way(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError) as caught:  # noqa: PT011
        files.open_for_writing(name.format(tmp_path))
    assert caught.value.errno in (errno.ENOENT, errno.ENOTDIR)


@root
def test_who_is_not_root_has_the_kernels_permissions_alone(theirs: Path) -> None:
    for directory in theirs.parents:
        if directory != Path("/") and directory.stat().st_uid == 0:
            directory.chmod(directory.stat().st_mode | 0o055)
    (theirs / "file").touch()
    os.chown(theirs / "file", MALLORY, MALLORY)
    plant_link(theirs / "link", theirs / "file")
    plant_link(theirs / "out", theirs.parent / "precious")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setresuid(MALLORY + 0, MALLORY, MALLORY)
            os.close(files.open_for_writing(str(theirs / "link"), empty=True))
            with suppress(PermissionError):
                files.open_for_writing(str(theirs / "out"))
                os._exit(2)
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


@root
def test_the_directory_that_is_swapped_at_the_wrong_moment(theirs: Path) -> None:
    """Somebody exchanges file and link as fast as can be: root writes Mallory's file or nothing, never its own."""
    target, name, other = theirs.parent / "precious", theirs / "name", theirs / "other"
    name.write_bytes(b"")
    os.chown(name, MALLORY, MALLORY)
    plant_link(other, target)
    done = threading.Event()

    def swap() -> None:
        aside = theirs / "aside"
        while not done.is_set():
            for a, b in ((name, aside), (other, name), (aside, other)):
                a.rename(b)

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        written = 0
        for _ in range(3000):
            with suppress(OSError):
                os.close(files.open_for_writing(str(name), empty=True))
                written += 1
    finally:
        done.set()
        swapping.join()
    assert written
    assert target.read_bytes() == PRECIOUS


# ------------------------------------------------------------------------------------------------------- the cache

BUNDLE = Bundle(programs={"walk": b"\0" * 8}, maps=[], plain=False)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "precious").write_bytes(PRECIOUS)
    yield tmp_path / "cache"
    assert (tmp_path / "precious").read_bytes() == PRECIOUS


def test_the_cache_is_kept(cache: Path) -> None:
    path = cache / "deep" / "bpf-1.msgpack"
    compiling._write_cache(path, BUNDLE)
    assert compiling._read_cache(path) == BUNDLE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for number in range(2, 12):
        compiling._write_cache(path.with_name(f"bpf-{number}.msgpack"), BUNDLE)
    assert len(list(path.parent.iterdir())) == 8


@root
@pytest.mark.parametrize("mode", [0o700, 0o755, 0o777])
def test_a_cache_of_somebody_elses_is_neither_written_nor_read(cache: Path, mode: int) -> None:
    cache.mkdir(mode)
    path = cache / "bpf-1.msgpack"
    compiling._write_cache(path, BUNDLE)
    os.chown(cache, MALLORY, MALLORY)
    assert compiling._read_cache(path) is None
    before = path.stat()
    plant_link(cache / f"bpf-2.msgpack.{os.getpid()}", cache.parent / "precious")
    plant_link(cache / f"bpf-2.{os.getpid()}", cache.parent / "precious")
    compiling._write_cache(cache / "bpf-2.msgpack", BUNDLE)
    compiling._write_cache(path, BUNDLE)
    assert not (cache / "bpf-2.msgpack").exists()
    assert path.stat() == before


@root
def test_what_is_in_the_cache_is_ours_alone(cache: Path) -> None:
    path = cache / "bpf-1.msgpack"
    compiling._write_cache(path, BUNDLE)
    content = path.read_bytes()
    plant_link(cache / "bpf-2.msgpack", path)
    (cache / "bpf-3.msgpack").write_bytes(content)
    os.chown(cache / "bpf-3.msgpack", MALLORY, MALLORY)
    (cache / "bpf-4.msgpack").write_bytes(content)
    (cache / "bpf-4.msgpack").chmod(0o666)
    (cache / "bpf-5.msgpack").hardlink_to(path)
    os.mkfifo(cache / "bpf-6.msgpack")
    for number in range(2, 7):
        assert compiling._read_cache(cache / f"bpf-{number}.msgpack") is None, number
    assert compiling._read_cache(path) is None  # it has a second name now


# ------------------------------------------------------------------------------------------------------ the socket


@root
def test_no_socket_where_others_can_put_another(theirs: Path) -> None:
    for place in (theirs / "live.sock", theirs / "down" / "live.sock"):
        with pytest.raises(SstraceError, match="others than root"):
            service.listen(str(place), None)
        (theirs / "down").mkdir(exist_ok=True)
    assert [path.name for path in theirs.iterdir()] == ["down"]


@root
def test_the_socket_of_a_group(tmp_path: Path) -> None:
    path = tmp_path / "live.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    service.listen(str(path), MALLORY).close()
    assert (path.stat().st_gid, stat.S_IMODE(path.stat().st_mode)) == (MALLORY, 0o660)


def test_of_two_that_find_a_stale_socket_one_serves(tmp_path: Path) -> None:
    path = str(tmp_path / "live.sock")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    said: list[str] = []

    def serve() -> None:
        try:
            service.listen(path, None).close()
        except SstraceError as error:
            said.append(str(error))

    second = threading.Thread(target=serve)
    with files.alone(path):
        second.start()
        lock = f":{Path(path + '.lock').stat().st_ino} "
        waits = re.compile(rf"-> FLOCK .*{lock}")
        while not waits.search(Path("/proc/locks").read_text()):
            assert second.is_alive(), "it has not waited"
        Path(path).unlink()
        first = socket.socket(socket.AF_UNIX)
        first.bind(path)
        first.listen()
    second.join(60)
    first.close()
    assert said == [f"another sstrace serves at {path} already"]
    assert [file.name for file in tmp_path.iterdir()] == ["live.sock"]


@root
def test_a_directory_is_taken_back(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    files.own_directory(str(directory), 0o755)
    os.chown(directory, MALLORY, -1)
    directory.chmod(0o777)
    files.own_directory(str(directory), 0o755)
    assert (directory.stat().st_uid, stat.S_IMODE(directory.stat().st_mode)) == (0, 0o755)
    plant_link(tmp_path / "link", directory)
    tmp_path.chmod(0o777)
    with pytest.raises(PermissionError):
        files.own_directory(str(tmp_path / "link"), 0o755)
