/*
 * Full sockets: sock:inet_sock_set_state as a raw tracepoint (Linux 4.17; raw since 4.16).
 * Context: any; process (connect, listen, close, shutdown) or softirq (segments, timers). Cost: about 0.5 µs a transition.
 */
#pragma once

/*
 * CLOSE→SYN-SENT comes before the source port is chosen, so it waits here for the retransmit timer that tcp_connect
 * starts within the same connect(2) a moment later. Nothing hangs on that timer: whichever comes first lets it out, by taking it out
 * of the map, the timer (on_write_timer, with the port), the next transition (on_state), or the reader, who looks for what
 * waits longer than that can take. When full, the event goes out at once, without its port.
 *
 * It goes out at once, too, where the timer may not tell (starts_late); when the timer does all the same, the port follows
 * as a SYN-SENT→SYN-SENT.
 */
#define CONNECTING 1024 /* one for each task that is between the two; the reader walks all of it */
struct connecting {
	struct sock_event event; /* first: sstrace/live/probes.py takes it out */
	u32 hash;     /* sk_txhash: changes once a port has been won */
	u32 told;     /* the event has gone out already */
};
BPF_HASH(connecting, u64, struct connecting, CONNECTING);

/*
 * Whether the start of the retransmit timer may come much later than the transition, or be missed:
 * - TCP_FASTOPEN_CONNECT puts off the SYN, and with it the choice of the port, to the first write;
 * - a socket that connects again after a failure may still have its timer pending (icsk_clear_xmit_timer does not delete it), and
 *   mod_timer of a pending timer into its own slot of the timer wheel is silent.
 */
static __always_inline int starts_late(u64 sk)
{
	u64 pending = 0;
	u8 bits = 0;

	READ(pending, sk, OFF_retransmit_timer + OFF_timer_pprev);
#ifdef BYTE_fastopen_connect
	READ(bits, sk, BYTE_fastopen_connect);
	bits &= MASK_fastopen_connect;
#endif
	return pending || bits;
}

/* What on_state and on_write_timer have in hand of it: two events do not fit on the stack. */
BPF_PERCPU_ARRAY(connect, struct connecting, 1);

/*
 * Whether a connect(2) that fails has got no port: none is free, or the bound one is taken between these addresses. It
 * returns EADDRNOTAVAIL then, which is no sk_err. As soon as inet_hash_connect() has won a port, sk_set_txhash() draws a new hash.
 */
static __always_inline int has_no_port(struct connecting *waits, u64 sk)
{
#ifdef OFF_sk_txhash
	u32 hash = 0;

	READ(hash, sk, OFF_sk_txhash);
	return hash == waits->hash;
#else
	return 0;
#endif
}

/* Have the event of a connect(2) wait for its port. Whether it does; it goes out at once otherwise. */
static __always_inline int wait_for_port(struct sock_event *event, u64 sk, int late)
{
	int zero = 0;
	struct connecting *waits = connect.lookup(&zero);

	if (!waits)
		return 0;
	__builtin_memcpy(&waits->event, event, sizeof(*event));
#ifdef OFF_sk_txhash
	READ(waits->hash, sk, OFF_sk_txhash);
#endif
	waits->told = late;
	return !connecting.update(&sk, waits) && !waits->told;
}

/* Take what waits out of the map; NULL = nothing does. Who takes it tells it, and nobody else. */
static __always_inline struct connecting *take_waiting(u64 sk)
{
	int zero = 0;
	struct connecting *waits = connecting.lookup(&sk), *taken = connect.lookup(&zero);

	if (!waits || !taken)
		return 0;
	__builtin_memcpy(taken, waits, sizeof(*waits));
	return connecting.delete(&sk) ? 0 : taken;
}

/*
 * A listener's child tells of its birth late, and only where no request socket has told of the connection: a SYN cookie, Fast
 * Open. Most children come from a request socket, which on_request_cancel finds completed a moment later.
 */
static __always_inline void tell_child(struct bpf_raw_tracepoint_args *ctx, struct sock_event *event, struct passing *passing)
{
	struct sock_event *birth = &passing->birth;

	__builtin_memcpy(birth, event, sizeof(*birth));
	birth->ts_ns = passing->child_ns;
	birth->old = TCP_LISTEN;
	birth->new = TCP_SYN_RECV;
	birth->flags &= EVENT_KTHREAD;
	deliver(ctx, birth);
}

