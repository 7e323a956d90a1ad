/*
 * Records of the BPF programs → events, which can be folded as they are. sstrace.wire.event.EventDecoder says what is in one,
 * makes a Fact of each that is unusual, and lends what gives its Python values.
 */
#include "shape.h"

enum {
	HEADER = 12, /* struct perf_event_header, u32 size of the sample */
	STRIDE = (HEADER + sizeof(struct sock_event) + 7) / 8 * 8,
};

/* What is lent: callable (cpu, records) → list of Facts; dict 16 bytes → 4 bytes; callable (comm, tgid, fd) → Owner, and the
 * dict of those that it has made; callable (stack, old, kind, flags, err) → (cause, by_call), and the dict (old, err) → the same
 * of EVENT_PLAIN. */
enum { FACTS, ADDRESSES, OWNER, OWNERS, CAUSE, PLAIN, LENT };
#define LENT(event, which) PyTuple_GET_ITEM((event)->lent, which)

PyObject *again(enum again which, __u64 value)
{
	static struct {
		__u64 value;
		PyObject *number;
	} last[AGAIN];

	if (last[which].number == NULL || last[which].value != value) {
		PyObject *made = PyLong_FromUnsignedLongLong(value);

		if (made == NULL)
			return NULL;
		last[which].value = value;
		Py_XSETREF(last[which].number, made);
	}
	return new_ref(last[which].number);
}

PyObject *event_fact(Event *event)
{
	char record[STRIDE] = {};
	OWNED *facts = NULL;

	memcpy(record + HEADER, &event->raw, sizeof(event->raw));
	facts = PyObject_CallFunction(LENT(event, FACTS), "Oy#", event->cpu, record, (Py_ssize_t)STRIDE);
	return facts != NULL ? PySequence_GetItem(facts, 0) : NULL;
}

/* IPv4 addresses are one object each, however often they come. */
static PyObject *find_address(Event *event, const __u8 *raw)
{
	OWNED *key = PyBytes_FromStringAndSize((const char *)raw, 16), *made = NULL;
	PyObject *found;

	if (key == NULL || event->raw.family != FAMILY_INET)
		return key != NULL ? new_ref(key) : NULL;
	found = PyDict_GetItemWithError(LENT(event, ADDRESSES), key);
	if (found != NULL || PyErr_Occurred())
		return found != NULL ? new_ref(found) : NULL;
	made = PyBytes_FromStringAndSize((const char *)raw, 4);
	return made != NULL && PyDict_SetItem(LENT(event, ADDRESSES), key, made) == 0 ? new_ref(made) : NULL;
}

PyObject *event_address(Event *event, enum end end)
{
	static struct {
		__u16 family;
		__u8 raw[16];
		PyObject *address;
	} last[2];
	const __u8 *raw = end == LOCAL ? event->raw.saddr : event->raw.daddr;

	if (last[end].address == NULL || last[end].family != event->raw.family || memcmp(last[end].raw, raw, 16) != 0) {
		PyObject *found = find_address(event, raw);

		if (found == NULL)
			return NULL;
		last[end].family = event->raw.family;
		memcpy(last[end].raw, raw, 16);
		Py_XSETREF(last[end].address, found);
	}
	return new_ref(last[end].address);
}

static PyObject *find_owner(Event *event)
{
	const struct sock_event *raw = &event->raw;
	OWNED *key = Py_BuildValue("(y#Ii)", (const char *)raw->comm, (Py_ssize_t)sizeof(raw->comm), raw->tgid, raw->fd);
	PyObject *found = key != NULL ? PyDict_GetItemWithError(LENT(event, OWNERS), key) : NULL;

	if (found != NULL)
		return new_ref(found);
	return key != NULL && !PyErr_Occurred() ? PyObject_CallObject(LENT(event, OWNER), key) : NULL;
}

