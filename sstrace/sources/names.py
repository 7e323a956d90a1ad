"""Numbers to names and back, asked of this machine: ``model.Names`` as the system knows it. Everything is lazy and
remembered.

Sources: the resolver libraries behind getservbyport(3) and gethostbyaddr(3), /etc/protocols, /etc/rpc, iproute2's
nl_protos, /proc, and the cgroup2 mount.

Names change while one looks. Interfaces are renamed and replaced: who goes on for long tells of it
(``name_interface``). A cgroup's id is never used again, and cgroup2 knows no rename (kernel/cgroup/cgroup.c has none in
its operations), so its path stands for good, also when its directory has gone; an id that was not found is looked for
again after a while.
"""

import _socket as socket  # all that is needed of it; socket itself takes a millisecond to import
import errno
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress

from sstrace.errors import LookupFailed, SstraceError, reason
from sstrace.model import AF_INET, AF_INET6, AF_UNSPEC

__all__ = ["SystemNames"]

# include/uapi/linux/netlink.h, under the names that ss gives them.
_NETLINK_PROTOCOLS = {
    0: "rtnl",
    1: "unused",
    2: "usersock",
    3: "fw",
    4: "tcpdiag",
    5: "nflog",
    6: "xfrm",
    7: "selinux",
    8: "iscsi",
    9: "audit",
    10: "fiblookup",
    11: "connector",
    12: "nft",
    13: "ip6fw",
    14: "dec-rt",
    15: "uevent",
    16: "genl",
    18: "scsi-trans",
    19: "ecryptfs",
    20: "rdma",
    21: "crypto",
}
_NL_PROTOS = ("/etc/iproute2/nl_protos", "/usr/share/iproute2/nl_protos")

_MAPPED = b"\0" * 10 + b"\xff\xff"

_AGAIN_S = 1.0
"""What no cgroup had for its id is not looked for again before."""
_MOST_CGROUPS = 100_000
"""Cgroups that are remembered, most of them gone."""

_DEFAULT_EPHEMERAL = (1024, 4999)
"""What ss assumes when the sysctl cannot be read."""


