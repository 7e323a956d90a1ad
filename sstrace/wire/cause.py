"""Kernel stack at →CLOSE → why the socket closed.

Pure: return addresses and symbol spans in, a word of ``causes.CAUSES`` out. A stack is matched by the functions that it
goes through, so it does not matter what the compiler inlined around them; an unknown stack is ``unknown``, never a
guess.
Functions: net/ipv4/ tcp.c, tcp_input.c, tcp_timer.c, tcp_minisocks.c, inet_connection_sock.c, inet_timewait_sock.c
(Linux 5.10 to 6.18).
"""

import errno
import struct
from collections.abc import Callable, Sequence

from sstrace.fields import Flag
from sstrace.model import Kind, State

__all__ = ["EXPIRED", "FULL", "FUNCTIONS", "ORPHANED", "PLAIN_CAUSES", "ROOM", "CauseReader"]

EXPIRED, ORPHANED, FULL, ROOM = Flag.EXPIRED, Flag.ORPHANED, Flag.FULL, Flag.ROOM
"""What the programs add to a stack."""
_TELLING = EXPIRED | ORPHANED | FULL | ROOM
_PLAIN = Flag.PLAIN
"""What they say instead of one."""

PLAIN_CAUSES: dict[tuple[int, int], tuple[str, bool]] = {
    (State.LAST_ACK, 0): ("fin-by-peer", False),
    (State.ESTABLISHED, errno.ECONNRESET): ("reset-received", False),
    (State.ESTABLISHED, 0): ("linger", True),
}
"""Closes that come without a stack because old state and error tell (is_plain, bpf/cause.h): the cause, and whether the
task that ran was a process working on its own socket."""

FUNCTIONS = (
    "inet_csk_listen_stop",
    "tcp_abort",
    "tcp_disconnect",
    "__tcp_close",
    "tcp_close",
    "tcp_reset",
    "tcp_done_with_error",
    "tcp_validate_incoming",
    "tcp_rcv_synsent_state_process",
    "tcp_rcv_state_process",
    "tcp_rcv_established",
    "tcp_fin",
    "tcp_time_wait",
    "tcp_write_err",
    "tcp_write_timeout",
    "tcp_retransmit_timer",
    "tcp_write_timer_handler",
    "tcp_write_timer",
    "tcp_keepalive_timer",
    "tcp_probe_timer",
    "tcp_send_probe0",
    "tcp_out_of_resources",
    "tcp_v4_err",
    "tcp_v6_err",
    "tcp_v4_connect",
    "tcp_v6_connect",
    "tcp_connect",
    "tcp_check_req",
    "tcp_req_err",
    "tcp_timewait_state_process",
    "tcp_v4_rcv",
    "tcp_v6_rcv",
    "tcp_v4_syn_recv_sock",
    "tcp_v6_syn_recv_sock",
    "__inet_check_established",
    "__inet6_check_established",
    "__inet_hash_connect",
    "inet_hash_connect",
    "inet_twsk_purge",
    "tcp_twsk_purge",
    "inet_csk_complete_hashdance",
    "inet_csk_destroy_sock",
    "inet_child_forget",
    "tcp_conn_request",
    "reqsk_timer_handler",
    "inet_listen",
    "inet_csk_listen_start",
    "inet_shutdown",
    "tcp_ack",
    "tcp_check_oom",
    "tcp_fastopen_active_disable_ofo_check",
    "mptcp_close",
    "__mptcp_close",
    "mptcp_disconnect",
    "mptcp_connect",
    "mptcp_listen",
    "mptcp_worker",
    "mptcp_stream_accept",
    "mptcp_check_data_fin",
    "mptcp_subflow_reset",
    "__mptcp_error_report",
    "__mptcp_close_ssk",
    "tcp_sk_exit",
    "tcp_sk_exit_batch",
    "tcp_orphan_retries",
    "tcp_data_queue",
)
"""What the rules look for. A kernel need not have them all."""

# Only a process that holds the socket gets here, or the last one that did.
_CALLS = frozenset(
    (
        "tcp_close", "__tcp_close", "tcp_v4_connect", "tcp_v6_connect", "inet_listen", "inet_shutdown", "mptcp_close",
        "__mptcp_close",
    )
)  # fmt: skip
_WRITE_TIMER = frozenset(("tcp_write_timer", "tcp_write_timer_handler"))
_CLOSING = frozenset(("tcp_close", "__tcp_close", "mptcp_close", "__mptcp_close", "__mptcp_close_ssk"))
_CLOSED_BY_US = (State.FIN_WAIT1, State.FIN_WAIT2, State.CLOSING, State.TIME_WAIT)


