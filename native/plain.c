/*
 * A plain table as ss prints it: the twins of sstrace.wire.inet_columns.decode with what sstrace.render.inet makes of its columns,
 * and of the lines that sstrace.render.layout makes of cells. For datagrams that hold nothing but plain rows, and cells of one
 * byte a character, which is what all are; else None, and nothing has been done.
 */
#include "shape.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>

enum { DUMP_INTERRUPTED = 0x10, LAST_STATE = 13 };
enum { SOURCE, DESTINATION, ENDS };

/* What a column said last, which it often says again. */
struct last {
	const __be32 *raw;
	PyObject *text; /* borrowed: a list has it */
};

static size_t length_of(const char *at)
{
	return ((const struct nlmsghdr *)at)->nlmsg_len;
}

/* sstrace.wire.inet_layout.is_plain, of one message. */
static int is_plain(const char *at, size_t left, int family)
{
	const struct nlmsghdr *header = (const struct nlmsghdr *)at;
	const struct inet_diag_msg *raw = (const struct inet_diag_msg *)(at + NLMSG_HDRLEN);
	static const __be32 any[4];

	if (left < NLMSG_HDRLEN + sizeof(*raw) || header->nlmsg_len < NLMSG_HDRLEN + sizeof(*raw) || header->nlmsg_len > left)
		return 0;
	return header->nlmsg_type == SOCK_DIAG_BY_FAMILY && !(header->nlmsg_flags & DUMP_INTERRUPTED) && raw->idiag_family == family &&
	       raw->id.idiag_if == 0 && raw->idiag_state <= LAST_STATE &&
	       (family == FAMILY_INET || (memcmp(raw->id.idiag_src, any, sizeof(any)) != 0 &&
					     memcmp(raw->id.idiag_dst, any, sizeof(any)) != 0));
}

/* The text of a key, of a dict that makes what it lacks. Takes the reference to the key; a new one. */
static PyObject *text_of(PyObject *texts, PyObject *key)
{
	PyObject *text = key != NULL ? PyDict_GetItemWithError(texts, key) : NULL;

	if (text != NULL)
		Py_INCREF(text);
	else if (key != NULL && !PyErr_Occurred())
		text = PyObject_GetItem(texts, key);
	Py_XDECREF(key);
	return text;
}

static PyObject *address_text(PyObject *texts, const __be32 *raw, int family, struct last *last)
{
	size_t size = family == FAMILY_INET ? 4 : 16;

	if (last->raw == NULL || memcmp(last->raw, raw, size) != 0) {
		PyObject *text = text_of(texts, PyBytes_FromStringAndSize((const char *)raw, size));

		if (text == NULL)
			return NULL;
		last->raw = raw;
		last->text = text;
		return text;
	}
	return new_ref(last->text);
}

/* (datagram, addresses, ports, with inodes) → (family, states, source ports, destination ports, source and destination addresses,
 * recv_q, send_q, inodes), addresses and ports as text; or None. ``ports``: by the number as the host reads it off the wire. */
PyObject *columns(PyObject *module, PyObject *args)
{
	enum { SPORTS, DPORTS, SOURCES, DESTINATIONS, RECV_QS, SEND_QS, INODES, COLUMNS };
	PyObject *addresses, *ports, *made[COLUMNS] = { NULL }, *states = NULL, *result = NULL;
	struct last last[ENDS] = { { NULL, NULL }, { NULL, NULL } };
	Py_ssize_t count = 0, row = 0;
	const char *at, *data;
	size_t left;
	Py_buffer datagram;
	int family = 0, with_inodes;

	if (!PyArg_ParseTuple(args, "y*O!O!p:columns", &datagram, &PyDict_Type, &addresses, &PyDict_Type, &ports, &with_inodes))
		return NULL;
	data = datagram.buf;
	if ((size_t)datagram.len >= NLMSG_HDRLEN + sizeof(struct inet_diag_msg))
		family = ((const struct inet_diag_msg *)(data + NLMSG_HDRLEN))->idiag_family;
	if (family != FAMILY_INET && family != FAMILY_INET6)
		goto none;
	for (at = data, left = datagram.len; left > 0; count++) {
		size_t step;

		if (!is_plain(at, left, family))
			goto none;
		step = NLMSG_ALIGN(length_of(at));
		at += step;
		left = step < left ? left - step : 0;
	}
	states = PyBytes_FromStringAndSize(NULL, count);
	for (int column = 0; column < COLUMNS; column++)
		made[column] = PyList_New(column != INODES || with_inodes ? count : 0);
	if (states == NULL || PyErr_Occurred())
		goto out;
	for (at = data; row < count; row++, at += NLMSG_ALIGN(length_of(at))) {
		const struct inet_diag_msg *raw = (const struct inet_diag_msg *)(at + NLMSG_HDRLEN);
		PyObject *cells[COLUMNS] = {
			text_of(ports, PyLong_FromLong(raw->id.idiag_sport)),
			text_of(ports, PyLong_FromLong(raw->id.idiag_dport)),
			address_text(addresses, raw->id.idiag_src, family, &last[SOURCE]),
			address_text(addresses, raw->id.idiag_dst, family, &last[DESTINATION]),
			PyLong_FromUnsignedLong(raw->idiag_rqueue),
			PyLong_FromUnsignedLong(raw->idiag_wqueue),
			with_inodes ? PyLong_FromUnsignedLong(raw->idiag_inode) : NULL,
		};

		PyBytes_AS_STRING(states)[row] = raw->idiag_state;
		for (int column = 0; column < COLUMNS; column++)
			if (cells[column] != NULL)
				PyList_SET_ITEM(made[column], row, cells[column]);
		if (PyErr_Occurred())
			goto out;
	}
	result = Py_BuildValue("iOOOOOOOO", family, states, made[SPORTS], made[DPORTS], made[SOURCES], made[DESTINATIONS], made[RECV_QS],
			       made[SEND_QS], made[INODES]);
out:
	Py_XDECREF(states);
	for (int column = 0; column < COLUMNS; column++)
		Py_XDECREF(made[column]);
	PyBuffer_Release(&datagram);
	return result;
none:
	PyBuffer_Release(&datagram);
	Py_RETURN_NONE;
}