PyObject *event_owner(Event *event)
{
	static struct {
		__u32 tgid;
		__s32 fd;
		__u8 comm[16];
		PyObject *owner;
	} last;
	const struct sock_event *raw = &event->raw;

	if (last.owner == NULL || last.tgid != raw->tgid || last.fd != raw->fd || memcmp(last.comm, raw->comm, sizeof(last.comm)) != 0) {
		PyObject *found = find_owner(event);

		if (found == NULL)
			return NULL;
		last.tgid = raw->tgid;
		last.fd = raw->fd;
		memcpy(last.comm, raw->comm, sizeof(last.comm));
		Py_XSETREF(last.owner, found);
	}
	return new_ref(last.owner);
}

/* Of EVENT_PLAIN: a new reference to the cause and ``by_call``; NULL, with or without an exception, where nobody has said. */
static PyObject *plain_cause(Event *event)
{
	static struct {
		int old, err;
		PyObject *told;
	} last;
	const struct sock_event *raw = &event->raw;

	if (last.told == NULL || last.old != raw->old || last.err != raw->err) {
		OWNED *key = Py_BuildValue("(ii)", raw->old, raw->err);
		PyObject *found = key != NULL ? PyDict_GetItemWithError(LENT(event, PLAIN), key) : NULL;

		if (found == NULL)
			return NULL;
		last.old = raw->old;
		last.err = raw->err;
		Py_XSETREF(last.told, new_ref(found));
	}
	return new_ref(last.told);
}

PyObject *event_cause(Event *event, enum kind kind, int *by_call)
{
	const struct sock_event *raw = &event->raw;
	OWNED *told = kind == SOCKET && raw->flags & EVENT_PLAIN ? plain_cause(event) : NULL;
	PyObject *cause;

	if (told == NULL && !PyErr_Occurred())
		told = PyObject_CallFunction(LENT(event, CAUSE), "y#iOii", (const char *)raw->stack, (Py_ssize_t)sizeof(raw->stack),
					     raw->old, PyTuple_GET_ITEM(known.kinds, kind), raw->flags, raw->err);
	return told != NULL && PyArg_ParseTuple(told, "Op", &cause, by_call) ? new_ref(cause) : NULL;
}

static void event_dealloc(PyObject *object)
{
	Event *self = (Event *)object;

	Py_DECREF(self->lent);
	Py_DECREF(self->cpu);
	Py_XDECREF(self->at_ns);
	Py_TYPE(object)->tp_free(object);
}

static PyObject *fact(PyObject *object, PyObject *nothing)
{
	return event_fact((Event *)object);
}

/* What the record reports besides has its own name here, as in a Reported. */
#define GETTER(member, more)                                                             \
	static PyObject *event_##member(PyObject *object, void *nothing)                 \
	{                                                                                \
		long long value = ((Event *)object)->raw.member;                         \
                                                                                         \
		return value ? PyLong_FromLongLong(value - more) : new_ref(Py_None);     \
	}
REPORTED(GETTER)

#define GETSET(member, more) { #member, event_##member, NULL, "sstrace.fields.Reported", NULL },
static PyGetSetDef getters[] = { REPORTED(GETSET) { NULL, NULL, NULL, NULL, NULL } };

static PyMemberDef members[] = {
	{ "at_ns", T_OBJECT_EX, offsetof(Event, at_ns), READONLY, "CLOCK_MONOTONIC" },
	{ NULL, 0, 0, 0, NULL },
};

static PyMethodDef methods[] = {
	{ "fact", fact, METH_NOARGS, "fact() -> Changed, Gone or Called" },
	{ NULL, NULL, 0, NULL },
};

/* It refers to nothing that refers to it. */
PyTypeObject event_type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "_sstrace.Event",
	.tp_doc = "An event that is no fact yet.",
	.tp_basicsize = sizeof(Event),
	.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.tp_members = members,
	.tp_methods = methods,
	.tp_getset = getters,
	.tp_dealloc = event_dealloc,
};

static PyObject *new_event(PyObject *lent, const char *record, PyObject *cpu)
{
	Event *event = PyObject_New(Event, &event_type);

	if (event == NULL)
		return NULL;
	event->lent = new_ref(lent);
	event->cpu = new_ref(cpu);
	memcpy(&event->raw, record + HEADER, sizeof(event->raw));
	event->at_ns = PyLong_FromUnsignedLongLong(event->raw.ts_ns);
	if (event->at_ns == NULL)
		Py_CLEAR(event);
	return (PyObject *)event;
}

