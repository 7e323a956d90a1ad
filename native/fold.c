/*
 * One event into the table: the twin of sstrace.table.SocketTable.apply, for what nearly all events are: a connection that
 * begins, moves from state to state, passes from one kernel object to the next, and ends, each time just as the table
 * expects it. Every condition is checked before anything is changed; an event that does not fit becomes a Fact and goes to
 * the twin, which says what all of it means. Connections of TCP alone, in the table's own network namespace, bound to no
 * device.
 *
 * While the table has a sweep under way, or somebody keeps a journal, no event is usual (SocketTable.folder sets is_easy):
 * so those do not occur here.
 */
#include "shape.h"

enum {
	ARGUMENTS = 15,
	UNLESS_ENDED = 4, /* a transition's last values are left to their defaults: approximate, source, ended, lifetime_ns */
};

typedef struct {
	PyObject_HEAD
	vectorcallfunc call;
	/* As they are given: */
	PyObject *row, *transition;                                     /* classes */
	PyObject *kinds;                                                /* tuple of Kind */
	PyObject *listed;                                               /* bytes: 1 at old * 16 + new */
	PyObject *netns;                                                /* int */
	PyObject *rows, *by_sk, *by_cookie, *by_ino, *by_tuple, *vague; /* the table's dicts */
	PyObject *ids;                                                  /* iterator */
	PyObject *otherwise;                                            /* callable: the twin */
	PyObject *own, *inherited;                                      /* sstrace.table._own, _inherited */
	PyObject *client, *server, *connect, *close, *listener, *fin_by_us; /* str */
	PyObject *zero;
	PyObject *held, *left;                                          /* owners of a listener, and those that they leave; NULL at first */
	PyObject *by_state;                                             /* dict state → dict id → row; NULL or None: there is none */
	unsigned long own_netns;
	struct row_slots of;
	struct owner_slots in;
	char is_easy, knows_owners; /* whether ``in`` is filled */
} Folder;

/* No answer of ours: neither an exception nor a reference. */
static PyObject unusual;
#define UNUSUAL (&unusual)

#define ROW(name) SLOT(row, self->of, name)

static const char MAPPED[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, (char)0xff, (char)0xff };

static int is_kind(Folder *self, PyObject *row, int kind)
{
	return ROW(kind) == PyTuple_GET_ITEM(self->kinds, kind);
}

/* Whether a number that may be None is this one, where 0 stands for None. */
static int is_number(PyObject *number, __u64 value)
{
	unsigned long found;

	if (number == Py_None)
		return value == 0;
	found = PyLong_AsUnsignedLong(number);
	if (found == (unsigned long)-1 && PyErr_Occurred())
		PyErr_Clear();
	return found == value && value != 0;
}

static int is_address(PyObject *address, const __u8 *raw, int family)
{
	return PyBytes_Check(address) && PyBytes_GET_SIZE(address) == (family == FAMILY_INET ? 4 : 16) &&
	       memcmp(PyBytes_AS_STRING(address), raw, PyBytes_GET_SIZE(address)) == 0;
}

/* Whether the key of the connection is as short as keys are (sstrace.table.Ends). */
static int has_plain_ends(Folder *self, const Event *event)
{
	const struct sock_event *raw = &event->raw;
	__u32 netns = raw->netns == 0 && raw->kind == EVENT_STATE ? event->netns : raw->netns;

	return raw->sport && raw->dport && raw->ifindex == 0 && raw->protocol == IPPROTO_OF_TCP && netns == self->own_netns &&
	       (raw->family == FAMILY_INET || (memcmp(raw->saddr, MAPPED, sizeof(MAPPED)) != 0 &&
					       memcmp(raw->daddr, MAPPED, sizeof(MAPPED)) != 0));
}

/* The key of such a connection. */
static PyObject *ends_of(Event *event)
{
	PyObject *sport = event_number(event, LOCAL_PORT, event->raw.sport), *dport = event_number(event, PEER_PORT, event->raw.dport);
	PyObject *src = event_source(event), *dst = event_destination(event), *ends = NULL;

	if (sport != NULL && dport != NULL && src != NULL && dst != NULL)
		ends = PyTuple_Pack(4, sport, dport, src, dst);
	Py_XDECREF(sport);
	Py_XDECREF(dport);
	Py_XDECREF(src);
	Py_XDECREF(dst);
	return ends;
}

