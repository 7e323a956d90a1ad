/*
 * What the owners of unix sockets do: index of every hook, one line each. Attached only where somebody asks for unix sockets, and beside looks
 * at all of them (sstrace/live/rounds.py), which find what is not heard here; so a record that is lost is found, too, but later.
 *
 *   sys_enter_, sys_exit_  bind, listen, connect, accept, accept4: the call has come to an end, with success; the socket as it is since. Of accept the
 *                          one that it has given; the one that called, of which it is the peer from here on, is told of by its inode
 *   sys_enter_close        of the last descriptor: the socket as it was
 *
 * Not heard: socket(2) and socketpair(2), of which nothing comes before one of these; what ends with its process, or by dup2(2), close_range(2),
 * exec, or in flight; 32-bit programs on a 64-bit kernel; io_uring.
 *
 * Context: the calling task. Cost: 2.3 µs a connection (connect, accept, and close of either end: 3.8 µs untraced); and every system call of
 * the host takes the way of those that are traced, 15 ns longer.
 */
#include "event.h"
#include "config.h"
#include "read.h"

enum unix_call {
	UNIX_BIND = 1,
	UNIX_LISTEN = 2,
	UNIX_CONNECT = 3,
	UNIX_ACCEPT = 4,
	UNIX_CLOSE = 5,
};

#define NAME_BYTES 108 /* UNIX_PATH_MAX, include/uapi/linux/un.h */

/* Layout: sstrace/wire/unix_call.py. */
struct unix_event {
	u64 ts_ns;      /* CLOCK_MONOTONIC, ns */
	u64 cookie;     /* 0: nobody has asked for it yet */
	u64 ino;
	u64 peer_ino;   /* 0: there is no peer, or nobody has accepted it */
	u32 netns;      /* inode of the network namespace */
	u32 uid;
	u32 tgid;       /* in the reader's pid namespace; 0: not visible there */
	u32 fd;
	u32 name_size;  /* of sun_path as the kernel has it */
	u32 peer_size;
	u16 type;       /* SOCK_* */
	u8 state;
	u8 call;        /* enum unix_call */
	u8 pad[4];
	char comm[16];
	char name[NAME_BYTES];
	char peer[NAME_BYTES];
};

_Static_assert(sizeof(struct unix_event) == 296, "struct unix_event: 296 bytes, as sstrace/wire/unix_call.py says");

BPF_PERF_OUTPUT(events);
BPF_PERCPU_ARRAY(counts, struct sock_counts, 1);

/* Calls that have begun, of unix sockets: thread → descriptor. */
BPF_TABLE("lru_hash", u64, u32, calling, 4096);

/* The file of a descriptor of this process, where it is that of a unix socket; else 0. Only a socket's file is one that a socket names. */
static __always_inline u64 unix_socket_of(u32 fd, u64 *file)
{
	u64 files = 0, table = 0, array = 0, socket = 0, back = 0, sk = 0;
	u32 size = 0;
	u16 family = 0;

	READ(files, bpf_get_current_task(), OFF_task_files);
	READ(table, files, OFF_files_fdt);
	READ(array, table, OFF_fdt_fd);
	READ(size, table, OFF_fdt_max_fds);
	if (fd >= size)
		return 0;
	READ(*file, array, (u64)fd * 8);
	READ(socket, *file, OFF_file_private_data);
	READ(back, socket, OFF_socket_file);
	if (!*file || back != *file)
		return 0;
	READ(sk, socket, OFF_socket_sk);
	READ(family, sk, OFF_skc_family);
	return family == 1 /* AF_UNIX */ ? sk : 0;
}

static __always_inline u64 inode_of(u64 sk)
{
	u64 socket = 0, ino = 0;

	READ(socket, sk, OFF_sk_socket);
	if (socket)
		READ(ino, socket, OFF_socket_ino);
	return ino;
}

/* The name of a socket, struct unix_address: its length counts sun_family, too. How long it is. */
static __always_inline u32 name_of(u64 sk, char *into)
{
	u64 address = 0;
	u32 length = 0;

	READ(address, sk, OFF_unix_addr);
	if (!address)
		return 0;
	READ(length, address, OFF_unix_len);
	if (length < 2 || length - 2 > NAME_BYTES)
		return 0;
	bpf_probe_read_kernel(into, NAME_BYTES, (void *)(address + OFF_unix_name + 2));
	return length - 2;
}

