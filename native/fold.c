/*
 * One event into the table: the twin of sstrace.table.fold.Fold.apply, for what nearly all events are: a connection that begins,
 * moves from state to state, passes from one kernel object to the next, and ends, each time just as the table expects it. Every
 * condition is checked before anything is changed; an event that does not fit becomes a Fact and goes to the twin, which says what
 * all of it means.
 *
 * While a sweep of the shard is under way, or somebody keeps a journal, no event is usual (SocketTable.folder sets is_easy): so
 * those do not occur here.
 */
#include "folder.h"

PyObject unusual;

/* connect(2): CLOSE→SYN-SENT of a socket that nobody knows. */
static PyObject *connects(Folder *self, Event *event, PyObject *sk, PyObject *at_ns)
{
	const struct sock_event *raw = &event->raw;
	PyObject *ends, *row;
	int known;

	if (!is_taught(self, OPENS, NOBODY) || raw->ino == 0 || raw->since_ns || !has_plain_ends(event) ||
	    knows(self->by_cookie, raw->cookie) || knows(self->by_ino, raw->ino))
		return UNUSUAL;
	ends = ends_of(event);
	if (ends == NULL)
		return NULL;
	known = PyDict_Contains(self->by_ends, ends); /* what a timewait socket is in the way of is looked at more closely */
	row = known == 0 ? birth(self, event, sk, at_ns, ends, SOCKET, self->client) : NULL;
	Py_DECREF(ends);
	if (known == 1)
		return UNUSUAL;
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
	if (learn(self, row, raw) < 0 || enter(self, row, at_ns, raw->new) < 0 || discard(self->unsettled, ROW(id)) < 0 ||
	    (event_is_by_call(event) && own(self, row, event, self->close) < 0)) {
		Py_DECREF(duration);
		return NULL;
	}
	return told(self, event, row, at_ns, raw->old, duration, new_ref(Py_None));
}

/* An open connection goes to CLOSE. */
static PyObject *closes(Folder *self, PyObject *row, Event *event, PyObject *at_ns)
{
	const struct sock_event *raw = &event->raw;
	int by_call = 0;
	PyObject *cause = event_cause(event, SOCKET, &by_call), *closed = PyLong_FromLong(CLOSE), *ino = none_or_number(raw->ino);
	PyObject *change = NULL;

	if (cause == NULL || closed == NULL || ino == NULL || forget_keys(self, row) < 0 || remove_row(self, row) < 0 ||
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

	if (raw->since_ns || !has_plain_ends(event) || knows(self->by_cookie, raw->cookie) || knows(self->by_ino, raw->ino))
		return NULL;
	ends = ends_of(event);
	row = ends != NULL ? PyDict_GetItemWithError(self->by_ends, ends) : NULL;
	Py_XDECREF(ends);
	return row;
}

/* The handshake completed: a request's row becomes its child's. */
static PyObject *takes_over(Folder *self, Event *event, PyObject *sk, PyObject *at_ns)
{
	const struct sock_event *raw = &event->raw;
	PyObject *row = row_between(self, event), *change = NULL;

	if (!is_taught(self, MOVES, REQUEST) || row == NULL || !is_kind(self, row, REQUEST) ||
	    small(ROW(state)) != raw->old || !is_number(ROW(cookie), raw->cookie) ||
	    small(ROW(ifindex)) != raw->ifindex || small(ROW(sport)) != raw->sport)
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

	if (!is_taught(self, CLOSES, TIMEWAIT) || row == NULL || !is_kind(self, row, TIMEWAIT) ||
	    !(ROW(cookie) == Py_None || raw->cookie == 0 || is_number(ROW(cookie), raw->cookie)))
		return UNUSUAL;
	return new_ref(Py_None);
}

/* The row of a full socket that a sweep has found, and of which no event has told: a borrowed reference. NULL, with or without an
 * exception, where there is none. */
static PyObject *row_of_sweep(Folder *self, const struct sock_event *raw)
{
	PyObject *cookie = raw->cookie ? PyLong_FromUnsignedLongLong(raw->cookie) : NULL, *row;

	if (cookie == NULL)
		return NULL;
	row = PyDict_GetItemWithError(self->by_cookie, cookie);
	Py_DECREF(cookie);
	return row != NULL && ROW(sk) == Py_None && small(ROW(sport)) == raw->sport ? row : NULL;
}

/* A row is found by its address from now on. */
static int learn_address(Folder *self, PyObject *row, PyObject *sk)
{
	if (ROW(sk) != Py_None)
		return 0;
	SET(row, self->of, sk, new_ref(sk));
	return PyDict_SetItem(self->by_sk, sk, row);
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
		row = row_of_sweep(self, raw);
		if (row == NULL && raw->new == CLOSE && (raw->old == FIN_WAIT1 || raw->old == FIN_WAIT2 || raw->old == CLOSING))
			return has_handed_over(self, event);
		if (row == NULL)
			return UNUSUAL;
	}
	if (raw->old == CLOSE || raw->new == SYN_SENT || raw->dport == 0 || !is_kind(self, row, SOCKET) ||
	    small(ROW(state)) != raw->old || !is_number(ROW(cookie), raw->cookie) || small(ROW(dport)) != raw->dport ||
	    !is_address(ROW(dst), raw->daddr, raw->family) || ROW(ends) == Py_None || small(ROW(ifindex)) != raw->ifindex ||
	    small(ROW(sport)) == 0 ||
	    !PyTuple_CheckExact(ROW(owners)))
		return UNUSUAL;
	/* Has a timewait socket taken over, and was that missed? */
	if (raw->new == CLOSE && (raw->since_ns || raw->old == FIN_WAIT2 || raw->old == CLOSING))
		return UNUSUAL;
	if (raw->new != CLOSE && raw->old == SYN_SENT &&
	    (small(ROW(sport)) != raw->sport || !is_address(ROW(src), raw->saddr, raw->family)))
		return UNUSUAL;
	if (!is_taught(self, raw->new == CLOSE ? CLOSES : MOVES, SOCKET))
		return UNUSUAL;
	Py_INCREF(row); /* the table may let go of it */
	change = raw->new == CLOSE ? closes(self, row, event, at_ns) : learn_address(self, row, sk) < 0 ? NULL : moves(self, row, event, at_ns);
	Py_DECREF(row);
	return change;
}

