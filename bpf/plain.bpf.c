/*
 * What can be traced where the kernel's structs are unknown (no BTF) or may not be read (lockdown=confidentiality): the fields
 * of the tracepoint sock:inet_sock_set_state itself, and no more. So: no inode, cookie or network namespace, no source port at
 * CLOSE→SYN-SENT, no request or timewait sockets; sweeps find those.
 *
 * It returns 1: after a 0 the kernel shows the tracepoint to nobody else, not even to those who only count (trace_call_bpf).
 *
 * OFF_… are the fields' offsets in the tracepoint's record, from its format file in tracefs.
 */
#include "event.h"

enum {
	TCP_CLOSE = 7,
	IPPROTO_TCP = 6,
};

#define FIELD(type, offset) (*(type *)((char *)ctx + (offset)))

/* Every event of every CPU. Read by sstrace/sources/perf.py. */
BPF_PERF_OUTPUT(events);

/* Read by sstrace/sources/perf.py. */
BPF_PERCPU_ARRAY(counts, struct sock_counts, 1);

#define OWN_FRAMES 0 /* a tracepoint program is given the stack of the tracepoint */
#include "cause.h"

int plain__inet_sock_set_state(void *ctx)
{
	struct sock_event event = {};
	u64 task;
	int zero = 0;
	struct sock_counts *count = counts.lookup(&zero);

	if (!count)
		return 1;
	event.protocol = FIELD(u16, OFF_protocol);
	if (event.protocol != IPPROTO_TCP)
		return 1; /* MPTCP's own sockets know their addresses too late for this tracepoint */
	event.ts_ns = bpf_ktime_get_ns();
	event.sk = FIELD(u64, OFF_skaddr);
	event.size = sizeof(event);
	event.fd = -1;
	event.family = FIELD(u16, OFF_family);
	event.sport = FIELD(u16, OFF_sport);
	event.dport = FIELD(u16, OFF_dport);
	event.old = FIELD(u32, OFF_oldstate);
	event.new = FIELD(u32, OFF_newstate);
	if (event.family == 10) {
#pragma unroll
		for (int i = 0; i < 4; i++) {
			((u32 *)event.saddr)[i] = FIELD(u32, OFF_saddr_v6 + 4 * i);
			((u32 *)event.daddr)[i] = FIELD(u32, OFF_daddr_v6 + 4 * i);
		}
	} else {
		((u32 *)event.saddr)[0] = FIELD(u32, OFF_saddr);
		((u32 *)event.daddr)[0] = FIELD(u32, OFF_daddr);
	}
	/* Another thread may bear another name than the process, which only its first thread's struct tells. */
	task = bpf_get_current_pid_tgid();
	if (task >> 32 == (u32)task)
		event.tgid = task;
	bpf_get_current_comm(event.comm, sizeof(event.comm));
	if (event.new == TCP_CLOSE)
		capture_cause(&event, ctx);
	if (events.perf_submit(ctx, &event, sizeof(event)))
		__sync_fetch_and_add(&count->dropped, 1);
	return 1;
}
