/*
 * Request sockets (half-open, SYN-RECV) and timewait sockets never fire inet_sock_set_state, but each owns a timer whose
 * function tells its sort: reqsk_timer_handler, tw_timer_handler (addresses from /proc/kallsyms, in the config map).
 *
 * - timer_start: birth; or, for one that is known, a retransmitted SYN-ACK, or a timewait timer set anew.
 * - timer_cancel comes from three places (kernel/time/timer.c, detach_timer): deletion, which is death; mod_timer, followed by a
 *   timer_start; and expiry, followed by timer_expire_entry. A request socket has left the hash before its timer is deleted
 *   (reqsk_queue_unlink), so its hash link tells deletion from the rest. A timewait socket has not: the stack tells.
 * - timer_expire_entry of a timewait socket: death of old age. Of a request socket: its handler sends another SYN-ACK and
 *   starts the timer again, or drops it; timer_expire_exit without a start between is the drop, unless the timer runs: then no
 *   program heard the start. Where its listener has closed and
 *   another takes it (net.ipv4.tcp_migrate_req, c905dee62232, v5.14), the timer that starts is that of a copy.
 */
#pragma once

/*
 * The request socket whose handler runs on this CPU. Set at timer_expire_entry, cleared when its timer starts again, read and cleared
 * at timer_expire_exit. One slot is enough: timer handlers do not nest on a CPU.
 */
struct expiring {
	u64 timer;
	struct sock_event event;
};
BPF_PERCPU_ARRAY(expirings, struct expiring, 1);

/* Whether the deletion of a timer comes from mod_timer or from expiry, and so is none. */
static __always_inline int timer_lives_on(struct bpf_raw_tracepoint_args *ctx, struct config *config)
{
	u64 stack[6] = {};

	bpf_get_stack(ctx, stack, sizeof(stack), OWN_FRAMES);
#pragma unroll
	for (int i = 0; i < 6; i++) {
#pragma unroll
		for (int j = 0; j < TIMER_RANGES; j++)
			if (stack[i] - config->timer_start[j] < config->timer_size[j])
				return 1;
	}
	return 0;
}

static __always_inline int capture_minisock(struct sock_event *event, struct config *config, u64 sk)
{
	struct common common;

	READ(common, sk, 0);
	if (!capture_namespace(event, config, &common))
		return 0;
	capture_common(event, &common, sk);
	event->protocol = IPPROTO_TCP;
	return 1;
}

/* The listener of a request socket; 0 where that is not known. */
static __always_inline u64 listener_of(u64 request)
{
	u64 listener = 0;

#ifdef OFF_skc_listener
	READ(listener, request, OFF_skc_listener);
#endif
	return listener;
}

static __always_inline int on_request_timer(struct bpf_raw_tracepoint_args *ctx, struct config *config, u64 timer)
{
	struct sock_event event = {};
	struct expiring *expiring;
	int zero = 0;

	expiring = expirings.lookup(&zero);
	if (expiring && expiring->timer == timer)
		expiring->timer = 0;
	if (!capture_minisock(&event, config, timer - OFF_rsk_timer))
		return 0;
	event.kind = EVENT_REQUEST;
	event.old = TCP_LISTEN;
	event.new = TCP_SYN_RECV;
	/* inet_reqsk_clone(): the handler of one request socket starts the timer of another, in its place. */
	if (expiring && expiring->timer && same_addresses(&event, &expiring->event)) {
		expiring->timer = 0;
		event.old = TCP_SYN_RECV;
	}
	READ(event.retransmits, event.sk, OFF_num_retrans);
	event.ino = inode_of(listener_of(event.sk));
	if (event.old == TCP_SYN_RECV && expiring)
		tell_life(ctx, expiring->event.sk, event.ts_ns, BY_TIMER);
	else if (is_kept(event.sk) || keep(config, &event, 1))
		return 0;
	return submit(ctx, &event);
}

/*
 * The full socket closes within a system call or softirq. Where it has not for so long, that has happened on another CPU, and has been told
 * there: the task was moved in between.
 */
#define SUCCESSOR_NS 10000000

