/*
 * Rows and their keys: what sstrace.table.index and the end of sstrace.table.fold do, for the connections that the fold knows.
 */
#include "folder.h"

enum { UNLESS_ENDED = 4 }; /* a transition's last values are left to their defaults: approximate, source, ended, lifetime_ns */

static const char MAPPED[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, (char)0xff, (char)0xff };

int is_address(PyObject *address, const __u8 *raw, int family)
{
	return PyBytes_Check(address) && PyBytes_GET_SIZE(address) == (family == FAMILY_INET ? 4 : 16) &&
	       memcmp(PyBytes_AS_STRING(address), raw, PyBytes_GET_SIZE(address)) == 0;
}

int has_plain_ends(const Event *event)
{
	const struct sock_event *raw = &event->raw;

	return raw->sport && raw->dport &&
	       (raw->family == FAMILY_INET || (memcmp(raw->saddr, MAPPED, sizeof(MAPPED)) != 0 &&
					       memcmp(raw->daddr, MAPPED, sizeof(MAPPED)) != 0));
}

PyObject *ends_of(Event *event)
{
	PyObject *sport = event_number(event, LOCAL_PORT, event->raw.sport), *dport = event_number(event, PEER_PORT, event->raw.dport);
	PyObject *src = event_source(event), *dst = event_destination(event), *device = event_number(event, DEVICE, event->raw.ifindex);

	return make_ends(sport, dport, src, dst, device);
}

int forget(PyObject *index, PyObject *key, PyObject *row)
{
	PyObject *found = PyDict_GetItemWithError(index, key);

	if (found == row)
		return PyDict_DelItem(index, key);
	return found == NULL && PyErr_Occurred() ? -1 : 0;
}

int discard(PyObject *index, PyObject *key)
{
	int there = PyDict_GET_SIZE(index) ? PyDict_Contains(index, key) : 0;

	return there == 1 ? PyDict_DelItem(index, key) : there;
}

int knows(PyObject *index, __u64 value)
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

PyObject *held(Folder *self, PyObject *row, PyObject *at_ns)
{
	return ROW(exact) == Py_True ? PyNumber_Subtract(at_ns, ROW(since_ns)) : new_ref(Py_None);
}

/* sstrace.table.index.News.tell: a transition tells of the row. */
static int tell(Folder *self, PyObject *row, __u64 at_ns)
{
	SET(row, self->of, told, new_ref(Py_True));
	if ((long long)at_ns > self->last_ns)
		self->last_ns = at_ns;
	return self->silent != NULL && self->silent != Py_None ? discard(self->silent, ROW(id)) : 0;
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

	if (tell(self, row, event->raw.ts_ns) < 0)
		Py_CLEAR(values[0]);

	for (int at = 0; lifetime == NULL && at < UNLESS_ENDED; at++) {
		count--;
		Py_CLEAR(values[count]);
	}
	return make(self->transition, values, count);
}

PyObject *told(Folder *self, Event *event, PyObject *row, PyObject *at_ns, long old, PyObject *held, PyObject *cause)
{
	return told_all(self, event, row, at_ns, old, held, cause, NULL);
}

PyObject *told_end(Folder *self, Event *event, PyObject *row, PyObject *at_ns, long old, PyObject *held, PyObject *cause)
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

int own(Folder *self, PyObject *row, Event *event, PyObject *source)
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

int inherit(Folder *self, PyObject *row, const struct sock_event *raw)
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

int learn(Folder *self, PyObject *row, const struct sock_event *raw)
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
int enter_index(Folder *self, PyObject *row)
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

int enter(Folder *self, PyObject *row, PyObject *at_ns, long state)
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

int forget_keys(Folder *self, PyObject *row)
{
	if (ROW(sk) != Py_None && forget(self->by_sk, ROW(sk), row) < 0)
		return -1;
	if (ROW(cookie) != Py_None && forget(self->by_cookie, ROW(cookie), row) < 0)
		return -1;
	if (forget(self->by_ends, ROW(ends), row) < 0)
		return -1;
	SET(row, self->of, ends, new_ref(Py_None));
	return 0;
}

PyObject *birth(Folder *self, Event *event, PyObject *sk, PyObject *at_ns, PyObject *ends, int kind, PyObject *role)
{
	const struct sock_event *raw = &event->raw;
	PyObject *values[] = {
		PyIter_Next(self->ids),
		new_ref(PyTuple_GET_ITEM(self->kinds, kind)),
		PyLong_FromLong(raw->new),
		PyLong_FromLong(raw->family),
		PyLong_FromLong(raw->protocol),
		new_ref(self->net),
		new_ref(self->netns),
		new_ref(PyTuple_GET_ITEM(ends, 2)),
		new_ref(PyTuple_GET_ITEM(ends, 0)),
		new_ref(PyTuple_GET_ITEM(ends, 3)),
		new_ref(PyTuple_GET_ITEM(ends, 1)),
		PyLong_FromUnsignedLongLong(kind == SOCKET ? raw->ino : 0),
		kind == SOCKET ? event_number(event, USER, raw->uid) : new_ref(Py_None),
		new_ref(PyTuple_GET_ITEM(ends, 4)),
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
	    PyDict_SetItem(self->by_ends, ends, row) < 0 ||
	    (raw->cookie && PyDict_SetItem(self->by_cookie, ROW(cookie), row) < 0) || enter_index(self, row) < 0) {
		Py_DECREF(row);
		return NULL;
	}
	Py_DECREF(row);
	return row;
}

int remove_row(Folder *self, PyObject *row)
{
	return discard(self->rows, ROW(id)) < 0 || discard(self->unsettled, ROW(id)) < 0 || leave_index(self, row) < 0 ? -1 : 0;
}