/* Of two rows with one key the later one keeps it. */
static int forget(PyObject *index, PyObject *key, PyObject *row)
{
	PyObject *found = PyDict_GetItemWithError(index, key);

	if (found == row)
		return PyDict_DelItem(index, key);
	return found == NULL && PyErr_Occurred() ? -1 : 0;
}

/* Forget a key that may not be there. */
static int discard(PyObject *index, PyObject *key)
{
	int there = PyDict_GET_SIZE(index) ? PyDict_Contains(index, key) : 0;

	return there == 1 ? PyDict_DelItem(index, key) : there;
}

/* Whether an index knows a number, unless that is 0; -1 with an exception. */
static int knows(PyObject *index, __u64 value)
{
	PyObject *key;
	int there;

	if (value == 0 || PyDict_GET_SIZE(index) == 0)
		return 0;
	key = PyLong_FromUnsignedLongLong(value);
	if (key == NULL)
		return -1;
	there = PyDict_Contains(index, key);
	Py_DECREF(key);
	return there;
}

static int is_listed(Folder *self, long old, long new)
{
	return old >= 0 && old < STATES && PyBytes_AS_STRING(self->listed)[old << 4 | new] == 1;
}

/* sstrace.model.Changed.orphaned */
static int is_orphaned(const struct sock_event *raw)
{
	return raw->flags & EVENT_ORPHANED || (raw->ino == 0 && raw->netns != 0);
}

/* How long the row has been in its state: a new reference, None where that is not known. */
static PyObject *held(Folder *self, PyObject *row, PyObject *at_ns)
{
	return ROW(exact) == Py_True ? PyNumber_Subtract(at_ns, ROW(since_ns)) : new_ref(Py_None);
}

/* The transition, with which the connection ends where there is a ``lifetime``. Takes the references to ``held``, ``cause`` and
 * ``lifetime``; NULL in one of the first two is an exception. */
static PyObject *told_all(Folder *self, Event *event, PyObject *row, PyObject *at_ns, long old, PyObject *held, PyObject *cause,
			  PyObject *lifetime)
{
	PyObject *values[] = {
		new_ref(at_ns),
		new_ref(row),
		PyLong_FromLong(old),
		PyLong_FromLong(event->raw.kind == EVENT_TIMEWAIT_GONE ? CLOSE : event->raw.new),
		held,
		cause,
		new_ref((PyObject *)event),
		new_ref(Py_True),
		new_ref(Py_False),
		new_ref(Py_None),
		new_ref(Py_True),
		lifetime,
	};
	size_t count = sizeof(values) / sizeof(*values);

	for (int at = 0; lifetime == NULL && at < UNLESS_ENDED; at++) {
		count--;
		Py_CLEAR(values[count]);
	}
	return make(self->transition, values, count);
}

static PyObject *told(Folder *self, Event *event, PyObject *row, PyObject *at_ns, long old, PyObject *held, PyObject *cause)
{
	return told_all(self, event, row, at_ns, old, held, cause, NULL);
}

/* The full socket gives up: the connection ends (sstrace.table.SocketTable._end). */
static PyObject *told_end(Folder *self, Event *event, PyObject *row, PyObject *at_ns, long old, PyObject *held, PyObject *cause)
{
	PyObject *lifetime = ROW(born_ns) != Py_None ? PyNumber_Subtract(at_ns, ROW(born_ns)) : new_ref(Py_None);

	if (lifetime == NULL) {
		Py_XDECREF(held);
		Py_XDECREF(cause);
		return NULL;
	}
	return told_all(self, event, row, at_ns, old, held, cause, lifetime);
}

/* Whether these owners are one alone, by the name and number that the event gives him; -1 with an exception. */
static int is_owned_by(Folder *self, PyObject *owners, PyObject *owner)
{
	PyObject *known;

	if (PyTuple_GET_SIZE(owners) != 1)
		return 0;
	known = PyTuple_GET_ITEM(owners, 0);
	if (!self->knows_owners && find_slots((PyObject *)Py_TYPE(owner), OWNER_NAMES, &self->in) < 0)
		return -1;
	self->knows_owners = 1; /* owners are of one class */
	return equal(SLOT(known, self->in, pid), SLOT(owner, self->in, pid)) == 1 &&
	       equal(SLOT(known, self->in, comm), SLOT(owner, self->in, comm)) == 1;
}

/* sstrace.table._own: an event names the process whose system call it was. As a rule that is the owner who is known, or
 * nobody is. */
