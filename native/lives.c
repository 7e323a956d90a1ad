/*
 * What a run of events has done, but for the transitions that end nothing: the twin of sstrace.output.handshakes.Handshakes.hear, which
 * hears those.
 */
#include "shape.h"

typedef struct {
	PyObject_HEAD
	PyObject *changes; /* an iterator */
	PyObject *took;    /* dict: how long the handshake took, by the ids of rows */
	PyObject *over;    /* set: ids of rows whose connections have ended */
} Lives;

static int ends_nothing(PyObject *change)
{
	return Py_IS_TYPE(change, (PyTypeObject *)known.transition) && SLOT(change, transition, ended) == Py_False &&
	       Py_IS_TYPE(SLOT(change, transition, row), (PyTypeObject *)known.row);
}

static int hear(Lives *self, PyObject *change)
{
	long old = small(SLOT(change, transition, old)), new = small(SLOT(change, transition, new));
	PyObject *row = SLOT(change, transition, row), *held = SLOT(change, transition, held_ns);

	if (held != Py_None && (old == SYN_SENT || old == SYN_RECV) && (new == ESTABLISHED || new == CLOSE_WAIT) &&
	    PyDict_SetItem(self->took, ROW(id), held) < 0)
		return -1;
	return new == CLOSE ? PySet_Discard(self->over, ROW(id)) : 0;
}

static PyObject *lives_next(PyObject *object)
{
	Lives *self = (Lives *)object;
	PyObject *change;
	int heard = 0;

	while (heard >= 0 && (change = PyIter_Next(self->changes)) != NULL) {
		if (change != Py_None && !ends_nothing(change))
			return change;
		heard = change != Py_None ? hear(self, change) : 0;
		Py_DECREF(change);
	}
	return NULL;
}

static PyObject *lives_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	PyObject *changes, *took, *over;
	Lives *self;

	if (!PyArg_ParseTuple(args, "OO!O!:Lives", &changes, &PyDict_Type, &took, &PySet_Type, &over))
		return NULL;
	if (known.row == NULL || !PyIter_Check(changes)) {
		PyErr_SetString(PyExc_TypeError, "changes are taken from an iterator, once all else is taught");
		return NULL;
	}
	self = (Lives *)type->tp_alloc(type, 0);
	if (self != NULL)
		*self = (Lives){ self->ob_base, new_ref(changes), new_ref(took), new_ref(over) };
	return (PyObject *)self;
}

static void lives_dealloc(PyObject *object)
{
	Lives *self = (Lives *)object;

	Py_DECREF(self->changes);
	Py_DECREF(self->took);
	Py_DECREF(self->over);
	Py_TYPE(object)->tp_free(object);
}

/* One is made for each run of changes, and not kept: no part of any cycle. */
static PyTypeObject lives_type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "_sstrace.Lives",
	.tp_doc = "Lives(changes, took, over): an iterator",
	.tp_basicsize = sizeof(Lives),
	.tp_flags = Py_TPFLAGS_DEFAULT,
	.tp_iter = PyObject_SelfIter,
	.tp_iternext = lives_next,
	.tp_new = lives_new,
	.tp_dealloc = lives_dealloc,
};

int add_lives(PyObject *module)
{
	return PyModule_AddType(module, &lives_type);
}
