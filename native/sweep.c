/*
 * A sweep's datagram into the table: the twin of sstrace.table.sweep.Sweep.seen, for what nearly all rows are: connections that
 * stand in the table just as the kernel shows them, or that nobody knows yet. Every condition is checked before anything is
 * changed; a message that does not fit goes to the twin, in its turn.
 */
#include "folder.h"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>

/* include/uapi/linux/netlink.h, include/uapi/linux/inet_diag.h: what headers older than these lack. */
enum { DUMP_INTERRUPTED = 0x10, TYPE_MASK = 0x3fff, SKV6ONLY = 11, CGROUP_ID = 21, TIMER_OF_TIMEWAIT = 3 };

static const char MAPPED[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, (char)0xff, (char)0xff };

/* What a sweep works with, as the folder is given it. All references are borrowed. */
struct sweep {
	Folder *folder;
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
	int has_attributes;
};

static int is_message(const char *at, size_t left)
{
	const struct nlmsghdr *header = (const struct nlmsghdr *)at;
	const struct inet_diag_msg *raw = (const struct inet_diag_msg *)(at + NLMSG_HDRLEN);

	return left >= NLMSG_HDRLEN + sizeof(*raw) && header->nlmsg_len >= NLMSG_HDRLEN + sizeof(*raw) && header->nlmsg_len <= left &&
	       (header->nlmsg_type == SOCK_DIAG_BY_FAMILY || header->nlmsg_type == TCPDIAG_GETSOCK) && !(header->nlmsg_flags & DUMP_INTERRUPTED) &&
	       (raw->idiag_family == FAMILY_INET || raw->idiag_family == FAMILY_INET6);
}

/* Attributes that are told of are not believed where their lengths are wrong: the twin complains. */
static int read_attributes(struct found *found, const char *at, size_t left)
{
	found->has_attributes = left > 0;
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
	    (raw->idiag_family == FAMILY_INET6 && (memcmp(raw->id.idiag_src, MAPPED, sizeof(MAPPED)) == 0 ||
						   memcmp(raw->id.idiag_dst, MAPPED, sizeof(MAPPED)) == 0)))
		return 0;
	return read_attributes(found, at + NLMSG_HDRLEN + sizeof(*raw), header->nlmsg_len - NLMSG_HDRLEN - sizeof(*raw));
}

/* The one object of a value, whose reference it takes; a new reference. */
static PyObject *share(struct sweep *sweep, PyObject *value)
{
	PyObject *one = value != NULL ? PyDict_SetDefault(sweep->shared, value, value) : NULL;

	Py_XINCREF(one);
	Py_XDECREF(value);
	return one;
}

static PyObject *share_number(struct sweep *sweep, __u64 number)
{
	return share(sweep, PyLong_FromUnsignedLongLong(number));
}

static PyObject *share_address(struct sweep *sweep, const __be32 *raw, int family)
{
	return share(sweep, PyBytes_FromStringAndSize((const char *)raw, family == FAMILY_INET ? 4 : 16));
}

static PyObject *ends_of_message(struct sweep *sweep, const struct inet_diag_msg *raw)
{
	PyObject *sport = share_number(sweep, ntohs(raw->id.idiag_sport)), *dport = share_number(sweep, ntohs(raw->id.idiag_dport));
	PyObject *src, *dst, *device;

	src = share_address(sweep, raw->id.idiag_src, raw->idiag_family);
	dst = share_address(sweep, raw->id.idiag_dst, raw->idiag_family);
	device = share_number(sweep, raw->id.idiag_if);
	return make_ends(sport, dport, src, dst, device);
}

static PyObject *cookie_key(const struct found *found, PyObject *cookie, PyObject *ends)
{
	return found->kind == TIMEWAIT ? PyTuple_Pack(2, cookie, ends) : new_ref(cookie);
}

/* Whether an index finds the row by a key. */
static int finds(PyObject *index, PyObject *key, PyObject *row)
{
	return PyDict_GetItemWithError(index, key) == row;
}

/* Sweep._stands, of a row that its cookie has found. */
static int stands(struct sweep *sweep, PyObject *row, const struct found *found)
{
	Folder *self = sweep->folder;
	const struct inet_diag_msg *raw = found->raw;

	return small(ROW(state)) == raw->idiag_state && is_kind(self, row, found->kind) && is_number(ROW(cookie), found->cookie) &&
	       PyLong_AsUnsignedLong(ROW(ino)) == raw->idiag_inode && small(ROW(sport)) == ntohs(raw->id.idiag_sport) &&
	       small(ROW(dport)) == ntohs(raw->id.idiag_dport) && small(ROW(family)) == raw->idiag_family &&
	       is_address(ROW(src), (const __u8 *)raw->id.idiag_src, raw->idiag_family) &&
	       is_address(ROW(dst), (const __u8 *)raw->id.idiag_dst, raw->idiag_family) &&
	       PyLong_AsUnsignedLong(ROW(ifindex)) == raw->id.idiag_if &&
	       (found->kind == TIMEWAIT || (ROW(uid) != Py_None && PyLong_AsUnsignedLong(ROW(uid)) == raw->idiag_uid)) &&
	       (found->v6only < 0 || ROW(v6only) == (found->v6only ? Py_True : Py_False)) &&
	       ROW(ends) != Py_None && finds(self->by_ends, ROW(ends), row) &&
	       (ROW(sk) == Py_None || finds(self->by_sk, ROW(sk), row));
}

