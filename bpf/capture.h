/*
 * Kernel socket → struct sock_event; the only writer of the struct.
 *
 * An OFF_… macro (read.h) that is not defined stands for a member that this kernel has not got, and the field keeps its "none"
 * value.
 */
#pragma once

#include "read.h"

struct common {
	u64 words[COMMON_BYTES / 8];
};

static __always_inline u32 netns_of(struct common *common)
{
	u32 inum = 0;

	READ(inum, AT(u64, common, OFF_skc_net), OFF_net_inum);
	return inum;
}

/* Whether the socket is in a namespace that is asked for. Where there is one alone, the reader knows its cookie. */
static __always_inline int capture_namespace(struct sock_event *event, struct config *config, struct common *common)
{
	event->netns = netns_of(common);
	if (config->netns)
		return config->netns == event->netns;
	if (config->choosy && !chosen.lookup(&event->netns))
		return 0;
#ifdef OFF_net_cookie
	READ(event->net_cookie, AT(u64, common, OFF_skc_net), OFF_net_cookie);
#endif
	return 1;
}

/* Events that were lost, by the inode of the network namespace, since the start: each is here before it counts as dropped. */
BPF_HASH(losing, u32, u64, 4096);

/*
 * The only way out. A record that does not fit its CPU's buffer is counted, so that Python knows of it at once.
 * Whether it fitted.
 */
static __always_inline int deliver(void *ctx, struct sock_event *event)
{
	struct sock_counts *count;
	int zero = 0;

	if (!events.perf_submit(ctx, event, sizeof(*event)))
		return 1;
	losing.increment(event->netns);
	count = counts.lookup(&zero);
	if (count)
		__sync_fetch_and_add(&count->dropped, 1);
	return 0;
}

/* The same, at the end of a program. */
static __always_inline int submit(void *ctx, struct sock_event *event)
{
	deliver(ctx, event);
	return 0;
}

/* Between which ends a socket is. */
static __always_inline void capture_ends(struct sock_event *event, struct common *common)
{
	event->family = AT(u16, common, OFF_skc_family);
	event->sport = AT(u16, common, OFF_skc_num);
	event->dport = __builtin_bswap16(AT(u16, common, OFF_skc_dport));
	event->ifindex = AT(u32, common, OFF_skc_bound_dev_if);
	if (event->family == 10) {
#ifdef OFF_skc_v6_rcv_saddr
		__builtin_memcpy(event->saddr, (u8 *)common + OFF_skc_v6_rcv_saddr, 16);
		__builtin_memcpy(event->daddr, (u8 *)common + OFF_skc_v6_daddr, 16);
#endif
	} else {
		__builtin_memcpy(event->saddr, (u8 *)common + OFF_skc_rcv_saddr, 4);
		__builtin_memcpy(event->daddr, (u8 *)common + OFF_skc_daddr, 4);
	}
}

/* Every sort of socket begins with struct sock_common, so this part serves them all. */
static __always_inline void capture_common(struct sock_event *event, struct common *common, u64 sk)
{
	event->ts_ns = bpf_ktime_get_ns();
	event->sk = sk;
	event->size = sizeof(*event);
	event->fd = -1;
	event->cookie = AT(u64, common, OFF_skc_cookie);
	capture_ends(event, common);
}

/*
 * Whether the last reference to the socket's file is gone: then the state changes inside close(2). Linux 6.13 counts in a
 * file_ref_t, which is negative once dead (90ee6ed776c0 "fs: port files to file_ref"), older ones in f_count, which is 0 then.
 */
static __always_inline int is_closing(u64 file)
{
	s64 references = 1;

#ifdef OFF_file_ref
	READ(references, file, OFF_file_ref);
	return references < 0;
#elif defined(OFF_file_count)
	READ(references, file, OFF_file_count);
	return references == 0;
#else
	return 0;
#endif
}

