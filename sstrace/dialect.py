"""What differs between the releases of ss, as data: one field a difference, one line a release that brought it.

Nothing else in the package compares version numbers. A renderer or parser asks the field; the field's name says
what is true when it is set. The facts were found by running builds of 6.1.0, 6.15.0, 7.1.0 and 7.3.0 beside each other;
those of the releases in between by the iproute2 release that carries the change. Releases before ``OLDEST`` are treated
as it, later than ``NEWEST`` as that.
"""

import msgspec

from sstrace.errors import UsageError

__all__ = [
    "LINK_PROTOCOLS",
    "NEWEST",
    "OLDEST",
    "Dialect",
    "dialect",
    "link_protocol",
    "link_protocol_number",
    "parse_version",
]

OLDEST = (6, 1)
"""The oldest release whose bytes were studied."""

NEWEST = (7, 3)
"""The newest release whose bytes were studied: what is imitated where no ss is installed."""


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """One release of ss. Every flag is False in 6.1 unless its line says otherwise."""

    version: tuple[int, int]
    """Major and minor: (6, 1)."""
    release: str
    """As ``ss -V`` prints it after ``iproute2-``: ``6.1.0``."""

    packet_type_in_proc: bool
    """6.5: packet_raw and packet_dgram also choose rows of /proc/net/packet."""
    tls_no_pad_rx: bool
    """6.5: the word ``no_pad_rx`` in the TLS block."""
    mptcp_counters: bool
    """6.5: the mptcp counters are unsigned, its sequence numbers decimal, and ten new fields exist."""
    link_cfm: bool
    """6.5: link protocol 0x8902 is named ``cfm``."""
    tcp_rcv_wnd: bool
    """6.6: ``rcv_wnd:`` and ``rehash:`` end the tcp_info block."""
    unsigned_inode: bool
    """6.6: unix inodes print unsigned, and ports in filters are 64-bit instead of 32-bit integers."""
    process_column_only_with_p: bool
    """6.8: the Process column exists only with -p, so that -T, -Z and -z alone print nobody; everything else that
    followed the peer has a column of its own."""
    bound_inactive: bool
    """6.8: -B, state ``bound-inactive``, and two more bits in every state mask."""
    usec_ts: bool
    """6.8: the word ``usec_ts`` among the TCP options."""
    mptcp_subflows_total: bool
    """6.8: ``subflows_total:``."""
    md5_in_row: bool
    """6.8: MD5 keys are part of the row; before, they reach standard output ahead of the whole table."""
    queues_option: bool
    """6.9: -Q."""
    bpf_maps: bool
    """6.9, when built with libbpf: --bpf-maps and --bpf-map-id."""
    mptcp_last_times: bool
    """6.10: ``last_data_sent last_data_recv last_ack_recv``."""
    columns_env: bool
    """6.11: the environment variable COLUMNS gives the width where the terminal does not."""
    timer_sec_bug: bool
    """Set before 6.11: a timer of 1.5 s prints as ``1.500ms``."""
    mptcp_subflow_decimal: bool
    """6.14: the subflow words seq, sfseq, ssnoff, maplen are decimal."""
    cgroup_estale_silent: bool
    """6.14: a cgroup that is gone makes no noise on standard error."""
    dump_file_error: bool
    """6.17: -D into a file that cannot be written is an error; before, it is silently nothing."""
    mptcp_laminar: bool
    """6.19: ``endp_laminar_max``."""
    netlink_errors_silent: bool
    """7.0: a table that the kernel lacks makes no noise on standard error."""
    trim_last_column: bool
    """7.0: without a known width, the last visible of the first nine columns is not padded."""
    comm_escaped: bool
    """7.0: bytes of process names that do not print become ``.`` or ``?``."""
    timer_delack: bool
    """7.1: timer 5 is named ``delack`` instead of ``unknown``."""
    events_flush: bool
    """7.1: -E flushes after each event."""
    unsigned_ports: bool
    """7.3: what ss keeps as the port of a row is unsigned: XDP queues print so; inodes, queues and vsock ports compare
    so.
    """
    dccp: bool
    """Set before 7.3, which dropped the dccp table with -d, --dccp and its -A name."""


def dialect(version: tuple[int, ...] = NEWEST, release: str | None = None) -> Dialect:
    """Give the dialect of a release, e.g. ``dialect((6, 1))``; ``release`` is its full text where it is known.

    Patch levels do not matter. Releases out of the studied range take the rules of its nearer end but keep their
    number.
    """
    major_minor = (version[0], version[1] if len(version) > 1 else 0)

    def since(major: int, minor: int) -> bool:
        return major_minor >= (major, minor)

    if release is None:
        release = ".".join(map(str, version if len(version) > 2 else (*major_minor, 0)))
        if major_minor == (7, 0):
            release = f"v{release}"  # iproute2 7.0.0 wrote its tag's name into its version
    return Dialect(
        version=major_minor,
        release=release,
        packet_type_in_proc=since(6, 5),
        tls_no_pad_rx=since(6, 5),
        mptcp_counters=since(6, 5),
        link_cfm=since(6, 5),
        tcp_rcv_wnd=since(6, 6),
        unsigned_inode=since(6, 6),
        process_column_only_with_p=since(6, 8),
        bound_inactive=since(6, 8),
        usec_ts=since(6, 8),
        mptcp_subflows_total=since(6, 8),
        md5_in_row=since(6, 8),
        queues_option=since(6, 9),
        bpf_maps=since(6, 9),
        mptcp_last_times=since(6, 10),
        columns_env=since(6, 11),
        timer_sec_bug=not since(6, 11),
        mptcp_subflow_decimal=since(6, 14),
        cgroup_estale_silent=since(6, 14),
        dump_file_error=since(6, 17),
        mptcp_laminar=since(6, 19),
        netlink_errors_silent=since(7, 0),
        trim_last_column=since(7, 0),
        comm_escaped=since(7, 0),
        timer_delack=since(7, 1),
        events_flush=since(7, 1),
        unsigned_ports=since(7, 3),
        dccp=not since(7, 3),
    )