static int own(Folder *self, PyObject *row, Event *event, PyObject *source)
{
	PyObject *owner, *owners, *done;
	int is_nobodys, is_said;

	if (!event_has_owner(event))
		return 0;
	owner = event_owner(event);
	if (owner == NULL)
		return -1;
	is_nobodys = PyTuple_GET_SIZE(ROW(owners)) == 0 || equal(ROW(owner_source), self->listener) == 1;
	is_said = is_nobodys ? 0 : is_owned_by(self, ROW(owners), owner);
	if (is_said < 0) {
		Py_DECREF(owner);
		return -1;
	}
	if (is_nobodys) {
		owners = PyTuple_Pack(1, owner);
		if (owners != NULL) {
			SET(row, self->of, owners, owners);
			SET(row, self->of, owner_source, new_ref(source));
		}
		Py_DECREF(owner);
		return owners != NULL ? 0 : -1;
	}
	done = is_said ? new_ref(Py_None)
		       : PyObject_CallFunction(self->own, "OOii", row, owner, event->raw.new,
					       event->raw.new == CLOSE || is_orphaned(&event->raw));
	Py_DECREF(owner);
	Py_XDECREF(done);
	return done != NULL ? 0 : -1;
}

/* Until accept(2) a connection is of those who hold its listener. */
static int inherit(Folder *self, PyObject *row, const struct sock_event *raw)
{
	PyObject *ino = PyLong_FromUnsignedLongLong(raw->ino), *listener, *held;

	if (ino == NULL)
		return -1;
	listener = PyDict_GetItemWithError(self->by_ino, ino);
	Py_DECREF(ino);
	if (listener == NULL)
		return PyErr_Occurred() ? -1 : 0;
	held = SLOT(listener, self->of, owners);
	if (!PyTuple_CheckExact(held) || PyTuple_GET_SIZE(held) == 0)
		return 0;
	if (held != self->held) { /* that of the last time, as a rule */
		PyObject *left = PyObject_CallOneArg(self->inherited, held);

		if (left == NULL)
			return -1;
		Py_XSETREF(self->held, new_ref(held));
		Py_XSETREF(self->left, left);
	}
	SET(row, self->of, owners, new_ref(self->left));
	SET(row, self->of, owner_source, new_ref(self->listener));
	return 0;
}

/* Put a number into a slot that may hold it already; 0 stands for nothing to say. */
#define LEARN(slot, value)                                                     \
	do {                                                                   \
		if ((value) != 0 && !is_number(ROW(slot), value)) {            \
			PyObject *learnt = PyLong_FromUnsignedLongLong(value); \
			if (learnt == NULL)                                    \
				return -1;                                     \
			SET(row, self->of, slot, learnt);                      \
		}                                                              \
	} while (0)

static int learn(Folder *self, PyObject *row, const struct sock_event *raw)
{
	LEARN(ino, raw->ino);
	if (is_orphaned(raw))
		SET(row, self->of, ino, new_ref(self->zero));
	LEARN(cgroup, raw->cgroup);
	if (ROW(uid) == Py_None || PyLong_AsUnsignedLong(ROW(uid)) != raw->uid) {
		PyObject *uid = PyLong_FromUnsignedLong(raw->uid);

		if (uid == NULL)
			return -1;
		SET(row, self->of, uid, uid);
	}
	return 0;
}

static int is_indexed(Folder *self, PyObject *row)
{
	return self->by_state != NULL && self->by_state != Py_None && small(ROW(state)) != ESTABLISHED;
}

/* The index by state lets go of the row, before its state changes or it dies. */
static int leave_index(Folder *self, PyObject *row)
{
	PyObject *rows = is_indexed(self, row) ? PyDict_GetItemWithError(self->by_state, ROW(state)) : NULL;

	return rows != NULL ? discard(rows, ROW(id)) : PyErr_Occurred() ? -1 : 0;
}

/* The index by state takes the row, once its state is known. */
static int enter_index(Folder *self, PyObject *row)
{
	PyObject *rows;
	int failed;

	if (!is_indexed(self, row))
		return 0;
	rows = PyObject_GetItem(self->by_state, ROW(state)); /* a defaultdict */
	failed = rows == NULL ? -1 : PyDict_SetItem(rows, ROW(id), row);
	Py_XDECREF(rows);
	return failed;
}

/* The row is in another state, since now. */
static int enter(Folder *self, PyObject *row, PyObject *at_ns, long state)
{
	PyObject *number = PyLong_FromLong(state);

	if (number == NULL || leave_index(self, row) < 0) {
		Py_XDECREF(number);
		return -1;
	}
	SET(row, self->of, state, number);
	SET(row, self->of, since_ns, new_ref(at_ns));
	SET(row, self->of, exact, new_ref(Py_True));
	return enter_index(self, row);
}

