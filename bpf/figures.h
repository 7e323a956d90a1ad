/*
 * What a connection has carried: members of struct tcp_sock, which is intact when the full socket goes to CLOSE, in whatever way it
 * does (at tcp_destroy_sock it may be zeroed already).
 *
 * They lie in a few places far from one another, and a read costs about the same for 4 bytes and for 64. So they are read by windows,
 * laid over them at start (sstrace/sources/bpf/offsets.py): WINDOWS of WINDOW_BYTES each, at WINDOW_0 and so on; member NAME is in window
 * IN_name at AT_name. A window has no member that another has too. All of it takes 40 to 70 ns an end; fewer, wider windows take no less, for
 * they touch as much memory.
 */
#pragma once

#define SOCK_DONE 1 /* enum sock_flags, include/net/sock.h: a FIN has come, which bytes_received counts */

#if WINDOWS && defined(OFF_skc_flags)
struct window {
	u64 words[WINDOW_BYTES / 8];
};

static __always_inline u64 window_at(int number)
{
	return number == 0 ? WINDOW_0 : number == 1 ? WINDOW_1 : number == 2 ? WINDOW_2 : number == 3 ? WINDOW_3 : number == 4 ? WINDOW_4 :
	       number == 5 ? WINDOW_5 : WINDOW_6;
}

#define HAS(name) (IN_##name == i)
#define IN_WINDOW(type, name) AT(type, &window, AT_##name)

static __always_inline void capture_figures(struct sock_event *event, u64 sk)
{
	u64 flags = 0;
	u32 least = 0;

	READ(flags, sk, OFF_skc_flags);
#pragma unroll
	for (int i = 0; i < WINDOWS; i++) {
		struct window window;

		READ(window, sk, window_at(i));
		if (HAS(bytes_sent))
			event->bytes_sent = IN_WINDOW(u64, bytes_sent) + 1;
		if (HAS(bytes_received))
			event->bytes_received = IN_WINDOW(u64, bytes_received) + 1 - (flags >> SOCK_DONE & 1);
		if (HAS(bytes_retrans))
			event->bytes_retrans = IN_WINDOW(u64, bytes_retrans) + 1;
		if (HAS(segs_out))
			event->segs_out = IN_WINDOW(u32, segs_out) + 1;
		if (HAS(segs_in))
			event->segs_in = IN_WINDOW(u32, segs_in) + 1;
		if (HAS(total_retrans))
			event->retrans = IN_WINDOW(u32, total_retrans) + 1;
		if (HAS(delivered))
			event->delivered = IN_WINDOW(u32, delivered) + 1;
		if (HAS(lost))
			event->lost = IN_WINDOW(u32, lost) + 1;
		if (HAS(rcv_ooopack))
			event->rcv_ooopack = IN_WINDOW(u32, rcv_ooopack) + 1;
		if (HAS(srtt_us))
			event->rtt_us = IN_WINDOW(u32, srtt_us) >> 3; /* kept in eighths */
		if (HAS(rtt_min))
			least = AT(u32, &window, AT_rtt_min + 4); /* struct minmax_sample: t, v */
	}
	if (least + 1) /* ~0: none */
		event->minrtt_us = least;
	event->bytes_sent -= event->bytes_retrans - 1; /* tcpi_bytes_sent counts what is sent again, too */
}
#else
static __always_inline void capture_figures(struct sock_event *event, u64 sk)
{
}
#endif
