/*
 * What the programs are told of this boot and of whom they are to hear.
 */
#pragma once

#define TIMER_RANGES 4

/* What Python knows only at run time. Written once, before any program is attached; sstrace/sources/bpf/config.py packs it. */
struct config {
	u64 fn_write_timer;  /* address of tcp_write_timer; 0 = not found */
	u64 fn_request;      /* address of reqsk_timer_handler */
	u64 fn_timewait;     /* address of tw_timer_handler */
	u64 timer_start[TIMER_RANGES]; /* functions that detach a timer which lives on: mod_timer and expiry */
	u64 timer_size[TIMER_RANGES];  /* their sizes in bytes; 0 = unused */
	u64 pidns_dev;       /* device of the reader's pid namespace */
	u64 pidns_ino;       /* its inode; 0 = the initial one */
	u32 netns;           /* only sockets of this network namespace; 0 = of all */
	u32 choosy;          /* only those of the namespaces that are chosen */
	u32 keeps;           /* connections are kept back until they end (lives.h); written again and again */
	u32 tcp;             /* whether TCP's own sockets are asked for */
	u32 mptcp;           /* whether MPTCP's are */
	u32 unused;
};
BPF_ARRAY(configs, struct config, 1);

/* Inodes of network namespaces, where several are asked for, but not all. Written by sstrace/live/probes.py. */
BPF_HASH(chosen, u32, u8, 4096);
