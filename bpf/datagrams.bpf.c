/*
 * UDP and raw sockets: index of every hook, one line each. A datagram socket makes no transitions that a tracepoint would tell; what it is shown
 * as changes by its owner's system calls alone, and each of these ends in one of the hooks here. Loaded, and attached, only where
 * somebody asks for them; attached to the root of the cgroup v2 hierarchy they hear of every socket of the machine.
 *
 * A birth waits for whoever reads, who takes all that wait each time he looks: a socket that is closed before is told of in one record.
 * Each event says which call was made, and how the socket is since: what that means for a row stands in sstrace/lifecycle/udp.py, and raw.py.
 *
 *   post_bind4, post_bind6      bind(2) has a port; not that of a kernel's own socket, whose end release does not tell
 *   connect4, connect6          connect(2) begins: gives the socket its cookie, by which the end of the call tells of it
 *   sys_enter_, sys_exit_connect  connect(2) ends, with or without success; AF_UNSPEC, which dissolves, is told here alone
 *   sendmsg4, sendmsg6          a datagram leaves an unconnected socket of UDP, which has a port by then: told once a socket
 *   release                     the last descriptor is closed
 *   create                      the socket is made: what it sends and receives is counted from here on; of a raw one, told
 *   sys_enter_, sys_exit_bind   bind(2) of a raw socket ends, which makes none of the above
 *   sock_send_, sock_recv_length  a call of any internet socket has sent or received (Linux 6.3, 6e6eda44b939 "sock: add tracepoint
 *                               for send recv length"): counts; and tells of a send that failed once the port had been chosen
 *
 * Not heard: connect(2) of 32-bit programs on a 64-bit kernel, and of io_uring; SO_BINDTODEVICE after bind(2). The next comparison with
 * the kernel finds those.
 *
 * Programs at cgroup hooks return 1: 0 would forbid the call.
 */
#include "event.h"

enum {
	IPPROTO_UDP = 17, /* include/uapi/linux/in.h */
	SOCK_RAW = 3,     /* include/linux/net.h */
	RAW = 0,          /* sock_event.protocol of raw sockets, whichever is theirs: that is their port */
};

#include "config.h"

/* These are the event path's, too: one order of events, and one reader. */
BPF_PERF_OUTPUT(events);
BPF_PERCPU_ARRAY(counts, struct sock_counts, 1);

#include "capture.h"

/* Which of them are asked for: 0 UDP, 1 raw sockets. Written before anything is attached (sstrace/live/calls.py). */
BPF_ARRAY(following, u8, 2);

/*
 * Births that wait for the reader, who takes them all each time he looks (sstrace/live/calls.py), by the socket's kernel address. A socket
 * that is closed before is told of in one record, and not in two: of those that come in storms nearly all are.
 */
BPF_HASH(waiting, u64, struct sock_event, 8192);

static __always_inline int is_followed(u32 type, u32 protocol)
{
	int which = type == SOCK_RAW;
	u8 *asked = following.lookup(&which);

	return asked && *asked && (which || protocol == IPPROTO_UDP);
}

/* connect(2) calls that have begun: thread → kernel address of the socket. */
BPF_TABLE("lru_hash", u64, u64, calling, 4096);

/* Sockets, by their cookies, of which a send has told. One that is forgotten is told once more. */
BPF_TABLE("lru_hash", u64, u8, sending, 65536);

/* What a socket has sent and received since it was made, by its kernel address. Of older ones nothing is counted. */
struct flow {
	u64 bytes_sent;
	u64 bytes_received;
	u32 sent;
	u32 received;
	u64 told; /* its birth has been: later calls are told at once */
};
BPF_HASH(flows, u64, struct flow, 65536);

/* What is counted of it, where it is. */
static __always_inline void capture_flow(struct sock_event *event, struct flow *flow)
{
	if (!flow)
		return;
	event->bytes_sent = flow->bytes_sent + 1;
	event->bytes_received = flow->bytes_received + 1;
	event->segs_out = flow->sent + 1;
	event->segs_in = flow->received + 1;
}

/* A typed pointer as a plain number: the verifier lets nobody add to a pointer to a socket, but what is read of the stack is a number. */
static __always_inline u64 address_of(void *pointer)
{
	void *volatile spilled = pointer;
	u64 address = 0;

	bpf_probe_read_kernel(&address, sizeof(address), (void *)&spilled);
	return address;
}

static __always_inline int is_raw(u64 sk)
{
	u16 type = 0;

	READ(type, sk, OFF_sk_type);
	return type == SOCK_RAW;
}

/* What ss shows as a socket's port, host order; 0: it does not show the socket. Of a raw one it is its protocol, until connect(2) with
 * AF_UNSPEC takes it out of the table for ever (__udp_disconnect, net/ipv4/udp.c).
 */
static __always_inline u16 port_of(u64 sk)
{
	u16 port = 0;

	if (is_raw(sk)) {
		READ(port, sk, OFF_inet_sport);
		return __builtin_bswap16(port);
	}
	READ(port, sk, OFF_skc_num);
	return port;
}

