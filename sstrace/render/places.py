"""What lines of NDJSON say of the host and the network namespace that they are of."""

from typing import Annotated

import msgspec
from msgspec import Meta

from sstrace.model import Label

__all__ = ["Place", "place"]


class Place(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The keys; there with --netns, ``host`` of the recordings in a directory."""

    host: Annotated[str, Meta(description="of a directory of recordings: of which host")] | None = None
    netns: Annotated[int, Meta(description="inode of the network namespace")] | None = None
    netns_name: Annotated[str, Meta(description="its name of ip-netns(8)")] | None = None
    container_id: Annotated[str, Meta(description="of the process in it with the lowest pid")] | None = None
    container_runtime: (
        Annotated[str, Meta(description="docker, containerd, cri-o, podman, systemd-nspawn, lxc")] | None
    ) = None
    pod: Annotated[str, Meta(description="Kubernetes pod; its uid where its name is not known")] | None = None
    pod_namespace: str | None = None


def place(inode: int, label: Label) -> dict[str, int | str]:
    """The keys of one namespace that have values."""
    keys = {name: getattr(label, name) for name in Place.__struct_fields__ if name in label.__struct_fields__}
    return {"netns": inode} | {name: value for name, value in keys.items() if value is not None}