/* Forget the keys of a connection whose cookie, if any, is that of a full or request socket. */
static int forget_keys(Folder *self, PyObject *row)
{
	if (ROW(sk) != Py_None && forget(self->by_sk, ROW(sk), row) < 0)
		return -1;
	if (ROW(cookie) != Py_None && forget(self->by_cookie, ROW(cookie), row) < 0)
		return -1;
	if (forget(self->by_tuple, ROW(ends), row) < 0)
		return -1;
	SET(row, self->of, ends, new_ref(Py_None));
	return 0;
}

/* A new row with every key. A borrowed reference: the table holds it. */
static PyObject *birth(Folder *self, Event *event, PyObject *sk, PyObject *at_ns, PyObject *ends, int kind, PyObject *role)
{
	const struct sock_event *raw = &event->raw;
	PyObject *values[] = {
		PyIter_Next(self->ids),
		new_ref(PyTuple_GET_ITEM(self->kinds, kind)),
		PyLong_FromLong(raw->new),
		PyLong_FromLong(raw->family),
		PyLong_FromLong(raw->protocol),
		new_ref(self->netns),
		new_ref(PyTuple_GET_ITEM(ends, 2)),
		new_ref(PyTuple_GET_ITEM(ends, 0)),
		new_ref(PyTuple_GET_ITEM(ends, 3)),
		new_ref(PyTuple_GET_ITEM(ends, 1)),
		PyLong_FromUnsignedLongLong(kind == SOCKET ? raw->ino : 0),
		kind == SOCKET ? event_number(event, USER, raw->uid) : new_ref(Py_None),
		new_ref(self->zero),
		none_or_number(raw->cookie),
		new_ref(sk),
		new_ref(at_ns),
		new_ref(Py_True),
		new_ref(at_ns),
	};
	PyObject *row = make(self->row, values, sizeof(values) / sizeof(*values));

	if (row == NULL)
		return NULL;
	SET(row, self->of, born_ns, new_ref(at_ns));
	SET(row, self->of, role, new_ref(role));
	SET(row, self->of, ends, new_ref(ends));
	if (PyDict_SetItem(self->rows, ROW(id), row) < 0 || PyDict_SetItem(self->by_sk, sk, row) < 0 ||
	    PyDict_SetItem(self->by_tuple, ends, row) < 0 ||
	    (raw->cookie && PyDict_SetItem(self->by_cookie, ROW(cookie), row) < 0) || enter_index(self, row) < 0) {
		Py_DECREF(row);
		return NULL;
	}
	Py_DECREF(row);
	return row;
}

/* connect(2): CLOSE→SYN-SENT of a socket that nobody knows. */
static PyObject *connects(Folder *self, Event *event, PyObject *sk, PyObject *at_ns)
{
	const struct sock_event *raw = &event->raw;
	PyObject *ends, *row;

	if (raw->ino == 0 || raw->since_ns || !has_plain_ends(self, event) || knows(self->by_cookie, raw->cookie) || knows(self->by_ino, raw->ino))
		return UNUSUAL;
	ends = ends_of(event);
	row = ends != NULL ? birth(self, event, sk, at_ns, ends, SOCKET, self->client) : NULL;
	Py_XDECREF(ends);
	if (row == NULL || own(self, row, event, self->connect) < 0 || learn(self, row, raw) < 0)
		return NULL;
	return told(self, event, row, at_ns, CLOSE, new_ref(Py_None), new_ref(Py_None));
}

/* An open connection goes to another open state. The row is as the event says, but for the state. */
static PyObject *moves(Folder *self, PyObject *row, Event *event, PyObject *at_ns)
{
	const struct sock_event *raw = &event->raw;
	PyObject *duration = held(self, row, at_ns);

	if (duration == NULL)
		return NULL;
	SET(row, self->of, touched_ns, new_ref(at_ns));
	if (learn(self, row, raw) < 0 || enter(self, row, at_ns, raw->new) < 0 || discard(self->vague, ROW(id)) < 0 ||
	    (event_is_by_call(event) && own(self, row, event, self->close) < 0)) {
		Py_DECREF(duration);
		return NULL;
	}
	return told(self, event, row, at_ns, raw->old, duration, new_ref(Py_None));
}

/* The table lets go of a row whose keys it has forgotten. */
static int bury(Folder *self, PyObject *row)
{
	return discard(self->rows, ROW(id)) < 0 || discard(self->vague, ROW(id)) < 0 || leave_index(self, row) < 0 ? -1 : 0;
}