/* A birth that waits is told now, because more has happened. */
static __always_inline void tell_birth(void *ctx, u64 sk)
{
	struct sock_event *birth = waiting.lookup(&sk);

	if (birth && !waiting.delete(&sk)) /* else the reader has taken it meanwhile */
		deliver(ctx, birth);
}

/* Tell of a call, and of the socket as it is now. */
static __always_inline void tell(void *ctx, u64 sk, u64 cookie, u8 call)
{
	struct sock_event event = {};
	struct common common = {};
	struct config *config;
	struct flow *flow = flows.lookup(&sk);
	int zero = 0;

	config = configs.lookup(&zero);
	if (!config)
		return;
	if (flow && flow->told)
		tell_birth(ctx, sk);
	bpf_probe_read_kernel(&common, sizeof(common), (void *)sk);
	if (!capture_namespace(&event, config, &common))
		return;
	capture_common(&event, &common, sk);
	capture_sock(&event, sk);
	capture_cgroup(&event, sk);
	capture_task(&event, config);
	event.kind = EVENT_DATAGRAM;
	event.protocol = is_raw(sk) ? RAW : IPPROTO_UDP;
	event.sport = port_of(sk);
	event.cookie = cookie;
	event.old = call;
	if (call != CALL_CLOSE) {
		capture_fd(&event);
		event.new = AT(u8, &common, OFF_skc_state);
	} else {
		capture_flow(&event, flow);
	}
#ifdef BYTE_skc_ipv6only
	if (AT(u8, &common, BYTE_skc_ipv6only) & MASK_skc_ipv6only)
		event.flags |= EVENT_V6ONLY;
#endif
	if (call != CALL_CLOSE && flow && !flow->told && event.sport) {
		flow->told = 1;
		event.file = bpf_get_current_pid_tgid() >> 32;
		if (!waiting.update(&sk, &event))
			return;
	}
	deliver(ctx, &event);
}

/*
 * The end of a socket whose birth still waits, both in one record: since_ns says when it was born, shutdown by which call, new in which
 * state. Where another process ends it than the one by which it was born, or with other ends, there are two. Whether that was all.
 */
static __always_inline int tell_life(void *ctx, u64 sk)
{
	struct sock_event event, *birth = waiting.lookup(&sk);
	u16 dport = 0;

	if (!birth)
		return 0;
	__builtin_memcpy(&event, birth, sizeof(event));
	if (waiting.delete(&sk))
		return 0; /* the reader has taken it meanwhile */
	READ(dport, sk, OFF_skc_dport);
	if (event.file != bpf_get_current_pid_tgid() >> 32 || event.sport != port_of(sk) || event.dport != __builtin_bswap16(dport)) {
		deliver(ctx, &event);
		return 0;
	}
	event.since_ns = event.ts_ns;
	event.ts_ns = bpf_ktime_get_ns();
	event.shutdown = event.old;
	event.old = CALL_CLOSE;
	capture_flow(&event, flows.lookup(&sk));
	deliver(ctx, &event);
	return 1;
}

static __always_inline int on_create(struct bpf_sock *ctx)
{
	struct flow none = {};
	u64 sk, cookie;

	if (!is_followed(ctx->type, ctx->protocol))
		return 1;
	cookie = bpf_get_socket_cookie(ctx); /* makes one, for on_failure */
	sk = address_of(ctx);
	flows.update(&sk, &none);
	if (ctx->type == SOCK_RAW)
		tell(ctx, sk, cookie, CALL_CREATE);
	return 1;
}

static __always_inline int on_bind(struct bpf_sock *ctx)
{
	u64 sk;
	u8 bits = 0;

	if (ctx->type == SOCK_RAW || !is_followed(ctx->type, ctx->protocol))
		return 1;
	sk = address_of(ctx);
#ifdef BYTE_sk_kern_sock
	READ(bits, sk, BYTE_sk_kern_sock);
	if (bits & MASK_sk_kern_sock)
		return 1;
#endif
	tell(ctx, sk, bpf_get_socket_cookie(ctx), CALL_BIND);
	return 1;
}

static __always_inline int on_release(struct bpf_sock *ctx)
{
	u64 sk, cookie;

	if (!is_followed(ctx->type, ctx->protocol))
		return 1;
	sk = address_of(ctx);
	if (port_of(sk)) { /* else ss does not show it, and the table has no row of it */
		cookie = bpf_get_socket_cookie(ctx);
		sending.delete(&cookie);
		if (!tell_life(ctx, sk))
			tell(ctx, sk, cookie, CALL_CLOSE);
	} else {
		waiting.delete(&sk);
	}
	flows.delete(&sk);
	return 1;
}

static __always_inline int on_connect(struct bpf_sock_addr *ctx)
{
	if (is_followed(ctx->type, ctx->protocol))
		bpf_get_socket_cookie(ctx);
	return 1;
}

static __always_inline int on_send(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *socket = ctx->sk;
	u64 cookie;
	u8 told = 1;

	if (!socket || ctx->type == SOCK_RAW || !is_followed(ctx->type, ctx->protocol))
		return 1;
	cookie = bpf_get_socket_cookie(ctx);
	if (sending.lookup(&cookie))
		return 1;
	sending.update(&cookie, &told);
	tell(ctx, address_of(socket), cookie, CALL_SEND);
	return 1;
}

