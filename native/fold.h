/*
 * One event into the table: fold.c does it, folder.c is how Python sees that.
 */
#pragma once

#include "index.h"

/* Who holds a row: nobody, or a kind. */
enum { NOBODY = -1, HOLDERS = KINDS + 1 };

/* No answer: neither an exception nor a reference. */
extern PyObject unusual;
#define UNUSUAL (&unusual)

/* Into the rows of an Index: a Transition or None. UNUSUAL, and nothing has changed, where the event is for the twin. ``taught``:
 * 1 at report * HOLDERS + holder + 1 where lifecycle says what is done here. */
PyObject *fold(PyObject *index, Event *event, const char *taught);
