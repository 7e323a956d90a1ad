/*
 * Which network namespaces there are: a walk over the kernel's own list (net_namespace_list, linked by struct net's list), which has
 * those too that no process is in and no mount names: whatever a socket alone keeps alive.
 *
 * Run on demand as owners.bpf.c is, STEPS steps a run. It begins at the caller's own namespace, which stays in the list as long as
 * the caller does, and ends there. On its way it meets the head of the list, which is no namespace: the only member whose ns.ops are
 * not those of the others.
 *
 * Who has walked it once, and keeps looking, is told when to walk again (struct news): one that is born is put at the list's end,
 * which glance reads, and one that has gone was taken down by the kernel's work queues. To be told is worth 50 ns for each piece of
 * work of any sort; a walk, 2 µs for each namespace.
 *
 * Between two runs namespaces come and go. So each run first makes sure that its member is still in the list (list_del_rcu poisons the
 * way back), and the same: its memory is soon another namespace's, which stands at the end of the list. When it is not, the walk says
 * so (lost) and Python starts over.
 */

#include "read.h"

/* Few steps load fast; a run costs 2 µs of its own. */
#define STEPS 128

/* Where the walk stands: mapped into Python, which zeroes it to start. */
struct cursor {
	u64 net;       /* the member of the list that is looked at next; 0 = start at the caller's */
	u64 start;     /* the caller's */
	u64 ops;       /* its ns.ops */
	u32 count;     /* namespaces found by this run */
	u8 done;       /* the round is complete */
	u8 lost;       /* the list changed under the walk */
	u8 heads;      /* heads met; there is one */
	u8 pad;
	u64 mark;      /* of the member: what another in its place would not bear */
};
BPF_ARRAY(cursors, struct cursor, 1);

struct found {
	u64 net;       /* struct net */
	u64 cookie;    /* net_cookie; 0 where this kernel tells nobody */
	u64 id;        /* ns_common's ns_id; 0 where this kernel has none */
	u64 inode;     /* of nsfs */
	u64 hashinfo;  /* struct inet_hashinfo of its TCP sockets; 0 where that is not known */
};
/* What one run found: written by walk, read by Python through its mapping before the next run. */
BPF_ARRAY(namespaces, struct found, STEPS);

/* What tells that the list is not what it was: mapped into Python, which writes cleaner. */
struct news {
	u64 head;      /* the list's: set by walk */
	u64 last;      /* its last member, and the cookie of that: set by glance */
	u64 cookie;
	u64 cleaner;   /* address of cleanup_net(), by which namespaces are taken down; 0 where that is not known */
	u64 cleaned;   /* how often that has run to its end */
};
BPF_ARRAY(told, struct news, 1);

/* The function stands among the arguments since 1c5da0ec7f20 ("workqueue: add worker function to workqueue_execute_end tracepoint",
 * v5.6). */
RAW_TRACEPOINT_PROBE(workqueue_execute_end)
{
	int zero = 0;
	struct news *news = told.lookup(&zero);

	if (news && ctx->args[1] == news->cleaner)
		__sync_fetch_and_add(&news->cleaned, 1);
	return 0;
}

RAW_TRACEPOINT_PROBE(glance)
{
	int zero = 0;
	u64 last = 0;
	struct news *news = told.lookup(&zero);

	if (!news || !news->head)
		return 0;
	READ(last, news->head, 8);
	news->last = last;
#ifdef OFF_net_cookie
	READ(news->cookie, last - OFF_net_list, OFF_net_cookie);
#endif
	return 0;
}

/* Its cookie; without these, the member before it, which was the last one's if it is new. */
static __always_inline u64 mark_of(u64 net)
{
	u64 mark = 0;

#ifdef OFF_net_cookie
	READ(mark, net, OFF_net_cookie);
#else
	READ(mark, net, OFF_net_list + 8);
#endif
	return mark;
}

RAW_TRACEPOINT_PROBE(walk)
{
	int zero = 0;
	u64 nsproxy = 0, next = 0, previous = 0, ops = 0;
	u32 index, inode;
	struct cursor *cursor = cursors.lookup(&zero);
	struct news *news = told.lookup(&zero);
	struct found *found;

	if (!cursor || !news)
		return 0;
	cursor->count = 0;
	if (!cursor->net) {
		READ(nsproxy, bpf_get_current_task(), OFF_task_nsproxy);
		READ(cursor->net, nsproxy, OFF_nsproxy_net);
		READ(cursor->ops, cursor->net, OFF_net_ops);
		cursor->start = cursor->net;
	} else {
		READ(previous, cursor->net, OFF_net_list + 8);
		READ(next, previous, 0);
		if (next != cursor->net + OFF_net_list || mark_of(cursor->net) != cursor->mark) {
			cursor->lost = 1;
			return 0;
		}
	}
	for (int i = 0; i < STEPS; i++) {
		/* See owners.bpf.c. */
		asm volatile("" ::: "memory");
		ops = next = 0;
		inode = 0;
		READ(ops, cursor->net, OFF_net_ops);
		if (ops == cursor->ops) {
			index = cursor->count;
			found = namespaces.lookup(&index);
			if (!found)
				return 0;
			found->net = cursor->net;
			READ(inode, cursor->net, OFF_net_inum);
			found->inode = inode;
			found->cookie = found->id = found->hashinfo = 0;
#ifdef OFF_net_cookie
			READ(found->cookie, cursor->net, OFF_net_cookie);
#endif
#ifdef OFF_net_id
			READ(found->id, cursor->net, OFF_net_id);
#endif
#ifdef OFF_net_hashinfo
			READ(found->hashinfo, cursor->net, OFF_net_hashinfo);
#endif
			cursor->count = index + 1;
		} else if (cursor->heads++) {
			cursor->lost = 1;
			return 0;
		} else {
			news->head = cursor->net + OFF_net_list;
		}
		READ(next, cursor->net, OFF_net_list);
		if (!next) {
			cursor->lost = 1;
			return 0;
		}
		cursor->net = next - OFF_net_list;
		if (cursor->net == cursor->start) {
			cursor->done = 1;
			return 0;
		}
	}
	cursor->mark = mark_of(cursor->net);
	return 0;
}
