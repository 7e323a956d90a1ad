"""What every test may ask for: root, a fresh network namespace, the two programs (ours and ss), a limit on its time.

A test that needs root, BPF or ss says so with a mark (``root``, ``bpf``, ``ss``) or calls ``unmet``. On a developer's
machine it is skipped where the need is not met; with ``CI=true`` or ``SSTRACE_REQUIRE=1`` it fails, so that a run that
says "passed" has run everything. A skip whose reason starts with ``kernel lacks`` stays a skip: no set-up can bring
what was not built into the kernel; so does one that ends with ``: not installed``, of a server that is only watched.
"""

import ctypes
import importlib.util
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, Never, TypeVar

import pytest
from hypothesis import settings

# No test asserts a time: machines are loaded.
settings.register_profile("sstrace", deadline=None)
settings.load_profile("sstrace")

# A job in the background of a shell script ignores these, and so would every program that a test interrupts.
for _number, _usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _usual)

ROOT = Path(__file__).resolve().parent.parent
REQUIRE = os.environ.get("CI") == "true" or os.environ.get("SSTRACE_REQUIRE") == "1"
TEST_SECONDS = 180
"""No single test may take longer, unless it is marked ``seconds(n)``. Chosen against a loaded two-core CI machine."""

CLONE_NEWNET = 0x40000000
MS_BIND = 4096
MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


# ------------------------------------------------------------------------------------------------------- what is there


def unmet(reason: str) -> Never:
    """Leave the test: skipped on a developer's machine, failed where everything is required."""
    if REQUIRE and not reason.startswith("kernel lacks"):
        pytest.fail(f"required here: {reason}", pytrace=False)
    pytest.skip(reason)


def program(name: str) -> ModuleType:
    """A program of scripts/ as a module: programs have no ending."""
    loader = SourceFileLoader(name.replace("-", "_"), str(ROOT / "scripts" / name))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def has_bpf() -> bool:
    """Whether bcc's bindings and BTF are here; whether programs load is for the tests to say."""
    return importlib.util.find_spec("bcc") is not None and Path("/sys/kernel/btf/vmlinux").exists()


NEEDS: Mapping[str, tuple[Callable[[], bool], str]] = {
    "root": (lambda: os.geteuid() == 0, "root"),
    "bpf": (has_bpf, "bcc's Python bindings and BTF"),
    "ss": (lambda: shutil.which("ss") is not None, "ss (package iproute2)"),
}


