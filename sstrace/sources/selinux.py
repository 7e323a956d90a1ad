"""Whether SELinux is on, which -Z and -z need."""

from pathlib import Path

__all__ = ["selinux_enabled"]


def selinux_enabled() -> bool:
    """Tell what libselinux's is_selinux_enabled tells: its filesystem is mounted and a configuration exists."""
    try:
        mounts = Path("/proc/self/mounts").read_bytes()
    except OSError:
        return False
    mounted = any(line.split()[2:3] == [b"selinuxfs"] for line in mounts.splitlines())
    return mounted and Path("/etc/selinux/config").exists()
