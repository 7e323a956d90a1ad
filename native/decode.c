/*
 * Records of the BPF programs → events: records that can be folded as they are, beside sstrace.wire.event.EventDecoder, which
 * says what is in one, and makes a Fact of each that is unusual.
 */
#include "fields.h"
#include "shape.h"

enum {
	HEADER = 12, /* struct perf_event_header, u32 size of the sample */
	STRIDE = (HEADER + sizeof(struct sock_event) + 7) / 8 * 8,
	MOST_ADDRESSES = 100000, /* as its twin: against who scans the whole of IPv4 */
	TELLING = EVENT_EXPIRED | EVENT_ORPHANED | EVENT_FULL | EVENT_ROOM,
};

typedef struct decoder {
	PyObject_HEAD
	PyObject *facts;            /* callable (cpu, records) → list of Facts: the twin */
	PyObject *kinds;            /* tuple of Kind */
	PyObject *plain;            /* dict (old, err) → (cause, by_call) */
	PyObject *addresses;        /* dict 16 bytes → 4 bytes */
	PyObject *owners;           /* dict (comm, tgid, fd) → Owner */
	PyObject *owner;            /* callable (comm, tgid, fd) → Owner */
	PyObject *cause;            /* callable (stack, old, kind, telling) → (cause, by_call) */
	/* What came last, since most of it comes again: */
	struct {
		__u64 value;
		PyObject *number;
	} last[NUMBERS];
	struct {
		__u8 raw[16];
		PyObject *bytes;
	} ends[2];
} Decoder;

/* A number of a kind that often comes again. */
static PyObject *number(Decoder *self, int which, __u64 value)
{
	if (self->last[which].number == NULL || self->last[which].value != value) {
		PyObject *made = PyLong_FromUnsignedLongLong(value);

		if (made == NULL)
			return NULL;
		self->last[which].value = value;
		Py_XSETREF(self->last[which].number, made);
	}
	return new_ref(self->last[which].number);
}

/* IPv4 addresses are one object each, however often they come. */
static PyObject *find_address(Decoder *self, const __u8 *raw, int family)
{
	PyObject *key = PyBytes_FromStringAndSize((const char *)raw, 16), *found;

	if (key == NULL || family != FAMILY_INET)
		return key;
	found = PyDict_GetItemWithError(self->addresses, key);
	if (found != NULL) {
		Py_INCREF(found);
	} else if (!PyErr_Occurred()) {
		if (PyDict_GET_SIZE(self->addresses) > MOST_ADDRESSES)
			PyDict_Clear(self->addresses);
		found = PyBytes_FromStringAndSize((const char *)raw, 4);
		if (found != NULL && PyDict_SetItem(self->addresses, key, found) < 0)
			Py_CLEAR(found);
	}
	Py_DECREF(key);
	return found;
}

static PyObject *address(Decoder *self, int which, const __u8 *raw, int family)
{
	PyObject *found;

	if (self->ends[which].bytes != NULL && memcmp(self->ends[which].raw, raw, 16) == 0 &&
	    PyBytes_GET_SIZE(self->ends[which].bytes) == (family == FAMILY_INET ? 4 : 16))
		return new_ref(self->ends[which].bytes);
	found = find_address(self, raw, family);
	if (found != NULL) {
		memcpy(self->ends[which].raw, raw, 16);
		Py_XSETREF(self->ends[which].bytes, new_ref(found));
	}
	return found;
}

static PyObject *owner_of(Decoder *self, const struct sock_event *event)
{
	PyObject *key = Py_BuildValue("(y#Ii)", (const char *)event->comm, (Py_ssize_t)sizeof(event->comm), event->tgid, event->fd);
	PyObject *found;

	if (key == NULL)
		return NULL;
	found = PyDict_GetItemWithError(self->owners, key);
	if (found != NULL)
		Py_INCREF(found);
	else if (!PyErr_Occurred())
		found = PyObject_CallObject(self->owner, key);
	Py_DECREF(key);
	return found;
}