/*
 * A connect(2) that no timer has told of is told now: it failed before it sent anything, or the timer was not heard.
 */
static __always_inline void tell_connect(struct bpf_raw_tracepoint_args *ctx, struct sock_event *event, struct connecting *waits)
{
	struct sock_event *birth = &waits->event;

	if (event->new == TCP_CLOSE && has_no_port(waits, event->sk)) {
		event->err = EADDRNOTAVAIL;
		event->sport = birth->sport; /* inet_sport is left over from an earlier life */
		birth->since_ns = event->since_ns = birth->ts_ns;
	}
	birth->sport = event->sport;
	if (!waits->told)
		deliver(ctx, birth);
}

/*
 * MPTCP's own socket has no addresses when it tells that it connects, nor when it comes out of a listener: it is given those of its first
 * subflow, a TCP socket, a moment later (mptcp_copy_inaddrs, net/mptcp/protocol.c). So they are read there: of the listener's child that
 * was born just before, or of that subflow.
 */
static __always_inline u64 first_subflow(struct passing *passing, u64 sk, u32 old, u32 new)
{
	u64 first = 0;

	if (old == TCP_LISTEN && new != TCP_LISTEN && new != TCP_CLOSE)
		return passing->child;
#ifdef OFF_msk_first
	if (new == TCP_LISTEN)
		READ(first, sk, OFF_msk_first);
#endif
	return first;
}

/* A subflow's SYN is about to go out: where it is the first, its connection's connect(2) is told, with its addresses. */
static __always_inline void tell_multipath(struct bpf_raw_tracepoint_args *ctx, struct common *common, u64 subflow)
{
#if defined(OFF_icsk_ulp_data) && defined(OFF_subflow_conn)
	u64 context = 0, sk = 0;
	struct connecting *waits;

	READ(context, subflow, OFF_icsk_ulp_data);
	if (!context)
		return;
	READ(sk, context, OFF_subflow_conn);
	waits = take_waiting(sk);
	if (!waits)
		return;
	capture_ends(&waits->event, common);
	deliver(ctx, &waits->event);
#endif
}

/* Whether inet_twsk_alloc() would have found room for one more timewait socket. */
static __always_inline int timewait_has_room(struct common *common)
{
#if defined(OFF_tw_most) && (defined(OFF_tw_refcount) || defined(OFF_tw_count))
	u64 net = AT(u64, common, OFF_skc_net);
	u32 most = 0, count = 0;

	READ(most, net, OFF_tw_most);
#ifdef OFF_tw_refcount
	READ(count, net, OFF_tw_refcount);
	return count - 1 < most;
#else
	READ(count, net, OFF_tw_count);
	return count < most;
#endif
#else
	return 0;
#endif
}

/*
 * tcp_time_wait makes a timewait socket and then closes the full one, which still knows what the connection has carried: one event
 * for both, at the time of the first. Whether the timewait socket was waiting for this, and has been told.
 */
static __always_inline int tell_successor(struct bpf_raw_tracepoint_args *ctx, struct sock_event *close, struct passing *passing, int program)
{
	int told = 0;

#pragma unroll
	for (int i = 0; i < SUCCESSORS; i++) {
		struct sock_event *successor = &passing->successors[i];

		if (successor->sk && same_addresses(close, successor)) {
			capture_figures(successor, close->sk);
			leave_life(ctx, successor, close, program);
			told = deliver(ctx, successor);
			successor->sk = 0;
			break;
		}
	}
	return told;
}

/*
 * The event that on_state makes, of each of its two programs: a softirq may run one of them while the other is at work. On the stack
 * there is no room for it.
 */
BPF_PERCPU_ARRAY(moving, struct sock_event, 2);

