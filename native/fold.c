/*
 * One event into the table: the twin of sstrace.table.fold.Fold.apply, for what nearly all events are: a connection that begins,
 * moves from state to state, passes from one kernel object to the next, and ends, each time just as the table expects it. Every
 * condition is checked before anything is changed; an event that does not fit becomes a Fact and goes to the twin, which says what
 * all of it means.
 *
 * While a sweep of the space goes on, or somebody keeps a journal, no event is usual: those do not occur here.
 */
#include "step.h"

/* sstrace.model.Changed.orphaned */
static int is_orphaned(const struct sock_event *raw)
{
	return raw->flags & EVENT_ORPHANED || (raw->ino == 0 && raw->netns != 0);
}

/* Whether the row is found by its ends, and they are the event's. */
static int is_between(PyObject *row, const struct sock_event *raw)
{
	return ROW(ends) != Py_None && small(ROW(dport)) == raw->dport && small(ROW(sport)) == raw->sport &&
	       is_address(ROW(dst), raw->daddr, raw->family) && is_address(ROW(src), raw->saddr, raw->family) &&
	       small(ROW(ifindex)) == raw->ifindex;
}

/* The row is in another state, since now. */
static int moved(const struct step *now, PyObject *row)
{
	SET(ROW(since_ns), new_ref(now->at_ns));
	SET(ROW(exact), new_ref(Py_True));
	return restate(now->index, row, now->raw->new);
}

/* sstrace.table.owning.own: an event names the process whose system call it was. As a rule that is the owner who is known, or
 * nobody is. */
static int own(const struct step *now, PyObject *row, PyObject *call)
{
	const struct sock_event *raw = now->raw;
	PyObject *known_one = PyTuple_GET_SIZE(ROW(owners)) == 1 ? PyTuple_GET_ITEM(ROW(owners), 0) : NULL;
	OWNED *owner = NULL, *done = NULL;

	if (raw->tgid == 0 || raw->flags & EVENT_KTHREAD)
		return 0;
	owner = event_owner(now->event);
	if (owner == NULL)
		return -1;
	if (PyTuple_GET_SIZE(ROW(owners)) == 0 || equal(ROW(owner_source), known.listener) == 1) {
		done = PyTuple_Pack(1, owner);
		if (done == NULL)
			return -1;
		SET(ROW(owners), new_ref(done));
		SET(ROW(owner_source), new_ref(call));
		return 0;
	}
	if (known_one != NULL && equal(SLOT(known_one, owner, pid), SLOT(owner, owner, pid)) == 1 &&
	    equal(SLOT(known_one, owner, comm), SLOT(owner, owner, comm)) == 1)
		return 0;
	done = PyObject_CallFunction(known.own, "OOii", row, owner, raw->new, raw->new == CLOSE || is_orphaned(raw));
	return done != NULL ? 0 : -1;
}

/* Put a number into a slot that may hold it already. */
static int put_number(PyObject **slot, __u64 value)
{
	PyObject *number = *slot != Py_None && is_number(*slot, value) ? new_ref(*slot) : PyLong_FromUnsignedLongLong(value);

	if (number != NULL)
		SET(*slot, number);
	return number != NULL ? 0 : -1;
}

/* What a full socket tells of itself besides. */
static int learn(const struct step *now, PyObject *row)
{
	const struct sock_event *raw = now->raw;

	if ((raw->ino != 0 || is_orphaned(raw)) && put_number(&ROW(ino), is_orphaned(raw) ? 0 : raw->ino) < 0)
		return -1;
	return (raw->cgroup != 0 && put_number(&ROW(cgroup), raw->cgroup) < 0) || put_number(&ROW(uid), raw->uid) < 0 ? -1 : 0;
}

/* A connection begins. A borrowed reference. */
static PyObject *birth(const struct step *now, enum kind kind, PyObject *role)
{
	const struct sock_event *raw = now->raw;
	PyObject *values[row_count] = {
		[row_kind] = new_ref(PyTuple_GET_ITEM(known.kinds, kind)),
		[row_state] = PyLong_FromLong(raw->new),
		[row_family] = PyLong_FromLong(raw->family),
		[row_ino] = PyLong_FromUnsignedLongLong(kind == SOCKET ? raw->ino : 0),
		[row_uid] = kind == SOCKET ? again(USER, raw->uid) : NULL,
		[row_cookie] = none_or_number(raw->cookie),
		[row_sk] = new_ref(now->sk),
		[row_since_ns] = new_ref(now->at_ns),
		[row_exact] = new_ref(Py_True),
		[row_touched_ns] = new_ref(now->at_ns),
		[row_born_ns] = new_ref(now->at_ns),
		[row_role] = new_ref(role),
	};

	return add_row(now->index, now->ends, values);
}