/* A SYN came: a request socket is born. One that tells of a retransmission first was born before, which was missed. */
static PyObject *asks(Folder *self, Event *event, PyObject *sk, PyObject *at_ns)
{
	const struct sock_event *raw = &event->raw;
	PyObject *ends, *row;
	int known;

	if (!is_taught(self, REQUEST_TIMER, NOBODY) || raw->new != SYN_RECV || raw->retransmits || raw->ino == 0 ||
	    !has_plain_ends(event) || PyDict_Contains(self->by_sk, sk) != 0 || knows(self->by_cookie, raw->cookie))
		return UNUSUAL;
	ends = ends_of(event);
	if (ends == NULL)
		return NULL;
	known = PyDict_Contains(self->by_ends, ends);
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
	SET(row, self->of, ifindex, new_ref(PyTuple_GET_ITEM(ends, 4)));
	SET(row, self->of, ends, new_ref(ends));
	if (PyDict_SetItem(self->by_sk, sk, row) < 0 || PyDict_SetItem(self->by_ends, ends, row) < 0 ||
	    (key != Py_None && PyDict_SetItem(self->by_cookie, key, row) < 0))
		return -1;
	return raw->new == FIN_WAIT2 ? PyDict_SetItem(self->unsettled, ROW(id), row) : discard(self->unsettled, ROW(id));
}

/* A timewait socket is born, and takes over from a full one: the connection ends. */
static PyObject *waits(Folder *self, Event *event, PyObject *sk, PyObject *at_ns)
{
	const struct sock_event *raw = &event->raw;
	PyObject *ends, *row, *key, *duration, *change = NULL;
	int known;
	long old;

	if (!is_taught(self, TIMEWAIT_TIMER, SOCKET) || !has_plain_ends(event) || PyDict_Contains(self->by_sk, sk) != 0)
		return UNUSUAL;
	ends = ends_of(event);
	if (ends == NULL)
		return NULL;
	row = PyDict_GetItemWithError(self->by_ends, ends);
	if (row == NULL || !is_kind(self, row, SOCKET) || equal(ROW(ends), ends) != 1 ||
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

	if (!is_taught(self, TIMEWAIT_GONE, TIMEWAIT) || row == NULL || raw->flags & EVENT_MISSED || raw->dport == 0 ||
	    raw->sport == 0 || !is_kind(self, row, TIMEWAIT) || small(ROW(dport)) != raw->dport ||
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
	if (cause == NULL || closed == NULL || forget(self->by_sk, sk, row) < 0 || forget(self->by_ends, ROW(ends), row) < 0 ||
	    remove_row(self, row) < 0)
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

PyObject *fold(Folder *self, Event *event)
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
