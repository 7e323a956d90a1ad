"""Rows of the packet tables → cells and lines. The address is the link protocol, the port the interface; there is no
peer.
"""

from sstrace.model import PacketSocket
from sstrace.protocols import OF_TABLE
from sstrace.render.columns import Row
from sstrace.render.common import Context, memory, queue, signed
from sstrace.render.line_parts import (
    Cookie,
    Inode,
    LineMaker,
    OwnerItem,
    RecvQ,
    SendQ,
    SkMem,
    Time,
    named,
    skmem,
    state_text,
)
from sstrace.render.places import Place

__all__ = ["PacketCells", "PacketLine", "PacketLines", "link_protocol"]

_ETH_P_ALL = 3

# ETH_P_* numbers (include/uapi/linux/if_ether.h) in ss's words; a number met twice keeps its first name.
_LINK = {
    0x0060: "loop",
    0x0200: "pup",
    0x0201: "pupat",
    0x0800: "ip",
    0x0805: "x25",
    0x0806: "arp",
    0x08FF: "bpq",
    0x0A00: "ieeepup",
    0x0A01: "ieeepupat",
    0x6000: "dec",
    0x6001: "dna_dl",
    0x6002: "dna_rc",
    0x6003: "dna_rt",
    0x6004: "lat",
    0x6005: "diag",
    0x6006: "cust",
    0x6007: "sca",
    0x8035: "rarp",
    0x809B: "atalk",
    0x80F3: "aarp",
    0x8137: "ipx",
    0x86DD: "ipv6",
    0x8863: "ppp_disc",
    0x8864: "ppp_ses",
    0x884C: "atmmpoa",
    0x8884: "atmfate",
    0x0001: "802_3",
    0x0002: "ax25",
    0x0003: "all",
    0x0004: "802_2",
    0x0005: "snap",
    0x0006: "ddcmp",
    0x0007: "wan_ppp",
    0x0008: "ppp_mp",
    0x0009: "localtalk",
    0x000C: "can",
    0x0010: "ppptalk",
    0x0011: "tr_802_2",
    0x0015: "mobitex",
    0x0016: "control",
    0x0017: "irda",
    0x0018: "econet",
    0x88CA: "tipc",
    0x8892: "profinet",
    0x88A2: "aoe",
    0x88A4: "ethercat",
    0x8100: "802.1Q",
    0x88A8: "802.1ad",
    0x8847: "mpls_uc",
    0x8848: "mpls_mc",
    0x6558: "teb",
    0x8902: "cfm",
    0x88CC: "LLDP",
}
_CFM = 0x8902

_FANOUT = ("hash", "lb", "cpu", "roll", "random", "qm")
_FLAGS = ("running", " auxdata", " origdev", " vnethdr", " loss")
"""PDI_* bits, include/uapi/linux/packet_diag.h; the blanks are ss's."""


def link_protocol(protocol: int, *, cfm: bool = True) -> str | None:
    """The name that ss has for an Ethernet protocol; ``cfm`` tells whether 0x8902 has one yet (iproute2 6.5)."""
    return None if protocol == _CFM and not cfm else _LINK.get(protocol)


