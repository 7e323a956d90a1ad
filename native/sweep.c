/*
 * A sweep's datagram into the table: the twin of sstrace.table.sweep.Sweep.seen, for what nearly all rows are: connections that
 * stand in the table just as the kernel shows them, or that nobody knows yet. Every condition is checked before anything is
 * changed; a message that does not fit goes to the twin, in its turn.
 */
#include "index.h"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>

/* include/uapi/linux/netlink.h, include/uapi/linux/inet_diag.h: what headers older than these lack. */
enum { DUMP_INTERRUPTED = 0x10, TYPE_MASK = 0x3fff, SKV6ONLY = 11, CGROUP_ID = 21, TIMER_OF_TIMEWAIT = 3 };

/* What a sweep works with. All references are borrowed. */
struct sweep {
	PyObject *index;
	PyObject *number, *began_ns; /* of the sweep: int */
	PyObject *shared;            /* dict: a value → the one object of it */
	PyObject *added;             /* list: takes new rows */
	int may_add, doubted;        /* whether nothing has died meanwhile; whether events were lost (SweepBegin) */
};

/* A message, and what is read of its attributes. */
struct found {
	const struct inet_diag_msg *raw;
	__u64 cookie, cgroup;
	int kind, v6only; /* v6only: 0, 1, or -1 where it is not said */
};

static int is_message(const char *at, size_t left)
{
	const struct nlmsghdr *header = (const struct nlmsghdr *)at;
	const struct inet_diag_msg *raw = (const struct inet_diag_msg *)(at + NLMSG_HDRLEN);

	return left >= NLMSG_HDRLEN + sizeof(*raw) && header->nlmsg_len >= NLMSG_HDRLEN + sizeof(*raw) && header->nlmsg_len <= left &&
	       (header->nlmsg_type == SOCK_DIAG_BY_FAMILY || header->nlmsg_type == TCPDIAG_GETSOCK) &&
	       !(header->nlmsg_flags & DUMP_INTERRUPTED) &&
	       (raw->idiag_family == FAMILY_INET || raw->idiag_family == FAMILY_INET6);
}

/* Attributes that are told of are not believed where their lengths are wrong: the twin complains. */
static int read_attributes(struct found *found, const char *at, size_t left)
{
	found->v6only = -1;
	found->cgroup = 0;
	while (left > 0) {
		const struct nlattr *attribute = (const struct nlattr *)at;
		size_t whole;

		if (left < sizeof(*attribute) || attribute->nla_len < sizeof(*attribute) || attribute->nla_len > left)
			return 0;
		switch (attribute->nla_type & TYPE_MASK) {
		case SKV6ONLY:
			if (attribute->nla_len < sizeof(*attribute) + 1 || found->v6only >= 0)
				return 0;
			found->v6only = at[sizeof(*attribute)] != 0;
			break;
		case CGROUP_ID:
			if (attribute->nla_len < sizeof(*attribute) + sizeof(found->cgroup) || found->cgroup)
				return 0;
			memcpy(&found->cgroup, at + sizeof(*attribute), sizeof(found->cgroup));
			if (found->cgroup == 0)
				return 0;
		}
		whole = NLA_ALIGN(attribute->nla_len);
		if (whole >= left)
			break;
		at += whole;
		left -= whole;
	}
	return 1;
}

/* Whether it is a connection whose state and ends say all of it. */
static int read_message(struct found *found, const char *at)
{
	const struct nlmsghdr *header = (const struct nlmsghdr *)at;
	const struct inet_diag_msg *raw = (const struct inet_diag_msg *)(at + NLMSG_HDRLEN);

	found->raw = raw;
	found->cookie = raw->id.idiag_cookie[0] | (__u64)raw->id.idiag_cookie[1] << 32;
	found->kind = raw->idiag_state == TIME_WAIT ? TIMEWAIT : SOCKET;
	if (found->cookie == 0)
		return 0;
	switch (raw->idiag_state) {
	case ESTABLISHED:
	case FIN_WAIT1:
	case TIME_WAIT:
	case CLOSE_WAIT:
	case LAST_ACK:
	case CLOSING:
		break;
	case FIN_WAIT2:
		if (raw->idiag_timer != TIMER_OF_TIMEWAIT)
			break;
		return 0;
	default:
		return 0;
	}
	if (raw->id.idiag_sport == 0 || raw->id.idiag_dport == 0 ||
	    (raw->idiag_family == FAMILY_INET6 && (is_mapped(raw->id.idiag_src) || is_mapped(raw->id.idiag_dst))))
		return 0;
	return read_attributes(found, at + NLMSG_HDRLEN + sizeof(*raw), header->nlmsg_len - NLMSG_HDRLEN - sizeof(*raw));
}