/* connect(2): CLOSE→SYN-SENT of a socket that nobody knows. */
static PyObject *connects(const struct step *now)
{
	PyObject *row;

	if (!is_taught(now, OPENS, NOBODY) || now->raw->ino == 0 || now->between != NULL)
		return UNUSUAL; /* what a timewait socket is in the way of is looked at more closely */
	row = birth(now, SOCKET, known.client);
	if (row == NULL || own(now, row, known.calls[CALL_CONNECT]) < 0 || learn(now, row) < 0)
		return NULL;
	return told(now, row, CLOSE, new_ref(Py_None), Py_None, 0);
}

/* An open connection goes to another open state. */
static PyObject *moves(const struct step *now, PyObject *row)
{
	int new = now->raw->new, by_call = new == FIN_WAIT1 || new == LAST_ACK;
	PyObject *duration = held(now, row);

	SET(ROW(touched_ns), new_ref(now->at_ns));
	if (learn(now, row) < 0 || moved(now, row) < 0 || discard(SLOT(now->index, index, unsettled), ROW(id)) < 0 ||
	    (by_call && own(now, row, known.calls[CALL_CLOSE]) < 0))
		Py_CLEAR(duration);
	return told(now, row, now->raw->old, duration, Py_None, 0);
}

/* A row of the table's dies: it is in CLOSE. */
static int dies(const struct step *now, PyObject *row)
{
	PyObject *closed = remove_row(now->index, row) == 0 ? PyLong_FromLong(CLOSE) : NULL;

	if (closed != NULL)
		SET(ROW(state), closed);
	return closed != NULL ? 0 : -1;
}

/* An open connection goes to CLOSE. */
static PyObject *closes(const struct step *now, PyObject *row)
{
	int by_call = 0;
	OWNED *cause = event_cause(now->event, SOCKET, &by_call);

	if (cause == NULL || dies(now, row) < 0 || (by_call && own(now, row, known.calls[CALL_CLOSE]) < 0) ||
	    (now->raw->ino != 0 && put_number(&ROW(ino), now->raw->ino) < 0))
		return NULL;
	return told(now, row, now->raw->old, held(now, row), cause, 1);
}

/* A full socket holds the row from now on. */
static int hold(const struct step *now, PyObject *row)
{
	PyObject *by_sk = SLOT(now->index, index, by_sk);

	if (forget(by_sk, ROW(sk), row) < 0 || PyDict_SetItem(by_sk, now->sk, row) < 0)
		return -1;
	SET(ROW(kind), new_ref(PyTuple_GET_ITEM(known.kinds, SOCKET)));
	SET(ROW(sk), new_ref(now->sk));
	return 0;
}

/* The handshake completed: a request's row becomes its child's. */
static PyObject *takes_over(const struct step *now, PyObject *row)
{
	if (!is_taught(now, MOVES, REQUEST) || !is_kind(row, REQUEST) || small(ROW(state)) != now->raw->old ||
	    !is_number(ROW(cookie), now->raw->cookie))
		return UNUSUAL;
	return hold(now, row) == 0 ? moves(now, row) : NULL;
}

/* A full socket closes that has handed its row over to a timewait socket: nothing is left to tell. */
static PyObject *has_handed_over(const struct step *now, PyObject *row)
{
	if (!is_taught(now, CLOSES, TIMEWAIT) || !is_kind(row, TIMEWAIT) ||
	    !(ROW(cookie) == Py_None || now->raw->cookie == 0 || is_number(ROW(cookie), now->raw->cookie)))
		return UNUSUAL;
	return new_ref(Py_None);
}