/* An open connection goes to CLOSE. */
static PyObject *closes(Folder *self, PyObject *row, Event *event, PyObject *at_ns)
{
	const struct sock_event *raw = &event->raw;
	int by_call = 0;
	PyObject *cause = event_cause(event, SOCKET, &by_call), *closed = PyLong_FromLong(CLOSE), *ino = none_or_number(raw->ino);
	PyObject *change = NULL;

	if (cause == NULL || closed == NULL || ino == NULL || forget_keys(self, row) < 0 || bury(self, row) < 0 ||
	    (by_call && own(self, row, event, self->close) < 0)) {
		Py_XDECREF(cause);
		goto out;
	}
	if (ino != Py_None)
		SET(row, self->of, ino, new_ref(ino));
	SET(row, self->of, state, new_ref(closed));
	change = told_end(self, event, row, at_ns, raw->old, held(self, row, at_ns), cause);
out:
	Py_XDECREF(closed);
	Py_XDECREF(ino);
	return change;
}

/* The row between the ends of a full socket that is known by nothing else: a borrowed reference. NULL, with or without an
 * exception, where there is none. */
static PyObject *row_between(Folder *self, Event *event)
{
	const struct sock_event *raw = &event->raw;
	PyObject *ends, *row;

	if (raw->since_ns || !has_plain_ends(self, event) || knows(self->by_cookie, raw->cookie) || knows(self->by_ino, raw->ino))
		return NULL;
	ends = ends_of(event);
	row = ends != NULL ? PyDict_GetItemWithError(self->by_tuple, ends) : NULL;
	Py_XDECREF(ends);
	return row;
}

/* The handshake completed: a request's row becomes its child's. */
static PyObject *takes_over(Folder *self, Event *event, PyObject *sk, PyObject *at_ns)
{
	const struct sock_event *raw = &event->raw;
	PyObject *row = row_between(self, event), *change = NULL;

	if (row == NULL || !is_kind(self, row, REQUEST) || small(ROW(state)) != raw->old || !is_number(ROW(cookie), raw->cookie) ||
	    small(ROW(ifindex)) != 0 || small(ROW(protocol)) != IPPROTO_OF_TCP || small(ROW(sport)) != raw->sport)
		return UNUSUAL;
	Py_INCREF(row);
	if (ROW(sk) == Py_None || forget(self->by_sk, ROW(sk), row) == 0) {
		SET(row, self->of, kind, new_ref(PyTuple_GET_ITEM(self->kinds, SOCKET)));
		SET(row, self->of, sk, new_ref(sk));
		if (PyDict_SetItem(self->by_sk, sk, row) == 0)
			change = moves(self, row, event, at_ns);
	}
	Py_DECREF(row);
	return change;
}

/* A full socket closes that has handed its row over to a timewait socket: nothing is left to tell. */
static PyObject *has_handed_over(Folder *self, Event *event)
{
	const struct sock_event *raw = &event->raw;
	PyObject *row = row_between(self, event);

	if (row == NULL || !is_kind(self, row, TIMEWAIT) ||
	    !(ROW(cookie) == Py_None || raw->cookie == 0 || is_number(ROW(cookie), raw->cookie)))
		return UNUSUAL;
	return new_ref(Py_None);
}

static PyObject *full_socket(Folder *self, Event *event, PyObject *sk, PyObject *at_ns)
{
	const struct sock_event *raw = &event->raw;
	PyObject *row = PyDict_GetItemWithError(self->by_sk, sk), *change;

	if (raw->old == LISTEN || raw->new == LISTEN || raw->old == raw->new || !is_listed(self, raw->old, raw->new))
		return UNUSUAL;
	if (row == NULL) {
		if (raw->old == CLOSE && raw->new == SYN_SENT)
			return connects(self, event, sk, at_ns);
		if (raw->old == SYN_RECV && raw->new != CLOSE)
			return takes_over(self, event, sk, at_ns);
		if (raw->new == CLOSE && (raw->old == FIN_WAIT1 || raw->old == FIN_WAIT2 || raw->old == CLOSING))
			return has_handed_over(self, event);
		return UNUSUAL;
	}
	if (raw->old == CLOSE || raw->new == SYN_SENT || raw->dport == 0 || !is_kind(self, row, SOCKET) ||
	    small(ROW(state)) != raw->old || !is_number(ROW(cookie), raw->cookie) || small(ROW(dport)) != raw->dport ||
	    !is_address(ROW(dst), raw->daddr, raw->family) || ROW(ends) == Py_None || raw->ifindex != 0 ||
	    small(ROW(ifindex)) != 0 || small(ROW(sport)) == 0 || small(ROW(protocol)) != IPPROTO_OF_TCP ||
	    !PyTuple_CheckExact(ROW(owners)))
		return UNUSUAL;
	/* Has a timewait socket taken over, unheard? */
	if (raw->new == CLOSE && (raw->since_ns || raw->old == FIN_WAIT2 || raw->old == CLOSING))
		return UNUSUAL;
	if (raw->new != CLOSE && raw->old == SYN_SENT &&
	    (small(ROW(sport)) != raw->sport || !is_address(ROW(src), raw->saddr, raw->family)))
		return UNUSUAL;
	Py_INCREF(row); /* the table may let go of it */
	change = raw->new == CLOSE ? closes(self, row, event, at_ns) : moves(self, row, event, at_ns);
	Py_DECREF(row);
	return change;
}