/* What stands before a cell, and how wide that is; negative: flush left. */
struct piece {
	const char *before;
	Py_ssize_t length, width;
	PyObject **cells;
};

static char *put(char *to, const char *text, Py_ssize_t length)
{
	memcpy(to, text, length);
	return to + length;
}

static char *put_blanks(char *to, Py_ssize_t count)
{
	if (count <= 0)
		return to;
	memset(to, ' ', count);
	return to + count;
}

/* (pieces, after, columns) → the lines of all rows. ``pieces``: of each column what stands before its cells (bytes), and their
 * width, negative where they stand left; ``after``: what ends a line; ``columns``: equally long lists or tuples of str. None where
 * they are something else, or a cell has other characters than bytes. */
PyObject *lines(PyObject *module, PyObject *args)
{
	PyObject *given, *columns, *result = NULL;
	const char *after;
	Py_ssize_t tail, count, rows, size = 0;
	struct piece *pieces;
	char *to;

	if (!PyArg_ParseTuple(args, "O!y#O!:lines", &PyTuple_Type, &given, &after, &tail, &PyList_Type, &columns))
		return NULL;
	count = PyTuple_GET_SIZE(given);
	if (count == 0 || PyList_GET_SIZE(columns) != count) {
		PyErr_SetString(PyExc_TypeError, "as many pieces as columns, and one at least");
		return NULL;
	}
	pieces = PyMem_New(struct piece, count);
	if (pieces == NULL)
		return PyErr_NoMemory();
	rows = PySequence_Size(PyList_GET_ITEM(columns, 0));
	if (rows < 0)
		goto out;
	for (Py_ssize_t at = 0; at < count; at++) {
		PyObject *cells = PyList_GET_ITEM(columns, at);

		if (!PyArg_ParseTuple(PyTuple_GET_ITEM(given, at), "y#n", &pieces[at].before, &pieces[at].length, &pieces[at].width))
			goto out;
		if ((!PyList_CheckExact(cells) && !PyTuple_CheckExact(cells)) || PySequence_Fast_GET_SIZE(cells) != rows) {
			result = new_ref(Py_None);
			goto out;
		}
		pieces[at].cells = PySequence_Fast_ITEMS(cells);
		size += pieces[at].length * rows;
		for (Py_ssize_t row = 0; row < rows; row++) {
			PyObject *cell = pieces[at].cells[row];
			Py_ssize_t length, width = pieces[at].width < 0 ? -pieces[at].width : pieces[at].width;

			if (!PyUnicode_Check(cell) || PyUnicode_READY(cell) < 0 || PyUnicode_KIND(cell) != PyUnicode_1BYTE_KIND) {
				if (!PyErr_Occurred())
					result = new_ref(Py_None);
				goto out;
			}
			length = PyUnicode_GET_LENGTH(cell);
			size += length > width ? length : width;
		}
	}
	result = PyBytes_FromStringAndSize(NULL, size + tail * rows);
	if (result == NULL)
		goto out;
	to = PyBytes_AS_STRING(result);
	for (Py_ssize_t row = 0; row < rows; row++) {
		for (const struct piece *piece = pieces; piece < pieces + count; piece++) {
			PyObject *cell = piece->cells[row];
			Py_ssize_t length = PyUnicode_GET_LENGTH(cell);

			to = put(to, piece->before, piece->length);
			to = put_blanks(to, piece->width - length);
			to = put(to, PyUnicode_DATA(cell), length);
			to = put_blanks(to, -piece->width - length);
		}
		to = put(to, after, tail);
	}
out:
	PyMem_Free(pieces);
	return result;
}
