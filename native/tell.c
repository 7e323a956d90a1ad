/*
 * A run of changes, each noted as told on its way: the twin of sstrace.live.announce.Telling._heeded, which says what it
 * means. What is no transition it shows to that first.
 */
#include "shape.h"

typedef struct {
	PyObject_HEAD
	PyObject *changes;    /* iterator */
	PyObject *transition; /* class */
	PyObject *silent;     /* dict row id → row */
	PyObject *other;      /* callable: takes a change */
	PyObject *finish;     /* callable: takes last_ns, gives an iterator of what comes behind the changes */
	PyObject *rest;       /* that iterator, from the end of the changes on */
	long long last_ns;    /* time of the latest transition so far */
	struct transition_slots in;
	struct row_slots of;
	int is_known;         /* whether ``of`` is filled */
} Teller;

static int tell(Teller *self, PyObject *change)
{
	PyObject *row = SLOT(change, self->in, row), *id;
	long long at_ns = whole(SLOT(change, self->in, at_ns));

	if (at_ns == -1 && PyErr_Occurred())
		return -1;
	if (!self->is_known && find_slots((PyObject *)Py_TYPE(row), ROW_NAMES, &self->of) < 0)
		return -1;
	self->is_known = 1; /* a table has rows of one class */
	if (at_ns > self->last_ns)
		self->last_ns = at_ns;
	SET(row, self->of, told, new_ref(Py_True));
	if (PyDict_GET_SIZE(self->silent) == 0)
		return 0;
	id = SLOT(row, self->of, id);
	switch (PyDict_Contains(self->silent, id)) {
	case 0:
		return 0;
	case 1:
		return PyDict_DelItem(self->silent, id);
	default:
		return -1;
	}
}

static PyObject *teller_next(PyObject *object)
{
	Teller *self = (Teller *)object;
	PyObject *change = self->rest == NULL ? PyIter_Next(self->changes) : NULL, *done;

	if (change == NULL) {
		if (self->rest == NULL && !PyErr_Occurred())
			self->rest = PyObject_CallFunction(self->finish, "L", self->last_ns);
		return self->rest != NULL ? PyIter_Next(self->rest) : NULL;
	}
	if (Py_IS_TYPE(change, (PyTypeObject *)self->transition)) {
		if (tell(self, change) < 0)
			Py_CLEAR(change);
		return change;
	}
	done = PyObject_CallOneArg(self->other, change);
	if (done == NULL)
		Py_CLEAR(change);
	Py_XDECREF(done);
	return change;
}

static int teller_init(PyObject *object, PyObject *args, PyObject *kwargs)
{
	Teller *self = (Teller *)object;
	PyObject *changes, *transition, *silent, *other, *finish;

	if (!PyArg_ParseTuple(args, "OOO!OOL:Teller", &changes, &transition, &PyDict_Type, &silent, &other, &finish,
			      &self->last_ns))
		return -1;
	if (!PyIter_Check(changes)) {
		PyErr_SetString(PyExc_TypeError, "changes are taken from an iterator");
		return -1;
	}
	Py_XSETREF(self->changes, new_ref(changes));
	Py_XSETREF(self->transition, new_ref(transition));
	Py_XSETREF(self->silent, new_ref(silent));
	Py_XSETREF(self->other, new_ref(other));
	Py_XSETREF(self->finish, new_ref(finish));
	return find_slots(transition, TRANSITION_NAMES, &self->in);
}

static int teller_traverse(PyObject *object, visitproc visit, void *arg)
{
	Teller *self = (Teller *)object;

	Py_VISIT(self->changes);
	Py_VISIT(self->transition);
	Py_VISIT(self->silent);
	Py_VISIT(self->other);
	Py_VISIT(self->finish);
	Py_VISIT(self->rest);
	return 0;
}

static int teller_clear(PyObject *object)
{
	Teller *self = (Teller *)object;

	Py_CLEAR(self->changes);
	Py_CLEAR(self->transition);
	Py_CLEAR(self->silent);
	Py_CLEAR(self->other);
	Py_CLEAR(self->finish);
	Py_CLEAR(self->rest);
	return 0;
}

static void teller_dealloc(PyObject *object)
{
	PyObject_GC_UnTrack(object);
	teller_clear(object);
	Py_TYPE(object)->tp_free(object);
}

static PyTypeObject teller_type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "_sstrace.Teller",
	.tp_doc = "Teller(changes, Transition, silent, other, finish, last_ns): the same changes, and what finish(last_ns) gives",
	.tp_basicsize = sizeof(Teller),
	.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
	.tp_new = PyType_GenericNew,
	.tp_init = teller_init,
	.tp_iter = PyObject_SelfIter,
	.tp_iternext = teller_next,
	.tp_traverse = teller_traverse,
	.tp_clear = teller_clear,
	.tp_dealloc = teller_dealloc,
};

int add_teller(PyObject *module)
{
	return PyModule_AddType(module, &teller_type);
}
