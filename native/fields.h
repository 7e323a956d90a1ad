/* Made by scripts/twins of sstrace/fields.py and of PLAN in sstrace/render/events.py: see there. */
#pragma once

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
	X(TIME, ts, change, at_ns, none) \
	X(NUMBER, mono_ns, change, at_ns, none) \
	X(SEQ, seq, change, at_ns, none) \
	X(NUMBER, id, row, id, none) \
	X(NAMED, netid, row, protocol, protocols) \
	X(NAMED, family, row, family, families) \
	X(NAMED, from, change, old, states) \
	X(NAMED, to, change, new, states) \
	X(ADDRESS, src, row, src, addresses) \
	X(NUMBER, sport, row, sport, none) \
	X(ADDRESS, dst, row, dst, addresses) \
	X(NUMBER, dport, row, dport, none) \
	X(NUMBER, netns, row, netns, none) \
	X(MICROS, held_us, change, held_ns, none) \
	X(NONZERO, ino, row, ino, none) \
	X(NUMBER, sk, row, cookie, none) \
	X(NUMBER, uid, row, uid, none) \
	X(NEVER, ifindex, row, ifindex, none) \
	X(PLACE, cgroup, row, cgroup, places) \
	X(OWNERS, owners, row, owners, owners) \
	X(WORD, owner_source, row, owner_source, none) \
	X(WORD, cause, change, cause, none) \
	X(NEVER, approximate, change, approximate, none) \
	X(TRUTH, v6only, row, v6only, none) \
	X(NEVER, source, change, source, none) \
	X(WORD, role, row, role, none) \
	X(TRUE, ended, change, ended, none) \
	X(MICROS, lifetime_us, change, lifetime_ns, none) \
	X(WORK, container_id, row, cgroup, places) \
	X(PLACE, netns_name, row, net, spaces)

/* Those texts. */
#define TEXTS(X) \
	X(protocols) \
	X(families) \
	X(states) \
	X(addresses) \
	X(places) \
	X(owners) \
	X(spaces)
