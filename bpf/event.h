/*
 * THE border between the BPF programs and Python: one record for each event, and what is counted.
 *
 * sstrace/fields.py holds the same layout as data; tests/unit/wire/test_event_layout.py reads this file and fails when the
 * two differ. Includes nothing: whoever includes it brings the __uN types. One field a line, widest first, no holes.
 */
#pragma once

/* What the event is about: sock_event.kind. */
enum sock_event_kind {
	EVENT_STATE = 0,    /* a full socket moved from old to new */
	EVENT_REQUEST = 1,  /* a request socket was born (or, known already, its SYN-ACK was retransmitted); old SYN-RECV: from another */
	EVENT_REQUEST_GONE = 2, /* a request socket left the table: completed, dropped or timed out */
	EVENT_TIMEWAIT = 3, /* a timewait socket was born (or, known already, its timer was set anew); new is its substate */
	EVENT_TIMEWAIT_GONE = 4, /* a timewait socket left the table */
	EVENT_DATAGRAM = 9, /* a datagram socket after a call of its owner's: old is enum sock_call, new its state (0 = closed) */
	EVENT_LIFE = 11,    /* lives.h: a connection so far, in state new, of which nothing has been told; stack holds a struct sock_life, since_ns its birth */
	EVENT_LIFE_CLOSED = 12, /* the same, and its EVENT_STATE from old to CLOSE */
	EVENT_LIFE_TIMEWAIT = 13, /* the same, in state old, and its EVENT_TIMEWAIT */
};

/* Which call that was: sock_event.old of EVENT_DATAGRAM. */
enum sock_call {
	CALL_BIND = 1,      /* bind(2): it has a port, or, if it is raw, an address */
	CALL_CREATE = 2,    /* socket(2), of a raw socket, whose port is its protocol */
	CALL_SEND = 3,      /* the first datagram of an unconnected socket: it has a port */
	CALL_CONNECT = 4,   /* connect(2), which may have failed, or have dissolved it (AF_UNSPEC); sport 0 = its port was given back */
	CALL_CLOSE = 5,     /* the last close(2); addresses are those that it had */
};

/* The same of incidents, which change no state (incidents.bpf.c; in a buffer of their own): old and new are the state it is in. */
enum sock_incident_kind {
	EVENT_RETRANSMIT = 5, /* a segment is sent again; bytes_retrans: its length in sequence numbers, flags: its TCP flags, shutdown: icsk_ca_state */
	EVENT_RESET_SENT = 6, /* err: enum sk_rst_reason, 0 = not told */
	EVENT_RESET_RECEIVED = 7, /* nothing else */
	EVENT_DROP = 8, /* a segment or datagram that came is dropped; err: enum skb_drop_reason, or of a datagram an errno, bytes_received: its bytes as they lie in the buffer, bytes_sent: 1 + receive window */
	EVENT_ERROR = 10, /* a datagram socket is told of an error, by ICMP as a rule; err: errno */
};

/* sock_event.flags */
enum sock_event_flags {
	EVENT_KTHREAD = 1,  /* the task is a kernel thread */
	EVENT_EXPIRED = 2,  /* *_GONE: by its own timer */
	EVENT_MISSED = 4,  /* EVENT_REQUEST_GONE, expired: its listener had closed before */
	EVENT_ORPHANED = 8, /* EVENT_STATE: by close(2) of the last descriptor; ino and file are those that it leaves. At CLOSE: nobody held it */
	EVENT_V6ONLY = 16,  /* EVENT_STATE, EVENT_DATAGRAM: IPV6_V6ONLY is set */
	EVENT_FULL = 32,    /* EVENT_REQUEST_GONE: the peer acknowledged, but its listener's accept queue was full */
	EVENT_FORGOTTEN = 32, /* EVENT_STATE of an MPTCP socket that listens not: it has no token (any more), and ss does not show it */
	EVENT_ROOM = 64,    /* EVENT_STATE, FIN-WAIT-2 to CLOSE: a timewait socket could have been had, and was not wanted */
	EVENT_PLAIN = 128,  /* EVENT_STATE, to CLOSE: old and err tell the cause; there is no stack */
};

