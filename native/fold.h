/*
 * One event into the table: fold.c does it, for datagram sockets datagram.c, and folder.c is how Python sees that.
 */
#pragma once

#include "index.h"

/* Who holds a row: nobody, or a kind. */
enum { NOBODY = -1, HOLDERS = KINDS + 1 };

/* Whether lifecycle says what is done here: 1 at report * HOLDERS + holder + 1, and behind those of TCP, for each enum sock_call
 * of UDP, and then of raw sockets. */
enum { TAUGHT = REPORTS * HOLDERS + 2 * CALLS };

/* sstrace.lifecycle.udp.UNSEEN */
enum { UNSEEN = 0 };

/* No answer: neither an exception nor a reference. */
extern PyObject unusual;
#define UNUSUAL (&unusual)

/* An event that is being folded in. */
struct step {
	Event *event;
	const struct sock_event *raw;
	PyObject *index, *sk, *at_ns;
	PyObject *row;  /* its own, by what no other has; NULL: there is none, and its ends are these: */
	PyObject *ends, *between; /* and the row that is between them already; NULL: there is none */
	const char *taught;
};

/* The key of an event's ends: a new reference. */
PyObject *event_ends(Event *event);
/* How long the row has been in its state: a new reference, None where that is not known. */
PyObject *held(const struct step *now, PyObject *row);
/* The transition to where the row is. ``held``: its reference is taken, and NULL is an exception; ``ends``: whether the connection
 * does, too. */
PyObject *told(const struct step *now, PyObject *row, long old, PyObject *held, PyObject *cause, int ends);

/* Into the rows of an Index: a Transition or None. UNUSUAL, and nothing has changed, where the event is for the twin. */
PyObject *fold(PyObject *index, Event *event, const char *taught);
/* The same of an EVENT_DATAGRAM, whose row and ends have not been looked for. */
PyObject *fold_call(const struct step *now);
