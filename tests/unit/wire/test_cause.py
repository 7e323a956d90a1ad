"""Kernel stacks → causes, over a made-up symbol table. The stacks are those of Linux 6.18 and 6.1, innermost first."""

import random

import pytest
from bpf_events import stack
from hypothesis import given
from hypothesis import strategies as st

from sstrace.causes import CAUSES
from sstrace.model import Kind, State
from sstrace.wire.cause import EXPIRED, FULL, FUNCTIONS, ORPHANED, ROOM, CauseReader
from sstrace.wire.kallsyms import Symbols

S = State
OTHERS = (
    "tcp_set_state", "tcp_done", "tcp_done_with_error", "tcp_v4_do_rcv", "tcp_v6_do_rcv", "inet_release",
    "__sock_release", "sock_close", "__fput", "ip_protocol_deliver_rcu", "ip_local_deliver_finish",
    "inet_csk_reqsk_queue_drop", "timer_delete", "call_timer_fn", "__run_timers", "inet_twsk_deschedule_put",
    "inet_twsk_kill", "release_sock", "__release_sock", "icmp_rcv", "icmp_unreach", "inet_diag_cmd_exact",
    "sock_diag_rcv", "__inet_stream_connect", "inet_stream_connect", "__sys_connect", "cleanup_net",
    "tcp_sk_exit_batch_other", "inet_unhash", "inet_sk_state_store", "mptcp_release_cb", "process_one_work",
    "worker_thread", "subflow_finish_connect", "tcp_finish_connect", "__sys_listen", "ip6_protocol_deliver_rcu",
    "inet_csk_reqsk_queue_drop_and_put", "__sys_shutdown", "do_accept",
)  # fmt: skip
"""What stands in stacks between the functions that the rules know."""

ADDRESS = {name: 0xFFFFFFFF81000000 + number * 0x1000 for number, name in enumerate((*FUNCTIONS, *OTHERS))}
KALLSYMS = "".join(
    f"{address:016x} t {name}\n{address + 0x800:016x} t after_{name}\n" for name, address in ADDRESS.items()
)


def reader(kallsyms: str = KALLSYMS) -> CauseReader:
    return CauseReader(Symbols(kallsyms.encode()).spans)


def through(names: str) -> bytes:
    """The stack of a chain of calls, innermost first, cut after eight as the BPF program cuts it."""
    return stack(*(ADDRESS[name] + 0x42 for name in names.split()[:8]))


CLOSE = "__tcp_close tcp_close inet_release __sock_release sock_close __fput"
SHUTDOWN = "inet_shutdown __sys_shutdown"
SEGMENT = "tcp_v4_do_rcv tcp_v4_rcv ip_protocol_deliver_rcu"
CONNECT = "__inet_stream_connect inet_stream_connect __sys_connect"
RESEND = "tcp_retransmit_timer tcp_write_timer_handler tcp_write_timer"