static PyObject *full_socket(const struct step *now)
{
	const struct sock_event *raw = now->raw;
	PyObject *row = now->row;

	if (raw->old == LISTEN || raw->new == LISTEN || raw->old == raw->new || !is_listed(raw->old, raw->new) || raw->since_ns)
		return UNUSUAL;
	if (row == NULL) {
		if (knows(SLOT(now->index, index, by_ino), raw->ino) || knows(SLOT(now->index, index, by_cookie), raw->cookie))
			return UNUSUAL;
		if (raw->old == CLOSE)
			return connects(now);
		if (now->between != NULL && raw->old == SYN_RECV && raw->new != CLOSE)
			return takes_over(now, now->between);
		if (now->between != NULL && raw->new == CLOSE && (raw->old == FIN_WAIT1 || raw->old == FIN_WAIT2 || raw->old == CLOSING))
			return has_handed_over(now, now->between);
		return UNUSUAL;
	}
	if (raw->old == CLOSE || !is_kind(row, SOCKET) || small(ROW(state)) != raw->old || !is_number(ROW(cookie), raw->cookie) ||
	    !is_between(row, raw) || !is_taught(now, raw->new == CLOSE ? CLOSES : MOVES, SOCKET))
		return UNUSUAL;
	if (raw->new != CLOSE)
		return ROW(sk) == Py_None && hold(now, row) < 0 ? NULL : moves(now, row);
	/* Has a timewait socket taken over, and was that missed? */
	return raw->old == FIN_WAIT2 || raw->old == CLOSING ? UNUSUAL : closes(now, row);
}

/* A SYN came: a request socket is born. One that tells of a retransmission first was born before, which was missed. */
static PyObject *asks(const struct step *now)
{
	const struct sock_event *raw = now->raw;
	PyObject *row;

	if (!is_taught(now, REQUEST_TIMER, NOBODY) || raw->new != SYN_RECV || raw->retransmits || raw->ino == 0 || now->row != NULL ||
	    now->between != NULL || knows(SLOT(now->index, index, by_cookie), raw->cookie))
		return UNUSUAL;
	row = birth(now, REQUEST, known.server);
	return row != NULL && inherit(now, row, raw->ino) == 0 ? told(now, row, LISTEN, new_ref(Py_None), Py_None, 0) : NULL;
}

/* A timewait socket is born, and takes over from a full one: the connection ends. */
static PyObject *waits(const struct step *now)
{
	PyObject *index = now->index, *row = now->between, *duration;
	OWNED *cookie = none_or_number(now->raw->cookie), *key = NULL;
	long old = row != NULL ? small(ROW(state)) : 0, new = now->raw->new;

	if (!is_taught(now, TIMEWAIT_TIMER, SOCKET) || row == NULL || !is_kind(row, SOCKET) || (old != new && !is_listed(old, new)))
		return UNUSUAL;
	key = cookie != NULL ? cookie_key(cookie, 1, now->ends) : NULL;
	if (key == NULL || PyDict_Contains(INDEX(by_cookie), key) != 0)
		return UNUSUAL;
	duration = held(now, row);
	if (hand_over(index, row, now->raw->family, now->ends, now->sk, cookie) < 0 || (old != new && moved(now, row) < 0) ||
	    (new == FIN_WAIT2 ? PyDict_SetItem(INDEX(unsettled), ROW(id), row) : discard(INDEX(unsettled), ROW(id))) < 0)
		Py_CLEAR(duration);
	SET(ROW(touched_ns), new_ref(now->at_ns));
	return told(now, row, old, duration, known.fin_by_us, 1);
}

/* TIME-WAIT ran out, or its addresses are used again. */
static PyObject *expires(const struct step *now)
{
	PyObject *row = now->row;
	OWNED *cause = NULL;
	int by_call;
	long old;

	if (!is_taught(now, TIMEWAIT_GONE, TIMEWAIT) || row == NULL || now->raw->flags & EVENT_MISSED || !is_kind(row, TIMEWAIT) ||
	    !is_between(row, now->raw) || !is_listed(small(ROW(state)), CLOSE))
		return UNUSUAL;
	old = small(ROW(state));
	cause = event_cause(now->event, TIMEWAIT, &by_call);
	return cause != NULL && dies(now, row) == 0 ? told(now, row, old, held(now, row), cause, 0) : NULL;
}

PyObject *fold_connection(const struct step *now)
{
	switch (now->raw->kind) {
	case EVENT_STATE:
		return full_socket(now);
	case EVENT_REQUEST:
		return asks(now);
	case EVENT_TIMEWAIT:
		return waits(now);
	case EVENT_TIMEWAIT_GONE:
		return expires(now);
	default:
		return UNUSUAL;
	}
}
