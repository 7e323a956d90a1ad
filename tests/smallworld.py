"""A ``model.Names`` that knows a small world and asks nobody, for the tests of this room."""

from collections.abc import Sequence
from ipaddress import ip_address

from sstrace.errors import LookupFailed
from sstrace.model import AF_INET, AF_INET6

DEVICES = {"lo": 1, "eth0": 7}
SERVICES = {
    ("ssh", "tcp"): 22,
    ("domain", "tcp"): 53,
    ("domain", "udp"): 53,
    ("split", "tcp"): 1,
    ("split", "udp"): 2,
    ("syslog", "udp"): 514,
}
HOSTS = {"localhost": ("127.0.0.1", "::1"), "multi": ("10.0.0.1", "10.0.0.2", "fd00::3"), "six": ("fd00::6",)}
CGROUPS = {"/known": 4711, "/user.slice": 4712, "/zero": 0}


class SmallWorld:
    """Numbers and names from the tables above."""

    def __init__(self) -> None:
        self.devices = DEVICES

    def ifname(self, index: int) -> str:
        return next((name for name, number in self.devices.items() if number == index), f"if{index}")

    def ifindex(self, name: str) -> int | None:
        return self.devices.get(name)

    def service(self, port: int, protocol: str | None) -> str | None:
        return next((n for (n, p), number in SERVICES.items() if number == port and protocol in (None, p)), None)

    def service_port(self, name: str, protocol: str | None) -> int | None:
        return SERVICES.get((name, protocol or "tcp"))

    def last_service_port(self) -> int | None:
        return 49151

    def ephemeral(self) -> tuple[int, int]:
        return 32768, 60999

    def rpc(self, port: int, protocol: str) -> str | None:
        return "rpc.mountd" if (port, protocol) == (20048, "tcp") else None

    def host(self, family: int, address: bytes) -> str | None:
        return None

    def addresses(self, name: str, family: int) -> Sequence[tuple[int, bytes]]:
        found = [(AF_INET6 if ":" in text else AF_INET, ip_address(text).packed) for text in HOSTS.get(name, ())]
        return [pair for pair in found if family in (0, pair[0])]

    def ip_protocol(self, number: int) -> str | None:
        return None

    def netlink_protocol(self, number: int) -> str | None:
        return None

    def netlink_protocol_number(self, name: str) -> int | None:
        return {"rtnl": 0, "genl": 16}.get(name)

    def process(self, pid: int) -> bytes | None:
        return None

    def process_context(self, pid: int) -> str | None:
        return None

    def of(self, net: int) -> "SmallWorld":
        return self

    def cgroup_path(self, cgroup_id: int) -> bytes | None:
        return None

    def cgroup_trouble(self, cgroup_id: int) -> str | None:
        return None

    def user_id(self, name: str) -> int | None:
        return {"root": 0, "www-data": 33}.get(name)

    def cgroup_id(self, path: str) -> int:
        if path not in CGROUPS:
            raise LookupFailed("Failed to get cgroup2 ID: No such file or directory")
        return CGROUPS[path]
