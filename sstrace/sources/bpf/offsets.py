"""Where the kernel keeps what the programs read: members of its structs by BTF, as macros for the C sources."""

from sstrace.errors import FeatureError
from sstrace.sources.btf import Btf
from sstrace.sources.netns import gives_cookies

__all__ = [
    "BITS",
    "CALLER",
    "DATAGRAMS",
    "FIGURES",
    "HASHINFO",
    "INCIDENTS",
    "NEEDED",
    "OPTIONAL",
    "UNIX",
    "UNIX_OPTIONAL",
    "Figures",
    "Offsets",
    "figure_macros",
    "macros",
]

Offsets = dict[str, tuple[tuple[str, str], ...]]
"""Macro (without OFF_) → the struct and member that it is the offset of; where several stand, the first that the kernel
has counts."""

Figures = dict[str, tuple[str, str, int]]
"""Macro (without IN_ and AT_) → struct, member, and the size that is read."""

NEEDED: Offsets = {
    "skc_net": (("sock_common", "skc_net"),),
    "skc_family": (("sock_common", "skc_family"),),
    "skc_state": (("sock_common", "skc_state"),),
    "skc_num": (("sock_common", "skc_num"),),
    "skc_dport": (("sock_common", "skc_dport"),),
    "skc_bound_dev_if": (("sock_common", "skc_bound_dev_if"),),
    "skc_cookie": (("sock_common", "skc_cookie"),),
    "skc_rcv_saddr": (("sock_common", "skc_rcv_saddr"),),
    "skc_daddr": (("sock_common", "skc_daddr"),),
    "skc_pprev": (("sock_common", "skc_nulls_node.pprev"),),
    "net_inum": (("net", "ns.inum"),),
    "sk_socket": (("sock", "sk_socket"),),
    "sk_protocol": (("sock", "sk_protocol"),),
    "sk_err": (("sock", "sk_err"),),
    "sk_shutdown": (("sock", "sk_shutdown"),),
    "socket_ino": (("socket_alloc", "vfs_inode.i_ino"),),
    "socket_file": (("socket", "file"),),
    "task_flags": (("task_struct", "flags"),),
    "task_comm": (("task_struct", "comm"),),
    "task_group_leader": (("task_struct", "group_leader"),),
    "task_files": (("task_struct", "files"),),
    "files_fdt": (("files_struct", "fdt"),),
    "files_next_fd": (("files_struct", "next_fd"),),
    "fdt_fd": (("fdtable", "fd"),),
    "fdt_max_fds": (("fdtable", "max_fds"),),
    "timer_function": (("timer_list", "function"),),
    "timer_pprev": (("timer_list", "entry.pprev"),),
    # Linux 6.19 moved the timer into struct sock.
    "retransmit_timer": (("inet_connection_sock", "icsk_retransmit_timer"), ("sock", "tcp_retransmit_timer")),
    "rsk_timer": (("request_sock", "rsk_timer"),),
    "num_retrans": (("request_sock", "num_retrans"),),
    "tw_timer": (("inet_timewait_sock", "tw_timer"),),
    "tw_substate": (("inet_timewait_sock", "tw_substate"),),
}
"""Of the event path: without these there is none."""

INCIDENTS: Offsets = {
    **NEEDED,
    "skb_cb": (("sk_buff", "cb"),),
    "skb_len": (("sk_buff", "len"),),
    "cb_seq": (("tcp_skb_cb", "seq"),),
    "cb_end_seq": (("tcp_skb_cb", "end_seq"),),
    "cb_tcp_flags": (("tcp_skb_cb", "tcp_flags"),),
    "rcv_wup": (("tcp_sock", "rcv_wup"),),
    "rcv_wnd": (("tcp_sock", "rcv_wnd"),),
    "rcv_next": (("tcp_sock", "rcv_nxt"),),
    "icsk_ca_state": (("inet_connection_sock", "icsk_ca_state"),),
}
"""Of incidents."""

DATAGRAMS: Offsets = {
    "file_private_data": (("file", "private_data"),),
    "socket_sk": (("socket", "sk"),),
    "sk_type": (("sock", "sk_type"),),
    "inet_sport": (("inet_sock", "inet_sport"),),
}
"""What the programs that tell of datagram sockets need besides."""

