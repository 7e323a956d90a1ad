/*
 * The fold as Python sees it: a Folder for each shard, and a Dispatcher that brings each event to its own.
 */
#include "folder.h"

enum { ARGUMENTS = 16 };

#define REFERENCES(X)                                                                                                      \
	X(row) X(transition) X(kinds) X(listed) X(taught) X(net) X(netns) X(rows) X(by_sk) X(by_cookie) X(by_ino) X(by_ends)      \
	X(unsettled) X(ids) X(own) X(inherited) X(client) X(server) X(connect) X(close) X(listener) X(fin_by_us) X(zero) \
	X(held) X(left) X(by_state) X(silent)
#define CLEAR(name) Py_CLEAR(self->name);
#define VISIT(name) Py_VISIT(self->name);

static int folder_clear(PyObject *object)
{
	Folder *self = (Folder *)object;

	REFERENCES(CLEAR)
	return 0;
}

static int folder_traverse(PyObject *object, visitproc visit, void *arg)
{
	Folder *self = (Folder *)object;

	REFERENCES(VISIT)
	return 0;
}

static void folder_dealloc(PyObject *object)
{
	PyObject_GC_UnTrack(object);
	folder_clear(object);
	Py_TYPE(object)->tp_free(object);
}

static int folder_init(PyObject *object, PyObject *args, PyObject *kwargs)
{
	Folder *self = (Folder *)object;
	PyObject **given = &self->row;

	if (self->row != NULL || PyTuple_GET_SIZE(args) != ARGUMENTS) {
		PyErr_SetString(PyExc_TypeError, "Folder takes 16 arguments, once");
		return -1;
	}
	for (Py_ssize_t at = 0; at < ARGUMENTS; at++)
		given[at] = new_ref(PyTuple_GET_ITEM(args, at));
	self->client = PyUnicode_InternFromString("client");
	self->server = PyUnicode_InternFromString("server");
	self->connect = PyUnicode_InternFromString("connect");
	self->close = PyUnicode_InternFromString("close");
	self->listener = PyUnicode_InternFromString("listener");
	self->fin_by_us = PyUnicode_InternFromString("fin-by-us");
	self->zero = PyLong_FromLong(0);
	if (self->client == NULL || self->server == NULL || self->connect == NULL || self->close == NULL ||
	    self->listener == NULL || self->fin_by_us == NULL || self->zero == NULL)
		return -1;
	for (PyObject **dict = &self->rows; dict <= &self->unsettled; dict++) {
		if (!PyDict_Check(*dict)) {
			PyErr_SetString(PyExc_TypeError, "the index has dicts");
			return -1;
		}
	}
	if (!PyTuple_Check(self->kinds) || PyTuple_GET_SIZE(self->kinds) != KINDS || !PyBytes_Check(self->listed) ||
	    PyBytes_GET_SIZE(self->listed) != 256 || !PyBytes_Check(self->taught) ||
	    PyBytes_GET_SIZE(self->taught) != REPORTS * HOLDERS || !PyIter_Check(self->ids)) {
		PyErr_SetString(PyExc_TypeError, "three kinds, 16 * 16 pairs of states, 9 reports of 4 holders, an iterator of ids");
		return -1;
	}
	return find_slots(self->row, ROW_NAMES, &self->of);
}

static PyMemberDef folder_members[] = {
	{ "is_easy", T_BOOL, offsetof(Folder, is_easy), 0, "whether there is no sweep, and no journal" },
	{ "silent", T_OBJECT, offsetof(Folder, silent), 0, "News.silent" },
	{ "last_ns", T_LONGLONG, offsetof(Folder, last_ns), READONLY, "time of the latest change that was told" },
	{ "by_state", T_OBJECT, offsetof(Folder, by_state), 0, "the index by state, or None" },
	{ NULL, 0, 0, 0, NULL },
};

static PyMethodDef folder_methods[] = {
	{ "met", (PyCFunction)(void (*)(void))folder_met, METH_FASTCALL,
	  "met(datagram, number, began_ns, shared, added, may_add, doubted, otherwise) -> bool" },
	{ NULL, NULL, 0, NULL },
};

static PyTypeObject folder_type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "_sstrace.Folder",
	.tp_doc = "Folder(Row, Transition, kinds, listed, taught, net, netns, rows, by_sk, by_cookie, by_ino, by_ends, "
		  "unsettled, ids, own, inherited)",
	.tp_basicsize = sizeof(Folder),
	.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
	.tp_members = folder_members,
	.tp_methods = folder_methods,
	.tp_new = PyType_GenericNew,
	.tp_init = folder_init,
	.tp_traverse = folder_traverse,
	.tp_clear = folder_clear,
	.tp_dealloc = folder_dealloc,
};