/* Whether two events are of the same connection. */
static __always_inline int same_addresses(struct sock_event *one, struct sock_event *other)
{
	u64 *a = (u64 *)one->saddr, *b = (u64 *)other->saddr; /* daddr follows saddr */

	return one->sport == other->sport && one->dport == other->dport && a[0] == b[0] && a[1] == b[1] && a[2] == b[2] &&
	       a[3] == b[3];
}

/* The inode of a full socket; 0 where it has none, or there is no socket. */
static __always_inline u64 inode_of(u64 sk)
{
	u64 socket = 0, ino = 0;

	if (sk)
		READ(socket, sk, OFF_sk_socket);
	if (socket)
		READ(ino, socket, OFF_socket_ino);
	return ino;
}

/* What only a full socket has. */
static __always_inline void capture_sock(struct sock_event *event, u64 sk)
{
	u64 socket = 0;

#ifdef OFF_sk_uid
	READ(event->uid, sk, OFF_sk_uid);
#endif
	READ(socket, sk, OFF_sk_socket);
	if (socket) {
		READ(event->ino, socket, OFF_socket_ino);
		READ(event->file, socket, OFF_socket_file);
	}
#ifndef OFF_sk_ino
	/* Before e84a4927a404 ("net: annotate races around sk->sk_uid", v6.17, as is sk_ino) sock_diag takes the uid of the inode. */
	if (!socket)
		event->uid = 0;
#endif
}

static __always_inline void capture_cgroup(struct sock_event *event, u64 sk)
{
#ifdef OFF_sk_cgroup
	u64 cgroup = 0, node = 0;

	READ(cgroup, sk, OFF_sk_cgroup);
	/* Linux 5.14 and older keep flags in the low bit of sk_cgrp_data: no pointer then (8520e224f547, v5.15). */
	if (cgroup && !(cgroup & 1)) {
		READ(node, cgroup, OFF_cgroup_kn);
		if (node)
			READ(event->cgroup, node, OFF_kernfs_id);
	}
#endif
}

/*
 * The process that runs now. Whether it owns the socket, Python decides by the transition. Its name is that of its first thread
 * (as in /proc/PID/stat), whatever the thread calls itself that runs, say one of io_uring's workers.
 */
static __always_inline void capture_task(struct sock_event *event, struct config *config)
{
	u64 task = bpf_get_current_task(), leader = 0;
	u32 flags = 0;

	READ(flags, task, OFF_task_flags);
	if (flags & 0x00200000) /* PF_KTHREAD, include/linux/sched.h */
		event->flags |= EVENT_KTHREAD;
	READ(leader, task, OFF_task_group_leader);
	READ(event->comm, leader, OFF_task_comm);
	if (config->pidns_ino) {
		struct bpf_pidns_info info = {};

		if (!bpf_get_ns_current_pid_tgid(config->pidns_dev, config->pidns_ino, &info, sizeof(info)))
			event->tgid = info.tgid;
	} else {
		event->tgid = bpf_get_current_pid_tgid() >> 32;
	}
}

/*
 * The descriptor of the socket in the running process. A socket that connects or listens is nearly always the newest
 * one, so look at the FD_TRIES descriptors below the lowest free one; Python finds the others by its owner walk.
 */
#define FD_TRIES 6

static __always_inline void capture_fd(struct sock_event *event)
{
	u64 files = 0, table = 0, array = 0, file = 0;
	u32 next = 0, size = 0;

	if (!event->file)
		return;
	READ(files, bpf_get_current_task(), OFF_task_files);
	READ(table, files, OFF_files_fdt);
	READ(next, files, OFF_files_next_fd);
	READ(array, table, OFF_fdt_fd);
	READ(size, table, OFF_fdt_max_fds);
	if (next > size)
		next = size;
#pragma unroll
	for (int i = 1; i <= FD_TRIES; i++) {
		file = 0;
		if (next >= i)
			READ(file, array, (u64)(next - i) * 8);
		if (file == event->file && event->fd < 0)
			event->fd = next - i;
	}
}