SOCKETS = [
    # (state it closes from, stack, cause, whether the task was a process at work on its own socket)
    (
        S.FIN_WAIT2,
        f"tcp_set_state tcp_done tcp_time_wait tcp_fin tcp_data_queue tcp_rcv_state_process {SEGMENT}",
        "fin-by-us",
        False,
    ),
    (S.CLOSING, f"tcp_set_state tcp_done tcp_time_wait tcp_rcv_state_process {SEGMENT}", "fin-by-us", False),
    (S.FIN_WAIT2, f"tcp_set_state tcp_done tcp_time_wait tcp_rcv_state_process {SEGMENT}", "fin-by-us", False),
    (S.FIN_WAIT2, f"tcp_set_state tcp_done tcp_time_wait {CLOSE}", "fin-by-us", True),
    (S.LAST_ACK, f"tcp_set_state tcp_done tcp_rcv_state_process {SEGMENT}", "fin-by-peer", False),
    (
        S.LAST_ACK,
        f"tcp_set_state tcp_done tcp_rcv_state_process tcp_v4_do_rcv __release_sock {CLOSE}",
        "fin-by-peer",
        True,
    ),
    (S.LISTEN, f"tcp_set_state {CLOSE}", "closed", True),
    (
        S.ESTABLISHED,
        f"tcp_set_state tcp_disconnect inet_csk_listen_stop tcp_disconnect {SHUTDOWN}",
        "listener-closed",
        True,
    ),
    (S.LISTEN, f"tcp_set_state tcp_disconnect {SHUTDOWN}", "closed", True),
    (S.SYN_SENT, f"tcp_set_state tcp_disconnect {SHUTDOWN}", "abandoned", True),
    (
        S.LAST_ACK,
        f"tcp_set_state tcp_done tcp_rcv_state_process tcp_v4_do_rcv __release_sock release_sock {SHUTDOWN}",
        "fin-by-peer",
        True,
    ),
    (S.ESTABLISHED, "inet_sk_state_store mptcp_stream_accept do_accept", "subflow", False),
    (S.SYN_SENT, f"tcp_set_state tcp_disconnect {CLOSE}", "abandoned", True),
    (S.SYN_SENT, f"tcp_set_state {CLOSE}", "abandoned", True),
    (
        S.ESTABLISHED,
        f"tcp_set_state tcp_done tcp_reset tcp_validate_incoming tcp_rcv_established {SEGMENT}",
        "reset-received",
        False,
    ),
    (
        S.FIN_WAIT1,
        f"tcp_set_state tcp_done_with_error tcp_reset tcp_validate_incoming tcp_rcv_state_process {SEGMENT}",
        "reset-received",
        False,
    ),
    (
        S.CLOSE_WAIT,
        f"tcp_set_state tcp_done_with_error tcp_validate_incoming tcp_rcv_state_process {SEGMENT}",
        "reset-received",
        False,
    ),
    (
        S.SYN_RECV,
        f"tcp_set_state tcp_done tcp_reset tcp_validate_incoming tcp_rcv_state_process {SEGMENT}",
        "reset-received",
        False,
    ),
    (
        S.SYN_SENT,
        f"tcp_set_state tcp_done tcp_reset tcp_rcv_synsent_state_process tcp_rcv_state_process {SEGMENT}",
        "refused",
        False,
    ),
    (S.SYN_SENT, f"tcp_set_state tcp_done tcp_reset tcp_rcv_state_process {SEGMENT}", "refused", False),
    (S.SYN_SENT, f"tcp_set_state tcp_done tcp_rcv_state_process {SEGMENT}", "refused", False),
    (S.ESTABLISHED, f"tcp_set_state {CLOSE}", "reset-sent", True),
    (S.CLOSE_WAIT, f"tcp_set_state {CLOSE}", "reset-sent", True),
    (S.FIN_WAIT1, f"tcp_set_state tcp_done tcp_rcv_state_process {SEGMENT}", "reset-sent", False),
    (S.ESTABLISHED, f"tcp_set_state tcp_disconnect {CLOSE}", "linger", True),
    (S.ESTABLISHED, f"tcp_set_state tcp_disconnect {CONNECT}", "disconnected", False),
    (S.SYN_SENT, "inet_sk_state_store __mptcp_error_report mptcp_release_cb release_sock", "subflow", False),
    (S.CLOSE_WAIT, "inet_sk_state_store mptcp_worker process_one_work worker_thread", "subflow", False),
    (S.FIN_WAIT2, "inet_sk_state_store mptcp_check_data_fin mptcp_worker process_one_work", "fin-by-us", False),
    (S.LAST_ACK, "inet_sk_state_store mptcp_worker process_one_work worker_thread", "fin-by-peer", False),
    (S.ESTABLISHED, "tcp_done mptcp_subflow_reset subflow_finish_connect tcp_finish_connect", "reset-sent", False),
    (S.SYN_SENT, "inet_sk_state_store mptcp_connect __inet_stream_connect", "connect-failed", False),
    (S.LISTEN, "inet_sk_state_store mptcp_listen __sys_listen", "closed", False),
    (S.SYN_SENT, f"tcp_set_state tcp_v4_connect {CONNECT}", "connect-failed", True),
    (S.SYN_SENT, f"tcp_set_state tcp_v6_connect {CONNECT}", "connect-failed", True),
    (
        S.SYN_SENT,
        "tcp_set_state tcp_done tcp_v4_err icmp_unreach icmp_rcv ip_protocol_deliver_rcu",
        "unreachable",
        False,
    ),
    (S.SYN_SENT, "tcp_set_state tcp_done_with_error tcp_v6_err ip_protocol_deliver_rcu", "unreachable", False),
    (
        S.SYN_SENT,
        f"tcp_set_state tcp_done tcp_write_err tcp_write_timeout {RESEND}",
        "timeout-connect",
        False,
    ),
    (
        S.SYN_RECV,
        "tcp_set_state tcp_done tcp_write_err tcp_retransmit_timer tcp_write_timer call_timer_fn",
        "timeout-synack",
        False,
    ),
    (
        S.ESTABLISHED,
        "tcp_set_state tcp_done_with_error tcp_write_err tcp_write_timeout tcp_retransmit_timer tcp_write_timer",
        "timeout-retransmit",
        False,
    ),
    (
        S.FIN_WAIT1,
        "tcp_set_state tcp_done tcp_write_err tcp_retransmit_timer tcp_write_timer_handler tcp_write_timer",
        "timeout-retransmit",
        False,
    ),
    (S.LAST_ACK, "tcp_set_state tcp_done tcp_write_err tcp_retransmit_timer", "timeout-retransmit", False),
    (S.ESTABLISHED, "tcp_set_state tcp_done tcp_write_timer_handler tcp_write_timer", "timeout-probe", False),
    (
        S.ESTABLISHED,
        "tcp_set_state tcp_done tcp_write_err tcp_keepalive_timer call_timer_fn",
        "timeout-keepalive",
        False,
    ),
    (S.FIN_WAIT2, "tcp_set_state tcp_done tcp_keepalive_timer call_timer_fn __run_timers", "timeout-fin-wait-2", False),
    (
        S.ESTABLISHED,
        "tcp_set_state tcp_done tcp_write_err tcp_probe_timer tcp_write_timer_handler tcp_write_timer",
        "timeout-probe",
        False,
    ),
    (S.FIN_WAIT1, "tcp_set_state tcp_done tcp_write_err tcp_send_probe0 tcp_write_timer", "timeout-probe", False),
    (S.ESTABLISHED, "tcp_set_state tcp_done tcp_abort inet_diag_cmd_exact sock_diag_rcv", "killed", False),
    (S.LISTEN, "tcp_set_state tcp_abort inet_diag_cmd_exact sock_diag_rcv", "killed", False),
    (
        S.ESTABLISHED,
        f"tcp_set_state tcp_disconnect inet_child_forget inet_csk_listen_stop {CLOSE}",
        "listener-closed",
        True,
    ),
    (
        S.FIN_WAIT1,
        "tcp_set_state tcp_done tcp_out_of_resources tcp_write_timeout tcp_retransmit_timer tcp_write_timer",
        "out-of-memory",
        False,
    ),
    (S.FIN_WAIT1, f"tcp_set_state tcp_check_oom {CLOSE}", "out-of-memory", True),
    (S.CLOSE, "tcp_set_state tcp_done tcp_v4_syn_recv_sock tcp_check_req tcp_v4_rcv", "overflow", False),
]

