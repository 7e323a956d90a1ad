/* Made by scripts/twins of the classes that the twins read, of sstrace/fields.py, and of PLAN in
 * sstrace/render/plan.py: see there. */
#pragma once

enum state {
	ESTABLISHED = 1,
	SYN_SENT = 2,
	SYN_RECV = 3,
	FIN_WAIT1 = 4,
	FIN_WAIT2 = 5,
	TIME_WAIT = 6,
	CLOSE = 7,
	CLOSE_WAIT = 8,
	LAST_ACK = 9,
	LISTEN = 10,
	CLOSING = 11,
	NEW_SYN_RECV = 12,
	BOUND_INACTIVE = 13,
	STATES
};
enum kind {
	SOCKET = 0,
	REQUEST = 1,
	TIMEWAIT = 2,
	KINDS
};
enum report {
	OPENS = 0,
	CHILD = 1,
	MOVES = 2,
	REPEATS = 3,
	CLOSES = 4,
	REQUEST_TIMER = 5,
	REQUEST_GONE = 6,
	TIMEWAIT_TIMER = 7,
	TIMEWAIT_GONE = 8,
	REPORTS
};

/* sstrace.lifecycle.LISTED: of each old state the new ones, bit n for state n. */
static const unsigned short LISTED[STATES] = { 0x0, 0x190, 0x8a, 0x192, 0x8e0, 0xe0, 0x80, 0x404, 0x280, 0x80, 0x88, 0xc0, 0x0, 0x0 };

/* sstrace.table.rows.Row */
#define row_fields(X) \
	X(row, id) \
	X(row, kind) \
	X(row, state) \
	X(row, family) \
	X(row, protocol) \
	X(row, net) \
	X(row, netns) \
	X(row, src) \
	X(row, sport) \
	X(row, dst) \
	X(row, dport) \
	X(row, ino) \
	X(row, uid) \
	X(row, ifindex) \
	X(row, cookie) \
	X(row, sk) \
	X(row, since_ns) \
	X(row, exact) \
	X(row, touched_ns) \
	X(row, owners) \
	X(row, owner_source) \
	X(row, cgroup) \
	X(row, v6only) \
	X(row, seen) \
	X(row, born_ns) \
	X(row, role) \
	X(row, ends) \
	X(row, peer_owners) \
	X(row, told)

/* sstrace.table.rows.Transition */
#define transition_fields(X) \
	X(transition, at_ns) \
	X(transition, row) \
	X(transition, old) \
	X(transition, new) \
	X(transition, held_ns) \
	X(transition, cause) \
	X(transition, reported) \
	X(transition, listed) \
	X(transition, approximate) \
	X(transition, source) \
	X(transition, ended) \
	X(transition, lifetime_ns) \
	X(transition, handshake_ns)

/* sstrace.model.sockets.Owner */
#define owner_fields(X) \
	X(owner, comm) \
	X(owner, pid) \
	X(owner, fd) \
	X(owner, finer)

/* sstrace.table.index.Index */
#define index_fields(X) \
	X(index, by_cookie) \
	X(index, by_ends) \
	X(index, by_ino) \
	X(index, by_sk) \
	X(index, by_state) \
	X(index, held) \
	X(index, ids) \
	X(index, netns) \
	X(index, news) \
	X(index, rows) \
	X(index, space) \
	X(index, unsettled)

/* sstrace.table.index.News */
#define news_fields(X) \
	X(news, implied) \
	X(news, journal) \
	X(news, last_ns) \
	X(news, silent) \
	X(news, unlisted) \
	X(news, unmet)

/* sstrace.table.tombstones.Tombstones */
#define tombstones_fields(X) \
	X(tombstones, _cookies) \
	X(tombstones, _ends) \
	X(tombstones, _index) \
	X(tombstones, _inodes) \
	X(tombstones, began_ns) \
	X(tombstones, sweeping)

/* sstrace.table.table.Shard */
#define shard_fields(X) \
	X(shard, fold) \
	X(shard, forgotten) \
	X(shard, index) \
	X(shard, sweep) \
	X(shard, tombstones)

/* All of them, in the order in which they are taught. */
#define CLASSES(X) \
	X(row) \
	X(transition) \
	X(owner) \
	X(index) \
	X(news) \
	X(tombstones) \
	X(shard)

/* What a record reports besides: its member, and what it is more there. */
#define REPORTED(X) \
	X(err, 0) \
	X(retransmits, 0) \
	X(bytes_sent, 1) \
	X(bytes_received, 1) \
	X(bytes_retrans, 1) \
	X(segs_out, 1) \
	X(segs_in, 1) \
	X(retrans, 1) \
	X(delivered, 1) \
	X(lost, 1) \
	X(rcv_ooopack, 1) \
	X(rtt_us, 0) \
	X(minrtt_us, 0)

/* The line of a transition: how it is written, its key, of which object and slot, with which texts. */
#define LINE(X) \
	X(time, ts, transition, at_ns, none) \
	X(number, mono_ns, transition, at_ns, none) \
	X(seq, seq, transition, at_ns, none) \
	X(number, id, row, id, none) \
	X(named, netid, row, protocol, protocols) \
	X(named, family, row, family, families) \
	X(named, from, transition, old, states) \
	X(named, to, transition, new, states) \
	X(named, src, row, src, addresses) \
	X(number, sport, row, sport, none) \
	X(named, dst, row, dst, addresses) \
	X(number, dport, row, dport, none) \
	X(number, netns, row, netns, none) \
	X(micros, held_us, transition, held_ns, none) \
	X(nonzero, ino, row, ino, none) \
	X(number, sk, row, cookie, none) \
	X(number, uid, row, uid, none) \
	X(never, ifindex, row, ifindex, none) \
	X(members, cgroup, row, cgroup, places) \
	X(owners, owners, row, owners, owners) \
	X(word, owner_source, row, owner_source, none) \
	X(word, cause, transition, cause, none) \
	X(never, approximate, transition, approximate, none) \
	X(truth, v6only, row, v6only, none) \
	X(never, source, transition, source, none) \
	X(word, role, row, role, none) \
	X(true, ended, transition, ended, none) \
	X(micros, lifetime_us, transition, lifetime_ns, none) \
	X(members, container_id, row, cgroup, works) \
	X(members, netns_name, row, net, spaces)

/* Those texts, and those of errnos. */
#define TEXTS(X) \
	X(protocols) \
	X(families) \
	X(states) \
	X(addresses) \
	X(places) \
	X(owners) \
	X(works) \
	X(spaces) \
	X(errnos)
