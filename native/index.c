/*
 * Rows and their keys, and what makes objects of values.
 */
#include "index.h"

int is_address(PyObject *address, const void *raw, int family)
{
	return PyBytes_Check(address) && PyBytes_GET_SIZE(address) == (family == FAMILY_INET ? 4 : 16) &&
	       memcmp(PyBytes_AS_STRING(address), raw, PyBytes_GET_SIZE(address)) == 0;
}

int is_mapped(const void *raw)
{
	static const char MAPPED[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, (char)0xff, (char)0xff };

	return memcmp(raw, MAPPED, sizeof(MAPPED)) == 0;
}

int is_kind(PyObject *row, enum kind kind)
{
	return ROW(kind) == PyTuple_GET_ITEM(known.kinds, kind);
}

/* Whether there are so many, none of which is an exception; else those that there are, are let go of. */
static int are_whole(PyObject **values, size_t count)
{
	size_t at = 0;

	while (at < count && values[at] != NULL)
		at++;
	if (at == count)
		return 1;
	while (count-- > 0)
		Py_XDECREF(values[count]);
	return 0;
}

PyObject *make(PyObject *cls, const Py_ssize_t *offsets, PyObject **values, size_t count)
{
	PyObject *made = are_whole(values, count) ? PyType_GenericAlloc((PyTypeObject *)cls, 0) : NULL;

	for (size_t at = 0; made != NULL && at < count; at++)
		*(PyObject **)((char *)made + offsets[at]) = values[at];
	return made;
}

PyObject *make_ends(PyObject *sport, PyObject *dport, PyObject *src, PyObject *dst, PyObject *device)
{
	PyObject *values[] = { sport, dport, src, dst, device };
	PyObject *made = are_whole(values, 5) ? PyTuple_New(5) : NULL;

	for (int at = 0; made != NULL && at < 5; at++)
		PyTuple_SET_ITEM(made, at, values[at]);
	return made;
}

PyObject *cookie_key(PyObject *cookie, int is_timewait, PyObject *ends)
{
	return cookie != Py_None && is_timewait ? PyTuple_Pack(2, cookie, ends) : new_ref(cookie);
}

int knows(PyObject *dict, __u64 value)
{
	OWNED *key = value != 0 && PyDict_GET_SIZE(dict) ? PyLong_FromUnsignedLongLong(value) : NULL;

	return key != NULL ? PyDict_Contains(dict, key) : PyErr_Occurred() ? -1 : 0;
}

int discard(PyObject *dict, PyObject *key)
{
	int there = PyDict_GET_SIZE(dict) ? PyDict_Contains(dict, key) : 0;

	return there == 1 ? PyDict_DelItem(dict, key) : there;
}

int forget(PyObject *dict, PyObject *key, PyObject *row)
{
	PyObject *found = PyDict_GetItemWithError(dict, key);

	if (found == row)
		return PyDict_DelItem(dict, key);
	return found == NULL && PyErr_Occurred() ? -1 : 0;
}

/* It is found by its keys. */
static int enter(PyObject *index, PyObject *row)
{
	OWNED *key = cookie_key(ROW(cookie), is_kind(row, TIMEWAIT), ROW(ends));

	return key == NULL || (ROW(sk) != Py_None && PyDict_SetItem(INDEX(by_sk), ROW(sk), row) < 0) ||
			       (ROW(ends) != Py_None && PyDict_SetItem(INDEX(by_ends), ROW(ends), row) < 0) ||
			       (key != Py_None && PyDict_SetItem(INDEX(by_cookie), key, row) < 0)
		       ? -1
		       : 0;
}

/* It no longer is. */
static int leave(PyObject *index, PyObject *row)
{
	OWNED *key = cookie_key(ROW(cookie), is_kind(row, TIMEWAIT), ROW(ends));

	if (key == NULL || forget(INDEX(by_sk), ROW(sk), row) < 0 || (key != Py_None && forget(INDEX(by_cookie), key, row) < 0) ||
	    (ROW(ends) != Py_None && forget(INDEX(by_ends), ROW(ends), row) < 0))
		return -1;
	SET(ROW(ends), new_ref(Py_None));
	return 0;
}

