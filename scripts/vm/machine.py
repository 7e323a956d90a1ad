"""Small Debian guests under qemu: a kernel, a root filesystem, a directory that goes in, what comes back.

Enters: names of Debian suites and packages. Leaves: files in a state directory, which later runs use again. The
guests have no network but ``lo``; what they need is put into their root filesystem, Python packages as wheels.
Nothing of this machine is changed: packages are fetched through an apt configuration of our own, and unpacked, never
installed; images are made from directories, so there is neither a loop device nor a mount.

Needs root (mmdebstrap, file ownership in images) and the programs in ``PROGRAMS``.
"""

import fcntl
import hashlib
import json
import lzma
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "ARCHES",
    "PROGRAMS",
    "ROOT",
    "FailedError",
    "Guest",
    "Kernel",
    "Outcome",
    "alone",
    "boot",
    "fetch_wheels",
    "image",
    "kernel",
    "mirrors",
    "need",
    "once",
    "run",
    "say",
    "size_mb",
    "state_directory",
    "userland",
]

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent

PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "depmod": "kmod",
    "modprobe": "kmod",
    "cpio": "cpio",
}
"""What runs on this machine, and Debian's package of it; the emulator comes on top, see ``ARCHES``."""

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
PACKAGES = ("python3", "python3-pip", "python3-bpfcc", "iproute2", "procps", "kmod", "busybox-static", "jq", "strace")
"""What every guest has; python3 and bcc are the userland's own, since that is what users have."""
TESTED_WITH = ("pytest", "hypothesis", "jsonschema")
"""Of the extra ``test`` in pyproject.toml: what tests/kernel imports."""
MODULES = ("virtio_pci", "virtio_blk", "ext4")
"""What it takes to find a disk; everything else is loaded by the guest when it is asked for."""


class Arch(NamedTuple):
    """How a Debian architecture is emulated."""

    program: str
    package: str
    machine: tuple[str, ...]
    console: str
    kernel_flavour: str
    wheel: str
    foreign: tuple[tuple[str, str], ...] = ()
    """What else is needed where this is not the machine's own architecture: program → package."""


ARCHES = {
    "amd64": Arch(
        "qemu-system-x86_64", "qemu-system-x86", ("-M", "q35", "-cpu", "max"), "ttyS0", "cloud-amd64", "x86_64"
    ),
    "arm64": Arch(
        # pauth-impdef: pointer authentication by a cheap hash; the architected one costs half of the emulated time.
        "qemu-system-aarch64",
        "qemu-system-arm",
        ("-M", "virt", "-cpu", "max,pauth-impdef=on"),
        "ttyAMA0",
        "cloud-arm64",
        "aarch64",
        (("qemu-aarch64-static", "qemu-user-static binfmt-support arch-test"),),
    ),
}


class FailedError(Exception):
    """Something on this side went wrong: one sentence, or the last lines of the program that failed."""


class Kernel(NamedTuple):
    """A Debian kernel, unpacked: ``directory`` has vmlinuz, modules.ext4 and modules.cpio."""

    directory: Path
    release: str
    arch: str


class Guest(NamedTuple):
    """A kernel over a userland."""

    kernel: Kernel
    root: Path
    """Directory with root.ext4 (never written to: each boot has a snapshot of its own) and init.cpio."""


class Outcome(NamedTuple):
    """What a boot left."""

    status: int | None
    """Exit status of the job; None when the guest did not come to its end (panic, timeout)."""
    seconds: float
    boot_seconds: float | None
    """From power-on to the job's start, by the guest's own clock."""
    files: Path
    """What the job left in $OUT, and its output as ``log``; beside it ``console``."""


def state_directory() -> Path:
    """$SSTRACE_VM, else ``sstrace/vm`` in the user's cache directory."""
    given = os.environ.get("SSTRACE_VM")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = Path(given) if given else cache / "sstrace/vm"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def say(text: str) -> None:
    """Progress, on stderr."""
    print(f"vm: {text}", file=sys.stderr, flush=True)


def run(*command: str | Path, **options: object) -> str:
    """Run a program to its end; its output. Raises FailedError with its last lines."""
    done = subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        **options,  # type: ignore[call-overload]
    )
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-8:])
        raise FailedError(f"{' '.join(str(word) for word in command[:3])} … ended with {done.returncode}:\n{tail}")
    return str(done.stdout)


def need(arch: str) -> None:
    """Raise FailedError when a program is missing, or the right to run it."""
    programs = PROGRAMS | {ARCHES[arch].program: ARCHES[arch].package}
    if ARCHES[arch].wheel != platform.machine():
        programs |= dict(ARCHES[arch].foreign)
    missing = sorted({package for program, package in programs.items() if shutil.which(program) is None})
    if missing:
        raise FailedError(f"apt-get install --no-install-recommends {' '.join(missing)}")
    if os.geteuid():
        raise FailedError("needs root, to make root filesystems")