REQUESTS = [
    ("inet_csk_reqsk_queue_drop inet_csk_complete_hashdance tcp_check_req tcp_v4_rcv", False, "completed"),
    ("inet_csk_reqsk_queue_drop tcp_v4_syn_recv_sock tcp_check_req tcp_v4_rcv", False, "completed"),
    ("inet_csk_reqsk_queue_drop tcp_v6_syn_recv_sock tcp_check_req tcp_v6_rcv", False, "completed"),
    ("inet_csk_reqsk_queue_drop tcp_check_req tcp_v4_rcv", False, "reset-received"),
    ("inet_csk_reqsk_queue_drop tcp_req_err tcp_v4_err icmp_unreach", False, "unreachable"),
    ("inet_csk_reqsk_queue_drop tcp_v6_err", False, "unreachable"),
    ("inet_csk_reqsk_queue_drop tcp_abort inet_diag_cmd_exact", False, "killed"),
    ("inet_csk_reqsk_queue_drop inet_csk_listen_stop __tcp_close tcp_close", False, "listener-closed"),
    ("inet_csk_reqsk_queue_drop reqsk_timer_handler call_timer_fn", False, "timeout-synack"),
    ("", True, "timeout-synack"),
    (
        "inet_csk_reqsk_queue_drop_and_put tcp_v4_rcv ip_protocol_deliver_rcu",
        False,
        "listener-closed",
    ),
    ("inet_csk_reqsk_queue_drop_and_put tcp_v6_rcv ip6_protocol_deliver_rcu", False, "listener-closed"),
]

