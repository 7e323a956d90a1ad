/*
 * _sstrace: compiled twins of the steps that every event takes: decode.c, fold.c, sweep.c, line.c and plain.c. Each does what a
 * Python method does, for the events that nearly all are, and leaves the others to that method; the two are held
 * against each other by tests/unit/test_native.py. sstrace/native.py is their door, native/build.py compiles them.
 */
#include "shape.h"

static int execute(PyObject *module)
{
	/* build.py: of these sources. */
	if (PyModule_AddIntMacro(module, INTERFACE) < 0)
		return -1;
	return add_decoder(module) < 0 || add_folder(module) < 0 || add_liner(module) < 0 || add_plain(module) < 0 ? -1 : 0;
}

static PyModuleDef_Slot slots[] = {
	{ Py_mod_exec, execute },
	{ 0, NULL },
};

static struct PyModuleDef definition = {
	PyModuleDef_HEAD_INIT,
	.m_name = "_sstrace",
	.m_doc = "Compiled twins of sstrace's event path.",
	.m_slots = slots,
};

PyMODINIT_FUNC PyInit__sstrace(void)
{
	return PyModuleDef_Init(&definition);
}