/* A SYN came: a request socket is born. */
static PyObject *asks(Folder *self, Event *event, PyObject *sk, PyObject *at_ns)
{
	const struct sock_event *raw = &event->raw;
	PyObject *ends, *row;
	int known;

	if (raw->new != SYN_RECV || raw->ino == 0 || !has_plain_ends(self, event) || PyDict_Contains(self->by_sk, sk) != 0 ||
	    knows(self->by_cookie, raw->cookie))
		return UNUSUAL;
	ends = ends_of(event);
	if (ends == NULL)
		return NULL;
	known = PyDict_Contains(self->by_tuple, ends);
	row = known == 0 ? birth(self, event, sk, at_ns, ends, REQUEST, self->server) : NULL;
	Py_DECREF(ends);
	if (row == NULL)
		return known == 1 ? UNUSUAL : NULL;
	if (inherit(self, row, raw) < 0)
		return NULL;
	return told(self, event, row, at_ns, LISTEN, new_ref(Py_None), new_ref(Py_None));
}

/* The row becomes that of a timewait socket between the same ends; ``key``: that of its cookie, or None. */
static int hand_over(Folder *self, PyObject *row, Event *event, PyObject *sk, PyObject *at_ns, PyObject *ends, PyObject *key)
{
	const struct sock_event *raw = &event->raw;
	PyObject *cookie = none_or_number(raw->cookie), *family = PyLong_FromLong(raw->family);

	if (cookie == NULL || family == NULL || forget_keys(self, row) < 0) {
		Py_XDECREF(cookie);
		Py_XDECREF(family);
		return -1;
	}
	SET(row, self->of, kind, new_ref(PyTuple_GET_ITEM(self->kinds, TIMEWAIT)));
	SET(row, self->of, sk, new_ref(sk));
	SET(row, self->of, cookie, cookie);
	SET(row, self->of, ino, new_ref(self->zero));
	SET(row, self->of, touched_ns, new_ref(at_ns));
	SET(row, self->of, family, family);
	SET(row, self->of, src, new_ref(PyTuple_GET_ITEM(ends, 2)));
	SET(row, self->of, dst, new_ref(PyTuple_GET_ITEM(ends, 3)));
	SET(row, self->of, ifindex, new_ref(self->zero));
	SET(row, self->of, ends, new_ref(ends));
	if (PyDict_SetItem(self->by_sk, sk, row) < 0 || PyDict_SetItem(self->by_tuple, ends, row) < 0 ||
	    (key != Py_None && PyDict_SetItem(self->by_cookie, key, row) < 0))
		return -1;
	return raw->new == FIN_WAIT2 ? PyDict_SetItem(self->vague, ROW(id), row) : discard(self->vague, ROW(id));
}

