/*
 * Rows and their keys: what sstrace.table.index does, for connections whose keys are regular. ``index``: an Index. -1, or NULL,
 * with an exception.
 */
#pragma once

#include "shape.h"

int is_address(PyObject *address, const void *raw, int family);
/* Whether an IPv6 address stands for an IPv4 one. */
int is_mapped(const void *raw);

/* The key of a connection: five values, whose references it takes. */
PyObject *make_ends(PyObject *sport, PyObject *dport, PyObject *src, PyObject *dst, PyObject *device);
/* That of a cookie; None where that is None. */
PyObject *cookie_key(PyObject *cookie, int is_timewait, PyObject *ends);

/* Whether a dict knows a number, unless that is 0. */
int knows(PyObject *dict, __u64 value);
/* Forget a key that may not be there. */
int discard(PyObject *dict, PyObject *key);
/* The same, of this row: of two rows with one key the later one keeps it. */
int forget(PyObject *dict, PyObject *key, PyObject *row);

/* A row between these ends: a new reference. Where there is no peer, they are no key. ``values``: row_count of them, whose
 * references it takes; NULL where the index and the ends say it, and where there is nothing to say. */
PyObject *make_row(PyObject *index, PyObject *ends, PyObject **values);
/* The same, and it is one of the table's: a borrowed reference. */
PyObject *add_row(PyObject *index, PyObject *ends, PyObject **values);
/* It is no row of the table any more. */
int remove_row(PyObject *index, PyObject *row);
/* A timewait socket between these ends holds it. */
int hand_over(PyObject *index, PyObject *row, int family, PyObject *ends, PyObject *sk, PyObject *cookie);
/* It is in another state. */
int restate(PyObject *index, PyObject *row, int state);
int is_kind(PyObject *row, enum kind kind);