/* What the stack says: a new reference to the cause, and whether the task that ran was its owner. */
static PyObject *cause_of(Decoder *self, const struct sock_event *event, int kind, int *by_call)
{
	PyObject *told = NULL, *cause;

	if (kind == SOCKET && event->flags & EVENT_PLAIN) {
		PyObject *key = Py_BuildValue("(ii)", event->old, event->err);

		if (key == NULL)
			return NULL;
		told = PyDict_GetItemWithError(self->plain, key);
		Py_XINCREF(told);
		Py_DECREF(key);
		if (told == NULL && PyErr_Occurred())
			return NULL;
	}
	if (told == NULL)
		told = PyObject_CallFunction(self->cause, "y#iOi", (const char *)event->stack, (Py_ssize_t)sizeof(event->stack),
					     event->old, PyTuple_GET_ITEM(self->kinds, kind), event->flags & TELLING);
	if (told == NULL)
		return NULL;
	if (!PyArg_ParseTuple(told, "Op", &cause, by_call)) {
		Py_DECREF(told);
		return NULL;
	}
	Py_INCREF(cause);
	Py_DECREF(told);
	return cause;
}

static int is_by_call(int state)
{
	return state == SYN_SENT || state == LISTEN || state == FIN_WAIT1 || state == LAST_ACK;
}

/* Whether there is a process to name, given that it was its call. */
static int has_owner(const struct sock_event *event)
{
	return event->tgid && !(event->flags & EVENT_KTHREAD);
}

PyObject *event_fact(Event *event)
{
	char record[STRIDE] = {};
	PyObject *facts, *fact = NULL;

	memcpy(record + HEADER, &event->raw, sizeof(event->raw));
	facts = PyObject_CallFunction(event->decoder->facts, "Oy#", event->cpu, record, (Py_ssize_t)STRIDE);
	if (facts != NULL)
		fact = PySequence_GetItem(facts, 0);
	Py_XDECREF(facts);
	return fact;
}

PyObject *event_source(Event *event)
{
	return address(event->decoder, 0, event->raw.saddr, event->raw.family);
}

PyObject *event_destination(Event *event)
{
	return address(event->decoder, 1, event->raw.daddr, event->raw.family);
}

PyObject *event_number(Event *event, enum number which, __u64 value)
{
	return number(event->decoder, which, value);
}

PyObject *event_owner(Event *event)
{
	return owner_of(event->decoder, &event->raw);
}

PyObject *event_cause(Event *event, int kind, int *by_call)
{
	return cause_of(event->decoder, &event->raw, kind, by_call);
}

int event_is_by_call(const Event *event)
{
	return is_by_call(event->raw.new);
}

int event_has_owner(const Event *event)
{
	return has_owner(&event->raw);
}

static void event_dealloc(PyObject *object)
{
	Event *self = (Event *)object;

	Py_DECREF(self->decoder);
	Py_DECREF(self->cpu);
	Py_XDECREF(self->at_ns);
	Py_TYPE(object)->tp_free(object);
}

static PyObject *event_fact_method(PyObject *object, PyObject *nothing)
{
	return event_fact((Event *)object);
}

/* What the record reports besides has its own name here, as in a Reported. */
#define GETTER(member, more)                                                                                   \
	static PyObject *event_##member(PyObject *object, void *nothing)                                       \
	{                                                                                                      \
		long long value = ((Event *)object)->raw.member;                                               \
                                                                                                               \
		return value ? PyLong_FromLongLong(value - more) : new_ref(Py_None); \
	}
REPORTED(GETTER)
#undef GETTER

#define GETSET(member, more) { #member, event_##member, NULL, "sstrace.fields.Reported", NULL },
static PyGetSetDef event_getters[] = { REPORTED(GETSET) { NULL, NULL, NULL, NULL, NULL } };
#undef GETSET

static PyMemberDef event_members[] = {
	{ "at_ns", T_OBJECT_EX, offsetof(Event, at_ns), READONLY, "CLOCK_MONOTONIC" },
	{ NULL, 0, 0, 0, NULL },
};

static PyMethodDef event_methods[] = {
	{ "fact", event_fact_method, METH_NOARGS, "fact() -> Changed or Gone" },
	{ NULL, NULL, 0, NULL },
};

PyTypeObject event_type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "_sstrace.Event",
	.tp_doc = "An event that is no fact yet.",
	.tp_basicsize = sizeof(Event),
	.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.tp_members = event_members,
	.tp_methods = event_methods,
	.tp_getset = event_getters,
	.tp_dealloc = event_dealloc,
};

static PyObject *new_event(Decoder *self, const char *record, PyObject *cpu)
{
	Event *event = PyObject_New(Event, &event_type);

	if (event == NULL)
		return NULL;
	event->decoder = (Decoder *)new_ref((PyObject *)self);
	event->cpu = new_ref(cpu);
	memcpy(&event->raw, record + HEADER, sizeof(event->raw));
	event->at_ns = PyLong_FromUnsignedLongLong(event->raw.ts_ns);
	if (event->at_ns == NULL)
		Py_CLEAR(event);
	return (PyObject *)event;
}

