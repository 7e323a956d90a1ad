/*
 * A connection of which nobody has heard tells of all of it as it ends: what sstrace.wire.lives makes of the event, and the fold of
 * that, one by one. A row that a timewait socket holds is one of the table's; any other has never been.
 */
#include "step.h"

PyObject *fold_life(const struct step *now)
{
	const struct sock_event *raw = now->raw;
	const struct sock_life *life = (const struct sock_life *)raw->stack;
	int is_closed = raw->kind == EVENT_LIFE_CLOSED, is_server = life->request != 0, by_call = 0;
	OWNED *row = NULL, *owner = NULL, *cause = NULL, *cookie = NULL, *key = NULL, *owners = NULL;
	PyObject *source = NULL, *change;

	if (now->row != NULL || now->between != NULL || !life->open_ns || raw->ifindex ||
	    !is_listed(raw->old, is_closed ? CLOSE : raw->new) ||
	    !is_taught(now, is_server ? REQUEST_TIMER : OPENS, NOBODY) || !is_taught(now, MOVES, is_server ? REQUEST : SOCKET) ||
	    !is_taught(now, MOVES, SOCKET) || !is_taught(now, is_closed ? CLOSES : TIMEWAIT_TIMER, SOCKET) ||
	    (is_closed && (raw->new != CLOSE || raw->old == FIN_WAIT2 || raw->old == CLOSING)) ||
	    knows(SLOT(now->index, index, by_sk), life->sk) || knows(SLOT(now->index, index, by_sk), life->request) || knows(SLOT(now->index, index, by_cookie), raw->cookie))
		return UNUSUAL;
	cookie = none_or_number(raw->cookie);
	key = cookie != NULL ? cookie_key(cookie, !is_closed, now->ends) : NULL;
	if (key == NULL || PyDict_Contains(SLOT(now->index, index, by_cookie), key) != 0)
		return UNUSUAL;
	cause = is_closed ? event_cause(now->event, SOCKET, &by_call) : new_ref(known.fin_by_us);
	if (cause == NULL)
		return NULL;
	if (raw->tgid && (!is_server || life->owned || (by_call && !(raw->flags & EVENT_KTHREAD)))) {
		owner = event_owner(now->event);
		owners = owner != NULL ? PyTuple_Pack(1, owner) : NULL;
		source = is_server ? known.calls[CALL_CLOSE] : known.calls[CALL_CONNECT];
		if (owners == NULL)
			return NULL;
	}
	PyObject *values[row_count] = {
		[row_kind] = new_ref(PyTuple_GET_ITEM(known.kinds, is_closed ? SOCKET : TIMEWAIT)),
		[row_state] = PyLong_FromLong(is_closed ? CLOSE : raw->new),
		[row_family] = PyLong_FromLong(raw->family),
		[row_ino] = PyLong_FromUnsignedLongLong(is_closed ? raw->ino : 0),
		[row_uid] = again(USER, raw->uid),
		[row_cookie] = new_ref(cookie),
		[row_sk] = new_ref(now->sk),
		[row_since_ns] = PyLong_FromUnsignedLongLong(raw->old == raw->new || is_closed ? life->moved_ns : raw->ts_ns),
		[row_exact] = new_ref(Py_True),
		[row_touched_ns] = PyLong_FromUnsignedLongLong(is_closed ? life->moved_ns : raw->ts_ns),
		[row_born_ns] = PyLong_FromUnsignedLongLong(raw->since_ns),
		[row_role] = new_ref(is_server ? known.server : known.client),
		[row_cgroup] = none_or_number(raw->cgroup),
		[row_owners] = owners != NULL ? new_ref(owners) : NULL,
		[row_owner_source] = source != NULL ? new_ref(source) : NULL,
	};
	row = is_closed ? make_row(now->index, now->ends, values) : add_row(now->index, now->ends, values);
	if (!is_closed)
		Py_XINCREF(row); /* the table's */
	if (row == NULL || (owners == NULL && inherit(now, row, life->listener) < 0))
		return NULL;
	if (is_closed)
		SET(ROW(ends), new_ref(Py_None));
	else if (raw->new == FIN_WAIT2 && PyDict_SetItem(SLOT(now->index, index, unsettled), ROW(id), row) < 0)
		return NULL;
	change = told(now, row, raw->old, PyLong_FromUnsignedLongLong(raw->ts_ns - life->moved_ns), cause, 1);
	if (change != NULL)
		SET(SLOT(change, transition, handshake_ns), PyLong_FromUnsignedLongLong(life->open_ns - raw->since_ns));
	return change;
}
