/*
 * The TCP sockets of every network namespace at once: a walk over the hash tables that they share. sock_diag, asked in each
 * namespace, walks the same tables once for each.
 *
 * Run on demand as owners.bpf.c is. find says where the tables are, copy fetches a stretch of their heads, of which Python picks
 * those that lead somewhere, and walk follows these, as many as fit in STEPS steps.
 *
 * The tables are read as the kernel's own look-ups read them, without a lock: within a run no socket's memory goes to something
 * else than sockets (SLAB_TYPESAFE_BY_RCU), but a socket may move to another chain under the walk. Then the end of the chain bears
 * another number (nulls), and the chain is read again; so it is where a socket has become another while it was read. No run ends
 * within a chain.
 */

#include "read.h"

/* See owners.bpf.c. */
#define STEPS 128
#define HEADS 1024
#define BLOCK 65536

enum {
	STATE_TIME_WAIT = 6, /* include/net/tcp_states.h */
	STATE_LISTEN = 10,
	STATE_NEW_SYN_RECV = 12,
	V6ONLY = 1,
};

/* A hash table of chains: read by Python. */
struct table {
	u64 base;      /* its first head; 0 = this kernel keeps no such table */
	u32 count;     /* heads */
	u32 stride;    /* bytes from one to the next */
	u64 nulls;     /* what the end of the first chain bears; the next ones' bear one more each */
};
struct tables {
	struct table connected;
	struct table listening;
	u64 hashinfo;  /* struct inet_hashinfo: that of the caller's network namespace */
};
BPF_ARRAY(places, struct tables, 1);

struct block {
	u64 address;   /* what to copy: written by Python */
	u64 size;
	u8 bytes[BLOCK];
};
BPF_ARRAY(blocks, struct block, 1);

struct head {
	u64 address;
	u64 nulls;     /* what the end of its chain bears */
};
/* The chains to follow: written by Python. */
BPF_ARRAY(heads, struct head, HEADS);

/* Where the walk stands: written by Python to start. */
struct cursor {
	u64 node;      /* in the chain that is read; 0 = before its first */
	u32 at;        /* which head */
	u32 heads;     /* how many there are */
	u32 count;     /* sockets found by this run */
	u32 before;    /* of these, those of chains that are done */
	u32 again;     /* chains that had to be read again */
	u8 done;       /* every chain is */
	u8 lost;       /* a chain is longer than a run */
	u8 queues;     /* whether they are wanted */
	u8 pad;
};
BPF_ARRAY(cursors, struct cursor, 1);

struct found {
	u64 cookie;     /* 0 = nobody asked for it yet */
	u64 ino;        /* as struct sock_event has it, and so on */
	u64 cgroup;
	u64 net_cookie;
	u32 netns;
	u32 uid;
	u32 ifindex;
	u16 family;
	u16 sport;
	u16 dport;
	u8 state;       /* of a timewait socket its substate */
	u8 sort;        /* 0 = a full socket, 1 = a request socket, 2 = a timewait socket */
	u8 flags;       /* V6ONLY */
	u8 pad[3];
	u32 rqueue;     /* bytes, or of a listener connections that wait and how many may; 0 where they are not wanted */
	u32 wqueue;
	u8 saddr[16];
	u8 daddr[16];
};
/* What one run found: read by Python before the next run. */
BPF_ARRAY(sockets, struct found, STEPS);

RAW_TRACEPOINT_PROBE(find)
{
	int zero = 0;
	u64 nsproxy = 0, net = 0, info = 0;
	u32 mask = 0;
	struct tables *tables = places.lookup(&zero);

	if (!tables)
		return 0;
	READ(nsproxy, bpf_get_current_task(), OFF_task_nsproxy);
	READ(net, nsproxy, OFF_nsproxy_net);
	READ(info, net, OFF_net_hashinfo);
	tables->hashinfo = info;
	READ(tables->connected.base, info, OFF_ehash);
	READ(mask, info, OFF_ehash_mask);
	tables->connected.count = mask + 1;
	tables->connected.stride = 8;
	tables->connected.nulls = 0;
#ifdef OFF_listening_hash
	/* Until cae3873c5b3a ("net: inet: Retire port only listening_hash", v5.19): INET_LHTABLE_SIZE chains. */
	tables->listening.base = info + OFF_listening_hash;
	tables->listening.count = 32;
#else
	READ(tables->listening.base, info, OFF_lhash2);
	READ(mask, info, OFF_lhash2_mask);
	tables->listening.count = mask + 1;
#endif
	tables->listening.base += OFF_listen_head;
	tables->listening.nulls = 1U << 29; /* LISTENING_NULLS_BASE, include/net/inet_hashtables.h */
	tables->listening.stride = OFF_listen_head + 8;
	return 0;
}

RAW_TRACEPOINT_PROBE(copy)
{
	int zero = 0;
	u64 size;
	struct block *block = blocks.lookup(&zero);

	if (!block)
		return 0;
	size = block->size;
	if (size > BLOCK)
		return 0;
	if (bpf_probe_read_kernel(block->bytes, size, (void *)block->address))
		block->size = 0;
	return 0;
}