# ------------------------------------------------------------------------------------------------------------- packages


def mirrors(suite: str) -> list[str]:
    """Lines of a sources.list for a Debian release and its updates, or for what is beside one: its backports, sid.
    $SSTRACE_VM_MIRROR replaces http://deb.debian.org.
    """
    base = os.environ.get("SSTRACE_VM_MIRROR", "http://deb.debian.org")
    if suite == "sid" or suite.endswith("-backports"):
        return [f"deb [signed-by={KEYRING}] {base}/debian {suite} main"]
    release, security, _ = suite.partition("-security")
    lines = [f"deb [signed-by={KEYRING}] {base}/debian-security {release}-security main"]
    return lines if security else [f"deb [signed-by={KEYRING}] {base}/debian {release} main", *lines]


def apt_root(suite: str, arch: str) -> dict[str, str]:
    """An apt of our own for one suite: the environment that makes apt use it. Its lists are fetched once a day."""
    root = state_directory() / "apt" / f"{suite}-{arch}"
    configuration = root / "apt.conf"
    environment = {**os.environ, "APT_CONFIG": str(configuration)}
    with alone(root):
        if not configuration.exists() or time.time() - configuration.stat().st_mtime >= 86_400:
            _fetch_lists(root, suite, arch, environment)
    return environment


def _fetch_lists(root: Path, suite: str, arch: str, environment: dict[str, str]) -> None:
    configuration, lists = root / "apt.conf", root / "var/lib/apt/lists"
    for directory in (lists / "partial", root / "var/cache/apt/archives/partial", root / "var/lib/dpkg", root / "etc"):
        directory.mkdir(parents=True, exist_ok=True)
    (root / "var/lib/dpkg/status").touch()
    (root / "etc/sources.list").write_text("\n".join(mirrors(suite)) + "\n")
    draft = root / "apt.conf.new"
    draft.write_text(
        f'Dir::State "{root}/var/lib/apt";\nDir::State::status "{root}/var/lib/dpkg/status";\n'
        f'Dir::Cache "{root}/var/cache/apt";\nDir::Etc::SourceList "{root}/etc/sources.list";\n'
        'Dir::Etc::SourceParts "/dev/null";\nDir::Etc::Preferences "/dev/null";\n'
        'Dir::Etc::PreferencesParts "/dev/null";\n'
        f'APT::Architecture "{arch}";\nAPT::Architectures "{arch}";\nAcquire::Languages "none";\n'
    )
    run("apt-get", "-q", "update", env={**environment, "APT_CONFIG": str(draft)})
    draft.replace(configuration)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Nobody else, by the same state directory, is in here for the same path; who comes second waits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.name}.lock"), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for who is at {path}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def once(path: Path, make: Callable[[Path], None]) -> Path:
    """``path`` as ``make`` made it, now or some time ago; a run that was interrupted leaves nothing half done."""
    if path.exists():
        return path
    with alone(path):
        if not path.exists():
            draft = path.with_name(path.name + ".new")
            shutil.rmtree(draft, ignore_errors=True)
            draft.unlink(missing_ok=True)
            make(draft)
            draft.rename(path)
    return path


def image(path: Path, tree: Path, label: str, megabytes: int) -> None:
    """An ext4 image of a directory; no journal, since nothing in it outlives a run."""
    run("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-L", label, "-d", tree, path, f"{megabytes}M")


def size_mb(tree: Path) -> int:
    """What a directory takes, in MiB, rounded up."""
    return int(run("du", "-sm", tree).split()[0]) + 1


# --------------------------------------------------------------------------------------------------------------- kernel


def kernel(suite: str, version: str, arch: str) -> Kernel:
    """The newest kernel of a version ("6.1") that a suite has; one that is here already is kept, however old."""
    directory = state_directory() / "kernel" / f"{version}-{suite}-{arch}"
    if not directory.exists():
        environment = apt_root(suite, arch)
        pattern = rf"^linux-image-{version.replace('.', '[.]')}[.].*-{ARCHES[arch].kernel_flavour}$"
        listed = run("apt-cache", "search", "--names-only", pattern, env=environment)
        packages = [line.split()[0] for line in listed.splitlines() if " - " in line]
        if not packages:
            raise FailedError(f"{suite} has no kernel {version} for {arch}")
        newest = max(packages, key=_numbers)
        say(f"fetching {newest} from {suite}")
        once(directory, lambda draft: _unpack_kernel(draft, newest, environment))
    return Kernel(directory, (directory / "release").read_text(), arch)


def _numbers(package: str) -> list[int]:
    """What to sort versions by: linux-image-6.1.0-56-cloud-amd64 has 6, 1, 0, 56."""
    return [int(number) for number in re.findall(r"\d+", package)]