/* The one object of a value, whose reference it takes; a new reference. */
static PyObject *share(struct sweep *sweep, PyObject *given)
{
	OWNED *value = given;
	PyObject *one = value != NULL ? PyDict_SetDefault(sweep->shared, value, value) : NULL;

	return one != NULL ? new_ref(one) : NULL;
}

static PyObject *share_number(struct sweep *sweep, __u64 number)
{
	return share(sweep, PyLong_FromUnsignedLongLong(number));
}

static PyObject *share_address(struct sweep *sweep, const __be32 *raw, int family)
{
	return share(sweep, PyBytes_FromStringAndSize((const char *)raw, family == FAMILY_INET ? 4 : 16));
}

static PyObject *ends_of(struct sweep *sweep, const struct inet_diag_msg *raw)
{
	return make_ends(share_number(sweep, ntohs(raw->id.idiag_sport)), share_number(sweep, ntohs(raw->id.idiag_dport)),
			 share_address(sweep, raw->id.idiag_src, raw->idiag_family),
			 share_address(sweep, raw->id.idiag_dst, raw->idiag_family), share_number(sweep, raw->id.idiag_if));
}

/* Sweep._stands, of a row that its cookie has found. */
static int stands(PyObject *index, PyObject *row, const struct found *found)
{
	const struct inet_diag_msg *raw = found->raw;

	return small(ROW(state)) == raw->idiag_state && is_kind(row, found->kind) && is_number(ROW(cookie), found->cookie) &&
	       PyLong_AsUnsignedLong(ROW(ino)) == raw->idiag_inode && small(ROW(sport)) == ntohs(raw->id.idiag_sport) &&
	       small(ROW(dport)) == ntohs(raw->id.idiag_dport) && small(ROW(family)) == raw->idiag_family &&
	       is_address(ROW(src), raw->id.idiag_src, raw->idiag_family) &&
	       is_address(ROW(dst), raw->id.idiag_dst, raw->idiag_family) &&
	       PyLong_AsUnsignedLong(ROW(ifindex)) == raw->id.idiag_if &&
	       (found->kind == TIMEWAIT || (ROW(uid) != Py_None && PyLong_AsUnsignedLong(ROW(uid)) == raw->idiag_uid)) &&
	       (found->v6only < 0 || ROW(v6only) == (found->v6only ? Py_True : Py_False)) &&
	       PyDict_GetItemWithError(INDEX(by_ends), ROW(ends)) == row &&
	       (ROW(sk) == Py_None || PyDict_GetItemWithError(INDEX(by_sk), ROW(sk)) == row);
}

/* Sweep._adopt: a row that only the sweep knows; -1 with an exception. */
static int adopt(struct sweep *sweep, const struct found *found, PyObject *cookie, PyObject *ends)
{
	const struct inet_diag_msg *raw = found->raw;
	PyObject *values[row_count] = {
		[row_kind] = new_ref(PyTuple_GET_ITEM(known.kinds, found->kind)),
		[row_state] = PyLong_FromLong(raw->idiag_state),
		[row_family] = PyLong_FromLong(raw->idiag_family),
		[row_ino] = PyLong_FromUnsignedLong(raw->idiag_inode),
		[row_uid] = found->kind == SOCKET ? share_number(sweep, raw->idiag_uid) : NULL,
		[row_cookie] = new_ref(cookie),
		[row_since_ns] = new_ref(sweep->began_ns),
		[row_exact] = new_ref(Py_False),
		[row_touched_ns] = PyLong_FromLong(0),
		[row_cgroup] = found->cgroup ? share_number(sweep, found->cgroup) : NULL,
		[row_v6only] = found->v6only >= 0 ? PyBool_FromLong(found->v6only) : NULL,
		[row_seen] = new_ref(sweep->number),
	};
	PyObject *row = add_row(sweep->index, ends, values);

	return row != NULL ? PyList_Append(sweep->added, row) : -1;
}