TIMEWAITS = [
    (S.TIME_WAIT, "", True, "expired"),
    (S.FIN_WAIT2, "", True, "timeout-fin-wait-2"),
    (S.TIME_WAIT, "inet_twsk_deschedule_put tcp_timewait_state_process tcp_v4_rcv", False, "reset-received"),
    (S.FIN_WAIT2, "inet_twsk_deschedule_put tcp_timewait_state_process tcp_v6_rcv", False, "reset-received"),
    (S.TIME_WAIT, "inet_twsk_deschedule_put tcp_v4_rcv ip_protocol_deliver_rcu", False, "reused"),
    (
        S.TIME_WAIT,
        "inet_twsk_deschedule_put __inet_check_established __inet_hash_connect tcp_v4_connect",
        False,
        "reused",
    ),
    (
        S.TIME_WAIT,
        "inet_twsk_deschedule_put __inet6_check_established inet_hash_connect tcp_v6_connect",
        False,
        "reused",
    ),
    (S.TIME_WAIT, "inet_twsk_deschedule_put __inet_hash_connect inet_hash_connect tcp_v4_connect", False, "reused"),
    (S.TIME_WAIT, "inet_twsk_deschedule_put tcp_v6_connect __inet_stream_connect", False, "reused"),
    (S.FIN_WAIT2, "inet_twsk_deschedule_put tcp_v4_rcv ip_protocol_deliver_rcu", False, "reset-sent"),
    (S.TIME_WAIT, "inet_twsk_deschedule_put tcp_abort inet_diag_cmd_exact", False, "killed"),
    (S.TIME_WAIT, "inet_twsk_deschedule_put tcp_twsk_purge tcp_sk_exit_batch cleanup_net", False, "netns-gone"),
    (S.FIN_WAIT2, "inet_twsk_deschedule_put inet_twsk_purge tcp_sk_exit_batch", False, "netns-gone"),
]


@pytest.mark.parametrize(("old", "names", "cause", "by_call"), SOCKETS)
def test_full_sockets(old: State, names: str, cause: str, by_call: bool) -> None:
    assert reader().cause(through(names), old, Kind.SOCKET, 0) == (cause, by_call)


@pytest.mark.parametrize(("names", "expired", "cause"), REQUESTS)
def test_request_sockets(names: str, expired: bool, cause: str) -> None:
    assert reader().cause(through(names), S.SYN_RECV, Kind.REQUEST, EXPIRED * expired)[0] == cause


@pytest.mark.parametrize(("old", "names", "expired", "cause"), TIMEWAITS)
def test_timewait_sockets(old: State, names: str, expired: bool, cause: str) -> None:
    assert reader().cause(through(names), old, Kind.TIMEWAIT, EXPIRED * expired)[0] == cause