int hand_over(PyObject *index, PyObject *row, int family, PyObject *ends, PyObject *sk, PyObject *cookie)
{
	if (leave(index, row) < 0)
		return -1;
	SET(ROW(kind), new_ref(PyTuple_GET_ITEM(known.kinds, TIMEWAIT)));
	SET(ROW(family), PyLong_FromLong(family));
	SET(ROW(src), new_ref(PyTuple_GET_ITEM(ends, 2)));
	SET(ROW(dst), new_ref(PyTuple_GET_ITEM(ends, 3)));
	SET(ROW(ends), new_ref(ends));
	SET(ROW(sk), new_ref(sk));
	SET(ROW(cookie), new_ref(cookie));
	SET(ROW(ino), PyLong_FromLong(0));
	return enter(index, row);
}

/* Index.by_state: the rows of this one's state, by id; NULL where nobody keeps them. */
static PyObject *of_its_state(PyObject *index, PyObject *row)
{
	if (INDEX(by_state) == Py_None || small(ROW(state)) == ESTABLISHED)
		return NULL;
	return PyObject_GetItem(INDEX(by_state), ROW(state)); /* a defaultdict */
}

static int enter_state(PyObject *index, PyObject *row)
{
	OWNED *rows = of_its_state(index, row);

	return rows != NULL ? PyDict_SetItem(rows, ROW(id), row) : PyErr_Occurred() ? -1 : 0;
}

static int leave_state(PyObject *index, PyObject *row)
{
	OWNED *rows = of_its_state(index, row);

	return rows != NULL ? discard(rows, ROW(id)) : PyErr_Occurred() ? -1 : 0;
}

int restate(PyObject *index, PyObject *row, int state)
{
	PyObject *number = PyLong_FromLong(state);

	if (number == NULL || leave_state(index, row) < 0) {
		Py_XDECREF(number);
		return -1;
	}
	SET(ROW(state), number);
	return enter_state(index, row);
}

int remove_row(PyObject *index, PyObject *row)
{
	return leave(index, row) < 0 || discard(INDEX(rows), ROW(id)) < 0 || discard(INDEX(unsettled), ROW(id)) < 0 ||
			       leave_state(index, row) < 0
		       ? -1
		       : 0;
}

PyObject *make_row(PyObject *index, PyObject *ends, PyObject **values)
{
	static const int OF_ENDS[] = { row_sport, row_dport, row_src, row_dst, row_ifindex };
	int failed;

	values[row_id] = PyIter_Next(INDEX(ids));
	values[row_net] = new_ref(PyTuple_GET_ITEM(INDEX(space), 0));
	values[row_protocol] = new_ref(PyTuple_GET_ITEM(INDEX(space), 1));
	values[row_netns] = new_ref(INDEX(netns));
	values[row_ends] = new_ref(small(PyTuple_GET_ITEM(ends, 1)) != 0 ? ends : Py_None);
	for (int at = 0; at < 5; at++)
		values[OF_ENDS[at]] = new_ref(PyTuple_GET_ITEM(ends, at));
	if (values[row_owners] == NULL)
		values[row_owners] = PyTuple_New(0);
	values[row_peer_owners] = PyTuple_New(0);
	values[row_told] = new_ref(Py_False);
	if (values[row_seen] == NULL)
		values[row_seen] = PyLong_FromLong(0);
	failed = PyErr_Occurred() != NULL;
	for (int at = 0; at < row_count && !failed; at++)
		if (values[at] == NULL)
			values[at] = new_ref(Py_None);
	return MAKE(row, values);
}

PyObject *add_row(PyObject *index, PyObject *ends, PyObject **values)
{
	OWNED *row = make_row(index, ends, values); /* the table holds it, or nobody */

	if (row == NULL || PyDict_SetItem(INDEX(rows), ROW(id), row) < 0 || enter(index, row) < 0 || enter_state(index, row) < 0)
		return NULL;
	return row;
}
