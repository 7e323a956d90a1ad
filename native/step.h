/*
 * One event on its way into the table: step.c has what each needs, fold.c what becomes of a connection, datagram.c of a datagram
 * socket, life.c of what tells of all of its life at once; folder.c brings each event to one of them.
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
	const char *taught;
	/* What find() has found, references of its own: */
	PyObject *row;            /* the event's, by what no other row has; NULL: there is none, and its ends are these: */
	PyObject *ends, *between; /* and the row that is between them already; NULL: there is none */
};

/* Look for the row: whether there is one, or both ends are known; -1 with an exception. */
int find(struct step *now);
/* Whether lifecycle's rules for a report are those that are followed here: a rule that is not taught is the twin's. */
int is_taught(const struct step *now, enum report report, int holder);
/* Whether users may expect to see this transition. */
int is_listed(long old, long new);
/* The key of an event's ends: a new reference. */
PyObject *event_ends(Event *event);
/* How long the row has been in its state: a new reference, None where that is not known. */
PyObject *held(const struct step *now, PyObject *row);
/* The transition to where the row is. ``held``: its reference is taken, and NULL is an exception; ``ends``: whether the connection
 * does, too. */
PyObject *told(const struct step *now, PyObject *row, long old, PyObject *held, PyObject *cause, int ends);

/* Until accept(2) a connection is of those who hold its listener, which has this inode, or held it when it closed: -1 with an
 * exception. */
int inherit(const struct step *now, PyObject *row, __u64 inode);

/* Into the table: a Transition or None. UNUSUAL, and nothing has changed, where the event is for the twin. */
PyObject *fold_connection(const struct step *now);
/* Of EVENT_LIFE_*. */
PyObject *fold_life(const struct step *now);
/* Of EVENT_DATAGRAM, whose row has not been looked for. */
PyObject *fold_datagram(const struct step *now);