def parse_version(text: str) -> tuple[int, ...]:
    """Read a version of ss: ``6.1``, ``iproute2-6.1.0``, or the whole line ``ss utility, iproute2-6.15.0``.
    A "v" in front is passed over: 7.0 calls itself v7.0.0.

    The dated versions of before 2020 (``iproute2-ss190107``) and 4.x, 5.x give what they say, which ``dialect``
    takes for 6.1; a dated one gives (5, 0). Raises UsageError for anything else.
    """
    words = text.strip().split()
    word = words[-1] if words else ""
    number = word.rpartition("-")[2].removeprefix("v")
    if number[:2] == "ss" and number[2:].isdecimal():
        return (5, 0)
    parts = number.split(".")
    # A vendor's suffix (6.1.0+deb12u1, 6.4.0_rc1) must not make a version unreadable: each part is its digits.
    digits = []
    for part in parts:
        length = 0
        while length < len(part) and part[length] in "0123456789":
            length += 1
        if not 0 < length < 10:  # no number, or one that counts nothing
            break
        digits.append(int(part[:length]))
        if length < len(part):
            break
    if len(digits) < 2:
        raise UsageError(f'sstrace: "{text}" is not a version of ss: write it like 6.1 or iproute2-6.15.0')
    return tuple(digits)


LINK_PROTOCOLS: tuple[tuple[int, str], ...] = (
    (0x0060, "loop"),
    (0x0200, "pup"),
    (0x0201, "pupat"),
    (0x0800, "ip"),
    (0x0805, "x25"),
    (0x0806, "arp"),
    (0x08FF, "bpq"),
    (0x0A00, "ieeepup"),
    (0x0A01, "ieeepupat"),
    (0x6000, "dec"),
    (0x6001, "dna_dl"),
    (0x6002, "dna_rc"),
    (0x6003, "dna_rt"),
    (0x6004, "lat"),
    (0x6005, "diag"),
    (0x6006, "cust"),
    (0x6007, "sca"),
    (0x8035, "rarp"),
    (0x809B, "atalk"),
    (0x80F3, "aarp"),
    (0x8137, "ipx"),
    (0x86DD, "ipv6"),
    (0x8863, "ppp_disc"),
    (0x8864, "ppp_ses"),
    (0x884C, "atmmpoa"),
    (0x8884, "atmfate"),
    (0x0001, "802_3"),
    (0x0002, "ax25"),
    (0x0003, "all"),
    (0x0004, "802_2"),
    (0x0005, "snap"),
    (0x0006, "ddcmp"),
    (0x0007, "wan_ppp"),
    (0x0008, "ppp_mp"),
    (0x0009, "localtalk"),
    (0x000C, "can"),
    (0x0010, "ppptalk"),
    (0x0011, "tr_802_2"),
    (0x0015, "mobitex"),
    (0x0016, "control"),
    (0x0017, "irda"),
    (0x0018, "econet"),
    (0x88CA, "tipc"),
    (0x8892, "profinet"),
    (0x88A2, "aoe"),
    (0x88A4, "ethercat"),
    (0x8100, "802.1Q"),
    (0x88A8, "802.1ad"),
    (0x8847, "mpls_uc"),
    (0x8848, "mpls_mc"),
    (0x6558, "teb"),
    (0x8902, "cfm"),
    (0x88CC, "LLDP"),
)
"""Ethernet protocol numbers (host order, include/uapi/linux/if_ether.h) and ss's names for them; each number once."""


def link_protocol(number: int, release: Dialect) -> str | None:
    """Give ss's name of an Ethernet protocol; None where it prints ``[number]``."""
    if number == 0x8902 and not release.link_cfm:
        return None
    return _LINK_NAMES.get(number)


def link_protocol_number(name: str, release: Dialect) -> int | None:
    """Give the Ethernet protocol of a name, in any case; ``ipv4`` is understood though never printed."""
    word = name.lower() if name.isascii() else name
    if word == "cfm" and not release.link_cfm:
        return None
    return _LINK_NUMBERS.get(word)


_LINK_NAMES = dict(LINK_PROTOCOLS)
_LINK_NUMBERS = {name.lower(): number for number, name in LINK_PROTOCOLS} | {"ipv4": 0x0800}
