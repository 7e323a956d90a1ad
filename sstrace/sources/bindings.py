"""What brings bcc's Python bindings where they cannot be imported: the distribution's package, or a Python environment
that sees what the distribution has.
"""

import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

__all__ = ["bcc_advice"]

_BCC_PACKAGE = {
    "debian": "apt install python3-bpfcc",
    "ubuntu": "apt install python3-bpfcc",
    "fedora": "dnf install python3-bcc",
    "rhel": "dnf install python3-bcc",
    "centos": "dnf install python3-bcc",
    "arch": "pacman -S python-bcc",
    "alpine": "apk add py3-bcc",
    "opensuse": "zypper install python3-bcc",
    "suse": "zypper install python3-bcc",
}


_SYSTEM = "/usr/bin/python3"
"""The Python for which a distribution builds its packages."""

_SEEN = (
    f"make it with {_SYSTEM} -m venv --system-site-packages, or pipx install --python {_SYSTEM} --system-site-packages"
)


def bcc_advice() -> str:
    """What to do where ``import bcc`` fails."""
    here = find_spec("bcc")
    if here is not None and here.origin is not None:
        return f"{here.origin} is there, but is no whole bcc: {_package()}"
    if _has_bcc(_SYSTEM):
        return f"{_SYSTEM} has it, but this Python environment does not see that: {_SEEN}"
    return f"{_package()}; this Python environment will not see it: {_SEEN}" if _is_isolated() else _package()


def _package() -> str:
    words = ""
    with suppress(OSError):
        for line in Path("/etc/os-release").read_text(errors="replace").splitlines():
            if line.startswith(("ID=", "ID_LIKE=")):
                words += " " + line.partition("=")[2].strip('"')
    package = next((_BCC_PACKAGE[word] for word in words.split() if word in _BCC_PACKAGE), None)
    return package or "install bcc with its Python 3 package (python3-bpfcc, python3-bcc, python-bcc, py3-bcc)"


def _is_isolated() -> bool:
    """Whether this is a virtual environment that does not see the packages of the Python it was made from."""
    try:
        lines = Path(sys.prefix, "pyvenv.cfg").read_text(errors="replace").lower().splitlines()
    except OSError:
        return False
    return "include-system-site-packages=true" not in [line.replace(" ", "") for line in lines]


def _has_bcc(python: str) -> bool:
    from subprocess import DEVNULL, SubprocessError, run

    # An empty directory of that name would be a package without an origin.
    asked = "import importlib.util, sys; sys.exit(not getattr(importlib.util.find_spec('bcc'), 'origin', None))"
    try:
        return run([python, "-I", "-c", asked], stdin=DEVNULL, stderr=DEVNULL, timeout=30, check=False).returncode == 0
    except (OSError, SubprocessError):
        return False
