/*
 * For whoever wants to hear of connections as they end, and of nothing else (--life): a connection whose birth is heard is kept here instead
 * of being told, with what its end has to say besides, and told whole in one event. Compiled in where that is asked for (LIVES).
 *
 * Kept is what nearly all connections are: one that connects or is connected to, comes about, and is closed in order, is reset or resets
 * (is_plain), by those who are known to hold it. As soon as it does anything else, all that is kept of it is told (EVENT_LIFE), before what it
 * does, and it tells of itself from there on, as do those that there was no room for, and those that are older than the trace.
 *
 * The reader takes all that are kept (sstrace/live/probes.py) before he looks at the table: while keeps is 0 nothing is kept or changed here, and
 * whoever takes one out tells of it.
 */
#pragma once

/* Who takes one out: on_state of either program, as in moving; or a timer's, which none of these interrupts. */
#define BY_TIMER 2

#ifdef LIVES
BPF_HASH(lives, u64, struct sock_event, 8192);

BPF_PERCPU_ARRAY(taken, struct sock_event, 3);

static __always_inline struct sock_life *life_of(struct sock_event *event)
{
	return (struct sock_life *)event->stack;
}

/* Whether a birth is kept. */
static __always_inline int keep(struct config *config, struct sock_event *birth, int is_request)
{
	struct sock_life *life = life_of(birth);
	u64 sk = birth->sk, ino = birth->ino;
	u8 kind = birth->kind;

	if (!config->keeps || (is_request ? !ino || birth->retransmits : !birth->tgid || birth->flags & EVENT_KTHREAD))
		return 0;
	birth->kind = EVENT_LIFE;
	birth->since_ns = life->moved_ns = birth->ts_ns;
	life->sk = sk;
	if (is_request) {
		life->request = sk;
		life->listener = ino;
		birth->ino = 0;
	}
	if (!lives.update(&sk, birth))
		return 1;
	birth->kind = kind;
	birth->since_ns = 0;
	birth->ino = ino;
	__builtin_memset(birth->stack, 0, sizeof(birth->stack));
	return 0;
}

static __always_inline int is_kept(u64 sk)
{
	return lives.lookup(&sk) != 0;
}

/* Take one out; NULL = it is not kept. */
static __always_inline struct sock_event *take_life(u64 sk, int taker)
{
	struct sock_event *kept = lives.lookup(&sk), *mine = taken.lookup(&taker);

	if (!kept || !mine)
		return 0;
	__builtin_memcpy(mine, kept, sizeof(*mine));
	return lives.delete(&sk) ? 0 : mine;
}

/* Tell what was kept, as of the moment of what is told next. */
static __always_inline void tell_taken(void *ctx, struct sock_event *life, u64 at_ns)
{
	life->ts_ns = at_ns;
	deliver(ctx, life);
}

static __always_inline void tell_life(void *ctx, u64 sk, u64 at_ns, int taker)
{
	struct sock_event *life = take_life(sk, taker);

	if (life)
		tell_taken(ctx, life, at_ns);
}

/* A request socket has become a full one. */
static __always_inline void pass_on(void *ctx, struct config *config, u64 request, u64 child)
{
	struct sock_event *life = take_life(request, BY_TIMER);

	if (!life)
		return;
	life->sk = life_of(life)->sk = child;
	if (!config->keeps || lives.update(&child, life))
		tell_taken(ctx, life, bpf_ktime_get_ns());
}

static __always_inline int is_same_task(struct sock_event *one, struct sock_event *other)
{
	u64 *a = (u64 *)one->comm, *b = (u64 *)other->comm;

	return one->tgid == other->tgid && a[0] == b[0] && a[1] == b[1];
}

/* Whether it is one of the ways that are followed here. */
static __always_inline int is_usual(u8 old, u8 new)
{
	switch (old) {
	case TCP_SYN_SENT:
	case TCP_SYN_RECV:
		return new == TCP_ESTABLISHED;
	case TCP_ESTABLISHED:
		return new == TCP_FIN_WAIT1 || new == TCP_CLOSE_WAIT;
	case TCP_FIN_WAIT1:
		return new == TCP_FIN_WAIT2 || new == TCP_CLOSING;
	case TCP_CLOSE_WAIT:
		return new == TCP_LAST_ACK;
	}
	return 0;
}

