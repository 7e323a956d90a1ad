"""Every file that is made, emptied, renamed, removed or read as trusted, where somebody else may own the directory.

Root is told to write in directories of lesser users: a service's recordings, a home, /tmp. Who can write there puts a
link, or a second name of another file, in the place of what root means, at any moment. So here alone files are opened
for writing, each by the descriptor of its directory, which is walked to name by name:

* a link is followed where root made it, or where it lies in a directory that root alone can write; what procfs links to
  (/dev/stdout) was handed to us;
* of a file that is there, owner and names are looked at once it is open, before a byte is written or cut off;
* a file that is not there is made with O_EXCL.

Who is not root has no rights that another could borrow so: for it the kernel's permissions are the rule, and every link
is followed. What is read as trusted is root's or the caller's own, for everybody.

All raise OSError, whose text says what is wrong, and ValueError for a name with a NUL in it.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

__all__ = [
    "alone",
    "is_firm",
    "open_for_writing",
    "own_directory",
    "read_trusted",
    "remove",
    "remove_directory",
    "rename",
    "touch",
    "try_trusted",
    "write_trusted",
]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 40
_TRIES = 10
_OTHERS_WRITE = 0o022


class _Place:
    """A name in a directory, and the directory's descriptor, which ``with`` closes in the end."""

    def __init__(self, path: str, *, follow: bool = True) -> None:
        """Walk to a path. ``follow``: where its last name is a link, go on to what that names."""
        self.folder = os.open("/" if path[:1] == "/" else ".", os.O_PATH | os.O_CLOEXEC)
        self.name = "."
        self.handed = False
        """The name is procfs's link to something that is open."""
        self.firm = self._is_firm()
        """No directory on the way is one where somebody but root can take a name away."""
        try:
            self._walk(path, follow=follow)
        except BaseException:
            os.close(self.folder)
            raise

    def __enter__(self) -> "_Place":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.folder)

    def _walk(self, path: str, *, follow: bool) -> None:
        left = _names(path)
        links = 0
        while left:
            self.name = left.pop()
            try:
                here = os.open(self.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.folder)
            except FileNotFoundError:
                if left:
                    raise
                return  # still to be made
            try:
                status = os.fstat(here)
                if not stat.S_ISLNK(status.st_mode):
                    if left:
                        self._step(os.dup(here))
                    continue
                if not (follow or left):
                    return
                if links == _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                links += 1
                if status.st_uid and not self.safe():
                    raise PermissionError(
                        errno.EPERM, f"{self.name} is a link that user {status.st_uid} made; name what it points to"
                    )
                if status.st_dev == os.stat("/proc").st_dev:  # noqa: PTH116
                    # Only the kernel can follow it: what it reads as is no path, or not that of the same file.
                    if not left:
                        self.handed = True
                        return
                    self._step(os.open(self.name, os.O_PATH | os.O_CLOEXEC, dir_fd=self.folder))
                    continue
                target = os.readlink("", dir_fd=here)
                if target[:1] == "/":
                    self._step(os.open("/", os.O_PATH | os.O_CLOEXEC))
                left += _names(target)
            finally:
                os.close(here)

    def _step(self, folder: int) -> None:
        os.close(self.folder)
        self.folder = folder
        self.firm &= self._is_firm()

    def _is_firm(self) -> bool:
        status = os.fstat(self.folder)
        sticky = status.st_mode & stat.S_ISVTX
        return os.geteuid() != 0 or (status.st_uid == 0 and (bool(sticky) or not status.st_mode & _OTHERS_WRITE))

    def safe(self) -> bool:
        """Whether what lies in this directory needs no look: root alone can put it there, or we are not root."""
        status = os.fstat(self.folder)
        return os.geteuid() != 0 or (status.st_uid == 0 and not status.st_mode & _OTHERS_WRITE)

    def check(self, fd: int) -> None:
        """Refuse what somebody else may have put here in the place of something else."""
        if self.handed or self.safe():
            return
        status = os.fstat(fd)
        if status.st_uid not in (0, os.fstat(self.folder).st_uid):
            raise PermissionError(
                errno.EPERM, f"it is user {status.st_uid}'s, in a directory that is not; remove it, or name another"
            )
        if stat.S_ISREG(status.st_mode) and status.st_nlink != 1:
            raise PermissionError(errno.EPERM, "it has another name, too (a hard link); remove it, or name another")


def _names(path: str) -> list[str]:
    """The names of a path, the first one last. A directory is the ``.`` in it."""
    names = [name for name in path.split("/") if name not in ("", ".")]
    if not names or path[-1:] == "/":
        names.append(".")
    return names[::-1]


def open_for_writing(path: str, flags: int = 0, mode: int = 0o666, *, empty: bool = False) -> int:
    """Open a file to write it, or make it: a descriptor. ``flags``: more of open(2)'s; ``empty``: cut off what is in
    it.
    """
    how = os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY | flags
    for _ in range(_TRIES):
        with _Place(path) as place:
            # First anew: a server may open nothing that is there (sources.seccomp).
            with suppress(FileExistsError):
                return os.open(place.name, how | os.O_CREAT | os.O_EXCL, mode, dir_fd=place.folder)
            try:
                fd = os.open(place.name, how | (0 if place.handed else os.O_NOFOLLOW), dir_fd=place.folder)
            except FileNotFoundError:
                continue  # it has gone meanwhile
            try:
                place.check(fd)
                if empty and stat.S_ISREG(os.fstat(fd).st_mode):
                    os.ftruncate(fd, 0)
            except BaseException:
                os.close(fd)
                raise
            return fd
    raise FileExistsError(errno.EEXIST, "it comes and goes")