/* Whether the message has been taken; -1 with an exception. */
static int take(struct sweep *sweep, const struct found *found)
{
	PyObject *index = sweep->index, *row;
	OWNED *cookie = PyLong_FromUnsignedLongLong(found->cookie), *ends = NULL, *key = NULL;
	int between;

	if (cookie == NULL)
		return -1;
	row = found->kind == SOCKET ? PyDict_GetItemWithError(INDEX(by_cookie), cookie) : NULL;
	if (row == NULL && !PyErr_Occurred()) {
		ends = ends_of(sweep, found->raw);
		key = ends != NULL ? cookie_key(cookie, found->kind == TIMEWAIT, ends) : NULL;
		row = key != NULL && found->kind == TIMEWAIT ? PyDict_GetItemWithError(INDEX(by_cookie), key) : NULL;
	}
	if (PyErr_Occurred())
		return -1;
	if (row == NULL) {
		between = sweep->may_add ? PyDict_Contains(INDEX(by_ends), ends) : 1;
		return between != 0 ? -(between < 0) : adopt(sweep, found, cookie, ends) < 0 ? -1 : 1;
	}
	/* One cookie can leave several timewait sockets: Sweep._is_certain. */
	if ((sweep->doubted && found->kind == TIMEWAIT) || whole(ROW(touched_ns)) >= whole(sweep->began_ns) || !stands(index, row, found))
		return PyErr_Occurred() ? -1 : 0;
	SET(ROW(seen), new_ref(sweep->number));
	return discard(INDEX(unsettled), ROW(id)) < 0 ? -1 : 1;
}

/* The message behind one, which is whole; NULL: there is none. */
static const char *next(const char *at, const char *end)
{
	size_t step = NLMSG_ALIGN(((const struct nlmsghdr *)at)->nlmsg_len);

	return step < (size_t)(end - at) ? at + step : NULL;
}

/* (index, datagram, number, began_ns, shared, added, may_add, doubted, otherwise) → whether it was taken: one of nothing but rows.
 * ``otherwise`` takes the bytes of each message that is not usual. */
PyObject *met(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
	struct sweep sweep;
	const char *data, *end, *at;

	if (count != 9 || !Py_IS_TYPE(args[0], (PyTypeObject *)known.index) || !PyBytes_Check(args[1]) ||
	    !PyLong_Check(args[2]) || !PyLong_Check(args[3]) || !PyDict_Check(args[4]) || !PyList_Check(args[5]) || !PyCallable_Check(args[8])) {
		PyErr_SetString(PyExc_TypeError, "met(Index, bytes, int, int, dict, list, bool, bool, callable), once taught");
		return NULL;
	}
	sweep = (struct sweep){ args[0], args[2], args[3], args[4], args[5], args[6] == Py_True, args[7] == Py_True };
	data = PyBytes_GET_SIZE(args[1]) ? PyBytes_AS_STRING(args[1]) : NULL;
	end = data + PyBytes_GET_SIZE(args[1]);
	for (at = data; at != NULL; at = next(at, end))
		if (!is_message(at, end - at))
			Py_RETURN_FALSE;
	for (at = data; at != NULL; at = next(at, end)) {
		struct found found;
		int taken = read_message(&found, at) ? take(&sweep, &found) : 0;
		OWNED *done = NULL;

		if (taken < 0)
			return NULL;
		if (taken == 0) {
			done = PyObject_CallFunction(args[8], "y#", at, (Py_ssize_t)((const struct nlmsghdr *)at)->nlmsg_len);
			if (done == NULL)
				return NULL;
		}
	}
	Py_RETURN_TRUE;
}