RECEIVE = f"tcp_rcv_state_process {SEGMENT}"
BACKLOG = "tcp_v4_do_rcv __release_sock"
TOLD = [
    # What the stack alone does not tell: (kind, state it closes from, stack, flags, cause)
    # Data comes after close() or shutdown(): tcp_reset without a RST. It may be left by a jump (Linux 6.10 and newer).
    (Kind.SOCKET, S.FIN_WAIT1, f"tcp_set_state tcp_done tcp_done_with_error {RECEIVE}", 0, "reset-sent"),
    (Kind.SOCKET, S.FIN_WAIT2, f"tcp_set_state tcp_done tcp_done_with_error {RECEIVE}", ROOM, "reset-sent"),
    (Kind.SOCKET, S.FIN_WAIT2, f"tcp_set_state tcp_done tcp_reset {RECEIVE}", ROOM, "reset-sent"),
    (
        Kind.SOCKET,
        S.FIN_WAIT2,
        f"tcp_set_state tcp_done_with_error tcp_validate_incoming {RECEIVE}",
        ROOM,
        "reset-received",
    ),
    # With the FIN's acknowledgement; then tcp_time_wait has been left by a jump as well.
    (Kind.SOCKET, S.FIN_WAIT2, f"tcp_set_state tcp_done {RECEIVE}", ROOM | ORPHANED, "reset-sent"),
    (Kind.SOCKET, S.FIN_WAIT2, f"tcp_set_state tcp_done {RECEIVE}", ORPHANED, "fin-by-us"),
    (Kind.SOCKET, S.FIN_WAIT2, f"tcp_set_state tcp_done tcp_fin tcp_data_queue {RECEIVE}", ROOM, "fin-by-us"),
    (Kind.SOCKET, S.FIN_WAIT2, f"tcp_set_state tcp_done tcp_rcv_state_process {BACKLOG} {CLOSE}", ROOM, "reset-sent"),
    # close() itself: TCP_LINGER2 below 0, no room for TIME-WAIT, unread data after shutdown(), too many orphans.
    (Kind.SOCKET, S.FIN_WAIT2, f"tcp_set_state {CLOSE}", ROOM | ORPHANED, "reset-sent"),
    (Kind.SOCKET, S.FIN_WAIT2, f"tcp_set_state tcp_done {CLOSE}", ORPHANED, "fin-by-us"),
    (Kind.SOCKET, S.FIN_WAIT2, f"tcp_set_state {CLOSE}", ROOM, "reset-sent"),
    (Kind.SOCKET, S.FIN_WAIT1, f"tcp_set_state {CLOSE}", 0, "reset-sent"),
    (Kind.SOCKET, S.FIN_WAIT1, f"tcp_set_state {CLOSE}", ORPHANED, "out-of-memory"),
    (Kind.SOCKET, S.LAST_ACK, f"tcp_set_state {CLOSE}", ORPHANED, "out-of-memory"),
    (Kind.SOCKET, S.FIN_WAIT1, "tcp_set_state __tcp_close __mptcp_close_ssk", ORPHANED, "reset-sent"),
    # The accept queue is full.
    (Kind.REQUEST, S.SYN_RECV, "inet_csk_reqsk_queue_drop tcp_check_req tcp_v4_rcv", FULL, "overflow"),
    (Kind.REQUEST, S.SYN_RECV, "", EXPIRED | FULL, "overflow"),
]


@pytest.mark.parametrize(("kind", "old", "names", "flags", "cause"), TOLD)
def test_flags_tell_what_stacks_do_not(kind: Kind, old: State, names: str, flags: int, cause: str) -> None:
    assert reader().cause(through(names), old, kind, flags)[0] == cause


def test_what_resends_may_be_inside_its_caller() -> None:
    inlined = KALLSYMS.replace(" t tcp_retransmit_timer\n", " t nothing\n")
    names = "tcp_set_state tcp_done tcp_write_timer_handler tcp_write_timer"
    assert reader(inlined).cause(through(names), S.ESTABLISHED, Kind.SOCKET, 0)[0] == "timeout-retransmit"


def test_a_received_reset_is_not_told_apart_where_the_compiler_inlined_its_check() -> None:
    inlined = KALLSYMS.replace(" t tcp_validate_incoming\n", " t nothing\n")
    names = f"tcp_set_state tcp_done tcp_reset {RECEIVE}"
    assert reader(inlined).cause(through(names), S.FIN_WAIT2, Kind.SOCKET, 0)[0] == "reset-received"


def test_every_cause_has_a_stack_here() -> None:
    met = {row[2] for row in SOCKETS} | {row[2] for row in REQUESTS} | {row[3] for row in TIMEWAITS}
    assert met | {"unknown"} == set(CAUSES)


def test_causes_are_words() -> None:
    assert all(cause == cause.lower() and " " not in cause for cause in CAUSES)