def _unpack_kernel(directory: Path, package: str, environment: dict[str, str]) -> None:
    tree = directory / "tree"
    tree.mkdir(parents=True)
    # Kernels from 6.13 on keep their modules, and what tells which are built in, in packages beside the image.
    depends = run("apt-cache", "depends", "--no-recommends", "--no-suggests", package, env=environment)
    more = re.findall(r"Depends: (linux-(?:base|binary|modules)-\S+)", depends)
    run("apt-get", "-q", "download", package, *more, env=environment, cwd=directory)
    for file in directory.glob("*.deb"):
        run("dpkg-deb", "-x", file, tree)
        file.unlink()
    # Debian 12 and older unpack into /lib, which in the guest is a link to /usr/lib.
    modules = next(path for path in (tree / "usr/lib/modules", tree / "lib/modules") if path.is_dir())
    release = next(modules.iterdir()).name
    vmlinuz = next(path for path in (tree / f"boot/vmlinuz-{release}", modules / release / "vmlinuz") if path.exists())
    vmlinuz.replace(directory / "vmlinuz")
    base = directory / "base/lib"
    base.mkdir(parents=True)
    (base / "modules").symlink_to(modules)
    run("depmod", "-b", base.parent, release)
    _module_archive(base.parent, release, directory / "modules.cpio")
    image(directory / "modules.ext4", modules, "modules", size_mb(modules) * 5 // 4 + 40)
    shutil.rmtree(tree)
    shutil.rmtree(base.parent)
    (directory / "release").write_text(release)


def _module_archive(base: Path, release: str, archive: Path) -> None:
    """The part of the initramfs that belongs to the kernel: MODULES and what they need, numbered in loading order."""
    names: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch, "m")
        target.mkdir()
        for module in MODULES:
            # Built into the kernel: modprobe says "builtin", or nothing.
            shown = run("modprobe", "-d", base, "-S", release, "--show-depends", module)
            for file in (Path(line.split()[1]) for line in shown.splitlines() if line.startswith("insmod ")):
                name = file.name.partition(".")[0]
                if name not in names:
                    data = file.read_bytes()
                    data = lzma.decompress(data) if file.suffix == ".xz" else data
                    (target / f"{len(names):03}-{name}.ko").write_bytes(data)
                    names.append(name)
        _archive(Path(scratch), archive)


def _archive(tree: Path, archive: Path) -> None:
    files = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    data = subprocess.run(
        ["cpio", "-o", "-H", "newc", "--quiet"], input=files.encode(), stdout=subprocess.PIPE, cwd=tree, check=True
    ).stdout
    archive.write_bytes(data)


# ------------------------------------------------------------------------------------------------------------- userland


def userland(suite: str, arch: str, more: Sequence[str] = ()) -> Path:
    """A root filesystem with PACKAGES, ``more`` and the project's Python dependencies: see ``Guest.root``."""
    requirements = python_requirements()
    recipe = json.dumps([PACKAGES, sorted(more), requirements, (HERE / "guest-initramfs").read_text()])
    key = hashlib.sha256(recipe.encode()).hexdigest()[:12]
    name = f"{suite}-{arch}-{key}"
    return once(state_directory() / "userland" / name, lambda draft: _make_userland(draft, suite, arch, more))


def python_requirements() -> list[str]:
    """What pyproject.toml says that sstrace and its tests need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tests = [
        line for line in project["optional-dependencies"]["test"] if re.split(r"[<>=~! \[]", line)[0] in TESTED_WITH
    ]
    return [*project["dependencies"], *tests]


_PYTHONS = {"bookworm": "3.11", "trixie": "3.13"}
"""Each suite's python3: wheels are fetched for it before it is here."""