struct sock_event {
	__u64 ts_ns;        /* CLOCK_MONOTONIC, ns */
	__u64 sk;           /* kernel address of the socket, request socket or timewait socket */
	__u64 cookie;       /* socket cookie; 0 = nobody asked for it yet */
	__u64 ino;          /* inode in sockfs; 0 = none (not accepted, orphaned, timewait socket). EVENT_REQUEST: its listener's */
	__u64 cgroup;       /* cgroup v2 id; 0 = not read for this event */
	__u64 since_ns;     /* SYN-SENT and its end, of a connect(2) that got no port: when it began; CALL_CLOSE: when the socket was born, told here alone; else 0 */
	__u64 net_cookie;   /* of the network namespace; 0 = not read, or the kernel gives none */
	__u64 file;         /* kernel address of the socket's struct file; 0 = none. EVENT_DATAGRAM: beside the point */
	__u64 bytes_sent;     /* 1 + payload sent, each byte once; 0 = not read. This and what says "1 +" below, where a full socket gives up, or a datagram socket is closed */
	__u64 bytes_received; /* 1 + payload received in order */
	__u64 bytes_retrans;  /* 1 + payload sent again */
	__u32 netns;        /* inode of the network namespace */
	__u32 uid;          /* owner's uid in the initial user namespace */
	__u32 tgid;         /* process that ran, in the reader's pid namespace; 0 = none, not visible there, or beside the point */
	__s32 fd;           /* descriptor of the socket in that process; -1 = not found or not looked for */
	__u32 ifindex;      /* bound device; 0 = none */
	__s32 err;          /* at CLOSE: sk_err, or EADDRNOTAVAIL where connect(2) got no port; 0 = none */
	__u32 segs_out;     /* 1 + segments sent; of a datagram socket, calls that sent */
	__u32 segs_in;      /* 1 + segments received; of a datagram socket, calls that received */
	__u32 retrans;      /* 1 + segments sent again */
	__u32 delivered;    /* 1 + segments that the peer has acknowledged */
	__u32 lost;         /* 1 + segments that were taken for lost */
	__u32 rcv_ooopack;  /* 1 + segments received out of order */
	__u32 rtt_us;       /* smoothed round-trip time, µs; 0 = none was measured */
	__u32 minrtt_us;    /* the least, µs; 0 = none */
	__u16 size;         /* bytes of this struct */
	__u16 family;       /* AF_INET or AF_INET6 */
	__u16 protocol;     /* IPPROTO_TCP, IPPROTO_MPTCP; of EVENT_DATAGRAM IPPROTO_UDP, or 0 for a raw socket, whose protocol is its sport */
	__u16 sport;        /* local port, host order; 0 = not chosen yet */
	__u16 dport;        /* peer port, host order; 0 = none */
	__u8 kind;          /* enum sock_event_kind */
	__u8 old;           /* old state, enum of include/net/tcp_states.h (a timewait socket's substate); 0 = born. EVENT_DATAGRAM: enum sock_call */
	__u8 new;           /* new state; CALL_CLOSE with a birth: the one it was born in */
	__u8 flags;         /* enum sock_event_flags */
	__u8 retransmits;   /* unanswered retransmissions of the current segment (icsk_retransmits, num_retrans) */
	__u8 shutdown;      /* sk_shutdown: bit 0 receive, bit 1 send; CALL_CLOSE with a birth: enum sock_call of that */
	__u8 saddr[16];     /* local address; IPv4 in the first 4 bytes, the rest 0 */
	__u8 daddr[16];     /* peer address, likewise */
	__u8 comm[16];      /* name of that process (of its first thread), NUL-padded */
	__u8 stack[64];     /* at CLOSE: eight return addresses, native order, innermost first; EVENT_LIFE…: struct sock_life; else 0 */
};

/* What stands for the stack where one event tells of a whole life. Who holds the connection are comm, tgid and fd; 0 = nobody is known. */
struct sock_life {
	__u64 open_ns;      /* when its handshake was complete; 0 = it is not */
	__u64 moved_ns;     /* when it came into its state */
	__u64 sk;           /* kernel address of the full socket; of EVENT_LIFE in SYN-RECV perhaps its request socket's */
	__u64 request;      /* kernel address of the request socket that it began as; 0 = it began with connect(2) */
	__u64 listener;     /* of that, the inode of its listener */
	__u64 owned;        /* of that, 1: comm, tgid and fd are of who closed it, or sent its FIN; else of whoever runs */
};

/* What each CPU counts; never reset. A softirq may count on top of a system call that is counting. */
struct sock_counts {
	__u64 dropped;      /* events that did not fit the CPU's buffer */
	__u64 states;       /* firings of sock:inet_sock_set_state, of whatever socket, for which a program ran; 0 in plain.bpf.c */
	__u64 expiries;     /* firings of timer:timer_expire_entry, likewise, for the timer of a request or timewait socket */
};

_Static_assert(sizeof(struct sock_event) == 272, "struct sock_event: 272 bytes, as sstrace/fields.py says");