def test_every_rule_s_function_is_looked_for() -> None:
    # A name in a rule that is not in FUNCTIONS would never match: read the rules' own words.
    import inspect
    import re

    from sstrace.wire import cause

    rules = inspect.getsource(cause)[inspect.getsource(cause).index("def _judge(") :]
    words = set(re.findall(r'"(\w+_\w+)"', rules))
    assert words
    assert all(any(name.endswith(word) for name in FUNCTIONS) for word in words)
    assert len(set(FUNCTIONS)) == len(FUNCTIONS)


# ------------------------------------------------------------------------------------------------- what must not matter


@pytest.mark.parametrize(("old", "names", "cause", "_by_call"), SOCKETS)
def test_what_the_compiler_inlined_does_not_matter(old: State, names: str, cause: str, _by_call: bool) -> None:
    """Only functions that the rules know count, wherever in them the call stands."""
    known = [name for name in names.split()[:8] if name in FUNCTIONS]
    for within in (1, 0x42, 0x800):  # the return address of a last call that never returns is the function's end
        assert reader().cause(stack(*(ADDRESS[name] + within for name in known)), old, Kind.SOCKET, 0)[0] == cause


@pytest.mark.parametrize(("old", "names", "cause", "_by_call"), SOCKETS)
def test_order_does_not_matter_for_full_sockets(old: State, names: str, cause: str, _by_call: bool) -> None:
    shuffled = names.split()[:8]
    random.Random(7).shuffle(shuffled)
    assert reader().cause(through(" ".join(shuffled)), old, Kind.SOCKET, 0)[0] == cause


def test_renamed_functions_count() -> None:
    renamed = KALLSYMS.replace(" t tcp_fin\n", " t tcp_fin.isra.0\n").replace(
        " t tcp_time_wait\n", " t tcp_time_wait.part.0\n"
    )
    for old, names, cause, _ in SOCKETS:
        assert reader(renamed).cause(through(names), old, Kind.SOCKET, 0)[0] == cause


def test_the_first_byte_of_a_function_is_no_return_address() -> None:
    # A return address follows a call, so the byte where a function begins belongs to the one before.
    assert reader().functions(stack(ADDRESS["tcp_reset"])) == ()
    assert reader().functions(stack(ADDRESS["tcp_reset"] + 1)) == ("tcp_reset",)


def test_functions_come_innermost_first() -> None:
    names = "tcp_reset tcp_validate_incoming tcp_rcv_established"
    assert reader().functions(through(names)) == tuple(names.split())


# ------------------------------------------------------------------------------------------------------ what is unknown


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("old", range(14))
def test_an_unknown_stack_stays_unknown(kind: Kind, old: int) -> None:
    for addresses in ((), (0xFFFFFFFFC0001234,) * 8, (1, 2, 3), tuple(ADDRESS[name] + 1 for name in OTHERS[:8])):
        assert reader().cause(stack(*addresses), old, kind, 0) == ("unknown", False)


@pytest.mark.parametrize(("old", "names", "_cause", "_by_call"), SOCKETS)
def test_without_symbols_everything_is_unknown(old: State, names: str, _cause: str, _by_call: bool) -> None:
    for hidden in ("", "0000000000000000 t tcp_reset\n0000000000000000 t tcp_close\n"):
        assert reader(hidden).cause(through(names), old, Kind.SOCKET, 0) == ("unknown", False)


INSIDE = [address + 8 for address in ADDRESS.values()]


@given(
    st.lists(st.one_of(st.integers(0, 2**64 - 1), st.sampled_from(sorted(INSIDE))), max_size=8),
    st.integers(0, 13),
    st.sampled_from(Kind),
    st.integers(0, 255),
)
def test_any_stack_has_a_documented_cause(addresses: list[int], old: int, kind: Kind, flags: int) -> None:
    causes = reader()
    first = causes.cause(stack(*addresses), old, kind, flags)
    assert first[0] in CAUSES
    assert causes.cause(stack(*addresses), old, kind, flags) == first


def test_what_is_remembered_is_bounded() -> None:
    causes = reader()
    for number in range(10_000):
        causes.cause(stack(number), S.ESTABLISHED, Kind.SOCKET, 0)
    assert len(causes._known) <= 4097