static __always_inline int on_timewait_timer(struct bpf_raw_tracepoint_args *ctx, struct config *config, u64 timer)
{
	struct sock_event event = {}, *successor;
	struct passing *passing;
	u8 substate = 0;
	int zero = 0;

	if (!capture_minisock(&event, config, timer - OFF_tw_timer))
		return 0;
	event.kind = EVENT_TIMEWAIT;
	READ(substate, event.sk, OFF_tw_substate);
	event.new = substate;
	passing = passings.lookup(&zero);
	if (!passing)
		return 0;
	if (passing->rearmed == timer) {
		passing->rearmed = 0;
		return submit(ctx, &event);
	}
	successor = &passing->successors[passing->successors[0].sk && event.ts_ns - passing->successors[0].ts_ns < SUCCESSOR_NS];
	if (successor->sk && event.ts_ns - successor->ts_ns < SUCCESSOR_NS)
		deliver(ctx, successor); /* without figures */
	*successor = event;
	return 0;
}

/* Whether a full socket is between the addresses of a request socket. The child of an IPv6 listener may have an IPv4 request. */
static __always_inline int is_child(u64 sk, struct sock_event *request)
{
	struct common common;

	READ(common, sk, 0);
	if (AT(u16, &common, OFF_skc_num) != request->sport ||
	    __builtin_bswap16(AT(u16, &common, OFF_skc_dport)) != request->dport)
		return 0;
#ifdef OFF_skc_v6_rcv_saddr
	if (request->family == 10) {
		u64 *a = (u64 *)request->saddr, *b = (u64 *)((u8 *)&common + OFF_skc_v6_rcv_saddr);
		u64 *c = (u64 *)request->daddr, *d = (u64 *)((u8 *)&common + OFF_skc_v6_daddr);

		return a[0] == b[0] && a[1] == b[1] && c[0] == d[0] && c[1] == d[1];
	}
#endif
	return *(u32 *)request->saddr == AT(u32, &common, OFF_skc_rcv_saddr) &&
	       *(u32 *)request->daddr == AT(u32, &common, OFF_skc_daddr);
}

/* sk_acceptq_is_full() of a request socket's listener. */
static __always_inline int queue_is_full(u64 request)
{
#if defined(OFF_skc_listener) && defined(OFF_ack_backlog) && defined(OFF_max_ack_backlog)
	u64 listener = 0;
	u32 waiting = 0, most = 0;

	READ(listener, request, OFF_skc_listener);
	READ(waiting, listener, OFF_ack_backlog);
	READ(most, listener, OFF_max_ack_backlog);
	return waiting > most;
#else
	return 0;
#endif
}

/* tcp_check_req drops a request for a RST, and, by this sysctl, when its ACK finds the accept queue full. */
static __always_inline int overflow_aborts(u64 request)
{
	u8 aborts = 0;

#ifdef OFF_abort_on_overflow
	u64 net = 0;

	READ(net, request, OFF_skc_net);
	READ(aborts, net, OFF_abort_on_overflow);
#endif
	return aborts;
}

/* Whether the ACK of the handshake has come and found no room in the accept queue, or no data (TCP_DEFER_ACCEPT). */
static __always_inline int is_acknowledged(u64 request)
{
	u8 bits = 0;

#ifdef BYTE_acked
	READ(bits, request, BYTE_acked);
	bits &= MASK_acked;
#endif
	return bits;
}

static __always_inline int on_request_cancel(struct bpf_raw_tracepoint_args *ctx, struct config *config, u64 timer)
{
	struct sock_event event = {};
	struct passing *passing;
	u64 pprev = 0;
	int zero = 0;

	READ(pprev, timer - OFF_rsk_timer, OFF_skc_pprev);
	if (pprev)
		return 0; /* still hashed: its timer expires, on_timer_expire_entry has it */
	if (!capture_minisock(&event, config, timer - OFF_rsk_timer))
		return 0;
	passing = passings.lookup(&zero);
	if (passing && passing->child && is_child(passing->child, &event)) {
		pass_on(ctx, config, event.sk, passing->child);
		passing->child = 0;
		return 0; /* completed: the next transition of its child says so */
	}
	event.kind = EVENT_REQUEST_GONE;
	event.old = TCP_SYN_RECV;
	event.new = TCP_CLOSE;
	if (overflow_aborts(event.sk) && queue_is_full(event.sk))
		event.flags |= EVENT_FULL;
	capture_cause(&event, ctx);
	tell_life(ctx, event.sk, event.ts_ns, BY_TIMER);
	return submit(ctx, &event);
}