def touch(path: str) -> None:
    """Make a file, or give the one that is there the time of now."""
    fd = open_for_writing(path, os.O_NONBLOCK)
    try:
        os.utime(fd)
    finally:
        os.close(fd)


@contextmanager
def alone(path: str) -> Iterator[None]:
    """Wait until no other sstrace is in here for the same path, and keep others out: by a file beside it, ``.lock``,
    which nobody else may open, and which is gone afterwards.
    """
    lock = f"{path}.lock"
    while True:
        fd = open_for_writing(lock, os.O_NONBLOCK, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink:  # else who was in here has taken it away meanwhile
                break
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    try:
        yield
    finally:
        remove(lock)
        os.close(fd)


def rename(path: str, name: str) -> None:
    """Give what lies at a path, a link itself, another name in the same directory; what had that name is gone."""
    with _Place(path, follow=False) as place:
        os.rename(place.name, name, src_dir_fd=place.folder, dst_dir_fd=place.folder)


def remove(path: str) -> None:
    """Take what lies at a path, a link itself, away."""
    with _Place(path, follow=False) as place:
        os.unlink(place.name, dir_fd=place.folder)


def remove_directory(path: str) -> None:
    """Take an empty directory away."""
    with _Place(path, follow=False) as place:
        os.rmdir(place.name, dir_fd=place.folder)


def own_directory(path: str, mode: int) -> None:
    """Make a directory where there is none, and have it be ours."""
    fd = _directory(path, mode)
    try:
        os.fchmod(fd, mode)
        os.fchown(fd, os.geteuid(), -1)
    finally:
        os.close(fd)


def is_firm(path: str) -> bool:
    """Whether what lies at a path is there by root's will alone, or we are not root: for what takes a path and nothing
    else, as bind(2).
    """
    with _Place(path, follow=False) as place:
        return place.firm


def read_trusted(path: str) -> bytes:
    """The content of a file that nobody but root or us can have written."""
    with _Place(path) as place:
        fd = os.open(place.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place.folder)
        with open(fd, "rb") as file:
            _trust(fd)
            _trust(place.folder)
            return file.read()


def write_trusted(path: str, data: bytes, *, most: int) -> None:
    """Put a file where ``read_trusted`` looks for it, whole or not at all, and make its directory. Of files whose names
    end as this one's does, the ``most`` newest stay.
    """
    folder, _, name = path.rpartition("/")
    place = _directory(folder, 0o700)
    try:
        _trust(place)
        temporary = f"{name}.{os.getpid()}"
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=place)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=place)
        with open(fd, "wb") as file:
            file.write(data)
        os.rename(temporary, name, src_dir_fd=place, dst_dir_fd=place)
        end = os.path.splitext(name)[1]  # noqa: PTH122
        found = [other for other in os.listdir(place) if other.endswith(end)]  # noqa: PTH208
        ages = {other: os.stat(other, dir_fd=place, follow_symlinks=False).st_mtime_ns for other in found}
        for stale in sorted(found, key=ages.__getitem__, reverse=True)[most:]:
            os.unlink(stale, dir_fd=place)
    finally:
        os.close(place)


def try_trusted(folder: str, names: Iterable[str]) -> None:
    """Try what ``read_trusted`` does with these files of a directory, and what ``write_trusted`` would do there, and
    leave nothing behind. Raises OSError where they would.
    """
    for name in names:
        read_trusted(f"{folder}/{name}")
    try:
        place = _Place(folder)
    except FileNotFoundError:
        return try_trusted(os.path.dirname(folder.rstrip("/")), ())  # noqa: PTH120
    with place:
        try:
            fd = os.open(place.name, _FOLDER, dir_fd=place.folder)
            made = True
        except FileNotFoundError:  # it would be made here
            fd = os.open(".", _FOLDER, dir_fd=place.folder)
            made = False
    try:
        if made:
            _trust(fd)
        os.close(os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=fd))
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):  # open(2): no such thing here
            raise
    finally:
        os.close(fd)


def _directory(path: str, mode: int) -> int:
    """Open a directory, made where it is missing, and so its parents."""
    try:
        place = _Place(path)
    except FileNotFoundError:
        os.close(_directory(os.path.dirname(path.rstrip("/")), mode))  # noqa: PTH120
        place = _Place(path)
    with place:
        with suppress(FileExistsError):
            os.mkdir(place.name, mode, dir_fd=place.folder)
        return os.open(place.name, _FOLDER, dir_fd=place.folder)


def _trust(fd: int) -> None:
    status = os.fstat(fd)
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & _OTHERS_WRITE:
        raise PermissionError(errno.EPERM, "others can write it")
    if stat.S_ISREG(status.st_mode) and status.st_nlink != 1:
        raise PermissionError(errno.EPERM, "it has another name, too (a hard link)")