typedef struct {
	PyObject_HEAD
	vectorcallfunc call;
	PyObject *folders;   /* dict (net, protocol) → Folder */
	PyObject *otherwise; /* callable: takes a Fact */
	__u64 home;          /* the namespace that is meant where a record says none, or its inode: cookie and inode */
	__u32 here;
	__u64 net;           /* that of the last event, its protocol, and their folder; NULL where there is none */
	__u16 protocol;
	Folder *last;
} Dispatcher;

/* That of an event's space: a borrowed reference. NULL, with or without an exception, where there is none. */
static Folder *folder_of(Dispatcher *self, const struct sock_event *raw)
{
	__u64 net = raw->net_cookie ? raw->net_cookie : raw->netns == 0 || raw->netns == self->here ? self->home : raw->netns;
	PyObject *space, *found;

	if (self->last != NULL && self->net == net && self->protocol == raw->protocol)
		return self->last;
	space = Py_BuildValue("(KH)", (unsigned long long)net, (unsigned short)raw->protocol);
	found = space != NULL ? PyDict_GetItemWithError(self->folders, space) : NULL;
	Py_XDECREF(space);
	if (found == NULL || !Py_IS_TYPE(found, &folder_type))
		return NULL;
	self->net = net;
	self->protocol = raw->protocol;
	Py_XSETREF(self->last, (Folder *)new_ref(found));
	return self->last;
}

/* (event) → Transition or None. */
static PyObject *dispatcher_call(PyObject *callable, PyObject *const *args, size_t count, PyObject *names)
{
	Dispatcher *self = (Dispatcher *)callable;
	PyObject *change = UNUSUAL, *fact;
	Folder *folder;
	Event *event;

	if (PyVectorcall_NARGS(count) != 1 || names != NULL) {
		PyErr_SetString(PyExc_TypeError, "one event at a time");
		return NULL;
	}
	if (!Py_IS_TYPE(args[0], &event_type))
		return PyObject_CallOneArg(self->otherwise, args[0]);
	event = (Event *)args[0];
	folder = folder_of(self, &event->raw);
	if (folder != NULL && folder->is_easy)
		change = fold(folder, event);
	if (change != UNUSUAL)
		return change;
	if (PyErr_Occurred())
		return NULL;
	fact = event_fact(event);
	change = fact != NULL ? PyObject_CallOneArg(self->otherwise, fact) : NULL;
	Py_XDECREF(fact);
	return change;
}

static int dispatcher_init(PyObject *object, PyObject *args, PyObject *kwargs)
{
	Dispatcher *self = (Dispatcher *)object;
	PyObject *folders, *otherwise;
	unsigned long long home;
	unsigned int here;

	if (!PyArg_ParseTuple(args, "O!O(KI):Dispatcher", &PyDict_Type, &folders, &otherwise, &home, &here))
		return -1;
	Py_XSETREF(self->folders, new_ref(folders));
	Py_XSETREF(self->otherwise, new_ref(otherwise));
	self->home = home;
	self->here = here;
	return 0;
}

static PyObject *dispatcher_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	Dispatcher *self = (Dispatcher *)type->tp_alloc(type, 0);

	if (self != NULL)
		self->call = dispatcher_call;
	return (PyObject *)self;
}

static int dispatcher_traverse(PyObject *object, visitproc visit, void *arg)
{
	Dispatcher *self = (Dispatcher *)object;

	Py_VISIT(self->folders);
	Py_VISIT(self->otherwise);
	Py_VISIT(self->last);
	return 0;
}

static int dispatcher_clear(PyObject *object)
{
	Dispatcher *self = (Dispatcher *)object;

	Py_CLEAR(self->folders);
	Py_CLEAR(self->otherwise);
	Py_CLEAR(self->last);
	return 0;
}

static void dispatcher_dealloc(PyObject *object)
{
	PyObject_GC_UnTrack(object);
	dispatcher_clear(object);
	Py_TYPE(object)->tp_free(object);
}

static PyTypeObject dispatcher_type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "_sstrace.Dispatcher",
	.tp_doc = "Dispatcher(folders, otherwise, (cookie, inode))(event) -> Transition or None",
	.tp_basicsize = sizeof(Dispatcher),
	.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
	.tp_vectorcall_offset = offsetof(Dispatcher, call),
	.tp_call = PyVectorcall_Call,
	.tp_new = dispatcher_new,
	.tp_init = dispatcher_init,
	.tp_traverse = dispatcher_traverse,
	.tp_clear = dispatcher_clear,
	.tp_dealloc = dispatcher_dealloc,
};

int add_folder(PyObject *module)
{
	return PyModule_AddType(module, &folder_type) < 0 || PyModule_AddType(module, &dispatcher_type) < 0 ? -1 : 0;
}
