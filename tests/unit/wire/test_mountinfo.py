"""Namespaces that are mounted."""

from sstrace.wire.mountinfo import netns_mounts

# Of a host with `ip netns add blue`, docker, and a name that has a blank in it.
TEXT = rb"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
25 22 0:5 / /proc rw,nosuid,nodev,noexec,relatime shared:13 - proc proc rw
250 25 0:4 net:[4026532177] /run/netns/blue rw shared:7 - nsfs nsfs rw
251 25 0:4 mnt:[4026532240] /run/snapd/ns/lxd.mnt rw - nsfs nsfs rw
252 25 0:4 net:[4026532299] /run/docker/netns/3726184226f5 rw shared:8 - nsfs nsfs rw
253 25 0:4 net:[4026532177] /srv/a\040b\134c rw - nsfs nsfs rw
254 25 0:4 net:[
"""


def test_network_namespaces_alone_with_the_paths_as_they_are() -> None:
    assert netns_mounts(TEXT) == [
        (4026532177, "/run/netns/blue"),
        (4026532299, "/run/docker/netns/3726184226f5"),
        (4026532177, "/srv/a b\\c"),
    ]
    assert netns_mounts(b"") == []