/* As tcp_diag_get_info() has it (net/ipv4/tcp_diag.c). */
static __always_inline void read_queues(struct found *found, u64 sk, u8 state)
{
	u32 end = 0, start = 0;

	if (state == STATE_LISTEN) {
		READ(found->rqueue, sk, OFF_sk_ack_backlog);
		READ(found->wqueue, sk, OFF_sk_max_ack_backlog);
		return;
	}
	READ(end, sk, OFF_rcv_nxt);
	READ(start, sk, OFF_copied_seq);
	if ((s32)(end - start) > 0)
		found->rqueue = end - start;
	READ(end, sk, OFF_write_seq);
	READ(start, sk, OFF_snd_una);
	found->wqueue = end - start;
}

/* Whether the socket has been the same one all the while. */
static __always_inline int read_socket(struct found *found, u64 sk, u8 queues)
{
	u64 common[COMMON_BYTES / 8] = {}, address = 0, ino = 0;
	u64 cookie = 0;
	u32 uid = 0, pair = 0, again = 0;
	u8 state, bits = 0;

	bpf_probe_read_kernel(common, sizeof(common), (void *)sk);
	READ(state, sk, OFF_skc_state);
	found->cookie = AT(u64, common, OFF_skc_cookie);
	found->family = AT(u16, common, OFF_skc_family);
	found->sport = AT(u16, common, OFF_skc_num);
	found->dport = __builtin_bswap16(AT(u16, common, OFF_skc_dport));
	found->ifindex = AT(u32, common, OFF_skc_bound_dev_if);
	if (found->family == 10) {
#ifdef OFF_skc_v6_rcv_saddr
		__builtin_memcpy(found->saddr, (u8 *)common + OFF_skc_v6_rcv_saddr, 16);
		__builtin_memcpy(found->daddr, (u8 *)common + OFF_skc_v6_daddr, 16);
#endif
	} else {
		__builtin_memset(found->saddr, 0, 16);
		__builtin_memset(found->daddr, 0, 16);
		__builtin_memcpy(found->saddr, (u8 *)common + OFF_skc_rcv_saddr, 4);
		__builtin_memcpy(found->daddr, (u8 *)common + OFF_skc_daddr, 4);
	}
	READ(found->netns, AT(u64, common, OFF_skc_net), OFF_net_inum);
	found->net_cookie = found->cgroup = found->flags = 0;
	found->rqueue = found->wqueue = 0;
#ifdef OFF_net_cookie
	READ(found->net_cookie, AT(u64, common, OFF_skc_net), OFF_net_cookie);
#endif
	found->sort = 0;
	if (state == STATE_NEW_SYN_RECV) {
		found->sort = 1;
	} else if (state == STATE_TIME_WAIT) {
		found->sort = 2;
		READ(state, sk, OFF_tw_substate);
	} else {
#ifdef OFF_sk_uid
		READ(uid, sk, OFF_sk_uid);
#endif
		READ(address, sk, OFF_sk_socket);
		if (address)
			READ(ino, address, OFF_socket_ino);
#ifndef OFF_sk_ino
		if (!address) /* see capture.h */
			uid = 0;
#endif
#ifdef BYTE_skc_ipv6only
		READ(bits, sk, BYTE_skc_ipv6only);
		if (bits & MASK_skc_ipv6only)
			found->flags = V6ONLY;
#endif
#ifdef OFF_sk_cgroup
		address = 0;
		READ(address, sk, OFF_sk_cgroup);
		if (address && !(address & 1)) { /* see capture.h */
			READ(address, address, OFF_cgroup_kn);
			if (address)
				READ(found->cgroup, address, OFF_kernfs_id);
		}
#endif
		if (queues)
			read_queues(found, sk, state);
	}
	found->state = state;
	found->ino = ino;
	found->uid = uid;
	/* Whoever takes its memory takes other ports, or the same in another state or namespace. */
	READ(cookie, sk, OFF_skc_cookie);
	READ(again, sk, OFF_skc_portpair);
	READ(address, sk, OFF_skc_net);
	return cookie == found->cookie && again == AT(u32, common, OFF_skc_portpair) && address == AT(u64, common, OFF_skc_net);
}

RAW_TRACEPOINT_PROBE(walk)
{
	int zero = 0;
	u32 index, first;
	u64 next;
	struct cursor *cursor = cursors.lookup(&zero);
	struct head *head;
	struct found *found;

	if (!cursor)
		return 0;
	first = cursor->at;
	cursor->count = cursor->before = 0;
	cursor->node = 0;
	for (int i = 0; i < STEPS; i++) {
		/* See owners.bpf.c. */
		asm volatile("" ::: "memory");
		index = cursor->at;
		if (index >= cursor->heads) {
			cursor->done = 1;
			return 0;
		}
		head = heads.lookup(&index);
		if (!head)
			return 0;
		if (!cursor->node)
			READ(cursor->node, head->address, 0);
		if (cursor->node & 1) {
			if (cursor->node >> 1 == head->nulls) {
				cursor->at = index + 1;
				cursor->before = cursor->count;
			} else {
				cursor->count = cursor->before;
				cursor->again++;
			}
			cursor->node = 0;
			continue;
		}
		index = cursor->count;
		found = sockets.lookup(&index);
		if (!found)
			return 0;
		next = 0;
		if (read_socket(found, cursor->node - OFF_skc_nulls_node, cursor->queues)) {
			cursor->count = index + 1;
			READ(next, cursor->node, 0);
		} else {
			cursor->count = cursor->before;
			cursor->again++;
		}
		cursor->node = next;
	}
	cursor->count = cursor->before;
	if (cursor->at == first)
		cursor->lost = 1;
	return 0;
}
