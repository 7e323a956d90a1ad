/*
 * Why a socket closed: the kernel stack at →CLOSE, read by sstrace/wire/cause.py with the symbols of /proc/kallsyms.
 * Cost: about 0.5 µs with the ORC unwinder, paid once a socket.
 */
#pragma once

/* This program and bpf_trace_runN, innermost on every stack: a raw tracepoint's. */
#ifndef OWN_FRAMES
#define OWN_FRAMES 2
#endif

static __always_inline void capture_cause(struct sock_event *event, void *ctx)
{
	bpf_get_stack(ctx, event->stack, sizeof(event->stack), OWN_FRAMES);
}
