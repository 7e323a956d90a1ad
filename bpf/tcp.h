/*
 * Full sockets: sock:inet_sock_set_state as a raw tracepoint (Linux 4.17; raw since 4.16).
 * Context: any; process (connect, listen, close, shutdown) or softirq (segments, timers). Cost: about 0.5 µs a transition.
 */
#pragma once

/*
 * CLOSE→SYN-SENT comes before the source port is chosen, so it waits here for the retransmit timer that tcp_connect
 * starts within the same connect(2) a moment later. Inserted by on_state, deleted by on_syn_sent, or by on_state at the
 * next transition where connect failed before it sent anything. It cannot leak: an entry lives inside one connect(2).
 * When full, the event goes out at once, without its port.
 */
BPF_HASH(connecting, u64, u64, 4096);

static __always_inline int on_state(struct bpf_raw_tracepoint_args *ctx)
{
	u64 sk = ctx->args[0];
	u32 old = ctx->args[1], new = ctx->args[2];
	struct sock_event event = {};
	struct common common;
	u16 protocol = 0, sport = 0;
	u64 *since;
	int zero = 0;
	struct config *config = configs.lookup(&zero);

	if (!config)
		return 0;
	READ(protocol, sk, OFF_sk_protocol);
	if (protocol != IPPROTO_TCP && protocol != IPPROTO_MPTCP)
		return 0; /* SCTP and DCCP fire this tracepoint too; their states are not these */
	READ(common, sk, 0);
	event.netns = netns_of(&common);
	if (!in_namespace(config, event.netns))
		return 0;
	capture_common(&event, &common, sk);
	event.kind = EVENT_STATE;
	event.protocol = protocol;
	event.old = old;
	event.new = new;
	if (new == TCP_SYN_SENT && protocol == IPPROTO_TCP && config->fn_write_timer && !connecting.update(&sk, &event.ts_ns))
		return 0;
	if (old == TCP_SYN_SENT) {
		since = connecting.lookup(&sk);
		if (since) {
			event.since_ns = *since;
			connecting.delete(&sk);
		}
	}
	capture_sock(&event, sk);
	capture_task(&event, config);
	if (new == TCP_LISTEN || new == TCP_SYN_SENT)
		capture_fd(&event);
	if (new == TCP_LISTEN || new == TCP_SYN_SENT || old == TCP_LISTEN || event.since_ns)
		capture_cgroup(&event, sk);
	if (new == TCP_CLOSE) {
#ifdef OFF_inet_sport
		/* The port is free for others by now (inet_put_port); the socket still knows which it was. */
		if (!event.sport) {
			READ(sport, sk, OFF_inet_sport);
			event.sport = __builtin_bswap16(sport);
		}
#endif
		READ(event.err, sk, OFF_sk_err);
#ifdef OFF_icsk_retransmits
		READ(event.retransmits, sk, OFF_icsk_retransmits);
#endif
		READ(event.shutdown, sk, OFF_sk_shutdown);
		capture_cause(&event, ctx);
	}
	return submit(ctx, &event);
}

/* The retransmit timer of a socket starts: the first time in SYN-SENT, that is the connect(2) that was waiting. */
static __always_inline int on_write_timer(struct bpf_raw_tracepoint_args *ctx, struct config *config, u64 sk)
{
	struct sock_event event = {};
	struct common common;
	u64 *since;
	u8 state = 0;

	READ(state, sk, OFF_skc_state);
	if (state != TCP_SYN_SENT)
		return 0;
	since = connecting.lookup(&sk);
	if (!since)
		return 0; /* a retransmitted SYN */
	READ(common, sk, 0);
	capture_common(&event, &common, sk);
	event.ts_ns = *since;
	connecting.delete(&sk);
	event.netns = netns_of(&common);
	event.kind = EVENT_STATE;
	event.protocol = IPPROTO_TCP;
	event.old = TCP_CLOSE;
	event.new = TCP_SYN_SENT;
	capture_sock(&event, sk);
	capture_task(&event, config);
	capture_fd(&event);
	capture_cgroup(&event, sk);
	return submit(ctx, &event);
}