def _make_userland(directory: Path, suite: str, arch: str, more: Sequence[str]) -> None:
    say(f"making a root filesystem of {suite} for {arch}")
    tree, wheels = directory / "tree", directory / "wheels"
    wheels.mkdir(parents=True)
    fetch_wheels(wheels, suite, arch, python_requirements())
    hooks = (
        f"cp -r {wheels} $1/wheels",
        # Beside what the distribution has of the same name: pip could not remove that.
        "chroot $1 sh -c 'python3 -m pip -q install --no-index --ignore-installed --break-system-packages"
        " --root-user-action=ignore /wheels/*'",
        "rm -r $1/wheels",
        "mkdir -p $1/project $1/usr/lib/modules",
    )
    run(
        "mmdebstrap", "--mode=root", "--variant=minbase", f"--architectures={arch}", "--format=directory",
        f"--include={','.join((*PACKAGES, *more))}",
        "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        *(f"--customize-hook={hook}" for hook in hooks), suite, tree, *mirrors(suite),
    )  # fmt: skip
    initramfs = directory / "initramfs"
    (initramfs / "bin").mkdir(parents=True)
    for name in ("proc", "sys", "dev", "root"):
        (initramfs / name).mkdir()
    shutil.copy(tree / "usr/bin/busybox", initramfs / "bin/busybox")
    shutil.copy(HERE / "guest-initramfs", initramfs / "init")
    (initramfs / "init").chmod(0o755)
    _archive(initramfs, directory / "init.cpio")
    image(directory / "root.ext4", tree, "root", size_mb(tree) * 5 // 4 + 512)
    for gone in (tree, wheels, initramfs):
        shutil.rmtree(gone)


def fetch_wheels(directory: Path, suite: str, arch: str, requirements: Sequence[str]) -> None:
    """Wheels of ``requirements`` and of what these need, for a suite's python3, by way of this machine's pip."""
    wheel = ARCHES[arch].wheel
    platforms = [f"--platform={name}_{wheel}" for name in ("manylinux_2_28", "manylinux_2_17", "manylinux2014")]
    words: list[str | Path] = [
        "--only-binary=:all:",
        *platforms,
        f"--python-version={_PYTHONS[suite]}",
        "-d",
        directory,
        *requirements,
    ]
    run(_python_with_pip(), "-m", "pip", "-q", "--disable-pip-version-check", "download", *words)


def _python_with_pip() -> str:
    for python in filter(shutil.which, (str(ROOT / ".venv/bin/python3"), sys.executable, "/usr/bin/python3")):
        if subprocess.run([python, "-c", "import pip"], capture_output=True, check=False).returncode == 0:
            return python
    raise FailedError("needs a Python with pip: run scripts/test once, or apt-get install python3-pip")


# ----------------------------------------------------------------------------------------------------------------- boot


def boot(
    guest: Guest,
    project: Path,
    job: str,
    out: Path,
    *,
    timeout: float,
    memory_mb: int = 2048,
    cpus: int = 2,
    disk_to_change: Path | None = None,
) -> Outcome:
    """Boot, run ``job`` (sh, as root, in /project, a copy of ``project``), fetch what it leaves in $OUT to ``out``.

    ``disk_to_change``: a raw disk image that the job finds as /dev/vdd and may write to.
    """
    system, arch = guest.kernel, ARCHES[guest.kernel.arch]
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=state_directory(), prefix="boot-") as scratch:
        inside = Path(scratch, "project")
        shutil.copytree(project, inside, symlinks=True)
        (inside / ".vm/out").mkdir(parents=True)
        (inside / ".vm/job").write_text(job)
        shutil.copy(HERE / "guest-init", inside / ".vm/init")
        disk = Path(scratch, "project.ext4")
        image(disk, inside, "project", size_mb(inside) * 5 // 4 + 64)
        initrd = Path(scratch, "initrd")
        initrd.write_bytes((guest.root / "init.cpio").read_bytes() + (system.directory / "modules.cpio").read_bytes())
        disks: list[str] = []
        for serial, file, how in (
            ("root", guest.root / "root.ext4", "snapshot=on"),
            ("modules", system.directory / "modules.ext4", "readonly=on"),
            ("project", disk, "cache=unsafe"),
            *([("other", disk_to_change, "cache=unsafe")] if disk_to_change else ()),
        ):
            disks += ["-drive", f"file={file},format=raw,if=none,id={serial},{how}"]
            disks += ["-device", f"virtio-blk-pci,drive={serial},serial={serial}"]
        # One thread for all CPUs: with one each, a CPU was seen to run code in the middle of being patched by another
        # (static keys), from Linux 6.18 on.
        command = [
            arch.program, *arch.machine, "-accel", "tcg,thread=single", "-m", str(memory_mb), "-smp", str(cpus),
            "-kernel", str(system.directory / "vmlinuz"), "-initrd", str(initrd),
            "-append", f"console={arch.console} panic=-1 quiet mitigations=off",
            *disks, "-nodefaults", "-nographic", "-no-reboot", "-net", "none", "-serial", f"file:{out / 'console'}",
        ]  # fmt: skip
        # The snapshot of the root filesystem is a temporary file, which a small /tmp would not hold.
        with (
            open(out / "qemu", "wb") as log,
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, "TMPDIR": scratch}
            ) as process,
        ):
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                say(f"{system.release}: not done after {timeout:.0f} s, switched off")
            finally:
                process.kill()
        fetched = out / "out"
        run("debugfs", "-R", f"rdump /.vm/out {out}", disk)
        fetched.mkdir(exist_ok=True)
    status, up = fetched / "status", fetched / "up"
    return Outcome(
        status=int(status.read_text()) if status.is_file() and status.read_text().strip() else None,
        seconds=time.monotonic() - started,
        boot_seconds=float(up.read_text()) if up.is_file() and up.read_text().strip() else None,
        files=fetched,
    )