/* A timewait socket is born, and takes over from a full one: the connection ends. */
static PyObject *waits(Folder *self, Event *event, PyObject *sk, PyObject *at_ns)
{
	const struct sock_event *raw = &event->raw;
	PyObject *ends, *row, *key, *duration, *change = NULL;
	int known;
	long old;

	if (!has_plain_ends(self, event) || PyDict_Contains(self->by_sk, sk) != 0)
		return UNUSUAL;
	ends = ends_of(event);
	if (ends == NULL)
		return NULL;
	row = PyDict_GetItemWithError(self->by_tuple, ends);
	if (row == NULL || !is_kind(self, row, SOCKET) || equal(ROW(ends), ends) != 1 || small(ROW(protocol)) != IPPROTO_OF_TCP ||
	    ((old = small(ROW(state))) != raw->new && !is_listed(self, old, raw->new))) {
		Py_DECREF(ends);
		return UNUSUAL;
	}
	Py_INCREF(row);
	key = new_ref(Py_None);
	if (raw->cookie) {
		PyObject *cookie = PyLong_FromUnsignedLongLong(raw->cookie);

		Py_SETREF(key, cookie != NULL ? PyTuple_Pack(2, cookie, ends) : NULL);
		Py_XDECREF(cookie);
	}
	known = key == NULL ? -1 : key == Py_None ? 0 : PyDict_Contains(self->by_cookie, key);
	duration = known == 0 ? held(self, row, at_ns) : NULL;
	if (known == 1) {
		change = UNUSUAL;
	} else if (duration != NULL && hand_over(self, row, event, sk, at_ns, ends, key) == 0) {
		if (old == raw->new || enter(self, row, at_ns, raw->new) == 0)
			change = told_end(self, event, row, at_ns, old, new_ref(duration), new_ref(self->fin_by_us));
	}
	Py_XDECREF(duration);
	Py_XDECREF(key);
	Py_DECREF(row);
	Py_DECREF(ends);
	return change;
}

/* TIME-WAIT ran out, or its addresses are used again. */
static PyObject *expires(Folder *self, Event *event, PyObject *sk, PyObject *at_ns)
{
	const struct sock_event *raw = &event->raw;
	PyObject *row = PyDict_GetItemWithError(self->by_sk, sk), *cause = NULL, *closed = NULL, *change = NULL;
	long old;
	int by_call;

	if (row == NULL || raw->flags & EVENT_UNHEARD || raw->dport == 0 || raw->sport == 0 || !is_kind(self, row, TIMEWAIT) ||
	    small(ROW(dport)) != raw->dport ||
	    small(ROW(sport)) != raw->sport || !is_address(ROW(dst), raw->daddr, raw->family) || ROW(ends) == Py_None ||
	    !is_listed(self, small(ROW(state)), CLOSE))
		return UNUSUAL;
	Py_INCREF(row); /* the table lets go of it */
	if (ROW(cookie) != Py_None) {
		PyObject *key = PyTuple_Pack(2, ROW(cookie), ROW(ends));

		if (key == NULL || forget(self->by_cookie, key, row) < 0) {
			Py_XDECREF(key);
			goto out;
		}
		Py_DECREF(key);
	}
	cause = event_cause(event, TIMEWAIT, &by_call);
	closed = PyLong_FromLong(CLOSE);
	if (cause == NULL || closed == NULL || forget(self->by_sk, sk, row) < 0 || forget(self->by_tuple, ROW(ends), row) < 0 ||
	    bury(self, row) < 0)
		goto out;
	SET(row, self->of, ends, new_ref(Py_None));
	old = small(ROW(state));
	SET(row, self->of, state, new_ref(closed));
	change = told(self, event, row, at_ns, old, held(self, row, at_ns), new_ref(cause));
out:
	Py_XDECREF(cause);
	Py_XDECREF(closed);
	Py_DECREF(row);
	return change;
}

static PyObject *fold(Folder *self, Event *event)
{
	PyObject *sk = PyLong_FromUnsignedLongLong(event->raw.sk), *at_ns = event->at_ns, *change = UNUSUAL;

	if (sk != NULL) {
		switch (event->raw.kind) {
		case EVENT_STATE:
			change = full_socket(self, event, sk, at_ns);
			break;
		case EVENT_REQUEST:
			change = asks(self, event, sk, at_ns);
			break;
		case EVENT_TIMEWAIT:
			change = waits(self, event, sk, at_ns);
			break;
		case EVENT_TIMEWAIT_GONE:
			change = expires(self, event, sk, at_ns);
		}
	}
	Py_XDECREF(sk);
	return change;
}

/* (event) → Transition or None. */
static PyObject *folder_call(PyObject *callable, PyObject *const *args, size_t count, PyObject *names)
{
	Folder *self = (Folder *)callable;
	PyObject *change, *fact;

	if (PyVectorcall_NARGS(count) != 1 || names != NULL) {
		PyErr_SetString(PyExc_TypeError, "one event at a time");
		return NULL;
	}
	if (!Py_IS_TYPE(args[0], &event_type))
		return PyObject_CallOneArg(self->otherwise, args[0]);
	change = self->is_easy ? fold(self, (Event *)args[0]) : UNUSUAL;
	if (change != UNUSUAL)
		return change;
	if (PyErr_Occurred())
		return NULL;
	fact = event_fact((Event *)args[0]);
	change = fact != NULL ? PyObject_CallOneArg(self->otherwise, fact) : NULL;
	Py_XDECREF(fact);
	return change;
}