class SystemNames:
    """See ``model.Names``. ``environ`` gives PROC_ROOT and PROC_IP_LOCAL_PORT_RANGE, as ss reads them; ``mounts`` is
    looked into for the cgroup2 mount, whatever PROC_ROOT says.
    """

    def __init__(self, environ: Mapping[str, str], *, mounts: str = "/proc/mounts") -> None:
        self._mounts = mounts
        self._proc = environ.get("PROC_ROOT", "/proc")
        self._range_file = environ.get("PROC_IP_LOCAL_PORT_RANGE")
        if self._range_file is None:
            self._range_file = f"{self._proc}/sys/net/ipv4/ip_local_port_range"
        self._ifnames: dict[int, str] = {}
        self._ifindexes: dict[str, int] = {}
        self.met: set[str] = set()
        """Names by which ``ifindex`` has found an interface."""
        self.elsewhere: Callable[[int], SystemNames | None] | None = None
        """Where several network namespaces are followed: the names in one of them, by its cookie."""
        self._of: dict[int, SystemNames] = {}
        self._inside: Callable[[], AbstractContextManager[None]] = nullcontext
        """How the network namespace is entered."""
        self._asked: Callable[[], dict[int, str]] | None = None
        """Who is asked for interfaces instead of the C library."""
        self._told = False
        """Whether somebody tells of every change of an interface's name."""
        self._services: dict[tuple[int, str | None], str | None] = {}
        self._hosts: dict[tuple[int, bytes], str | None] = {}
        self._ephemeral: tuple[int, int] | None = None
        self._rpc: dict[tuple[int, str], str] = {}
        self._protocols: dict[int, str] | None = None
        self._netlink: dict[int, str] | None = None
        self._cgroups: dict[int, bytes] = {}
        self._lost_cgroups: set[int] = set()
        self._cgroups_s = 0.0
        """When they were looked at, time.monotonic()."""
        self._cgroup_troubles: dict[int, str | None] = {}

    def of(self, net: int) -> "SystemNames":
        """The names as they are in another network namespace that is followed, by its cookie."""
        found = self._of.get(net)
        if found is None:
            if self.elsewhere is None or (found := self.elsewhere(net)) is None:
                return self
            self._of[net] = found
        return found

    def forget(self, net: int) -> None:
        """Another network namespace is gone, or is called otherwise from here on."""
        self._of.pop(net, None)

    def within(
        self,
        inside: Callable[[], AbstractContextManager[None]],
        interfaces: Callable[[], dict[int, str]] | None = None,
    ) -> "SystemNames":
        """The same in another network namespace, which ``inside`` enters; it may raise SstraceError. ``interfaces``:
        what knows them there, for one who cannot enter.
        """
        from copy import copy

        other = copy(self)
        other._ifnames, other._ifindexes, other._ephemeral = {}, {}, None
        other._told = False
        other._inside, other._asked = inside, interfaces
        return other

    def ifname(self, index: int) -> str:
        """Name of a network interface of this network namespace; ``if<index>`` when there is none."""
        name = self._ifnames.get(index)
        if name is None:
            name = self._ask_ifname(index)
            if name is None:
                return f"if{index}"
            self.name_interface(index, name)
        return name

    def enter(self) -> None:
        """From here on they are those of another network namespace, which this thread is in."""
        self._ifnames.clear()
        self._ifindexes.clear()
        self._ephemeral = None

    def read_interfaces(self) -> None:
        """Many names will be asked for; for those who then read all at once."""

    def ifindex(self, name: str) -> int | None:
        """Index of a network interface by its name or alternative name."""
        index = self._ifindexes.get(name)
        if index is None:
            try:
                if self._asked is not None:
                    index = {called: number for number, called in self.look_at_interfaces().items()}[name]
                else:
                    with self._inside():
                        index = socket.if_nametoindex(name)
            except (OSError, ValueError, KeyError, SstraceError):
                return None
            self.met.add(name)
            if not self._told:
                self._ifindexes[name] = index
        return index

    def name_interface(self, index: int, name: str | None) -> None:
        """From here on an interface has this name; None: there is none of this index."""
        before = self._ifnames.pop(index, None)
        if before is not None and self._ifindexes.get(before) == index:
            del self._ifindexes[before]
        if name is not None:
            self._ifnames[index] = name
            self._ifindexes[name] = index

    def know_interfaces(self) -> None:
        """Learn what all of them are called now. From here on ``name_interface`` is told of every change."""
        self._told = True
        self._ifnames.clear()
        self._ifindexes.clear()
        for index, name in self.look_at_interfaces().items():
            self.name_interface(index, name)

    def interfaces(self) -> dict[int, str]:
        """Index → name of every interface, by what was told."""
        return dict(self._ifnames) if self._told else self.look_at_interfaces()

    def look_at_interfaces(self) -> dict[int, str]:
        """The same by the kernel, now. Where it refuses to list them, of those that are known."""
        try:
            if self._asked is not None:
                return self._asked()
            with self._inside():
                return dict(socket.if_nameindex())
        except (OSError, SstraceError):
            asked = {index: self._ask_ifname(index) for index in self._ifnames}
            return {index: name for index, name in asked.items() if name is not None}

    def _ask_ifname(self, index: int) -> str | None:
        try:
            if self._asked is not None:
                return self._asked().get(index)
            with self._inside():
                return socket.if_indextoname(index)
        except (OSError, OverflowError, SstraceError):
            return None

    def service(self, port: int, protocol: str | None) -> str | None:
        """Service of a port; ``protocol`` None matches any, then the first entry of the database wins."""
        key = (port, protocol)
        try:
            return self._services[key]
        except KeyError:
            pass
        try:
            name: str | None = socket.getservbyport(port, protocol) if protocol else socket.getservbyport(port)
        except (OSError, OverflowError):
            name = None
        self._services[key] = name
        return name

    def service_port(self, name: str, protocol: str | None) -> int | None:
        """Port of a service, host order."""
        try:
            return socket.getservbyname(name, protocol) if protocol else socket.getservbyname(name)
        except (OSError, ValueError):
            return None

    def last_service_port(self) -> int | None:
        """Port of the last entry of /etc/services: what glibc's buffer holds after a search that found nothing."""
        try:
            with open("/etc/services", "rb") as file:
                lines = file.read().splitlines()
        except OSError:
            return None
        for line in reversed(lines):
            words = line.partition(b"#")[0].split()
            number, slash, protocol = words[1].partition(b"/") if len(words) > 1 else (b"", b"", b"")
            if number.isdigit() and slash and protocol:
                return int(number) & 0xFFFF
        return None

    def ephemeral(self) -> tuple[int, int]:
        """First and last local port that the kernel picks by itself, inclusive; 1024 and 4999 when that cannot be
        read.
        """
        if self._ephemeral is None:
            self._ephemeral = self.read_ephemeral() or _DEFAULT_EPHEMERAL
        return self._ephemeral

    def read_ephemeral(self) -> tuple[int, int] | None:
        """The same as it is now; None when that cannot be read."""
        try:
            with self._inside():
                first, last = map(int, _read(self._range_file or "").split()[:2])
        except (ValueError, SstraceError):
            return None
        return first, last

    def learn_rpc(self, programs: Iterable[tuple[int, str, int]]) -> None:
        """Take in rpcbind's map, (program number, protocol, port): from then on ``rpc`` knows these ports.

        A program that /etc/rpc has no name for is left out.
        """
        names: dict[int, str] = {}
        for line in _read("/etc/rpc").splitlines():
            words = line.partition(b"#")[0].split()
            if len(words) >= 2 and words[1].isdigit():
                names.setdefault(int(words[1]), words[0].decode("latin-1"))
        for program, protocol, port in programs:
            if program in names:
                self._rpc[port, protocol] = f"rpc.{names[program]}"

    def rpc(self, port: int, protocol: str) -> str | None:
        """``rpc.NAME`` of a port by what ``learn_rpc`` was told."""
        return self._rpc.get((port, protocol))

    def host(self, family: int, address: bytes) -> str | None:
        """Host name of an address; a v4-mapped one is looked up as IPv4, as ss does. ``None`` when it has no name."""
        if family == AF_INET6 and address.startswith(_MAPPED):
            family, address = AF_INET, address[12:]
        key = (family, address)
        try:
            return self._hosts[key]
        except KeyError:
            pass
        name: str | None = None
        try:
            name = socket.gethostbyaddr(socket.inet_ntop(family, address))[0]
        except (OSError, ValueError):
            name = None
        self._hosts[key] = name
        return name

    def addresses(self, name: str, family: int) -> Sequence[tuple[int, bytes]]:
        """Addresses of a host name, IPv4 before IPv6 where ``family`` is AF_UNSPEC; empty when there are none."""
        found: list[tuple[int, bytes]] = []
        if family in (AF_UNSPEC, AF_INET):
            with suppress(OSError, ValueError, TypeError):  # TypeError: a NUL in the name
                # Not getaddrinfo: that sorts by RFC 6724, and ss shows the order of the hosts file.
                found += [(AF_INET, socket.inet_aton(text)) for text in socket.gethostbyname_ex(name)[2]]
        # getaddrinfo takes an address with a scope (fe80::1%eth0), which is no name to ss.
        if family in (AF_UNSPEC, AF_INET6) and not (":" in name and "%" in name):
            with suppress(OSError, ValueError, TypeError):  # TypeError: a NUL in the name
                answers = socket.getaddrinfo(name, None, AF_INET6, socket.SOCK_STREAM)
                found += [(AF_INET6, socket.inet_pton(AF_INET6, str(a[4][0]).partition("%")[0])) for a in answers]
        return found

    def ip_protocol(self, number: int) -> str | None:
        """Name from /etc/protocols, which Python's own library can only search the other way round."""
        if self._protocols is None:
            self._protocols = {}
            for line in _read("/etc/protocols").splitlines():
                words = line.partition(b"#")[0].split()
                if len(words) >= 2 and words[1].isdigit():
                    self._protocols.setdefault(int(words[1]), words[0].decode("latin-1"))
        return self._protocols.get(number)

    def _netlink_names(self) -> dict[int, str]:
        if self._netlink is None:
            self._netlink = dict(_NETLINK_PROTOCOLS)
            text = b""
            for path in _NL_PROTOS:
                text = _read(path)
                if text:
                    break
            for line in text.splitlines():
                words = line.partition(b"#")[0].split()
                try:
                    number, name = int(words[0], 0), words[1].decode("latin-1")
                except (IndexError, ValueError):
                    continue
                if 0 <= number < 256:
                    self._netlink[number] = name
        return self._netlink

    def netlink_protocol(self, number: int) -> str | None:
        """Name of a netlink protocol: iproute2's nl_protos file where there is one, else the names ss has built in."""
        return self._netlink_names().get(number)

    def netlink_protocol_number(self, name: str) -> int | None:
        """Number of a netlink protocol by its name; a number in text is not looked at."""
        for number, known in sorted(self._netlink_names().items()):
            if known == name:
                return number
        return None

    def process(self, pid: int) -> bytes | None:
        """The comm of a process, up to its first ``)``; ``None`` when it cannot be read."""
        try:
            with open(f"{self._proc}/{pid}/stat", "rb") as file:
                return file.read().partition(b"(")[2].partition(b")")[0]
        except OSError:
            return None

    def process_context(self, pid: int) -> str | None:
        """SELinux context of a process; ``None`` where there is none."""
        text = _read(f"{self._proc}/{pid}/attr/current").rstrip(b"\0\n").decode("latin-1")
        return text or None

    def cgroup_mount(self) -> str | None:
        """Where the first cgroup2 filesystem is mounted; ``None`` when none is."""
        for line in _read(self._mounts).splitlines():
            words = line.split(b" ")
            if len(words) > 2 and words[2] == b"cgroup2":
                # mounts(5): blanks, tabs, newlines and backslashes of a path are written as octal escapes.
                path = words[1]
                for code, byte in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
                    path = path.replace(code, byte)
                return os.fsdecode(path)
        return None

    def cgroup_path(self, cgroup_id: int) -> bytes | None:
        """Path of a cgroup below the mount, ``/`` for its root; ``None`` when no directory has this id.

        The id is the directory's inode number (kernfs, Linux 5.5: 67c0496e87d1 "kernfs: convert kernfs_node->id from
        union kernfs_node_id to u64"). An id that is not known leads to a scan of the whole mount; where that does not
        find it, to another one after a second at the earliest.
        """
        path = self._cgroups.get(cgroup_id)
        if path is None and (cgroup_id not in self._lost_cgroups or time.monotonic() - self._cgroups_s >= _AGAIN_S):
            found = self._scan_cgroups()
            self._cgroups_s = time.monotonic()
            self._lost_cgroups -= found.keys()
            # Those that have gone keep their names: sockets outlive them.
            self._cgroups = found if len(self._cgroups) > _MOST_CGROUPS else self._cgroups | found
            path = found.get(cgroup_id)
            if path is None:
                if len(self._lost_cgroups) > _MOST_CGROUPS:
                    self._lost_cgroups.clear()
                self._lost_cgroups.add(cgroup_id)
        return path

    def cgroup_trouble(self, cgroup_id: int) -> str | None:
        """Why ``cgroup_path`` found nothing, in ss's words: there is no mount, or the kernel refuses to open the cgroup
        by its id (which takes CAP_DAC_READ_SEARCH). None: the cgroup is gone.
        """
        try:
            return self._cgroup_troubles[cgroup_id]
        except KeyError:
            trouble = self._cgroup_troubles[cgroup_id] = self._ask_cgroup(cgroup_id)
            return trouble

    def _ask_cgroup(self, cgroup_id: int) -> str | None:
        mount = self.cgroup_mount()
        if mount is None:
            return self._no_mount()
        from sstrace.sources.handle import open_trouble

        try:
            top = os.open(mount, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return "Failed to open cgroup2 mount"
        try:
            trouble = open_trouble(top, cgroup_id)
        finally:
            os.close(top)
        return "Failed to open cgroup2 by ID" if trouble not in (0, errno.ESTALE) else None

    def _no_mount(self) -> str:
        missing = "Failed to find cgroup2 mount"
        try:
            os.close(os.open(self._mounts, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            return f"Failed to open mounts file: {reason(error)}\n{missing}"
        return missing

    def _scan_cgroups(self) -> dict[int, bytes]:
        mount = self.cgroup_mount()
        if mount is None:
            return {}
        top = os.fsencode(mount)
        found: dict[int, bytes] = {}
        try:
            found[os.stat(top).st_ino] = b"/"  # noqa: PTH116 (pathlib is not loaded for this)
        except OSError:
            return found
        waiting = [top]
        while waiting:
            directory = waiting.pop()
            try:
                with os.scandir(directory) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            found[entry.inode()] = entry.path[len(top) :]
                            waiting.append(entry.path)
            except OSError:
                continue  # it was removed under our feet
        return found

    def user_id(self, name: str) -> int | None:
        """Number of a user; None when there is none of that name."""
        from pwd import getpwnam

        try:
            return getpwnam(name).pw_uid
        except (KeyError, ValueError):
            return None

    def cgroup_id(self, path: str) -> int:
        """Id of a cgroup: ``path`` as it stands, and if that does not exist, below the cgroup2 mount.

        Like ss it asks for the file handle, so that a directory of another filesystem gives a number that no cgroup
        has. The text of LookupFailed is ss's.
        """
        # Only a filter with ``cgroup`` in it comes here; ctypes would cost every other start some milliseconds.
        from sstrace.sources.handle import handle_of

        handle = handle_of(path)
        if isinstance(handle, int):
            below = path.lstrip("/")
            if not below:
                raise LookupFailed("Invalid cgroup2 path")
            mount = self.cgroup_mount()
            if mount is None:
                raise LookupFailed(self._no_mount())
            try:
                os.close(os.open(mount, os.O_RDONLY | os.O_CLOEXEC))
            except OSError:
                raise LookupFailed("Failed to open cgroup2 mount") from None
            handle = handle_of(f"{mount}/{below}")
            if isinstance(handle, int):
                raise LookupFailed(f"Failed to get cgroup2 ID: {os.strerror(handle)}")
        if len(handle) != 8:
            raise LookupFailed("Invalid size of cgroup2 ID")
        return int.from_bytes(handle, sys.byteorder)


def _read(path: str) -> bytes:
    """The whole file, empty when it cannot be read: these files only improve what is printed."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except (OSError, ValueError):
        return b""
