"""The fields of ECS that documents have, object by object; what ECS has no field for is in render.ecs."""

from typing import Literal

import msgspec

from sstrace.render.transports import IpVersion, Transport, Type

__all__ = [
    "ECS_VERSION",
    "Address",
    "Container",
    "Version",
    "Event",
    "Host",
    "Network",
    "Orchestrator",
    "Os",
    "Outcome",
    "Process",
    "Resource",
    "Service",
    "User",
]

ECS_VERSION = "8.11.0"
"""The release whose fields are used; every later 8.x has them."""

Outcome = Literal["success", "failure"] | None


class Event(msgspec.Struct, omit_defaults=True, gc=False):
    """ECS ``event``."""

    kind: Literal["event", "state"]
    """state: a socket as it is (baseline, repair); event: something happened."""
    category: list[Literal["network"]]
    type: list[Type]
    action: str
    """The state that was entered, in ss's words (``established``, ``syn-sent``, …); of other lines, their type."""
    module: str
    dataset: str
    """``sstrace.`` and the line's type: state, life, seen, gone, gap, resync, meta, netns, checkpoint, dropped, and
    those of incidents."""
    sequence: int
    outcome: Outcome = None
    reason: str | None = None
    """Why the connection ended, or what else closed here: a cause of sstrace's."""
    duration: int | None = None
    """Where the connection ended, or the listening: nanoseconds since it began."""


class Address(msgspec.Struct, omit_defaults=True, gc=False):
    """ECS ``source`` or ``destination``."""

    ip: str | None = None
    port: int | None = None
    bytes: int | None = None
    """Of a life: payload that this end has sent, each byte once."""
    packets: int | None = None
    """Of a life: segments that this end has sent, as far as they came."""
    address: str | None = None
    """Outside of the internet's families: its name."""


class Network(msgspec.Struct, omit_defaults=True):
    """ECS ``network``."""

    transport: Transport
    type: IpVersion | None = None
    direction: Literal["ingress", "egress"] | None = None


class Process(msgspec.Struct):
    """ECS ``process``: the first owner of the socket."""

    pid: int
    name: str


class User(msgspec.Struct):
    """ECS ``user``: owner of the socket."""

    id: str


class Container(msgspec.Struct, omit_defaults=True):
    """ECS ``container``."""

    id: str
    runtime: str | None = None


class Resource(msgspec.Struct):
    """ECS ``orchestrator.resource``."""

    id: str
    type: Literal["pod"] = "pod"


class Orchestrator(msgspec.Struct):
    """ECS ``orchestrator``: the pod."""

    resource: Resource
    type: Literal["kubernetes"] = "kubernetes"


class Os(msgspec.Struct):
    """ECS ``host.os``."""

    kernel: str
    type: Literal["linux"] = "linux"


class Host(msgspec.Struct):
    """ECS ``host``."""

    name: str
    os: Os
    boot: dict[Literal["id"], str]


class Service(msgspec.Struct):
    """``systemd``: the unit, as Elastic's own journal input names it."""

    unit: str


class Version(msgspec.Struct):
    """ECS ``ecs``."""

    version: str = ECS_VERSION