static int is_sound(const struct sock_event *event)
{
	return event->size == sizeof(*event) && event->old < STATES && event->new < STATES &&
	       (event->kind <= EVENT_TIMEWAIT_GONE ||
		(event->kind == EVENT_DATAGRAM && event->old >= CALL_BIND && event->old <= CALL_CLOSE));
}

/* (records, cpu) → list of events; None where a record is not as it should be: the twin says what is wrong. */
static PyObject *decoder_call(PyObject *callable, PyObject *args, PyObject *kwargs)
{
	Decoder *self = (Decoder *)callable;
	const char *data;
	Py_ssize_t length, at, count = 0;
	PyObject *cpu, *events;

	if (!PyArg_ParseTuple(args, "y#O:Decoder", &data, &length, &cpu))
		return NULL;
	events = PyList_New(length / STRIDE);
	if (events == NULL)
		return NULL;
	for (at = 0; at + STRIDE <= length; at += STRIDE) {
		PyObject *event = new_event(self, data + at, cpu);

		if (event == NULL) {
			Py_DECREF(events);
			return NULL;
		}
		PyList_SET_ITEM(events, count++, event);
		if (!is_sound(&((Event *)event)->raw)) {
			Py_DECREF(events);
			Py_RETURN_NONE;
		}
	}
	return events;
}

static int decoder_init(PyObject *object, PyObject *args, PyObject *kwargs)
{
	Decoder *self = (Decoder *)object;
	PyObject *facts, *kinds, *plain, *addresses, *owners, *owner, *cause;

	if (!PyArg_ParseTuple(args, "OO!O!O!O!OO:Decoder", &facts, &PyTuple_Type, &kinds, &PyDict_Type,
			      &plain, &PyDict_Type, &addresses, &PyDict_Type, &owners, &owner, &cause))
		return -1;
	if (PyTuple_GET_SIZE(kinds) != KINDS) {
		PyErr_SetString(PyExc_TypeError, "there are three kinds");
		return -1;
	}
	Py_XSETREF(self->facts, new_ref(facts));
	Py_XSETREF(self->kinds, new_ref(kinds));
	Py_XSETREF(self->plain, new_ref(plain));
	Py_XSETREF(self->addresses, new_ref(addresses));
	Py_XSETREF(self->owners, new_ref(owners));
	Py_XSETREF(self->owner, new_ref(owner));
	Py_XSETREF(self->cause, new_ref(cause));
	return 0;
}

static int decoder_traverse(PyObject *object, visitproc visit, void *arg)
{
	Decoder *self = (Decoder *)object;

	Py_VISIT(self->facts);
	Py_VISIT(self->kinds);
	Py_VISIT(self->plain);
	Py_VISIT(self->addresses);
	Py_VISIT(self->owners);
	Py_VISIT(self->owner);
	Py_VISIT(self->cause);
	return 0;
}

static int decoder_clear(PyObject *object)
{
	Decoder *self = (Decoder *)object;

	Py_CLEAR(self->facts);
	Py_CLEAR(self->kinds);
	Py_CLEAR(self->plain);
	Py_CLEAR(self->addresses);
	Py_CLEAR(self->owners);
	Py_CLEAR(self->owner);
	Py_CLEAR(self->cause);
	for (int at = 0; at < NUMBERS; at++)
		Py_CLEAR(self->last[at].number);
	for (int at = 0; at < 2; at++)
		Py_CLEAR(self->ends[at].bytes);
	return 0;
}

static void decoder_dealloc(PyObject *object)
{
	PyObject_GC_UnTrack(object);
	decoder_clear(object);
	Py_TYPE(object)->tp_free(object);
}

static PyTypeObject decoder_type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "_sstrace.Decoder",
	.tp_doc = "Decoder(facts, kinds, plain, addresses, owners, owner, cause)(records, cpu) -> events, or None",
	.tp_basicsize = sizeof(Decoder),
	.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
	.tp_new = PyType_GenericNew,
	.tp_init = decoder_init,
	.tp_call = decoder_call,
	.tp_traverse = decoder_traverse,
	.tp_clear = decoder_clear,
	.tp_dealloc = decoder_dealloc,
};

int add_decoder(PyObject *module)
{
	return PyModule_AddType(module, &event_type) < 0 || PyModule_AddType(module, &decoder_type) < 0 ? -1 : 0;
}
