/*
 * A call of a datagram socket's owner into the table: the twin of sstrace.table.datagrams.DatagramFold.apply, for what nearly all
 * of these sockets do: they are born, and end. All else is the twin's.
 */
#include "step.h"

/* Whether lifecycle's rules of a call are those that are followed here: a birth of what nobody knows; of CALL_CLOSE, an end. */
static int is_followed(const struct step *now)
{
	return now->taught[REPORTS * HOLDERS + (now->raw->protocol == RAW_SOCKET ? CALLS : 0) + now->raw->old];
}

/* Who made the call: a new reference; None where nobody did, or it is beside the point. */
static PyObject *caller(const struct step *now)
{
	const struct sock_event *raw = now->raw;

	return raw->tgid != 0 && !(raw->flags & EVENT_KTHREAD) ? event_owner(now->event) : new_ref(Py_None);
}

/* Whether nothing is to be learnt of the owner: it is the one that is known. */
static int is_known(PyObject *row, PyObject *owner)
{
	PyObject *one = PyTuple_GET_SIZE(ROW(owners)) == 1 ? PyTuple_GET_ITEM(ROW(owners), 0) : NULL;

	return owner == Py_None ||
	       (one != NULL && equal(SLOT(one, owner, pid), SLOT(owner, owner, pid)) == 1 &&
		equal(SLOT(one, owner, comm), SLOT(owner, owner, comm)) == 1 &&
		(SLOT(one, owner, fd) != Py_None || SLOT(owner, owner, fd) == Py_None));
}

/* ss shows it from now on. */
static PyObject *begins(const struct step *now, PyObject *cookie)
{
	const struct sock_event *raw = now->raw;
	OWNED *owner = caller(now), *ends = NULL;
	PyObject *row;

	if (raw->sport == 0 || (raw->dport != 0 && raw->family != FAMILY_INET && (is_mapped(raw->saddr) || is_mapped(raw->daddr))))
		return UNUSUAL;
	ends = event_ends(now->event);
	if (owner == NULL || ends == NULL)
		return NULL;
	row = add_row(now->index, ends,
		      (PyObject *[row_count]){
			      [row_kind] = new_ref(PyTuple_GET_ITEM(known.kinds, SOCKET)),
			      [row_state] = PyLong_FromLong(raw->new),
			      [row_family] = PyLong_FromLong(raw->family),
			      [row_ino] = PyLong_FromUnsignedLongLong(raw->ino),
			      [row_uid] = again(USER, raw->uid),
			      [row_cookie] = new_ref(cookie),
			      [row_sk] = new_ref(now->sk),
			      [row_since_ns] = new_ref(now->at_ns),
			      [row_exact] = new_ref(Py_True),
			      [row_touched_ns] = new_ref(now->at_ns),
			      [row_owners] = owner != Py_None ? PyTuple_Pack(1, owner) : PyTuple_New(0),
			      [row_owner_source] = new_ref(owner != Py_None ? known.calls[raw->old] : Py_None),
			      [row_cgroup] = none_or_number(raw->cgroup),
			      [row_v6only] = raw->family == FAMILY_INET ? new_ref(Py_None) : PyBool_FromLong(raw->flags & EVENT_V6ONLY),
			      [row_born_ns] = new_ref(now->at_ns),
			      [row_role] = new_ref(raw->new == ESTABLISHED || raw->old == CALL_SEND ? known.client : Py_None),
		      });
	return row != NULL ? told(now, row, UNSEEN, new_ref(Py_None), Py_None, 0) : NULL;
}

/* It is closed, by whatever ended its owner. */
static PyObject *ends(const struct step *now, PyObject *row)
{
	OWNED *owner = caller(now);
	long old = small(ROW(state));

	if (owner == NULL)
		return NULL;
	if (!is_known(row, owner))
		return UNUSUAL;
	if (remove_row(now->index, row) < 0)
		return NULL;
	SET(ROW(state), PyLong_FromLong(UNSEEN));
	return told(now, row, old, held(now, row), Py_None, 1);
}

PyObject *fold_datagram(const struct step *now)
{
	const struct sock_event *raw = now->raw;
	OWNED *cookie = PyLong_FromUnsignedLongLong(raw->cookie), *row = NULL;

	if (!is_followed(now))
		return UNUSUAL;
	row = cookie != NULL ? PyDict_GetItemWithError(SLOT(now->index, index, by_cookie), cookie) : NULL;
	Py_XINCREF(row); /* the table may let go of it */
	if (PyErr_Occurred())
		return NULL;
	if (raw->old != CALL_CLOSE)
		return row == NULL ? begins(now, cookie) : UNUSUAL;
	return row != NULL && is_kind(row, SOCKET) ? ends(now, row) : UNUSUAL;
}