static int is_call(int number)
{
	return number >= CALL_BIND && number <= CALL_CLOSE;
}

/* As records lie in the ring. */
typedef struct sock_event loose __attribute__((aligned(4)));

/* Whether a datagram socket's end tells of its birth, too. */
static int is_life(const loose *event)
{
	return event->kind == EVENT_DATAGRAM && event->old == CALL_CLOSE && event->since_ns != 0;
}

/* Whether an event that tells of a whole life is of a state that one is in: sstrace.wire.lives. */
static int is_alive(const struct sock_event *event)
{
	int state = event->kind == EVENT_LIFE ? event->new : event->old;

	return event->since_ns != 0 && state >= ESTABLISHED && state <= CLOSING && state != TIME_WAIT && state != CLOSE && state != LISTEN;
}

static int is_sound(const struct sock_event *event)
{
	return event->size == sizeof(*event) && event->old < STATES && event->new < STATES &&
	       (event->kind <= EVENT_TIMEWAIT_GONE ||
		(event->kind >= EVENT_LIFE && event->kind <= EVENT_LIFE_TIMEWAIT && is_alive(event)) ||
		(event->kind == EVENT_DATAGRAM && is_call(event->old) && (!is_life(event) || is_call(event->shutdown))));
}

/* The birth of a life becomes an event of its own: a new reference, NULL with an exception. */
static PyObject *split(Event *end)
{
	Event *birth = PyObject_New(Event, &event_type);
	struct sock_event *raw = &end->raw;

	if (birth == NULL)
		return NULL;
	birth->lent = new_ref(end->lent);
	birth->cpu = new_ref(end->cpu);
	birth->at_ns = PyLong_FromUnsignedLongLong(raw->since_ns);
	birth->raw = *raw;
	birth->raw.ts_ns = raw->since_ns;
	birth->raw.old = raw->shutdown;
	birth->raw.bytes_sent = birth->raw.bytes_received = 0;
	birth->raw.segs_out = birth->raw.segs_in = 0;
	birth->raw.since_ns = raw->since_ns = 0;
	birth->raw.shutdown = raw->shutdown = 0;
	raw->new = 0;
	if (birth->at_ns == NULL)
		Py_CLEAR(birth);
	return (PyObject *)birth;
}

PyObject *events(PyObject *module, PyObject *args)
{
	const char *data;
	Py_ssize_t length, lives = 0, count = 0;
	PyObject *lent, *cpu;
	OWNED *made = NULL;

	if (!PyArg_ParseTuple(args, "O!y#O:events", &PyTuple_Type, &lent, &data, &length, &cpu))
		return NULL;
	if (PyTuple_GET_SIZE(lent) != LENT || !PyDict_Check(PyTuple_GET_ITEM(lent, ADDRESSES)) ||
	    !PyDict_Check(PyTuple_GET_ITEM(lent, OWNERS)) || !PyDict_Check(PyTuple_GET_ITEM(lent, PLAIN)) || known.kinds == NULL) {
		PyErr_SetString(PyExc_TypeError, "events((callable, dict, callable, dict, callable, dict), bytes, int), once taught");
		return NULL;
	}
	for (Py_ssize_t at = 0; at < length / STRIDE; at++)
		lives += is_life((const loose *)(data + at * STRIDE + HEADER));
	made = PyList_New(length / STRIDE + lives);
	for (Py_ssize_t at = 0; made != NULL && at < length / STRIDE; at++) {
		OWNED *event = new_event(lent, data + at * STRIDE, cpu), *birth = NULL;
		struct sock_event *raw = event != NULL ? &((Event *)event)->raw : NULL;

		if (raw == NULL)
			return NULL;
		if (!is_sound(raw))
			Py_RETURN_NONE;
		if (is_life(raw)) {
			birth = split((Event *)event);
			if (birth == NULL)
				return NULL;
			PyList_SET_ITEM(made, count++, new_ref(birth));
		}
		PyList_SET_ITEM(made, count++, new_ref(event));
	}
	return made != NULL ? new_ref(made) : NULL;
}
