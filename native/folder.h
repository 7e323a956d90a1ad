/*
 * What the fold works with: the Folder of one shard, and what keep.c does for it with rows and keys. See sstrace/table.
 */
#pragma once

#include "shape.h"

typedef struct {
	PyObject_HEAD
	/* As they are given: */
	PyObject *row, *transition;                                         /* classes */
	PyObject *kinds;                                                    /* tuple of Kind */
	PyObject *listed;                                                   /* bytes: 1 at old * 16 + new */
	PyObject *taught;                                                   /* bytes: 1 where lifecycle says what is done here */
	PyObject *net, *netns;                                              /* of every row: int */
	PyObject *rows, *by_sk, *by_cookie, *by_ino, *by_ends, *unsettled;  /* the index: dicts */
	PyObject *ids;                                                      /* iterator */
	PyObject *own, *inherited;                                          /* sstrace.table.fold.own, inherited */
	PyObject *client, *server, *connect, *close, *listener, *fin_by_us; /* str */
	PyObject *zero;
	PyObject *held, *left;  /* owners of a listener, and those that they leave; NULL at first */
	PyObject *by_state;     /* dict state → dict id → row; NULL or None: there is none */
	PyObject *silent;       /* News.silent: dict id → …; NULL or None: nobody is told */
	long long last_ns;      /* time of the latest change that was told */
	struct row_slots of;
	struct owner_slots in;
	char is_easy, knows_owners; /* whether ``in`` is filled */
} Folder;

/* sstrace.lifecycle.Report, in order; and who holds the row: nobody, or a Kind. */
enum report { OPENS, CHILD, MOVES, REPEATS, CLOSES, REQUEST_TIMER, REQUEST_GONE, TIMEWAIT_TIMER, TIMEWAIT_GONE, REPORTS };
enum { NOBODY = -1, HOLDERS = KINDS + 1 };

/* Whether lifecycle's rules for a report are those that the fold follows: a rule that it has not been taught is the twin's. */
static inline int is_taught(Folder *self, enum report report, int holder)
{
	return PyBytes_AS_STRING(self->taught)[report * HOLDERS + holder + 1];
}

/* No answer of the fold's: neither an exception nor a reference. */
extern PyObject unusual;
#define UNUSUAL (&unusual)

/* One event into the table; UNUSUAL, and nothing changed, where that is for sstrace.table.fold. */
PyObject *fold(Folder *self, Event *event);

#define ROW(name) SLOT(row, self->of, name)

static inline int is_kind(Folder *self, PyObject *row, int kind)
{
	return ROW(kind) == PyTuple_GET_ITEM(self->kinds, kind);
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

static inline int is_listed(Folder *self, long old, long new)
{
	return old >= 0 && old < STATES && PyBytes_AS_STRING(self->listed)[old << 4 | new] == 1;
}

/* sstrace.model.Changed.orphaned */
static inline int is_orphaned(const struct sock_event *raw)
{
	return raw->flags & EVENT_ORPHANED || (raw->ino == 0 && raw->netns != 0);
}

int is_address(PyObject *address, const __u8 *raw, int family);

/* Whether both ends are known, and neither address is a mapped one. */
int has_plain_ends(const Event *event);

/* The key of such a connection. */
PyObject *ends_of(Event *event);

/* Of two rows with one key the later one keeps it. */
int forget(PyObject *index, PyObject *key, PyObject *row);

/* Forget a key that may not be there. */
int discard(PyObject *index, PyObject *key);

/* Whether an index knows a number, unless that is 0; -1 with an exception. */
int knows(PyObject *index, __u64 value);

/* How long the row has been in its state: a new reference, None where that is not known. */
PyObject *held(Folder *self, PyObject *row, PyObject *at_ns);

PyObject *told(Folder *self, Event *event, PyObject *row, PyObject *at_ns, long old, PyObject *held, PyObject *cause);

/* The full socket gives up: the connection ends (sstrace.table.fold.Fold._end). */
PyObject *told_end(Folder *self, Event *event, PyObject *row, PyObject *at_ns, long old, PyObject *held, PyObject *cause);

/* sstrace.table.fold.own: an event names the process whose system call it was. As a rule that is the owner who is known, or
 * nobody is. */
int own(Folder *self, PyObject *row, Event *event, PyObject *source);

/* Until accept(2) a connection is of those who hold its listener. */
int inherit(Folder *self, PyObject *row, const struct sock_event *raw);

int learn(Folder *self, PyObject *row, const struct sock_event *raw);

/* The index by state takes a row, once its state is known. */
int enter_index(Folder *self, PyObject *row);

/* The row is in another state, since now. */
int enter(Folder *self, PyObject *row, PyObject *at_ns, long state);

/* Forget the keys of a connection whose cookie, if any, is that of a full or request socket. */
int forget_keys(Folder *self, PyObject *row);

/* A new row with every key. A borrowed reference: the table holds it. */
PyObject *birth(Folder *self, Event *event, PyObject *sk, PyObject *at_ns, PyObject *ends, int kind, PyObject *role);

/* A sweep's datagram: a method of Folder, see sweep.c. */
PyObject *folder_met(PyObject *object, PyObject *const *args, Py_ssize_t count);

/* The table lets go of a row whose keys it has forgotten. */
int remove_row(Folder *self, PyObject *row);