class CauseReader:
    """Reads stacks of one kernel boot. ``spans``: function name → the (address, size) pairs it occupies
    (wire.kallsyms).
    """

    def __init__(self, spans: Callable[[str], Sequence[tuple[int, int]]]) -> None:
        found = [(address, address + size, name) for name in FUNCTIONS for address, size in spans(name)]
        self._spans = sorted(found)
        self._known: dict[tuple[bytes, int, int, int], tuple[str, bool]] = {}
        there = {name for _, _, name in found}
        # Where the compiler has put it inside its callers, a RST that came cannot be told from one that is due.
        self._validates = "tcp_validate_incoming" in there
        self._resends = "tcp_retransmit_timer" in there

    def forget(self) -> None:
        """Let go of the stacks that were read before."""
        self._known.clear()

    def cause(self, stack: bytes, old: int, kind: Kind, flags: int, err: int = 0) -> tuple[str, bool]:
        """The cause, and whether the task that ran was a process working on its own socket (close, connect, …).

        ``stack``: 8 native-order 64-bit return addresses, innermost first; ``old``: the state it closed from;
        ``flags``: the event's; ``err``: of a full socket, errno.
        """
        if flags & _PLAIN and kind is Kind.SOCKET and (old, err) in PLAIN_CAUSES:
            return PLAIN_CAUSES[old, err]
        flags &= _TELLING
        key = (stack, old, kind, flags)
        known = self._known.get(key)
        if known is None:
            # Stacks differ in little but the rules' own functions; bounded all the same, against a hostile interrupt
            # mix.
            if len(self._known) > 4096:
                self._known.clear()
            through = self.functions(stack)
            if self._resends and "tcp_retransmit_timer" not in through and not _WRITE_TIMER.isdisjoint(through):
                # The timer has two ends; this one most compilers put inside tcp_write_timer_handler.
                through = (*through, "tcp_probe_timer")
            if kind is Kind.SOCKET and self._validates and _aborts_on_data(through, old):
                cause = "reset-sent"
            else:
                cause = _judge(through, old, kind, flags)
            known = self._known[key] = cause, not _CALLS.isdisjoint(through)
        return known

    def functions(self, stack: bytes) -> tuple[str, ...]:
        """The known functions that the stack goes through, innermost first."""
        names = []
        for address in struct.unpack(f"={len(stack) // 8}Q", stack):
            for start, end, name in self._spans:
                if start < address <= end:
                    names.append(name)
                    break
        return tuple(names)


def _judge(through: tuple[str, ...], old: int, kind: Kind, flags: int) -> str:
    if kind is Kind.TIMEWAIT:
        return _judge_timewait(through, old, flags & EXPIRED != 0)
    if kind is Kind.REQUEST:
        return _judge_request(through, flags)
    return _judge_socket(through, old, flags)


def _aborts_on_data(through: tuple[str, ...], old: int) -> bool:
    """Whether data came when nobody could read it any more: tcp_rcv_state_process resets without a RST from the peer.
    tcp_reset leaves the stack where it ends in a jump to tcp_done_with_error (Linux 6.10).
    """
    return (
        old in (State.FIN_WAIT1, State.FIN_WAIT2)
        and "tcp_rcv_state_process" in through
        and "tcp_validate_incoming" not in through
        and ("tcp_reset" in through or "tcp_done_with_error" in through)
    )


def _judge_timewait(through: tuple[str, ...], old: int, expired: bool) -> str:
    orphan = old == State.FIN_WAIT2  # whose process has gone while the peer has not closed yet
    if expired:
        return "timeout-fin-wait-2" if orphan else "expired"
    for name in through:
        if name in ("tcp_abort",):
            return "killed"
        if name in ("inet_twsk_purge", "tcp_twsk_purge", "tcp_sk_exit_batch"):
            return "netns-gone"
        if name == "tcp_timewait_state_process":
            return "reset-received"
        if name.endswith("check_established") or name.endswith("hash_connect"):
            return "reused"
        if name in ("tcp_v4_rcv", "tcp_v6_rcv", "tcp_v4_connect", "tcp_v6_connect"):
            # An orphan is never used again: what comes for it, but a FIN, is answered with RST.
            return "reset-sent" if orphan else "reused"
    return "unknown"


def _judge_request(through: tuple[str, ...], flags: int) -> str:
    if flags & EXPIRED:
        return "overflow" if flags & FULL else "timeout-synack"
    for name in through:
        if name == "tcp_abort":
            return "killed"
        if name == "inet_csk_listen_stop":
            return "listener-closed"
        if name in ("tcp_req_err", "tcp_v4_err", "tcp_v6_err"):
            return "unreachable"
        if name in ("tcp_v4_syn_recv_sock", "tcp_v6_syn_recv_sock", "inet_csk_complete_hashdance"):
            return "completed"
        if name == "tcp_check_req":
            return "overflow" if flags & FULL else "reset-received"
        if name == "reqsk_timer_handler":
            return "timeout-synack"
        if name in ("tcp_v4_rcv", "tcp_v6_rcv"):
            return "listener-closed"  # an ACK came for it, and found its listener closed
    return "unknown"


