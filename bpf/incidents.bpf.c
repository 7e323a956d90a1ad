/*
 * What hurts a connection without changing its state: segments that are sent again, resets, segments that are dropped. Attached only where
 * somebody asks for it (--events); a host on which nothing goes wrong never runs a program of these, but for kfree_skb.
 *
 * Context: softirq, or a system call that sends or closes. Cost: about 1 µs an incident. The records are those of the event path, in a
 * buffer of their own, so that a flood of them costs no transition.
 */
#include "event.h"

/* include/net/tcp_states.h and include/uapi/linux/in.h: part of the kernel's ABI. */
enum {
	TCP_TIME_WAIT = 6,
	TCP_NEW_SYN_RECV = 12,
	IPPROTO_TCP = 6,
	IPPROTO_UDP = 17,
};

#define SYN_AND_ACK 0x12 /* the flags of a TCP header's 14th byte */

#include "config.h" /* these maps are the event path's */

BPF_PERF_OUTPUT(events);
BPF_PERCPU_ARRAY(counts, struct sock_counts, 1);

/* By enum skb_drop_reason: 1 where that is worth telling. Written before anything is attached (sstrace/live/incidents.py). */
#define REASONS 512
BPF_ARRAY(telling, u8, REASONS);

#include "capture.h"

/* Whether the socket is one of this protocol that is asked for; the record has its ends then, and its state. */
static __always_inline int capture_incident_of(struct sock_event *event, u64 sk, u8 kind, u16 wanted)
{
	int zero = 0;
	struct config *config = configs.lookup(&zero);
	struct common common;
	u16 protocol = wanted, sport = 0;
	u8 state = 0;

	if (!config || !sk)
		return 0;
	READ(common, sk, 0);
	READ(state, sk, OFF_skc_state);
	if (state != TCP_TIME_WAIT && state != TCP_NEW_SYN_RECV) {
		READ(protocol, sk, OFF_sk_protocol);
#ifdef OFF_inet_sport
		READ(sport, sk, OFF_inet_sport);
#endif
	}
	if (protocol != wanted || !capture_namespace(event, config, &common))
		return 0;
	capture_common(event, &common, sk);
	event->kind = kind;
	event->protocol = protocol;
	event->old = event->new = state;
	/* Who closes with a reset sends it when the port is free for others already (inet_put_port). */
	if (!event->sport)
		event->sport = __builtin_bswap16(sport);
	return 1;
}

static __always_inline int capture_incident(struct sock_event *event, u64 sk, u8 kind)
{
	return capture_incident_of(event, sk, kind, IPPROTO_TCP);
}

/* tcp:tcp_retransmit_skb(sk, skb), Linux 4.15; with err since 6.16, and then fired, too, where the segment could not be sent. */
RAW_TRACEPOINT_PROBE(tcp_retransmit_skb)
{
	struct sock_event event = {};
	u64 skb = ctx->args[1];
	u32 from = 0, to = 0;

#ifdef RETRANSMIT_TELLS_ERR
	if ((int)ctx->args[2])
		return 0;
#endif
	if (!capture_incident(&event, ctx->args[0], EVENT_RETRANSMIT))
		return 0;
	READ(from, skb, OFF_skb_cb + OFF_cb_seq);
	READ(to, skb, OFF_skb_cb + OFF_cb_end_seq);
	READ(event.flags, skb, OFF_skb_cb + OFF_cb_tcp_flags);
	event.bytes_retrans = to - from;
	READ(event.retransmits, event.sk, OFF_icsk_retransmits);
	READ(event.shutdown, event.sk, OFF_icsk_ca_state);
	return submit(ctx, &event);
}

/* tcp:tcp_retransmit_synack(listener, request), Linux 4.15. */
RAW_TRACEPOINT_PROBE(tcp_retransmit_synack)
{
	struct sock_event event = {};

	if (!capture_incident(&event, ctx->args[1], EVENT_RETRANSMIT))
		return 0;
	event.flags = SYN_AND_ACK;
	READ(event.retransmits, event.sk, OFF_num_retrans);
	return submit(ctx, &event);
}