/* Whether a transition is no more than what is kept has to know. Where it is, but for another's, all is told. */
static __always_inline int lives_on(void *ctx, struct config *config, struct sock_event *event, int taker)
{
	u64 sk = event->sk;
	struct sock_event *kept = lives.lookup(&sk);
	int by_call = event->new == TCP_FIN_WAIT1 || event->new == TCP_LAST_ACK;

	if (!kept)
		return 0;
	if (by_call && (!event->tgid || event->flags & EVENT_KTHREAD))
		by_call = 0;
	if (!config->keeps || kept->new != event->old || !is_usual(event->old, event->new) ||
	    (by_call && kept->tgid && !is_same_task(kept, event))) {
		tell_life(ctx, sk, event->ts_ns, taker);
		return 0;
	}
	if (event->new == TCP_ESTABLISHED)
		life_of(kept)->open_ns = event->ts_ns;
	life_of(kept)->moved_ns = event->ts_ns;
	kept->new = event->new;
	if (by_call && !kept->tgid) {
		kept->tgid = event->tgid;
		__builtin_memcpy(kept->comm, event->comm, sizeof(kept->comm));
		life_of(kept)->owned = 1;
	}
	if (event->cgroup)
		kept->cgroup = event->cgroup;
	if (event->flags & EVENT_ORPHANED)
		kept->ino = 0;
	else if (event->ino)
		kept->ino = event->ino;
#ifndef OFF_sk_ino
	if (event->file)
#endif
		kept->uid = event->uid;
	return 1;
}

/* The end of a connection tells of its life, too. ``state``: the one that it ends in. */
static __always_inline void end_with(struct sock_event *end, struct sock_event *life, u8 kind)
{
	end->kind = kind;
	end->old = life->new;
	end->since_ns = life->since_ns;
	end->cgroup = life->cgroup;
	end->uid = life->uid;
	if (life->tgid) {
		end->tgid = life->tgid;
		end->fd = life->fd;
		end->flags &= ~EVENT_KTHREAD;
		__builtin_memcpy(end->comm, life->comm, sizeof(end->comm));
	}
	__builtin_memcpy(end->stack, life->stack, sizeof(struct sock_life));
}

/* A full socket gives up. */
static __always_inline void close_life(void *ctx, struct sock_event *close, int taker)
{
	struct sock_event *life = take_life(close->sk, taker);

	if (!life)
		return;
	/* Of the plain ends one is a call of its owner's: SO_LINGER of 0 seconds. */
	if (!(close->flags & EVENT_PLAIN) || life->new != close->old ||
	    (close->old == TCP_ESTABLISHED && !close->err && life->tgid && !is_same_task(life, close)))
		tell_taken(ctx, life, close->ts_ns);
	else
		end_with(close, life, EVENT_LIFE_CLOSED);
}

/* A timewait socket takes over. */
static __always_inline void leave_life(void *ctx, struct sock_event *successor, struct sock_event *close, int taker)
{
	struct sock_event *life = take_life(close->sk, taker);

	if (!life)
		return;
	if (life->new != close->old)
		tell_taken(ctx, life, successor->ts_ns);
	else
		end_with(successor, life, EVENT_LIFE_TIMEWAIT);
}
#else
static __always_inline int keep(struct config *config, struct sock_event *birth, int is_request) { return 0; }
static __always_inline int is_kept(u64 sk) { return 0; }
static __always_inline void tell_life(void *ctx, u64 sk, u64 at_ns, int taker) {}
static __always_inline void pass_on(void *ctx, struct config *config, u64 request, u64 child) {}
static __always_inline int lives_on(void *ctx, struct config *config, struct sock_event *event, int taker) { return 0; }
static __always_inline void close_life(void *ctx, struct sock_event *close, int taker) {}
static __always_inline void leave_life(void *ctx, struct sock_event *successor, struct sock_event *close, int taker) {}
#endif
