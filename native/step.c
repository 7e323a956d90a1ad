/*
 * What every event needs that is folded in: whose row it is about, and the transition that comes of it.
 */
#include "step.h"

PyObject unusual;

int is_taught(const struct step *now, enum report report, int holder)
{
	return now->taught[report * HOLDERS + holder + 1];
}

int is_listed(long old, long new)
{
	return old >= 0 && old < STATES && LISTED[old] >> new & 1;
}

/* That of the event's socket: a borrowed reference. NULL, with or without an exception, where none is known by its address, nor is
 * one that a sweep has found by its cookie. */
static PyObject *row_of(PyObject *index, const struct sock_event *raw, PyObject *sk)
{
	OWNED *cookie = NULL;
	PyObject *row = PyDict_GetItemWithError(INDEX(by_sk), sk);

	if (row != NULL || raw->kind != EVENT_STATE || raw->cookie == 0)
		return row;
	cookie = PyLong_FromUnsignedLongLong(raw->cookie);
	row = cookie != NULL ? PyDict_GetItemWithError(INDEX(by_cookie), cookie) : NULL;
	return row != NULL && ROW(sk) == Py_None ? row : NULL;
}

/* Whether both ends are known, and neither address is a mapped one. */
static int has_plain_ends(const struct sock_event *raw)
{
	return raw->sport && raw->dport && (raw->family == FAMILY_INET || (!is_mapped(raw->saddr) && !is_mapped(raw->daddr)));
}

PyObject *event_ends(Event *event)
{
	const struct sock_event *raw = &event->raw;

	return make_ends(again(LOCAL_PORT, raw->sport), again(PEER_PORT, raw->dport), event_address(event, LOCAL),
			 event_address(event, PEER), again(DEVICE, raw->ifindex));
}

int find(struct step *now)
{
	const struct sock_event *raw = now->raw;

	now->row = row_of(now->index, raw, now->sk);
	Py_XINCREF(now->row); /* the table may let go of it */
	if (now->row == NULL && !PyErr_Occurred() && has_plain_ends(raw)) {
		now->ends = event_ends(now->event);
		now->between = now->ends != NULL ? PyDict_GetItemWithError(SLOT(now->index, index, by_ends), now->ends) : NULL;
		Py_XINCREF(now->between);
	}
	return PyErr_Occurred() ? -1 : now->row != NULL || now->ends != NULL;
}

PyObject *held(const struct step *now, PyObject *row)
{
	return ROW(exact) == Py_True ? PyNumber_Subtract(now->at_ns, ROW(since_ns)) : new_ref(Py_None);
}

/* sstrace.table.index.News.tell */
static int tell(const struct step *now, PyObject *row)
{
	PyObject *news = SLOT(now->index, index, news), *silent = SLOT(news, news, silent);

	SET(ROW(told), new_ref(Py_True));
	if ((long long)now->raw->ts_ns > whole(SLOT(news, news, last_ns)))
		SET(SLOT(news, news, last_ns), new_ref(now->at_ns));
	return silent != Py_None ? discard(silent, ROW(id)) : 0;
}

PyObject *told(const struct step *now, PyObject *row, long old, PyObject *held, PyObject *cause, int ends)
{
	PyObject *values[] = {
		[transition_at_ns] = tell(now, row) == 0 ? new_ref(now->at_ns) : NULL,
		[transition_row] = new_ref(row),
		[transition_old] = PyLong_FromLong(old),
		[transition_new] = new_ref(ROW(state)),
		[transition_held_ns] = held,
		[transition_cause] = new_ref(cause),
		[transition_reported] = new_ref((PyObject *)now->event),
		[transition_listed] = new_ref(Py_True),
		[transition_approximate] = new_ref(Py_False),
		[transition_source] = new_ref(Py_None),
		[transition_ended] = PyBool_FromLong(ends),
		[transition_lifetime_ns] = ends && ROW(born_ns) != Py_None ? PyNumber_Subtract(now->at_ns, ROW(born_ns)) : new_ref(Py_None),
		[transition_handshake_ns] = new_ref(Py_None),
	};

	return MAKE(transition, values);
}

int inherit(const struct step *now, PyObject *row, __u64 inode)
{
	OWNED *ino = PyLong_FromUnsignedLongLong(inode), *left = NULL;
	PyObject *listener = ino != NULL ? PyDict_GetItemWithError(SLOT(now->index, index, by_ino), ino) : NULL;
	PyObject *owners = listener != NULL ? SLOT(listener, row, owners) : NULL;

	if (listener == NULL && ino != NULL && !PyErr_Occurred())
		owners = PyDict_GetItemWithError(SLOT(now->index, index, held), ino);
	if (owners == NULL || PyObject_Size(owners) == 0)
		return PyErr_Occurred() ? -1 : 0;
	left = PyObject_CallOneArg(known.inherited, owners);
	if (left == NULL)
		return -1;
	SET(ROW(owners), new_ref(left));
	SET(ROW(owner_source), new_ref(known.listener));
	return 0;
}