#define REFERENCES(X)                                                                                                    \
	X(row) X(transition) X(kinds) X(listed) X(netns) X(rows) X(by_sk) X(by_cookie) X(by_ino) X(by_tuple) X(vague) \
	X(ids) X(otherwise) X(own) X(inherited) X(client) X(server) X(connect) X(close) X(listener) X(fin_by_us) X(zero) \
	X(held) X(left) X(by_state)

static int folder_clear(PyObject *object)
{
	Folder *self = (Folder *)object;

#define CLEAR(name) Py_CLEAR(self->name);
	REFERENCES(CLEAR)
	return 0;
}

static int folder_init(PyObject *object, PyObject *args, PyObject *kwargs)
{
	Folder *self = (Folder *)object;
	PyObject **given = &self->row;

	if (self->row != NULL || PyTuple_GET_SIZE(args) != ARGUMENTS) {
		PyErr_SetString(PyExc_TypeError, "Folder takes 15 arguments, once");
		return -1;
	}
	for (Py_ssize_t at = 0; at < ARGUMENTS; at++)
		given[at] = new_ref(PyTuple_GET_ITEM(args, at));
	self->client = PyUnicode_InternFromString("client");
	self->server = PyUnicode_InternFromString("server");
	self->connect = PyUnicode_InternFromString("connect");
	self->close = PyUnicode_InternFromString("close");
	self->listener = PyUnicode_InternFromString("listener");
	self->fin_by_us = PyUnicode_InternFromString("fin-by-us");
	self->zero = PyLong_FromLong(0);
	if (self->client == NULL || self->server == NULL || self->connect == NULL || self->close == NULL ||
	    self->listener == NULL || self->fin_by_us == NULL || self->zero == NULL)
		return -1;
	for (PyObject **dict = &self->rows; dict <= &self->vague; dict++) {
		if (!PyDict_Check(*dict)) {
			PyErr_SetString(PyExc_TypeError, "the table's indexes are dicts");
			return -1;
		}
	}
	if (!PyTuple_Check(self->kinds) || PyTuple_GET_SIZE(self->kinds) != KINDS || !PyBytes_Check(self->listed) ||
	    PyBytes_GET_SIZE(self->listed) != 256 || !PyIter_Check(self->ids)) {
		PyErr_SetString(PyExc_TypeError, "three kinds, 16 * 16 pairs of states, an iterator of ids");
		return -1;
	}
	self->own_netns = PyLong_AsUnsignedLong(self->netns);
	if (PyErr_Occurred())
		return -1;
	return find_slots(self->row, ROW_NAMES, &self->of);
}

static PyObject *folder_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	Folder *self = (Folder *)type->tp_alloc(type, 0);

	if (self != NULL)
		self->call = folder_call;
	return (PyObject *)self;
}

static int folder_traverse(PyObject *object, visitproc visit, void *arg)
{
	Folder *self = (Folder *)object;

#define VISIT(name) Py_VISIT(self->name);
	REFERENCES(VISIT)
	return 0;
}

static void folder_dealloc(PyObject *object)
{
	PyObject_GC_UnTrack(object);
	folder_clear(object);
	Py_TYPE(object)->tp_free(object);
}

static PyMemberDef folder_members[] = {
	{ "is_easy", T_BOOL, offsetof(Folder, is_easy), 0, "whether there is no sweep, and no journal" },
	{ "by_state", T_OBJECT, offsetof(Folder, by_state), 0, "the index by state, or None" },
	{ NULL, 0, 0, 0, NULL },
};

static PyTypeObject folder_type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "_sstrace.Folder",
	.tp_doc = "Folder(Row, Transition, kinds, listed, netns, rows, by_sk, by_cookie, by_ino, by_tuple, vague, ids, "
		  "otherwise, own, inherited)(event) -> Transition or None",
	.tp_basicsize = sizeof(Folder),
	.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
	.tp_vectorcall_offset = offsetof(Folder, call),
	.tp_call = PyVectorcall_Call,
	.tp_members = folder_members,
	.tp_new = folder_new,
	.tp_init = folder_init,
	.tp_traverse = folder_traverse,
	.tp_clear = folder_clear,
	.tp_dealloc = folder_dealloc,
};

int add_folder(PyObject *module)
{
	return PyModule_AddType(module, &folder_type);
}
