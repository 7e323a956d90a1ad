/*
 * The fold as Python sees it: what brings each event to its shard, and what is not usual to the twin.
 */
#include "step.h"

typedef struct {
	PyObject_HEAD
	vectorcallfunc call;
	PyObject *shards;    /* dict (net, protocol) → Shard */
	PyObject *otherwise; /* callable: takes a Fact */
	PyObject *taught;    /* bytes: 1 where lifecycle says what is done here */
	__u64 home;          /* the namespace that is meant where a record says none, or its inode: cookie and inode */
	__u32 here;
	struct last {
		__u64 net;
		__u16 protocol;
		PyObject *shard; /* NULL: there is none */
	} last[2];           /* the space of the last event of TCP, and of the last of datagram sockets */
} Folder;

/* That of an event's space, where everything is usual there: a borrowed reference. NULL, with or without an exception, where
 * not. */
static PyObject *easy_shard(Folder *self, const struct sock_event *raw)
{
	__u64 net = raw->net_cookie ? raw->net_cookie : raw->netns == 0 || raw->netns == self->here ? self->home : raw->netns;
	struct last *last = &self->last[raw->kind == EVENT_DATAGRAM];
	PyObject *index;

	if (raw->protocol != IPPROTO_OF_TCP && raw->kind != EVENT_DATAGRAM)
		return NULL;
	if (last->shard == NULL || last->net != net || last->protocol != raw->protocol) {
		OWNED *space = Py_BuildValue("(KH)", (unsigned long long)net, raw->protocol);
		PyObject *found = space != NULL ? PyDict_GetItemWithError(self->shards, space) : NULL;

		Py_XSETREF(last->shard, found != NULL && Py_IS_TYPE(found, (PyTypeObject *)known.shard) ? new_ref(found) : NULL);
		last->net = net;
		last->protocol = raw->protocol;
	}
	if (last->shard == NULL || SLOT(last->shard, shard, forgotten) == Py_True ||
	    SLOT(SLOT(last->shard, shard, tombstones), tombstones, sweeping) == Py_True)
		return NULL;
	index = SLOT(last->shard, shard, index);
	return SLOT(INDEX(news), news, journal) == Py_None ? last->shard : NULL;
}

/* Into the rows of an Index: see step.h. */
static PyObject *fold(PyObject *index, Event *event, const char *taught)
{
	const struct sock_event *raw = &event->raw;
	OWNED *sk = PyLong_FromUnsignedLongLong(raw->sk);
	struct step now = { event, raw, index, sk, event->at_ns, taught };
	PyObject *change;
	int found;

	if (sk == NULL)
		return NULL;
	if (raw->kind == EVENT_DATAGRAM)
		return fold_datagram(&now);
	found = find(&now);
	if (found <= 0)
		change = found == 0 ? UNUSUAL : NULL;
	else if (raw->kind == EVENT_LIFE_CLOSED || raw->kind == EVENT_LIFE_TIMEWAIT)
		change = fold_life(&now);
	else
		change = fold_connection(&now);
	Py_XDECREF(now.row);
	Py_XDECREF(now.ends);
	Py_XDECREF(now.between);
	return change;
}

/* (event) → Transition or None. */
static PyObject *folder_call(PyObject *callable, PyObject *const *args, size_t count, PyObject *names)
{
	Folder *self = (Folder *)callable;
	PyObject *shard, *change = UNUSUAL;
	OWNED *fact = NULL;

	if (PyVectorcall_NARGS(count) != 1 || names != NULL) {
		PyErr_SetString(PyExc_TypeError, "one event at a time");
		return NULL;
	}
	if (!Py_IS_TYPE(args[0], &event_type))
		return PyObject_CallOneArg(self->otherwise, args[0]);
	shard = easy_shard(self, &((Event *)args[0])->raw);
	if (shard != NULL)
		change = fold(SLOT(shard, shard, index), (Event *)args[0], PyBytes_AS_STRING(self->taught));
	if (change != UNUSUAL)
		return change;
	if (PyErr_Occurred())
		return NULL;
	fact = event_fact((Event *)args[0]);
	return fact != NULL ? PyObject_CallOneArg(self->otherwise, fact) : NULL;
}

static PyObject *folder_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	PyObject *shards, *otherwise, *taught;
	unsigned long long home;
	unsigned int here;
	Folder *self;

	if (!PyArg_ParseTuple(args, "O!OO!(KI):Folder", &PyDict_Type, &shards, &otherwise, &PyBytes_Type, &taught, &home, &here))
		return NULL;
	if (known.row == NULL || PyBytes_GET_SIZE(taught) != TAUGHT) {
		PyErr_SetString(PyExc_TypeError, "9 reports of 4 holders, 2 times 6 calls, once all else is taught");
		return NULL;
	}
	self = (Folder *)type->tp_alloc(type, 0);
	if (self != NULL)
		*self = (Folder){ self->ob_base, folder_call, new_ref(shards), new_ref(otherwise), new_ref(taught), home, here };
	return (PyObject *)self;
}

static void folder_dealloc(PyObject *object)
{
	Folder *self = (Folder *)object;

	Py_DECREF(self->shards);
	Py_DECREF(self->otherwise);
	Py_DECREF(self->taught);
	Py_XDECREF(self->last[0].shard);
	Py_XDECREF(self->last[1].shard);
	Py_TYPE(object)->tp_free(object);
}

/* The table makes one for each run of events, and keeps none: no part of any cycle. */
static PyTypeObject folder_type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "_sstrace.Folder",
	.tp_doc = "Folder(shards, otherwise, taught, (cookie, inode))(event) -> Transition or None",
	.tp_basicsize = sizeof(Folder),
	.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL,
	.tp_vectorcall_offset = offsetof(Folder, call),
	.tp_call = PyVectorcall_Call,
	.tp_new = folder_new,
	.tp_dealloc = folder_dealloc,
};

int add_folder(PyObject *module)
{
	return PyModule_AddType(module, &folder_type);
}