static __always_inline int on_timewait_gone(struct bpf_raw_tracepoint_args *ctx, struct config *config, u64 timer, u8 flags)
{
	struct sock_event event = {};
	u8 substate = 0;

	if (!capture_minisock(&event, config, timer - OFF_tw_timer))
		return 0;
	event.kind = EVENT_TIMEWAIT_GONE;
	READ(substate, event.sk, OFF_tw_substate);
	event.old = substate;
	event.new = TCP_CLOSE;
	event.flags = flags;
	if (!flags)
		capture_cause(&event, ctx);
	return submit(ctx, &event);
}

static __always_inline int on_timer_start(struct bpf_raw_tracepoint_args *ctx)
{
	u64 timer = ctx->args[0], function = 0;
	int zero = 0;
	struct config *config = configs.lookup(&zero);

	if (!config)
		return 0;
	READ(function, timer, OFF_timer_function);
	if (function == config->fn_write_timer)
		return on_write_timer(ctx, config, timer - OFF_retransmit_timer);
	if (function == config->fn_request)
		return on_request_timer(ctx, config, timer);
	if (function == config->fn_timewait)
		return on_timewait_timer(ctx, config, timer);
	return 0;
}

static __always_inline int on_timer_cancel(struct bpf_raw_tracepoint_args *ctx)
{
	u64 timer = ctx->args[0], function = 0;
	struct passing *passing;
	int zero = 0;
	struct config *config = configs.lookup(&zero);

	if (!config)
		return 0;
	READ(function, timer, OFF_timer_function);
	if (function == config->fn_request)
		return on_request_cancel(ctx, config, timer);
	if (function != config->fn_timewait)
		return 0;
	if (!timer_lives_on(ctx, config))
		return on_timewait_gone(ctx, config, timer, 0);
	passing = passings.lookup(&zero);
	if (passing)
		passing->rearmed = timer;
	return 0;
}

static __always_inline int on_timer_expire_entry(struct bpf_raw_tracepoint_args *ctx)
{
	u64 timer = ctx->args[0], function = 0;
	struct expiring *expiring;
	struct passing *passing;
	u64 listener = 0;
	u8 state = 0;
	int zero = 0;
	struct config *config = configs.lookup(&zero);
	struct sock_counts *count = counts.lookup(&zero);

	if (!config || !count)
		return 0;
	READ(function, timer, OFF_timer_function);
	if (function != config->fn_timewait && function != config->fn_request)
		return 0;
	count->expiries++;
	if (function == config->fn_timewait) {
		passing = passings.lookup(&zero);
		if (passing)
			passing->rearmed = 0; /* expiry took it down; its memory may be another's soon */
		return on_timewait_gone(ctx, config, timer, EVENT_EXPIRED);
	}
	expiring = expirings.lookup(&zero);
	if (!expiring)
		return 0;
	/* Taken now: when the handler has dropped it, the memory may be another's. */
	__builtin_memset(&expiring->event, 0, sizeof(expiring->event));
	if (!capture_minisock(&expiring->event, config, timer - OFF_rsk_timer))
		return 0;
	READ(expiring->event.retransmits, expiring->event.sk, OFF_num_retrans);
	expiring->event.flags = EVENT_EXPIRED;
	if (is_acknowledged(expiring->event.sk) && queue_is_full(expiring->event.sk))
		expiring->event.flags |= EVENT_FULL;
#ifdef OFF_skc_listener
	/* A listener leaves its half-open connections to their timers; the handler drops them when it finds it closed. */
	READ(listener, expiring->event.sk, OFF_skc_listener);
	READ(state, listener, OFF_skc_state);
	if (state != TCP_LISTEN)
		expiring->event.flags |= EVENT_MISSED;
#endif
	expiring->timer = timer;
	return 0;
}

static __always_inline int on_timer_expire_exit(struct bpf_raw_tracepoint_args *ctx)
{
	struct expiring *expiring;
	struct config *config;
	u64 pprev = 0;
	int zero = 0;

	expiring = expirings.lookup(&zero);
	config = configs.lookup(&zero);
	if (!expiring || !config || !expiring->timer || expiring->timer != ctx->args[0])
		return 0;
	READ(pprev, expiring->timer, OFF_timer_pprev);
	if (pprev)
		return on_request_timer(ctx, config, expiring->timer);
	expiring->timer = 0;
	expiring->event.ts_ns = bpf_ktime_get_ns();
	tell_life(ctx, expiring->event.sk, expiring->event.ts_ns, BY_TIMER);
	expiring->event.kind = EVENT_REQUEST_GONE;
	expiring->event.old = TCP_SYN_RECV;
	expiring->event.new = TCP_CLOSE;
	return submit(ctx, &expiring->event);
}