class PacketCells:
    """Cell maker for packet rows."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def cells(self, socket: PacketSocket) -> Row:
        """The cells of a row."""
        context, show = self._context, self._context.show
        address = "*"
        if socket.protocol != _ETH_P_ALL:
            name = None if show.numeric else link_protocol(socket.protocol, cfm=context.dialect.link_cfm)
            address = name or f"[{socket.protocol}]"
        users = context.users(socket.ino) if show.processes or show.threads or show.contexts else ""
        gap = " " if show.oneline else "\n\t"
        rest = ""
        if show.extended:
            rest += f" uid:{socket.uid}" if socket.uid else ""
            rest += f" ino:{socket.ino} sk:{socket.cookie:x}"
            if socket.info is not None:
                version, copy_threshold, flags = signed(socket.info[1]), signed(socket.info[3]), socket.info[5]
                words = "".join([word for bit, word in enumerate(_FLAGS) if flags >> bit & 1]) if flags else "0"
                rest += f"{gap}ver:{version} cpy_thresh:{copy_threshold} flags( {words} )"
            for name, ring in (("ring_rx", socket.rx_ring), ("ring_tx", socket.tx_ring)):
                if ring is not None:
                    block_size, blocks, frame_size, frames, timeout = map(signed, ring[:5])
                    rest += f"{gap}{name}(blk_size:{block_size},blk_nr:{blocks},frm_size:{frame_size},frm_nr:{frames}"
                    rest += f",tmo:{timeout},features:0x{ring[6]:x})"
            if socket.fanout is not None:
                kind = socket.fanout >> 16
                word = _FANOUT[kind] if kind < len(_FANOUT) else f"0x{kind:x}"
                rest += f"{gap}fanout(id:{socket.fanout & 0xFFFF},type:{word})"
        if show.bpf and socket.bpf is not None:
            rest += f"{gap}bpf filter ({len(socket.bpf)}): "
            rest += "".join([f" 0x{code:02x} {jt} {jf} {k}," for code, jt, jf, k in socket.bpf])
        if show.memory and socket.skmem is not None:
            rest += memory(socket.skmem)
        if context.one_column:
            users, rest = users + rest, ""
        return Row(
            netid=OF_TABLE[socket.table].netid,
            state="UNCONN",
            recv_q=queue(None if socket.partial else socket.recv_q),
            send_q=queue(None if socket.partial else socket.send_q),
            local_address=address + ":",
            local_port=context.interface(socket.ifindex) if socket.ifindex else "*",
            peer_address="*",
            process=users,
            extra=rest,
        )


class PacketLine(Place, tag="seen", tag_field="type", omit_defaults=True, kw_only=True):
    """A packet socket."""

    ts: Time
    netid: str
    family: str
    state: str
    protocol: int
    """Ethernet protocol; 3 is every protocol."""
    protocol_name: str | None = None
    recv_q: RecvQ | None = None
    send_q: SendQ | None = None
    uid: int
    ino: Inode | None = None
    sk: Cookie | None = None
    ifindex: int | None = None
    ifname: str | None = None
    owners: list[OwnerItem] | None = None
    info: dict[str, int] | None = None
    """version, reserve, copy_thresh, tstamp, flags (-e)."""
    rx_ring: dict[str, int] | None = None
    tx_ring: dict[str, int] | None = None
    fanout: int | None = None
    """Group id in the low 16 bits, type and flags above (-e)."""
    bpf: list[list[int]] | None = None
    """Classic BPF instructions (-b): code, jt, jf, k."""
    skmem: SkMem | None = None


_PACKET_INFO = ("index", "version", "reserve", "copy_thresh", "tstamp", "flags")
_RING = ("block_size", "block_nr", "frame_size", "frame_nr", "retire_tmo", "sizeof_priv", "features")


class PacketLines(LineMaker):
    """Line maker for packet rows."""

    types = (PacketLine,)

    def line(self, row: PacketSocket) -> PacketLine:
        """The line of a row."""
        show = self._context.show
        line = PacketLine(
            ts=self._ts,
            netid=OF_TABLE[row.table].netid,
            family="packet",
            state=state_text(row.state),
            protocol=row.protocol,
            protocol_name=link_protocol(row.protocol, cfm=True),
            recv_q=None if row.partial else row.recv_q,
            send_q=None if row.partial else row.send_q,
            uid=row.uid,
            ino=row.ino or None,
            sk=row.cookie or None,
            owners=self._owners(row.ino),
        )
        line.ifindex, line.ifname = self._interface(row.ifindex)
        if show.memory:
            line.skmem = skmem(row.skmem)
        if show.extended:
            line.info = named(_PACKET_INFO, row.info)
            line.rx_ring, line.tx_ring = named(_RING, row.rx_ring), named(_RING, row.tx_ring)
            line.fanout = row.fanout
        if show.bpf and row.bpf is not None:
            line.bpf = [list(instruction) for instruction in row.bpf]
        return line