def _judge_socket(through: tuple[str, ...], old: int, flags: int) -> str:
    within = set(through)
    if "inet_csk_listen_stop" in within:
        return "listener-closed"
    if "tcp_abort" in within:
        return "killed"
    if within & {"tcp_out_of_resources", "tcp_check_oom"}:
        return "out-of-memory"
    if "tcp_write_err" in within or within & {
        "tcp_retransmit_timer",
        "tcp_keepalive_timer",
        "tcp_probe_timer",
        "tcp_write_timer",
    }:
        return _judge_timer(within, old)
    if within & {"tcp_v4_err", "tcp_v6_err"}:
        return "unreachable"
    if within & {"tcp_reset", "tcp_validate_incoming"}:
        return "refused" if old == State.SYN_SENT else "reset-received"
    if "tcp_rcv_synsent_state_process" in within:
        return "refused"
    if flags & ROOM and "tcp_rcv_state_process" in within and not within & {"tcp_fin", "tcp_time_wait"}:
        # An orderly end would have left a timewait socket behind. (tcp_time_wait leaves the stack by a jump to
        # tcp_done: without room for one the stacks are the same.)
        return "reset-sent"
    if within & {"__tcp_close", "tcp_close"} and within <= _CLOSING and old in (*_CLOSED_BY_US, State.LAST_ACK):
        return _judge_late_close(within, old, flags)
    return _judge_call(through, within, old)


def _judge_late_close(within: set[str], old: int, flags: int) -> str:
    """close(2) itself takes down what has sent its FIN: while it still holds the socket, because of unread data; then
    because of TCP_LINGER2 below 0, or because there is no room for a timewait socket; or there are too many orphans.
    """
    if old == State.FIN_WAIT2 and flags & ORPHANED and not flags & ROOM:
        return "fin-by-us"
    if old == State.FIN_WAIT2 or not flags & ORPHANED or "__mptcp_close_ssk" in within:
        return "reset-sent"
    return "out-of-memory"


def _judge_timer(within: set[str], old: int) -> str:
    if old == State.SYN_SENT:
        return "timeout-connect"
    if old == State.SYN_RECV:
        return "timeout-synack"
    if "tcp_keepalive_timer" in within:
        return "timeout-fin-wait-2" if old == State.FIN_WAIT2 else "timeout-keepalive"
    if within & {"tcp_probe_timer", "tcp_send_probe0"}:
        return "timeout-probe"
    return "timeout-retransmit"


def _judge_call(through: tuple[str, ...], within: set[str], old: int) -> str:
    """What is left: system calls, and segments that end an orderly close."""
    by_segment = within & {"tcp_rcv_state_process", "tcp_fin", "tcp_time_wait", "tcp_rcv_established", "tcp_data_queue"}
    if "inet_shutdown" in within and not by_segment:
        # Of what is open, shutdown(2) only takes a listener down, and a connect(2) that is under way.
        return "closed" if old in (State.LISTEN, State.CLOSE) else "abandoned"
    if "tcp_disconnect" in within:
        if not within & {"__tcp_close", "tcp_close"}:
            return "disconnected"
        return "abandoned" if old == State.SYN_SENT else "linger"  # there is nobody to reset in SYN-SENT
    if by_segment:
        if old == State.SYN_SENT:
            return "refused"
        if old == State.LAST_ACK:
            return "fin-by-peer"
        if old in (State.FIN_WAIT2, State.CLOSING, State.TIME_WAIT) or within & {"tcp_fin", "tcp_time_wait"}:
            return "fin-by-us"
        if old in (State.FIN_WAIT1, State.ESTABLISHED, State.CLOSE_WAIT):
            return "reset-sent"
        if old == State.SYN_RECV:
            return "reset-received"
    if within & {"__tcp_close", "tcp_close", "mptcp_close", "__mptcp_close", "__mptcp_close_ssk"}:
        if old in (State.LISTEN, State.CLOSE):
            return "closed"
        if old == State.SYN_SENT:
            return "abandoned"
        if old in _CLOSED_BY_US:
            return "fin-by-us"
        return "reset-sent"
    if within & {"tcp_v4_connect", "tcp_v6_connect", "tcp_connect"}:
        return "connect-failed"
    if within & {"inet_listen", "inet_csk_listen_start"}:
        return "closed"
    if within & {"tcp_check_req", "tcp_v4_syn_recv_sock", "tcp_v6_syn_recv_sock", "tcp_conn_request"}:
        return "overflow"
    if "mptcp_disconnect" in within:
        return "disconnected"
    return _judge_mptcp(within, old)


def _judge_mptcp(within: set[str], old: int) -> str:
    """What only MPTCP's own sockets come by, and their subflows."""
    if "mptcp_subflow_reset" in within:
        return "reset-sent"
    if "__mptcp_error_report" in within:
        return "subflow"
    if "mptcp_stream_accept" in within:
        return "subflow"  # it had closed before anybody accepted the connection
    if within & {"mptcp_check_data_fin", "mptcp_worker"}:
        if old in _CLOSED_BY_US:
            return "fin-by-us"
        return "fin-by-peer" if old == State.LAST_ACK else "subflow"
    if "mptcp_connect" in within:
        return "connect-failed"
    if "mptcp_listen" in within:
        return "closed"
    return "unknown"
