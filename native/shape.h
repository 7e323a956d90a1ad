/*
 * What the compiled twins share: Python's values by their slots.
 *
 * Rows and transitions are msgspec.Structs. Their fields lie in slots, as those of any class with __slots__,
 * so a member descriptor tells where (PyMemberDescrObject, Include/cpython/descrobject.h), and reading one is a load.
 * Offsets are looked up by name when a twin is made: a class without such a field, or with another kind of field, is
 * refused with a TypeError, and the Python that the twin stands for goes on working.
 */
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <linux/types.h>

#include "../bpf/event.h"

/* include/net/tcp_states.h, as sstrace.model.State has them. */
enum { ESTABLISHED = 1, SYN_SENT, SYN_RECV, FIN_WAIT1, FIN_WAIT2, TIME_WAIT, CLOSE, CLOSE_WAIT, LAST_ACK, LISTEN, CLOSING };
enum { STATES = 14 }; /* len(STATE_TEXT) */

/* include/linux/socket.h, include/uapi/linux/in.h: the kernel's numbers. */
enum { FAMILY_INET = 2, FAMILY_INET6 = 10, IPPROTO_OF_TCP = 6 };

/* sstrace.model.Kind, in order. */
enum { SOCKET, REQUEST, TIMEWAIT, KINDS };

#define ROW_FIELDS(X)                                                                                                 \
	X(id) X(kind) X(state) X(family) X(protocol) X(net) X(netns) X(src) X(sport) X(dst) X(dport) X(ino) X(uid) X(ifindex)     \
	X(cookie) X(sk) X(since_ns) X(exact) X(touched_ns) X(owners) X(owner_source) X(cgroup) X(v6only) X(born_ns)        \
	X(role) X(ends) X(told) X(seen)
#define TRANSITION_FIELDS(X)                                                                                          \
	X(at_ns) X(row) X(old) X(new) X(held_ns) X(cause) X(reported) X(approximate) X(source) \
	X(ended) X(lifetime_ns)

#define OWNER_FIELDS(X) X(comm) X(pid)

#define MEMBER(name) Py_ssize_t name;
struct owner_slots { OWNER_FIELDS(MEMBER) };
struct row_slots { ROW_FIELDS(MEMBER) };
struct transition_slots { TRANSITION_FIELDS(MEMBER) };

#define NAME(name) #name,
static const char *const OWNER_NAMES[] = { OWNER_FIELDS(NAME) NULL };
static const char *const ROW_NAMES[] = { ROW_FIELDS(NAME) NULL };
static const char *const TRANSITION_NAMES[] = { TRANSITION_FIELDS(NAME) NULL };
#undef MEMBER
#undef NAME

/* The value in a slot: a borrowed reference, never NULL (msgspec fills every slot). */
#define SLOT(object, slots, name) (*(PyObject **)((char *)(object) + (slots).name))

/* Fill the offsets of a class's fields; -1 with an exception. ``slots`` is one of the structs above. */
static inline int find_slots(PyObject *cls, const char *const *names, void *slots)
{
	Py_ssize_t *offset = slots;

	for (; *names != NULL; names++, offset++) {
		PyObject *found = PyObject_GetAttrString(cls, *names);
		PyMemberDef *member;

		if (found == NULL)
			return -1;
		member = Py_IS_TYPE(found, &PyMemberDescr_Type) ? ((PyMemberDescrObject *)found)->d_member : NULL;
		Py_DECREF(found);
		if (member == NULL || member->type != T_OBJECT_EX) {
			PyErr_Format(PyExc_TypeError, "%R keeps %s in no slot", cls, *names);
			return -1;
		}
		*offset = member->offset;
	}
	return 0;
}

/* Put a value into a slot, for the one that is there. Takes the reference. */
#define SET(object, slots, name, value) Py_XSETREF(SLOT(object, slots, name), value)

static inline PyObject *new_ref(PyObject *object)
{
	Py_INCREF(object);
	return object;
}

/* Absence is 0 in a record and None in Python. */
static inline PyObject *none_or_number(__u64 value)
{
	return value ? PyLong_FromUnsignedLongLong(value) : new_ref(Py_None);
}

/* Make an object of what lies in ``values``, whose references it takes; NULL among them is an exception. */
static inline PyObject *make(PyObject *cls, PyObject **values, size_t count)
{
	PyObject *made = NULL;
	size_t at;

	for (at = 0; at < count && values[at] != NULL; at++)
		;
	if (at == count)
		made = PyObject_Vectorcall(cls, values, count, NULL);
	for (at = 0; at < count; at++)
		Py_XDECREF(values[at]);
	return made;
}

/* The key of a connection: five values, whose references it takes; NULL among them is an exception. */
static inline PyObject *make_ends(PyObject *sport, PyObject *dport, PyObject *src, PyObject *dst, PyObject *device)
{
	PyObject *ends = NULL;

	if (sport != NULL && dport != NULL && src != NULL && dst != NULL && device != NULL)
		ends = PyTuple_Pack(5, sport, dport, src, dst, device);
	Py_XDECREF(sport);
	Py_XDECREF(dport);
	Py_XDECREF(src);
	Py_XDECREF(dst);
	Py_XDECREF(device);
	return ends;
}

/* A small number: states, ports, families. Never an error, because the caller knows it for an int below 2^31. */
static inline long small(PyObject *number)
{
	return PyLong_AsLong(number);
}

/* A time: -1 and an exception for what is none. PyLong_AsLong is faster than the same for a long long, where it is as long. */
static inline long long whole(PyObject *number)
{
	return sizeof(long) == sizeof(long long) ? PyLong_AsLong(number) : PyLong_AsLongLong(number);
}

/* Equality of two ints, bytes objects or Nones; -1 with an exception. */
static inline int equal(PyObject *one, PyObject *other)
{
	return one == other ? 1 : PyObject_RichCompareBool(one, other, Py_EQ);
}

/*
 * An event that is no Fact yet: what nearly all stay, since the fold reads the record itself. decode.c makes them, and
 * what Python values they hold.
 */
struct decoder;

typedef struct {
	PyObject_HEAD
	struct decoder *decoder;
	PyObject *cpu;
	PyObject *at_ns; /* raw.ts_ns */
	struct sock_event raw;
} Event;

extern PyTypeObject event_type;

/* Kinds of numbers that often come again. */
enum number { LOCAL_PORT, PEER_PORT, DEVICE, USER, NUMBERS };

/* New references; NULL with an exception. */
PyObject *event_fact(Event *event);
PyObject *event_source(Event *event);
PyObject *event_destination(Event *event);
PyObject *event_number(Event *event, enum number which, __u64 value);
PyObject *event_owner(Event *event);
PyObject *event_cause(Event *event, int kind, int *by_call);
/* Whether the task that ran is the socket's owner, where the new state tells. */
int event_is_by_call(const Event *event);
/* Whether there is a process to name, given that it was its call. */
int event_has_owner(const Event *event);

int add_decoder(PyObject *module);
int add_folder(PyObject *module);
int add_liner(PyObject *module);
int add_plain(PyObject *module);
