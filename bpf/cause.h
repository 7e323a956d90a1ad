/*
 * Why a socket closed: the kernel stack at →CLOSE, read by sstrace/wire/cause.py with the symbols of /proc/kallsyms.
 * Cost: about 2 µs with the ORC unwinder, however short the stack that is asked for, because it begins inside the helper;
 * that is as much as all other work on an event together. So the closes that come by the thousand do without: see is_plain.
 */
#pragma once

/* This program and bpf_trace_runN, innermost on every stack: a raw tracepoint's. */
#ifndef OWN_FRAMES
#define OWN_FRAMES 2
#endif

/* include/uapi/asm-generic/errno.h; not of mips, parisc and sparc */
#define EADDRNOTAVAIL 99
#define ECONNRESET 104
#define SOCK_LINGER 4   /* enum sock_flags, include/net/sock.h */

/*
 * Whether a full socket closes in a way that its fields tell without a doubt (sstrace/wire/cause.py has the words):
 * - LAST-ACK, no error, everything acknowledged: the ACK of our FIN has come. Whatever else ends LAST-ACK leaves an error, or data
 *   that is not acknowledged (out of memory).
 * - ESTAB, ECONNRESET: tcp_reset sets it first; tcp_disconnect sets it later.
 * - ESTAB, no error, inside close(2), everything read, SO_LINGER of 0 seconds: __tcp_close disconnects. With unread data it would
 *   have reset before it looked at the option.
 */
static __always_inline int is_plain(struct sock_event *event, u64 sk)
{
#if defined(OFF_snd_una) && defined(OFF_write_seq) && defined(OFF_rcv_nxt) && defined(OFF_copied_seq) && \
	defined(OFF_skc_flags) && defined(OFF_sk_lingertime)
	u64 flags = 0, linger = 1;
	u32 one = 0, other = 1;

	if (event->protocol != 6)
		return 0;
	if (event->old == 9 /* TCP_LAST_ACK */ && !event->err) {
		READ(one, sk, OFF_snd_una);
		READ(other, sk, OFF_write_seq);
		return one == other;
	}
	if (event->old != 1 /* TCP_ESTABLISHED */)
		return 0;
	if (event->err == ECONNRESET)
		return 1;
	if (event->err || !event->file || !is_closing(event->file))
		return 0;
	READ(flags, sk, OFF_skc_flags);
	if (!(flags >> SOCK_LINGER & 1))
		return 0;
	READ(linger, sk, OFF_sk_lingertime);
	READ(one, sk, OFF_copied_seq);
	READ(other, sk, OFF_rcv_nxt);
	return !linger && one == other;
#else
	return 0;
#endif
}

static __always_inline void capture_cause(struct sock_event *event, void *ctx)
{
	bpf_get_stack(ctx, event->stack, sizeof(event->stack), OWN_FRAMES);
}