def pytest_configure(config: pytest.Config) -> None:
    for line in (
        "root: needs root and a real kernel",
        "bpf: needs bcc and BTF (and root)",
        "ss: needs the real ss",
        "seconds(n): may take up to n seconds",
    ):
        config.addinivalue_line("markers", line)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark, (met, what) in NEEDS.items():
        if item.get_closest_marker(mark) and not met():
            unmet(f"needs {what}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test with one of the marks may not slip away by another road, such as pytest.skip in a helper."""
    report = yield
    marked = any(item.get_closest_marker(mark) for mark in NEEDS)
    if REQUIRE and marked and report.skipped and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if "kernel lacks" not in reason and not reason.endswith(": not installed"):
            report.outcome = "failed"
            report.longrepr = f"required here, but: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A limit on every test's time: the alarm raises inside the test, so its traceback shows where it hung."""
    mark = item.get_closest_marker("seconds")
    seconds = mark.args[0] if mark else TEST_SECONDS

    def expired(_signum: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"the test took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(seconds)
    try:
        return (yield)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


CLOSING = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def closing_line(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Call it with a figure worth reading: it stands at the end of the run's output, whether tests passed or not."""
    lines: list[str] = []
    pytestconfig.stash[CLOSING] = lines
    return lines.append


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)  # of pytest-xdist, where this is one of its workers
    if output is not None:
        output["closing"] = session.config.stash.get(CLOSING, [])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker has ended: its lines are told with ours."""
    lines = node.config.stash.setdefault(CLOSING, [])
    lines += getattr(node, "workeroutput", {}).get("closing", [])


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    for line in config.stash.get(CLOSING, []):
        terminalreporter.write_line(line)


# ------------------------------------------------------------------------------------------------------------ programs


class Program:
    """Runs one command line, bytes in and out, never through a shell."""

    def __init__(self, *head: str) -> None:
        self.head = head

    def __call__(
        self,
        *arguments: str,
        netns: "Netns | None" = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run to the end. ``env`` is added to this process's environment; ``netns`` says where to run."""
        return subprocess.run(
            [*(netns.prefix if netns else ()), *self.head, *arguments],
            input=stdin,
            capture_output=True,
            env={**os.environ, **(env or {})},
            timeout=timeout,
            check=False,
            cwd=ROOT,
        )

    def start(
        self, *arguments: str, netns: "Netns | None" = None, env: Mapping[str, str] | None = None, **popen: Any
    ) -> subprocess.Popen[bytes]:
        """Start without waiting; stdout and stderr are pipes unless ``popen`` says otherwise. The caller ends it."""
        popen = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **popen}
        return subprocess.Popen(
            [*(netns.prefix if netns else ()), *self.head, *arguments],
            env={**os.environ, **(env or {})},
            cwd=ROOT,
            **popen,
        )


@pytest.fixture(scope="session")
def sstrace() -> Program:
    """The command of this checkout, as a process of its own."""
    return Program(sys.executable, "-m", "sstrace")


@pytest.fixture(scope="session")
def ss() -> Program:
    """The real ss, in the C locale, without an environment that would change what it reads."""
    path = shutil.which("ss")
    if path is None:
        unmet("needs ss (package iproute2)")
    return Program("/usr/bin/env", "-u", "TCPDIAG_FILE", "-u", "PROC_ROOT", path)


# ---------------------------------------------------------------------------------------------------------- namespaces


@pytest.fixture
def common_path() -> Iterator[Path]:
    """A directory that every user may enter, as pytest's own may not."""
    with tempfile.TemporaryDirectory(prefix="sstrace-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


T = TypeVar("T")


class Netns:
    """A network namespace of the test's own, with ``lo`` up. It lives as long as this process holds its descriptor."""

    _numbers = itertools.count(1)

    def __init__(self) -> None:
        self.name = f"sstrace-test-{os.getpid()}-{next(self._numbers)}"
        self.fd = -1
        self._published: Path | None = None
        self._in_thread(self._make)

    @property
    def path(self) -> str:
        """A path that setns and nsenter take while this process lives."""
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    @property
    def inode(self) -> int:
        """The number that the kernel calls the namespace by."""
        return Path(self.path).stat().st_ino

    @property
    def prefix(self) -> Sequence[str]:
        """The words to put before a command so that it runs inside."""
        return ("nsenter", f"--net={self.path}", "--")

    def run(self, *command: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[bytes]:
        """Run a command inside, to its end."""
        return subprocess.run([*self.prefix, *command], capture_output=True, check=check, timeout=60, **options)

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function in a thread that is inside: the sockets it makes belong to the namespace for good."""

        def inside() -> T:
            if _libc.setns(self.fd, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            return function(*arguments)

        return self._in_thread(inside)

    def publish(self) -> str:
        """Give it a name that ``ip netns`` and ``ss -N`` know; returns the name."""
        if self._published is None:
            path = Path("/run/netns", self.name)
            path.parent.mkdir(exist_ok=True)
            path.touch()
            if _libc.mount(self.path.encode(), bytes(path), None, MS_BIND, None):
                raise OSError(ctypes.get_errno(), f"mount {path}")
            self._published = path
        return self.name

    def close(self) -> None:
        """Let go: the kernel removes the namespace when its last socket and process are gone."""
        if self._published is not None:
            _libc.umount2(bytes(self._published), MNT_DETACH)
            self._published.unlink()
            self._published = None
        os.close(self.fd)

    def _make(self) -> None:
        if _libc.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET)")
        self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=30)

    @staticmethod
    def _in_thread(function: Callable[[], T]) -> T:
        outcome: list[Any] = []

        def run() -> None:
            try:
                outcome.append((function(), None))
            except BaseException as error:
                outcome.append((None, error))

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        value, error = outcome[0]
        if error is not None:
            raise error
        result: T = value
        return result


@pytest.fixture
def netns() -> Iterator[Netns]:
    """A fresh network namespace for one test."""
    space = _netns()
    yield space
    space.close()


@pytest.fixture(scope="module")
def module_netns() -> Iterator[Netns]:
    """A fresh network namespace for the tests of one module."""
    space = _netns()
    yield space
    space.close()


def _netns() -> Netns:
    if os.geteuid() != 0:
        unmet("needs root")
    return Netns()