static __always_inline void tell(void *ctx, u32 fd, u8 call)
{
	struct unix_event event = {};
	struct sock_counts *count;
	struct config *config;
	u64 file = 0, sk = unix_socket_of(fd, &file), net = 0, peer = 0, leader = 0;
	int zero = 0;

	config = configs.lookup(&zero);
	if (!sk || !config)
		return;
	READ(net, sk, OFF_skc_net);
	READ(event.netns, net, OFF_net_inum);
	if (config->netns && config->netns != event.netns)
		return;
	event.ts_ns = bpf_ktime_get_ns();
	event.call = call;
	event.fd = fd;
	READ(event.cookie, sk, OFF_skc_cookie);
	READ(event.type, sk, OFF_sk_type);
	READ(event.state, sk, OFF_skc_state);
	READ(event.uid, sk, OFF_sk_uid);
	event.ino = inode_of(sk);
	event.name_size = name_of(sk, event.name);
	READ(peer, sk, OFF_unix_peer);
	if (peer) {
		event.peer_ino = inode_of(peer);
		event.peer_size = name_of(peer, event.peer);
	}
	READ(leader, bpf_get_current_task(), OFF_task_group_leader);
	READ(event.comm, leader, OFF_task_comm);
	if (config->pidns_ino) {
		struct bpf_pidns_info info = {};

		if (!bpf_get_ns_current_pid_tgid(config->pidns_dev, config->pidns_ino, &info, sizeof(info)))
			event.tgid = info.tgid;
	} else {
		event.tgid = bpf_get_current_pid_tgid() >> 32;
	}
	if (!events.perf_submit(ctx, &event, sizeof(event)))
		return;
	count = counts.lookup(&zero);
	if (count)
		__sync_fetch_and_add(&count->dropped, 1);
}

/* Of a system call's tracepoint: struct syscall_trace_enter and _exit, kernel/trace/trace.h. */
#define FIRST_ARGUMENT 16
#define RESULT 16

static __always_inline int on_begin(void *ctx)
{
	u64 thread = bpf_get_current_pid_tgid(), file = 0;
	u32 fd = *(u64 *)((u8 *)ctx + FIRST_ARGUMENT);

	if (unix_socket_of(fd, &file))
		calling.update(&thread, &fd);
	return 0;
}

static __always_inline int on_end(void *ctx, u8 call)
{
	u64 thread = bpf_get_current_pid_tgid();
	s64 result = *(s64 *)((u8 *)ctx + RESULT);
	u32 *found = calling.lookup(&thread), fd;

	if (!found)
		return 0;
	fd = *found;
	calling.delete(&thread);
	if (result >= 0)
		tell(ctx, call == UNIX_ACCEPT ? result : fd, call);
	return 0;
}

int plain__sys_enter_bind(void *ctx) { return on_begin(ctx); }
int plain__sys_enter_listen(void *ctx) { return on_begin(ctx); }
int plain__sys_enter_connect(void *ctx) { return on_begin(ctx); }
int plain__sys_enter_accept(void *ctx) { return on_begin(ctx); }
int plain__sys_enter_accept4(void *ctx) { return on_begin(ctx); }
int plain__sys_exit_bind(void *ctx) { return on_end(ctx, UNIX_BIND); }
int plain__sys_exit_listen(void *ctx) { return on_end(ctx, UNIX_LISTEN); }
int plain__sys_exit_connect(void *ctx) { return on_end(ctx, UNIX_CONNECT); }
int plain__sys_exit_accept(void *ctx) { return on_end(ctx, UNIX_ACCEPT); }
int plain__sys_exit_accept4(void *ctx) { return on_end(ctx, UNIX_ACCEPT); }

/*
 * Whether one reference is left. Linux 6.13 counts in a file_ref_t, from 0 on for one (90ee6ed776c0 "fs: port files to file_ref"), older ones
 * in f_count.
 */
int plain__sys_enter_close(void *ctx)
{
	u32 fd = *(u64 *)((u8 *)ctx + FIRST_ARGUMENT);
	u64 file = 0;
	s64 references = -1;

	if (!unix_socket_of(fd, &file))
		return 0;
#ifdef OFF_file_ref
	READ(references, file, OFF_file_ref);
	if (references == 0)
		tell(ctx, fd, UNIX_CLOSE);
#elif defined(OFF_file_count)
	READ(references, file, OFF_file_count);
	if (references == 1)
		tell(ctx, fd, UNIX_CLOSE);
#endif
	return 0;
}