static __always_inline int on_state(struct bpf_raw_tracepoint_args *ctx, int program)
{
	u64 sk = ctx->args[0];
	u32 old = ctx->args[1], new = ctx->args[2];
	struct sock_event *event = moving.lookup(&program);
	struct common common;
	u16 protocol = 0, sport = 0;
	struct connecting *waits = 0;
	struct passing *passing;
	u8 bits = 0, missed = 0;
	int zero = 0, multipath;
	u64 subflow = 0, token = 0;
	struct config *config = configs.lookup(&zero);

	if (!config || !event)
		return 0;
	__builtin_memset(event, 0, sizeof(*event));
	READ(protocol, sk, OFF_sk_protocol);
	multipath = protocol == IPPROTO_MPTCP;
	if (multipath ? !config->mptcp : protocol != IPPROTO_TCP)
		return 0; /* SCTP and DCCP fire this tracepoint too; their states are not these */
	READ(common, sk, 0);
	if (!capture_namespace(event, config, &common))
		return 0;
	passing = passings.lookup(&zero);
	if (!passing)
		return 0;
	if (multipath) {
		READ(token, sk, OFF_skc_pprev);
		subflow = first_subflow(passing, sk, old, new);
		if (subflow)
			READ(common, subflow, 0);
	} else if (old == TCP_LISTEN && new == TCP_SYN_RECV) {
		passing->child = sk;
		passing->child_ns = bpf_ktime_get_ns();
		return 0;
	}
	if (old == TCP_SYN_RECV && passing->child == sk) {
		passing->child = 0;
		/* It never came into being: another took its request, or its port. The request socket lives on. */
		if (new == TCP_CLOSE)
			return 0;
		missed = 1;
	}
	if (!multipath && !config->tcp)
		return 0;
	capture_common(event, &common, sk);
	if (subflow)
		READ(event->cookie, sk, OFF_skc_cookie);
	event->kind = EVENT_STATE;
	event->protocol = protocol;
	event->old = old;
	event->new = new;
	/* One that connects, or has come out of a listener, has its token in a moment. */
	if (multipath && !token && old != TCP_LISTEN && new != TCP_LISTEN && new != TCP_SYN_SENT)
		event->flags |= EVENT_FORGOTTEN;
#ifdef OFF_inet_sport
	/* The port is free for others by now (inet_put_port); the socket still knows which it was. */
	if (new == TCP_CLOSE && !event->sport && !multipath) {
		READ(sport, sk, OFF_inet_sport);
		event->sport = __builtin_bswap16(sport);
	}
#endif
	if (!multipath && new == TCP_CLOSE && (old == TCP_FIN_WAIT2 || old == TCP_CLOSING) && tell_successor(ctx, event, passing, program))
		return 0;
	if (old == TCP_SYN_SENT)
		waits = take_waiting(sk);
	capture_sock(event, sk);
	/* Into these only a segment takes a socket, so whoever runs is nobody in particular. */
	if (old == new || !(1 << new & (1 << TCP_ESTABLISHED | 1 << TCP_FIN_WAIT2 | 1 << TCP_CLOSE_WAIT | 1 << TCP_CLOSING)))
		capture_task(event, config);
	/* tcp_close_state: its transitions, among them those that lead nowhere. */
	if (event->file && (new == TCP_FIN_WAIT1 || new == TCP_LAST_ACK || old == new || (multipath && new == TCP_CLOSE)) &&
	    is_closing(event->file))
		event->flags |= EVENT_ORPHANED;
#ifdef BYTE_skc_ipv6only
	if (new == TCP_LISTEN) {
		READ(bits, sk, BYTE_skc_ipv6only);
		if (bits & MASK_skc_ipv6only)
			event->flags |= EVENT_V6ONLY;
	}
#endif
	if (new == TCP_LISTEN || new == TCP_SYN_SENT)
		capture_fd(event);
	if (new == TCP_LISTEN || new == TCP_SYN_SENT || old == TCP_SYN_RECV || (multipath && old == TCP_LISTEN))
		capture_cgroup(event, sk);
	if (new == TCP_SYN_SENT && config->fn_write_timer && wait_for_port(event, sk, !multipath && starts_late(sk)))
		return 0;
	if (missed)
		tell_child(ctx, event, passing);
	if (waits && multipath) {
		capture_ends(&waits->event, &common);
		deliver(ctx, &waits->event);
	} else if (waits) {
		tell_connect(ctx, event, waits);
	}
	if (!multipath && new != TCP_CLOSE && lives_on(ctx, config, event, program))
		return 0;
	if (new == TCP_CLOSE) {
		if (!event->err)
			READ(event->err, sk, OFF_sk_err);
#ifdef OFF_icsk_retransmits
		READ(event->retransmits, sk, OFF_icsk_retransmits);
#endif
		READ(event->shutdown, sk, OFF_sk_shutdown);
		if (!event->file)
			event->flags |= EVENT_ORPHANED;
		if (old == TCP_FIN_WAIT2 && config->fn_timewait && timewait_has_room(&common))
			event->flags |= EVENT_ROOM;
		if (!multipath)
			capture_figures(event, sk);
		if (is_plain(event, sk))
			event->flags |= EVENT_PLAIN;
		else
			capture_cause(event, ctx);
		close_life(ctx, event, program);
	}
	return submit(ctx, event);
}