UNIX: Offsets = {
    **{
        name: NEEDED[name]
        for name in (
            "skc_net",
            "skc_family",
            "skc_state",
            "skc_cookie",
            "net_inum",
            "sk_socket",
            "socket_ino",
            "socket_file",
            "task_comm",
            "task_group_leader",
            "task_files",
            "files_fdt",
            "fdt_fd",
            "fdt_max_fds",
        )
    },
    "file_private_data": DATAGRAMS["file_private_data"],
    "socket_sk": DATAGRAMS["socket_sk"],
    "sk_type": DATAGRAMS["sk_type"],
    "sk_uid": (("sock", "sk_uid"),),
    "unix_peer": (("unix_sock", "peer"),),
    "unix_addr": (("unix_sock", "addr"),),
    "unix_len": (("unix_address", "len"),),
    "unix_name": (("unix_address", "name"),),
}
"""Of the programs that tell of unix sockets: CONFIG_UNIX=y, so that its structs are in the kernel's own BTF."""

UNIX_OPTIONAL: Offsets = {"file_ref": (("file", "f_ref"),), "file_count": (("file", "f_count"),)}
"""Of which there is one."""

CALLER: Offsets = {
    "task_nsproxy": (("task_struct", "nsproxy"),),
    "nsproxy_net": (("nsproxy", "net_ns"),),
}
"""What leads to the network namespace of who runs a program."""

# Behind a pointer in Linux 5.18 to 6.0: see tw_count.
HASHINFO: Offsets = {"net_hashinfo": (("net", "ipv4.tcp_death_row.hashinfo"),)}
"""What leads to the hash tables of a namespace's TCP sockets."""

# IPv6 is a build option; sk_cgrp_data is too.
OPTIONAL: Offsets = {
    "skc_v6_rcv_saddr": (("sock_common", "skc_v6_rcv_saddr"),),
    "skc_v6_daddr": (("sock_common", "skc_v6_daddr"),),
    # Every namespace has one since 3d368ab87cf6 ("net: initialize net->net_cookie at netns setup", v5.12); before, it
    # was made when somebody asked.
    "net_cookie": (("net", "net_cookie"),),
    "sk_uid": (("sock", "sk_uid"),),
    "sk_ino": (("sock", "sk_ino"),),
    "file_ref": (("file", "f_ref"),),
    "file_count": (("file", "f_count"),),
    "icsk_retransmits": (("inet_connection_sock", "icsk_retransmits"),),
    "skc_flags": (("sock_common", "skc_flags"),),
    "sk_lingertime": (("sock", "sk_lingertime"),),
    "sk_txhash": (("sock", "sk_txhash"),),
    # MPTCP is a build option.
    "icsk_ulp_data": (("inet_connection_sock", "icsk_ulp_data"),),
    "subflow_conn": (("mptcp_subflow_context", "conn"),),
    "msk_first": (("mptcp_sock", "first"),),
    "snd_una": (("tcp_sock", "snd_una"),),
    "write_seq": (("tcp_sock", "write_seq"),),
    "rcv_nxt": (("tcp_sock", "rcv_nxt"),),
    "copied_seq": (("tcp_sock", "copied_seq"),),
    "inet_sport": (("inet_sock", "inet_sport"),),
    "skc_listener": (("sock_common", "skc_listener"),),
    "ack_backlog": (("sock", "sk_ack_backlog"),),
    "max_ack_backlog": (("sock", "sk_max_ack_backlog"),),
    "abort_on_overflow": (("net", "ipv4.sysctl_tcp_abort_on_overflow"),),
    # Counts one more since fbb8295248e1 ("tcp: allocate tcp_death_row outside of struct netns_ipv4", v5.18), behind a
    # pointer until e9bd0cca09d1 ("tcp: Don't allocate tcp_death_row outside of struct netns_ipv4", v6.1).
    "tw_refcount": (("net", "ipv4.tcp_death_row.tw_refcount"),),
    "tw_count": (("net", "ipv4.tcp_death_row.tw_count"),),
    "tw_most": (("net", "ipv4.tcp_death_row.sysctl_max_tw_buckets"),),
    # A pointer since 8520e224f547 ("bpf, cgroups: Fix cgroup v2 fallback on v1/v2 mixed mode", v5.15), packed before.
    "sk_cgroup": (("sock", "sk_cgrp_data.cgroup"), ("sock", "sk_cgrp_data.val")),
    "cgroup_kn": (("cgroup", "kn"),),
    "kernfs_id": (("kernfs_node", "id"),),
}
"""What a kernel may lack at the price of one field."""