/* The socket of a descriptor of this process, if it is one that is followed; else 0. Only a socket's file is one that a socket names. */
static __always_inline u64 datagram_socket_of(u64 fd)
{
	u64 files = 0, table = 0, array = 0, file = 0, socket = 0, back = 0, sk = 0;
	u32 size = 0;
	u16 type = 0, protocol = 0, family = 0;

	READ(files, bpf_get_current_task(), OFF_task_files);
	READ(table, files, OFF_files_fdt);
	READ(array, table, OFF_fdt_fd);
	READ(size, table, OFF_fdt_max_fds);
	if ((u32)fd >= size)
		return 0;
	READ(file, array, (u64)(u32)fd * 8);
	READ(socket, file, OFF_file_private_data);
	READ(back, socket, OFF_socket_file);
	if (!file || back != file)
		return 0;
	READ(sk, socket, OFF_socket_sk);
	READ(type, sk, OFF_sk_type);
	READ(protocol, sk, OFF_sk_protocol);
	READ(family, sk, OFF_skc_family);
	return (family == 2 || family == 10) && is_followed(type, protocol) ? sk : 0;
}

/* Of a system call's tracepoint: struct syscall_trace_enter, kernel/trace/trace.h; argument n is at 16 + 8 n. */
#define FIRST_ARGUMENT 16

static __always_inline int on_call_begins(void *ctx)
{
	u64 thread = bpf_get_current_pid_tgid(), sk = datagram_socket_of(*(u64 *)((u8 *)ctx + FIRST_ARGUMENT));

	if (sk)
		calling.update(&thread, &sk);
	return 1;
}

static __always_inline int on_call_ends(void *ctx, u8 call)
{
	u64 thread = bpf_get_current_pid_tgid(), cookie = 0, sk, *found = calling.lookup(&thread);

	if (!found)
		return 1;
	sk = *found;
	calling.delete(&thread);
	READ(cookie, sk, OFF_skc_cookie);
	if (!cookie)
		return 1; /* it was not bound, and is not: nobody has met it */
	if (call == CALL_BIND && !is_raw(sk))
		return 1; /* post_bind has told of it */
	sending.delete(&cookie); /* AF_UNSPEC gives its port back, and the next send has another */
	tell(ctx, sk, cookie, call);
	return 1;
}

/* A send that has failed may have left a port behind: a call without an address, say, of a socket that has no peer. */
static __always_inline void on_failure(void *ctx, u64 sk)
{
	u64 cookie = 0;
	u16 port = 0;
	u8 told = 1;

	if (is_raw(sk))
		return;
	READ(port, sk, OFF_skc_num);
	READ(cookie, sk, OFF_skc_cookie);
	if (!port || !cookie || sending.lookup(&cookie))
		return;
	sending.update(&cookie, &told);
	tell(ctx, sk, cookie, CALL_SEND);
}

#define MSG_PEEK 2 /* include/linux/socket.h */

/* Arguments: socket, length or -errno, flags. */
static __always_inline int on_length(struct bpf_raw_tracepoint_args *ctx, int receives)
{
	u64 sk = ctx->args[0];
	int length = ctx->args[1];
	struct flow *flow = flows.lookup(&sk);

	if (!flow)
		return 0;
	if (length < 0) {
		if (!receives)
			on_failure(ctx, sk);
	} else if (!receives) {
		__sync_fetch_and_add(&flow->bytes_sent, length);
		__sync_fetch_and_add(&flow->sent, 1);
	} else if (!(ctx->args[2] & MSG_PEEK)) {
		__sync_fetch_and_add(&flow->bytes_received, length);
		__sync_fetch_and_add(&flow->received, 1);
	}
	return 0;
}

int plain__create(struct bpf_sock *ctx) { return on_create(ctx); }
int plain__sock_send_length(struct bpf_raw_tracepoint_args *ctx) { return on_length(ctx, 0); }
int plain__sock_recv_length(struct bpf_raw_tracepoint_args *ctx) { return on_length(ctx, 1); }
int plain__post_bind4(struct bpf_sock *ctx) { return on_bind(ctx); }
int plain__post_bind6(struct bpf_sock *ctx) { return on_bind(ctx); }
int plain__release(struct bpf_sock *ctx) { return on_release(ctx); }
int plain__connect4(struct bpf_sock_addr *ctx) { return on_connect(ctx); }
int plain__connect6(struct bpf_sock_addr *ctx) { return on_connect(ctx); }
int plain__sendmsg4(struct bpf_sock_addr *ctx) { return on_send(ctx); }
int plain__sendmsg6(struct bpf_sock_addr *ctx) { return on_send(ctx); }
int plain__sys_enter_connect(void *ctx) { return on_call_begins(ctx); }
int plain__sys_exit_connect(void *ctx) { return on_call_ends(ctx, CALL_CONNECT); }
int plain__sys_enter_bind(void *ctx) { return on_call_begins(ctx); }
int plain__sys_exit_bind(void *ctx) { return on_call_ends(ctx, CALL_BIND); }