/*
 * Since 05b24ff9b2cf ("bpf: Prevent bpf program recursion for raw tracepoint probes", v6.1) a program that is interrupted is not run again by
 * what interrupts it. A transition inside a system call can be interrupted by a softirq with transitions of its own, so the program
 * is there twice: the second runs what the first was kept from. Softirqs do not nest, so two are enough. The timer tracepoints
 * fire with interrupts off, or inside softirqs, and need no second.
 */
static __always_inline u64 transition_key(struct bpf_raw_tracepoint_args *ctx)
{
	return ctx->args[0] << 8 | (ctx->args[1] & 15) << 4 | (ctx->args[2] & 15);
}

static __always_inline int on_state_first(struct bpf_raw_tracepoint_args *ctx)
{
	int zero = 0;
	struct marks *marks = marked.lookup(&zero);
	struct sock_counts *count = counts.lookup(&zero);

	if (marks)
		marks->keys[marks->next++ & (MARKS - 1)] = transition_key(ctx);
	if (count)
		__sync_fetch_and_add(&count->states, 1);
	return on_state(ctx, 0);
}

static __always_inline int on_state_again(struct bpf_raw_tracepoint_args *ctx)
{
	u64 key = transition_key(ctx);
	int zero = 0;
	struct marks *marks = marked.lookup(&zero);
	struct sock_counts *count = counts.lookup(&zero);

	if (!marks || !count)
		return 0;
#pragma unroll
	for (int i = 0; i < MARKS; i++) {
		if (marks->keys[i] == key) {
			marks->keys[i] = 0;
			return 0;
		}
	}
	__sync_fetch_and_add(&count->states, 1);
	return on_state(ctx, 1);
}

/* Whether a SYN goes out for the second time or later. */
static __always_inline int is_resent(u64 sk)
{
	u8 retransmits = 1;

#ifdef OFF_icsk_retransmits
	READ(retransmits, sk, OFF_icsk_retransmits);
#endif
	return retransmits;
}

/*
 * The retransmit timer of a socket starts: the first time in SYN-SENT, that is the connect(2) that was waiting, or one that was
 * told without its port, or not at all; in SYN-RECV, a child by Fast Open, which has no request socket to tell of it.
 */
static __always_inline int on_write_timer(struct bpf_raw_tracepoint_args *ctx, struct config *config, u64 sk)
{
	struct sock_event event = {};
	struct common common;
	struct connecting *waits;
	struct passing *passing;
	u8 state = 0;
	int zero = 0;

	READ(state, sk, OFF_skc_state);
	if (state == TCP_SYN_SENT && config->mptcp) {
		READ(common, sk, 0);
		tell_multipath(ctx, &common, sk);
	}
	if (!config->tcp)
		return 0;
	if (state == TCP_SYN_RECV) {
		passing = passings.lookup(&zero);
		if (!passing || passing->child != sk)
			return 0;
		passing->child = 0;
		READ(common, sk, 0);
		capture_namespace(&event, config, &common);
		capture_common(&event, &common, sk);
		event.ts_ns = passing->child_ns;
		event.old = TCP_LISTEN;
		event.new = TCP_SYN_RECV;
	} else if (state == TCP_SYN_SENT) {
		waits = take_waiting(sk);
		if (waits && !waits->told) {
			READ(waits->event.sport, sk, OFF_skc_num);
			if (keep(config, &waits->event, 0))
				return 0;
			return submit(ctx, &waits->event);
		}
		if (!waits && is_resent(sk))
			return 0;
		if (is_kept(sk))
			return 0;
		READ(common, sk, 0);
		if (!capture_namespace(&event, config, &common))
			return 0;
		capture_common(&event, &common, sk);
		event.old = TCP_SYN_SENT;
		event.new = TCP_SYN_SENT;
	} else {
		return 0;
	}
	event.kind = EVENT_STATE;
	event.protocol = IPPROTO_TCP;
	capture_sock(&event, sk);
	capture_task(&event, config);
	capture_fd(&event);
	capture_cgroup(&event, sk);
	return submit(ctx, &event);
}
