/*
 * Index of every hook: one line each, each calling a handler. All are raw tracepoints: stable names, no headers needed.
 * Offsets (OFF_…) come from BTF as -D macros, boot-time facts (addresses, namespaces) through the config map, so that one
 * compiled program serves every boot of the same kernel.
 */
#include "event.h"

/* include/net/tcp_states.h and include/uapi/linux/in.h: part of the kernel's ABI. */
enum {
	TCP_ESTABLISHED = 1,
	TCP_SYN_SENT = 2,
	TCP_SYN_RECV = 3,
	TCP_FIN_WAIT1 = 4,
	TCP_FIN_WAIT2 = 5,
	TCP_TIME_WAIT = 6,
	TCP_CLOSE = 7,
	TCP_CLOSE_WAIT = 8,
	TCP_LAST_ACK = 9,
	TCP_LISTEN = 10,
	TCP_CLOSING = 11,
	IPPROTO_TCP = 6,
	IPPROTO_MPTCP = 262,
};

#include "config.h"

/* Every event of every hook and CPU. Read by sstrace/sources/perf.py. */
BPF_PERF_OUTPUT(events);

/* Read by sstrace/sources/perf.py. */
BPF_PERCPU_ARRAY(counts, struct sock_counts, 1);

/* A system call that makes a timewait socket can be interrupted by a softirq that makes one. */
#define SUCCESSORS 2

/*
 * What passes from one kernel object to the next on a CPU, so that the passing itself needs no record. Both passings
 * happen within one softirq or system call: each is set by its first step, used up by the next, and overwritten by the
 * next of its kind where that never came.
 */
struct passing {
	u64 child;        /* a listener's new child that has not told of itself; 0 = none */
	u64 child_ns;     /* its birth */
	u64 rearmed;      /* a timewait socket's timer that mod_timer has taken down, and sets anew next; 0 = none */
	struct sock_event birth; /* of that child, while it is told: two events do not fit on the stack */
	struct sock_event successors[SUCCESSORS]; /* timewait sockets just born, whose full sockets close next, and are told then; sk 0 = none */
};
BPF_PERCPU_ARRAY(passings, struct passing, 1);

/*
 * The transitions that the first of the two programs on inet_sock_set_state has begun, for the second. Written by the first, a slot
 * each; read, and emptied, by the second.
 */
#define MARKS 8
struct marks {
	u64 next;
	u64 keys[MARKS];
};
BPF_PERCPU_ARRAY(marked, struct marks, 1);

#include "capture.h"
#include "cause.h"
#include "figures.h"
#include "lives.h"
#include "tcp.h"
#include "minisock.h"

RAW_TRACEPOINT_PROBE(inet_sock_set_state) { return on_state_first(ctx); }
RAW_TRACEPOINT_PROBE(inet_sock_set_state__again) { return on_state_again(ctx); }
RAW_TRACEPOINT_PROBE(timer_start) { return on_timer_start(ctx); }
RAW_TRACEPOINT_PROBE(timer_cancel) { return on_timer_cancel(ctx); }
RAW_TRACEPOINT_PROBE(timer_expire_entry) { return on_timer_expire_entry(ctx); }
RAW_TRACEPOINT_PROBE(timer_expire_exit) { return on_timer_expire_exit(ctx); }