/* Sweep._adopt: a row that only the sweep knows; -1 with an exception. */
static int adopt(struct sweep *sweep, const struct found *found, PyObject *cookie, PyObject *ends, PyObject *key)
{
	Folder *self = sweep->folder;
	const struct inet_diag_msg *raw = found->raw;
	PyObject *cgroup = found->cgroup ? share_number(sweep, found->cgroup) : new_ref(Py_None);
	PyObject *values[] = {
		PyIter_Next(self->ids),
		new_ref(PyTuple_GET_ITEM(self->kinds, found->kind)),
		PyLong_FromLong(raw->idiag_state),
		PyLong_FromLong(raw->idiag_family),
		PyLong_FromLong(IPPROTO_OF_TCP),
		new_ref(self->net),
		new_ref(self->netns),
		new_ref(PyTuple_GET_ITEM(ends, 2)),
		new_ref(PyTuple_GET_ITEM(ends, 0)),
		new_ref(PyTuple_GET_ITEM(ends, 3)),
		new_ref(PyTuple_GET_ITEM(ends, 1)),
		PyLong_FromUnsignedLong(raw->idiag_inode),
		found->kind == SOCKET ? share_number(sweep, raw->idiag_uid) : new_ref(Py_None),
		new_ref(PyTuple_GET_ITEM(ends, 4)),
		new_ref(cookie),
		new_ref(Py_None),
		new_ref(sweep->began_ns),
		new_ref(Py_False),
		new_ref(self->zero),
	};
	PyObject *row = make(self->row, values, sizeof(values) / sizeof(*values));
	int failed;

	if (row == NULL || cgroup == NULL) {
		Py_XDECREF(row);
		Py_XDECREF(cgroup);
		return -1;
	}
	SET(row, self->of, seen, new_ref(sweep->number));
	SET(row, self->of, ends, new_ref(ends));
	SET(row, self->of, cgroup, cgroup);
	if (found->v6only >= 0)
		SET(row, self->of, v6only, new_ref(found->v6only ? Py_True : Py_False));
	failed = PyDict_SetItem(self->rows, ROW(id), row) < 0 || PyDict_SetItem(self->by_ends, ends, row) < 0 ||
		 PyDict_SetItem(self->by_cookie, key, row) < 0 || enter_index(self, row) < 0 || PyList_Append(sweep->added, row) < 0;
	Py_DECREF(row);
	return failed ? -1 : 0;
}

/* Whether the message has been taken; -1 with an exception. */
static int take(struct sweep *sweep, const struct found *found)
{
	Folder *self = sweep->folder;
	PyObject *cookie = PyLong_FromUnsignedLongLong(found->cookie), *ends = NULL, *key = NULL, *row;
	int taken = -1, between;

	if (cookie == NULL)
		return -1;
	row = found->kind == SOCKET ? PyDict_GetItemWithError(self->by_cookie, cookie) : NULL;
	if (row == NULL && !PyErr_Occurred()) {
		ends = ends_of_message(sweep, found->raw);
		key = ends != NULL ? cookie_key(found, cookie, ends) : NULL;
		row = key != NULL && found->kind == TIMEWAIT ? PyDict_GetItemWithError(self->by_cookie, key) : NULL;
	}
	if (PyErr_Occurred())
		goto out;
	if (row != NULL) {
		/* One cookie can leave several timewait sockets: Sweep._is_certain. */
		taken = !(sweep->doubted && found->kind == TIMEWAIT) && whole(ROW(touched_ns)) < whole(sweep->began_ns) &&
			stands(sweep, row, found);
		if (PyErr_Occurred() || (taken && discard(self->unsettled, ROW(id)) < 0))
			taken = -1;
		else if (taken)
			SET(row, self->of, seen, new_ref(sweep->number));
	} else {
		between = sweep->may_add ? PyDict_Contains(self->by_ends, ends) : 1;
		taken = between != 0 ? -(between < 0) : adopt(sweep, found, cookie, ends, key) < 0 ? -1 : 1;
	}
out:
	Py_DECREF(cookie);
	Py_XDECREF(ends);
	Py_XDECREF(key);
	return taken;
}

/* (datagram, number, began_ns, shared, added, may_add, doubted, otherwise) → whether it was taken: one of nothing but rows. ``otherwise``
 * takes the bytes of each message that is not usual. */
PyObject *folder_met(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
	Folder *self = (Folder *)object;
	struct sweep sweep;
	const char *data, *at;
	size_t size, left;

	if (count != 8 || !PyBytes_Check(args[0]) || !PyLong_Check(args[1]) || !PyLong_Check(args[2]) || !PyDict_Check(args[3]) ||
	    !PyList_Check(args[4]) || !PyCallable_Check(args[7])) {
		PyErr_SetString(PyExc_TypeError, "met(bytes, int, int, dict, list, bool, bool, callable)");
		return NULL;
	}
	sweep = (struct sweep){ self, args[1], args[2], args[3], args[4], args[5] == Py_True, args[6] == Py_True };
	data = PyBytes_AS_STRING(args[0]);
	size = PyBytes_GET_SIZE(args[0]);
	for (at = data, left = size; left > 0;) {
		size_t step;

		if (!is_message(at, left))
			Py_RETURN_FALSE;
		step = NLMSG_ALIGN(((const struct nlmsghdr *)at)->nlmsg_len);
		if (step >= left)
			break;
		at += step;
		left -= step;
	}
	for (at = data, left = size; left > 0;) {
		size_t length = ((const struct nlmsghdr *)at)->nlmsg_len, step = NLMSG_ALIGN(length);
		struct found found;
		int taken = read_message(&found, at) ? take(&sweep, &found) : 0;

		if (taken == 0) {
			PyObject *done = PyObject_CallFunction(args[7], "y#", at, (Py_ssize_t)length);

			taken = done != NULL ? 1 : -1;
			Py_XDECREF(done);
		}
		if (taken < 0)
			return NULL;
		if (step >= left)
			break;
		at += step;
		left -= step;
	}
	Py_RETURN_TRUE;
}