/*
 * tcp:tcp_send_reset(sk, skb), Linux 4.15; with the reason since 6.10 (edefba66d929, "tcp: rstreason: introduce SK_RST_REASON_TCP_STATE for
 * active reset"), and then, without a socket, for what answers a segment to a port at which nobody listens: that is nobody's incident.
 */
RAW_TRACEPOINT_PROBE(tcp_send_reset)
{
	struct sock_event event = {};

	if (!capture_incident(&event, ctx->args[0], EVENT_RESET_SENT))
		return 0;
#ifdef RESET_TELLS_REASON
	event.err = ctx->args[2];
#endif
	return submit(ctx, &event);
}

/* tcp:tcp_receive_reset(sk), Linux 4.16: before the state changes. */
RAW_TRACEPOINT_PROBE(tcp_receive_reset)
{
	struct sock_event event = {};

	if (!capture_incident(&event, ctx->args[0], EVENT_RESET_RECEIVED))
		return 0;
	return submit(ctx, &event);
}

/* States in which a full socket receives: ESTABLISHED, FIN-WAIT-1 and FIN-WAIT-2. */
#define HAS_WINDOW (1 << 1 | 1 << 4 | 1 << 5)

/* tcp_receive_window(), include/net/tcp.h: what the peer may still send. Who has closed its window drops what probes it. */
static __always_inline u32 receive_window(u64 sk)
{
	u32 began = 0, size = 0, next = 0;
	s32 left;

	READ(began, sk, OFF_rcv_wup);
	READ(size, sk, OFF_rcv_wnd);
	READ(next, sk, OFF_rcv_next);
	left = began + size - next;
	return left > 0 ? left : 0;
}

/* skb:kfree_skb(skb, location, reason, rx_sk): whose segment it was is told since 6.11 (c53795d48ee8, "net: add rx_sk to trace_kfree_skb"). */
RAW_TRACEPOINT_PROBE(kfree_skb)
{
	struct sock_event event = {};
	u32 reason = ctx->args[2], length = 0;
	u8 *tell;

#ifdef DROP_TELLS_SOCKET
	if (!ctx->args[3])
		return 0;
	tell = telling.lookup((int *)&reason);
	if (!tell || !*tell || !capture_incident(&event, ctx->args[3], EVENT_DROP))
		return 0;
	READ(length, ctx->args[0], OFF_skb_len);
	event.err = reason;
	event.bytes_received = length;
	if (1 << event.old & HAS_WINDOW)
		event.bytes_sent = 1 + receive_window(event.sk);
	return submit(ctx, &event);
#else
	return 0;
#endif
}

/*
 * udp:udp_fail_queue_rcv_skb(rc, sk, skb), Linux 3.2: a datagram that nobody will receive. Which one it was is told since 6.10 (e9669a00bba7,
 * "net: udp: add IP/port data to the tracepoint udp/udp_fail_queue_rcv_skb"); its header has been taken off by then.
 */
RAW_TRACEPOINT_PROBE(udp_fail_queue_rcv_skb)
{
	struct sock_event event = {};
	u32 length = 0;

	if (!capture_incident_of(&event, ctx->args[1], EVENT_DROP, IPPROTO_UDP))
		return 0;
	event.err = -(int)ctx->args[0];
#ifdef DROP_TELLS_DATAGRAM
	READ(length, ctx->args[2], OFF_skb_len);
	event.bytes_received = length;
#endif
	return submit(ctx, &event);
}

/*
 * sock:inet_sk_error_report(sk), Linux 5.14: an error has been kept for the owner of a socket, whose next call tells of it. Of UDP it is one
 * that ICMP has brought, for a socket that has this peer, or asked for errors (IP_RECVERR). What is only queued, say the time at which a
 * datagram was sent, is none.
 */
RAW_TRACEPOINT_PROBE(inet_sk_error_report)
{
	struct sock_event event = {};
	s32 error = 0;

	READ(error, ctx->args[0], OFF_sk_err);
	if (!error || !capture_incident_of(&event, ctx->args[0], EVENT_ERROR, IPPROTO_UDP))
		return 0;
	event.err = error;
	return submit(ctx, &event);
}
