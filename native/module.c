/*
 * _sstrace: compiled twins of the steps that every event takes, and every row of a sweep or of a plain table: event.c, folder.c and
 * what it calls (step.h), line.c, sweep.c and plain.c. Each does what a Python method does, for what nearly all are, and leaves the
 * others to that method; the two are held against each other by tests/unit/test_native.py. sstrace/native.py is their door, native/build.py compiles them.
 */
#include "shape.h"

struct known known;

/* Fill the offsets of a class's fields; -1 with an exception. */
static int find_slots(PyObject *cls, const char *const *names, Py_ssize_t *offset)
{
	for (; *names != NULL; names++, offset++) {
		OWNED *found = PyObject_GetAttrString(cls, *names);
		PyMemberDef *member = found != NULL && Py_IS_TYPE(found, &PyMemberDescr_Type) ? ((PyMemberDescrObject *)found)->d_member : NULL;

		if (found == NULL)
			return -1;
		if (member == NULL || member->type != T_OBJECT_EX) {
			PyErr_Format(PyExc_TypeError, "%R keeps %s in no slot", cls, *names);
			return -1;
		}
		*offset = member->offset;
	}
	return 0;
}

/* What the classes are called by. A class without such a field, or with another kind of field, is refused with a TypeError, and the
 * Python that the twins stand for goes on working. */
static PyObject *teach(PyObject *module, PyObject *args)
{
	PyObject *classes, *kinds, *own, *inherited;

	if (!PyArg_ParseTuple(args, "O!O!OO:teach", &PyDict_Type, &classes, &PyTuple_Type, &kinds, &own, &inherited))
		return NULL;
	if (PyTuple_GET_SIZE(kinds) != KINDS) {
		PyErr_SetString(PyExc_TypeError, "three kinds");
		return NULL;
	}
#define FIELD(cls, field) #field,
#define FIND(cls)                                                                                   \
	{                                                                                           \
		static const char *const names[] = { cls##_fields(FIELD) NULL };                    \
		PyObject *found = PyDict_GetItemString(classes, #cls);                              \
                                                                                                    \
		if (found == NULL) {                                                                \
			PyErr_SetString(PyExc_TypeError, "there is no class by the name of " #cls); \
			return NULL;                                                                \
		}                                                                                   \
		if (find_slots(found, names, (Py_ssize_t *)&known.slots.cls) < 0)                   \
			return NULL;                                                                \
	}
	CLASSES(FIND)
#define KEEP(cls) Py_XSETREF(known.cls, new_ref(PyDict_GetItemString(classes, #cls)))
	KEEP(row);
	KEEP(transition);
	KEEP(index);
	KEEP(shard);
	Py_XSETREF(known.kinds, new_ref(kinds));
	Py_XSETREF(known.own, new_ref(own));
	Py_XSETREF(known.inherited, new_ref(inherited));
	Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
	{ "teach", teach, METH_VARARGS, "teach(classes, kinds, own, inherited)" },
	{ "events", events, METH_VARARGS, "events(lent, records, cpu) -> events, or None: a record is not as it should be" },
	{ "met", (PyCFunction)(void (*)(void))met, METH_FASTCALL,
	  "met(index, datagram, number, began_ns, shared, added, may_add, doubted, otherwise) -> bool" },
	{ "columns", columns, METH_VARARGS, "columns(datagram, addresses, ports, with_inodes) -> tuple or None" },
	{ "lines", lines, METH_VARARGS, "lines(pieces, after, columns) -> bytes or None" },
	{ NULL, NULL, 0, NULL },
};

static int execute(PyObject *module)
{
	struct {
		PyObject **word;
		const char *text;
	} words[] = {
		{ &known.calls[CALL_BIND], "bind" }, { &known.calls[CALL_CREATE], "create" }, { &known.calls[CALL_SEND], "send" },
		{ &known.calls[CALL_CONNECT], "connect" }, { &known.calls[CALL_CLOSE], "close" },
		{ &known.listener, "listener" }, { &known.client, "client" },
		{ &known.server, "server" }, { &known.fin_by_us, "fin-by-us" },
	};

	for (size_t at = 0; at < sizeof(words) / sizeof(*words); at++)
		if ((*words[at].word = PyUnicode_InternFromString(words[at].text)) == NULL)
			return -1;
	/* build.py: of these sources. */
	if (PyModule_AddIntMacro(module, INTERFACE) < 0 || PyModule_AddType(module, &event_type) < 0)
		return -1;
	return add_folder(module) < 0 || add_liner(module) < 0 ? -1 : 0;
}

static PyModuleDef_Slot slots[] = {
	{ Py_mod_exec, execute },
	{ 0, NULL },
};

static struct PyModuleDef definition = {
	PyModuleDef_HEAD_INIT,
	.m_name = "_sstrace",
	.m_doc = "Compiled twins of sstrace's event path.",
	.m_methods = functions,
	.m_slots = slots,
};

PyMODINIT_FUNC PyInit__sstrace(void)
{
	return PyModuleDef_Init(&definition);
}