BITS: Offsets = {
    "skc_ipv6only": (("sock_common", "skc_ipv6only"),),
    "fastopen_connect": (("tcp_sock", "fastopen_connect"),),
    "acked": (("inet_request_sock", "acked"),),
    "sk_kern_sock": (("sock", "sk_kern_sock"),),
}
"""The same, of bit-fields of one bit."""

FIGURES: Figures = {
    "bytes_sent": ("tcp_sock", "bytes_sent", 8),
    "bytes_received": ("tcp_sock", "bytes_received", 8),
    "bytes_retrans": ("tcp_sock", "bytes_retrans", 8),
    "segs_out": ("tcp_sock", "segs_out", 4),
    "segs_in": ("tcp_sock", "segs_in", 4),
    "total_retrans": ("tcp_sock", "total_retrans", 4),
    "delivered": ("tcp_sock", "delivered", 4),
    "lost": ("tcp_sock", "lost", 4),
    "rcv_ooopack": ("tcp_sock", "rcv_ooopack", 4),
    "srtt_us": ("tcp_sock", "srtt_us", 4),
    "rtt_min": ("tcp_sock", "rtt_min.s", 8),  # struct minmax_sample: t, v
}
"""What a connection has carried (bpf/figures.h): all there since f9af2dbbfe01 ("tcp: Add TCP_INFO counter for packets
received out-of-order", v5.4).
"""

_WINDOW_BYTES = 64
_WINDOWS_MOST = 7

_COMMON = {"skc_net": 8, "skc_family": 2, "skc_num": 2, "skc_dport": 2, "skc_bound_dev_if": 4, "skc_cookie": 8}
_COMMON |= {"skc_rcv_saddr": 4, "skc_daddr": 4, "skc_v6_rcv_saddr": 16, "skc_v6_daddr": 16}


def macros(
    needed: Offsets, optional: Offsets, bits: Offsets, btf: Btf, *, cookies: bool | None = None
) -> dict[str, int]:
    """Every offset that the kernel has, by the macro's name. Raises FeatureError where one that is needed is
    missing. ``cookies``: whether it tells anybody the cookies of namespaces; None: see for yourself.
    """
    found: dict[str, int] = {}
    for name, places in (needed | optional).items():
        offset = next((at for at in (btf.offset(*place) for place in places) if at is not None), None)
        if offset is not None:
            found[f"OFF_{name}"] = offset
        elif name in needed:
            raise FeatureError(f"this kernel's BTF has no {places[0][0]}.{places[0][1]}: sstrace does not know it yet")
    for name, places in bits.items():
        bit = next((at for at in (btf.bit(*place) for place in places) if at is not None), None)
        if bit is not None:
            found[f"BYTE_{name}"], found[f"MASK_{name}"] = bit
    if "OFF_skc_v6_daddr" not in found or "OFF_skc_v6_rcv_saddr" not in found:
        found.pop("OFF_skc_v6_rcv_saddr", None)
    if "OFF_cgroup_kn" not in found or "OFF_kernfs_id" not in found:
        found.pop("OFF_sk_cgroup", None)
    if not (gives_cookies() if cookies is None else cookies):
        # Linux 5.7 to 5.13 have some that nobody is told (sources.netns): who knows a namespace by its inode here must
        # not meet it by another name there.
        found.pop("OFF_net_cookie", None)
    found["COMMON_END"] = max(found.get(f"OFF_{name}", 0) + size for name, size in _COMMON.items())
    return found


def figure_macros(figures: Figures, btf: Btf) -> dict[str, int]:
    """The windows that are laid over members, as bpf/figures.h reads them: none where the kernel lacks a member, or has
    them too far apart.
    """
    found = [(btf.offset(struct, member), size, name) for name, (struct, member, size) in figures.items()]
    places = sorted((at, size, name) for at, size, name in found if at is not None)
    starts: list[int] = []
    where: dict[str, tuple[int, int]] = {}
    for at, size, name in places:
        if not starts or at + size > starts[-1] + _WINDOW_BYTES:
            starts.append(at & ~7)  # on the stack, words are where words may be
        where[name] = len(starts) - 1, at - starts[-1]
    usable = len(places) == len(figures) and len(starts) <= _WINDOWS_MOST
    result = {"WINDOW_BYTES": _WINDOW_BYTES, "WINDOWS": len(starts) if usable else 0}
    if usable:
        for number in range(_WINDOWS_MOST):
            result[f"WINDOW_{number}"] = starts[number] if number < len(starts) else 0
        for name, (window, at) in where.items():
            result[f"IN_{name}"], result[f"AT_{name}"] = window, at
    return result
