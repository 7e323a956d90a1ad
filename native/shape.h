/*
 * What the compiled twins share: Python's values by their slots.
 *
 * The fields of a msgspec.Struct lie in slots, as those of any class with __slots__, so a member descriptor tells where
 * (PyMemberDescrObject, Include/cpython/descrobject.h), and reading one is a load. Which classes and fields there are,
 * native/fields.h has of Python; where they lie is looked up once, when the module is taught (module.c).
 */
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <linux/types.h>

#include "../bpf/event.h"
#include "fields.h"

/* include/linux/socket.h, include/uapi/linux/in.h: the kernel's numbers. */
enum { FAMILY_INET = 2, FAMILY_INET6 = 10, IPPROTO_OF_TCP = 6 };

/* sstrace.protocols.RAW; how many of enum sock_call, with none. */
enum { RAW_SOCKET = 0, CALLS = CALL_CLOSE + 1 };

/* sstrace.table.table.CLASSES: where each field lies, and its place among the arguments of its class. */
#define OFFSET(cls, field) Py_ssize_t field;
#define PLACE(cls, field) cls##_##field,
#define SLOTS(cls) struct { cls##_fields(OFFSET) } cls;
#define PLACES(cls) enum { cls##_fields(PLACE) cls##_count };
CLASSES(PLACES)

/* What the module has been taught: all NULL before that. */
extern struct known {
	struct { CLASSES(SLOTS) } slots;
	PyObject *row, *transition, *index, *shard; /* classes */
	PyObject *kinds;                            /* tuple of Kind */
	PyObject *own, *inherited;                  /* sstrace.table.owning */
	PyObject *calls[CALLS];                     /* enum sock_call → its word */
	PyObject *listener, *client, *server, *fin_by_us; /* words of rows and transitions */
} known;

/* The value in a slot: a borrowed reference, never NULL once the object is made. */
#define SLOT(object, cls, field) (*(PyObject **)((char *)(object) + known.slots.cls.field))
/* The same of what goes by this name. */
#define ROW(field) SLOT(row, row, field)
#define INDEX(field) SLOT(index, index, field)

/* Put a value into a slot, for the one that is there. Takes the reference. */
#define SET(slot, value) Py_XSETREF(slot, value)

static inline void let_go(PyObject **held)
{
	Py_XDECREF(*held);
}

/* A reference that is let go of at the end of its block. */
#define OWNED __attribute__((cleanup(let_go))) PyObject

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

/* An object of a class of slots, of what is to lie in all of these. Takes their references; NULL among them is an exception. */
PyObject *make(PyObject *cls, const Py_ssize_t *offsets, PyObject **values, size_t count);
#define MAKE(cls, values) make(known.cls, (const Py_ssize_t *)&known.slots.cls, values, cls##_count)

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

/* Whether a number that may be None is this one, where 0 stands for None. */
static inline int is_number(PyObject *number, __u64 value)
{
	unsigned long found;

	if (number == Py_None)
		return value == 0;
	found = PyLong_AsUnsignedLong(number);
	if (found == (unsigned long)-1 && PyErr_Occurred())
		PyErr_Clear();
	return found == value && value != 0;
}

/*
 * An event that is no Fact yet: what nearly all stay, since the fold reads the record itself. event.c makes them.
 */
typedef struct {
	PyObject_HEAD
	PyObject *lent;  /* tuple: what sstrace.wire.event.EventDecoder lends */
	PyObject *cpu;
	PyObject *at_ns; /* raw.ts_ns */
	struct sock_event raw;
} Event;

extern PyTypeObject event_type;

/* New references; NULL with an exception. */
PyObject *event_fact(Event *event);
enum end { LOCAL, PEER };
PyObject *event_address(Event *event, enum end end);
PyObject *event_owner(Event *event);
/* ``by_call``: whether the task that ran is the socket's owner. */
PyObject *event_cause(Event *event, enum kind kind, int *by_call);

/* Numbers that often come again: one object for as long as they do. */
enum again { LOCAL_PORT, PEER_PORT, DEVICE, USER, AGAIN };
PyObject *again(enum again which, __u64 value);

int add_folder(PyObject *module);
int add_liner(PyObject *module);
/* Functions of the module. */
PyObject *events(PyObject *module, PyObject *args);
PyObject *met(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *columns(PyObject *module, PyObject *args);
PyObject *lines(PyObject *module, PyObject *args);
