/*
 * A transition → its line of the native schema: the twin of sstrace.render.events.EventWriter.state, which says what it
 * means; the keys come in the order of StateLine. What is not ready for it (an address, cgroup or set of owners that
 * comes for the first time, a bound device, a line found by looking) it leaves to its twin, which prepares it.
 */
#include "shape.h"

enum {
	ROOM = 1 << 13, /* for a line: it has 350 bytes, and 40 for each owner but the first */
	BLOCK = 1 << 16, /* lines are put together here, for a bytearray that grows by a line grows slowly */
	SHORT = 32,
	SECOND = 1000000000,
	MICROSECOND = 1000,
};

/* Below this, a duration's decimal digits are those of the shortest text that reads back as the same double: they are
 * 15 at most. A longer one (eleven days) is left to the twin. */
static const long long LONGEST_NS = 1000000000000000;

typedef struct {
	PyObject_HEAD
	PyObject *errors;    /* dict errno → str: its name */
	PyObject *addresses; /* dict bytes → str */
	PyObject *owners;    /* dict tuple of Owner → bytes: their JSON array */
	PyObject *places;    /* dict cgroup id → (bytes, bytes): members of the object, each with its comma before it */
	const char *states[STATES];
	size_t lengths[STATES];
	PyObject *state_names;
	PyObject *inet;
	struct row_slots row;
	struct transition_slots transition;
	PyTypeObject *row_type, *transition_type; /* whose slots these are; NULL before the first line */
	/* What was looked up last, since most of it comes again; what it stands for is held. */
	struct memo {
		PyObject *key, *text;
	} local, peer, place, owner;
	size_t used;
	char block[BLOCK];
} Liner;

/* Where the text is being written. ``at`` NULL: it cannot be written here. There is always room for what is SHORT. */
struct text {
	char *at, *end;
};

static inline void put_short(struct text *text, const char *bytes, size_t length)
{
	if (text->at != NULL) {
		memcpy(text->at, bytes, length);
		text->at += length;
		if (text->at > text->end)
			text->at = NULL;
	}
}

#define PUT(text, literal)                                              \
	do {                                                            \
		_Static_assert(sizeof(literal) <= SHORT, "too long"); \
		put_short(text, literal, sizeof(literal) - 1);          \
	} while (0)

static void put(struct text *text, const char *bytes, size_t length)
{
	if (text->at != NULL && length > (size_t)(text->end - text->at))
		text->at = NULL;
	put_short(text, bytes, length);
}

static const char PAIRS[200] = "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748"
			       "49505152535455565758596061626364656667686970717273747576777879808182838485868788899091929394959697"
			       "9899";

/* The digits of a number, before ``at``: two at a time. */
static char *digits_before(char *at, unsigned long long number)
{
	for (; number >= 100; number /= 100) {
		at -= 2;
		memcpy(at, PAIRS + number % 100 * 2, 2);
	}
	if (number >= 10) {
		at -= 2;
		memcpy(at, PAIRS + number * 2, 2);
	} else {
		*--at = '0' + number;
	}
	return at;
}

static void put_digits(struct text *text, unsigned long long number)
{
	char digits[SHORT], *end = digits + sizeof(digits), *at = digits_before(end, number);

	put_short(text, at, end - at);
}

/* An int of Python's. */
static void put_int(struct text *text, PyObject *number)
{
	unsigned long value = PyLong_AsUnsignedLong(number); /* faster than for a long long; where it is short, the twin helps */

	if (value == (unsigned long)-1 && PyErr_Occurred())
		text->at = NULL;
	else
		put_digits(text, value);
}

/* A str that JSON takes as it is: addresses, and words of ours. */
static void put_word(struct text *text, PyObject *word)
{
	if (!PyUnicode_Check(word) || !PyUnicode_IS_COMPACT_ASCII(word))
		text->at = NULL;
	else
		put(text, PyUnicode_DATA(word), PyUnicode_GET_LENGTH(word));
}

static void put_bytes(struct text *text, PyObject *bytes)
{
	if (!PyBytes_Check(bytes))
		text->at = NULL;
	else
		put(text, PyBytes_AS_STRING(bytes), PyBytes_GET_SIZE(bytes));
}

/* Nanoseconds as microseconds, as a JSON float: 12.0, 0.5, 1234.567. */
static void put_micros(struct text *text, long long ns)
{
	if (ns < 0 || ns >= LONGEST_NS) {
		text->at = NULL;
		return;
	}
	int rest = ns % MICROSECOND;
	char fraction[4] = { '.', '0' + rest / 100, '0' + rest / 10 % 10, '0' + rest % 10 };

	put_digits(text, ns / MICROSECOND);
	put_short(text, fraction, rest % 10 ? 4 : rest % 100 ? 3 : 2);
}

static int is_zero(PyObject *number)
{
	return PyObject_Not(number) == 1;
}

/* ``"key":`` and a number, unless it is None, or 0 where that means that there is none. */
#define PUT_NUMBER(text, key, value, absent)                          \
	do {                                                          \
		PyObject *number = value;                             \
		if (number != Py_None && !(absent && is_zero(number))) { \
			PUT(text, ",\"" key "\":");                   \
			put_int(text, number);                        \
		}                                                     \
	} while (0)

#define PUT_WORD(text, key, value)                  \
	do {                                        \
		PyObject *word = value;             \
		if (word != Py_None) {              \
			PUT(text, ",\"" key "\":\"");  \
			put_word(text, word);       \
			PUT(text, "\"");            \
		}                                   \
	} while (0)

/* Look a key up, whose very object may be that of the last time. A borrowed reference; NULL where there is none. */
static PyObject *find(struct memo *memo, PyObject *texts, PyObject *key)
{
	PyObject *found;

	if (memo->key == key)
		return memo->text;
	found = PyDict_GetItemWithError(texts, key);
	if (found != NULL) {
		Py_XSETREF(memo->key, new_ref(key));
		Py_XSETREF(memo->text, new_ref(found));
	}
	return found;
}

/* The same for a tuple of owners: that of one owner is made anew for each of its sockets. */
static PyObject *find_owners(Liner *self, PyObject *owners)
{
	struct memo *memo = &self->owner;
	PyObject *first = PyTuple_GET_ITEM(owners, 0), *found;

	if (PyTuple_GET_SIZE(owners) != 1)
		return PyDict_GetItemWithError(self->owners, owners);
	if (memo->key == first)
		return memo->text;
	found = PyDict_GetItemWithError(self->owners, owners);
	if (found != NULL) {
		Py_XSETREF(memo->key, new_ref(first));
		Py_XSETREF(memo->text, new_ref(found));
	}
	return found;
}

static void put_address(Liner *self, struct text *text, struct memo *memo, PyObject *raw)
{
	PyObject *word = find(memo, self->addresses, raw);

	if (word == NULL)
		text->at = NULL;
	else
		put_word(text, word);
}

static void put_state(Liner *self, struct text *text, PyObject *number)
{
	long state = small(number);

	if (state < 0 || state >= STATES)
		text->at = NULL;
	else
		put_short(text, self->states[state], self->lengths[state]);
}

static void put_error(Liner *self, struct text *text, PyObject *number)
{
	PyObject *name = PyDict_GetItemWithError(self->errors, number);

	if (name == NULL)
		text->at = NULL;
	else
		PUT_WORD(text, "errno", name);
}

/* The slots of a transition and its row; 0 where they have none. */
static int know(Liner *self, PyObject *change)
{
	struct transition_slots transition;
	struct row_slots row;
	PyObject *of;

	if (find_slots((PyObject *)Py_TYPE(change), TRANSITION_NAMES, &transition) < 0)
		return 0;
	of = SLOT(change, transition, row);
	if (find_slots((PyObject *)Py_TYPE(of), ROW_NAMES, &row) < 0)
		return 0;
	self->transition = transition;
	self->row = row;
	Py_XSETREF(self->transition_type, (PyTypeObject *)new_ref((PyObject *)Py_TYPE(change)));
	Py_XSETREF(self->row_type, (PyTypeObject *)new_ref((PyObject *)Py_TYPE(of)));
	return 1;
}

/* The line, from its type to the end. */
static void put_line(Liner *self, struct text *text, PyObject *change, PyObject *prefix, long long second_ns,
		     unsigned long long seq)
{
	const struct transition_slots *of = &self->transition;
	const struct row_slots *in = &self->row;
	PyObject *row = SLOT(change, *of, row), *held = SLOT(change, *of, held_ns), *cgroup, *owners, *v6only, *lifetime, *place = NULL;
	long long at_ns = whole(SLOT(change, *of, at_ns)), nanoseconds = at_ns - second_ns;
	char digits[11];

	if (!Py_IS_TYPE(row, self->row_type) || nanoseconds < 0 || nanoseconds >= SECOND ||
	    !is_zero(SLOT(row, *in, ifindex)) || SLOT(change, *of, approximate) != Py_False ||
	    SLOT(change, *of, source) != Py_None) {
		text->at = NULL;
		return;
	}
	PUT(text, "{\"type\":\"state\",\"ts\":\"");
	put_word(text, prefix);
	/* Nine digits: those of a number that has ten, but for the first. */
	digits_before(digits + 10, SECOND + nanoseconds);
	digits[10] = 'Z';
	put_short(text, digits + 1, sizeof(digits) - 1);
	PUT(text, "\",\"mono_ns\":");
	put_digits(text, at_ns);
	PUT(text, ",\"seq\":");
	put_digits(text, seq);
	PUT(text, ",\"id\":");
	put_int(text, SLOT(row, *in, id));
	if (small(SLOT(row, *in, protocol)) == IPPROTO_OF_TCP)
		PUT(text, ",\"netid\":\"tcp\"");
	else
		PUT(text, ",\"netid\":\"mptcp\"");
	if (equal(SLOT(row, *in, family), self->inet) == 1)
		PUT(text, ",\"family\":\"inet\"");
	else
		PUT(text, ",\"family\":\"inet6\"");
	PUT(text, ",\"from\":\"");
	put_state(self, text, SLOT(change, *of, old));
	PUT(text, "\",\"to\":\"");
	put_state(self, text, SLOT(change, *of, new));
	PUT(text, "\",\"src\":\"");
	put_address(self, text, &self->local, SLOT(row, *in, src));
	PUT(text, "\",\"sport\":");
	put_int(text, SLOT(row, *in, sport));
	PUT(text, ",\"dst\":\"");
	put_address(self, text, &self->peer, SLOT(row, *in, dst));
	PUT(text, "\",\"dport\":");
	put_int(text, SLOT(row, *in, dport));
	PUT(text, ",\"netns\":");
	put_int(text, SLOT(row, *in, netns));
	if (held != Py_None) {
		PUT(text, ",\"held_us\":");
		put_micros(text, whole(held));
	}
	PUT_NUMBER(text, "ino", SLOT(row, *in, ino), 1);
	PUT_NUMBER(text, "sk", SLOT(row, *in, cookie), 0);
	PUT_NUMBER(text, "uid", SLOT(row, *in, uid), 0);
	if ((cgroup = SLOT(row, *in, cgroup)) != Py_None) {
		place = find(&self->place, self->places, cgroup);
		if (place == NULL || !PyTuple_Check(place) || PyTuple_GET_SIZE(place) != 2) {
			text->at = NULL;
			return;
		}
		put_bytes(text, PyTuple_GET_ITEM(place, 0));
	}
	owners = SLOT(row, *in, owners);
	if (!PyTuple_Check(owners)) {
		text->at = NULL;
		return;
	}
	if (PyTuple_GET_SIZE(owners) != 0) {
		PyObject *texts = find_owners(self, owners);

		if (texts == NULL) {
			text->at = NULL;
			return;
		}
		PUT(text, ",\"owners\":");
		put_bytes(text, texts);
	}
	PUT_WORD(text, "owner_source", SLOT(row, *in, owner_source));
	PUT_WORD(text, "cause", SLOT(change, *of, cause));
	PUT_NUMBER(text, "err", SLOT(change, *of, err), 0);
	if (SLOT(change, *of, err) != Py_None)
		put_error(self, text, SLOT(change, *of, err));
	PUT_NUMBER(text, "retransmits", SLOT(change, *of, retransmits), 1);
	if ((v6only = SLOT(row, *in, v6only)) == Py_True)
		PUT(text, ",\"v6only\":true");
	else if (v6only == Py_False)
		PUT(text, ",\"v6only\":false");
	PUT_WORD(text, "role", SLOT(row, *in, role));
	if (SLOT(change, *of, ended) == Py_True)
		PUT(text, ",\"ended\":true");
	if ((lifetime = SLOT(change, *of, lifetime_ns)) != Py_None) {
		PUT(text, ",\"lifetime_us\":");
		put_micros(text, whole(lifetime));
	}
	if (place != NULL)
		put_bytes(text, PyTuple_GET_ITEM(place, 1));
	PUT(text, "}\n");
}

/* Put a transition's line into the block, where there is ROOM: 1; 0 where that is the twin's; -1 with an exception. */
static int add_line(Liner *self, PyObject *change, PyObject *prefix, long long second_ns, unsigned long long seq)
{
	char *line = self->block + self->used;
	struct text text = { line, line + ROOM - SHORT };

	put_line(self, &text, change, prefix, second_ns, seq);
	if (PyErr_Occurred()) {
		/* A number that is none of the kernel's: the twin has words for it. */
		if (!PyErr_ExceptionMatches(PyExc_OverflowError) && !PyErr_ExceptionMatches(PyExc_TypeError))
			return -1;
		PyErr_Clear();
		return 0;
	}
	if (text.at == NULL)
		return 0;
	self->used = text.at - self->block;
	return 1;
}

/* The block goes behind what is in a bytearray. */
static int empty_block(Liner *self, PyObject *out)
{
	Py_ssize_t before = PyByteArray_GET_SIZE(out);

	if (self->used == 0)
		return 0;
	if (PyByteArray_Resize(out, before + self->used) < 0)
		return -1;
	memcpy(PyByteArray_AS_STRING(out) + before, self->block, self->used);
	self->used = 0;
	return 0;
}

static int is_known(Liner *self, PyObject *change)
{
	if (Py_IS_TYPE(change, self->transition_type) || know(self, change))
		return 1;
	PyErr_Clear();
	return 0;
}

/* line(change, prefix, second_ns, seq, out) */
static PyObject *liner_line(PyObject *object, PyObject *args)
{
	Liner *self = (Liner *)object;
	PyObject *change, *prefix, *out;
	long long second_ns;
	unsigned long long seq;
	int done;

	if (!PyArg_ParseTuple(args, "OULKO!:line", &change, &prefix, &second_ns, &seq, &PyByteArray_Type, &out))
		return NULL;
	done = is_known(self, change) ? add_line(self, change, prefix, second_ns, seq) : 0;
	return done < 0 || empty_block(self, out) < 0 ? NULL : PyBool_FromLong(done);
}

/* Whether a transition needs nothing but its line: of TCP, and nothing is to be learnt of its owners (live.owners). */
static int is_easy(Liner *self, PyObject *change, long long known_ns, long long next_ns, PyObject *known)
{
	PyObject *row = SLOT(change, self->transition, row);
	long long at_ns;

	if (!Py_IS_TYPE(row, self->row_type) || small(SLOT(row, self->row, protocol)) != IPPROTO_OF_TCP)
		return 0;
	if (is_zero(SLOT(row, self->row, ino)))
		return 1;
	at_ns = whole(SLOT(change, self->transition, at_ns));
	return at_ns < next_ns && (at_ns > known_ns || PyDict_Contains(known, SLOT(row, self->row, ino)) == 0);
}

/* run(changes, prefix, second_ns, seq, out, most, known_ns, next_ns, known) */
static PyObject *liner_run(PyObject *object, PyObject *args)
{
	Liner *self = (Liner *)object;
	PyObject *changes, *prefix, *out, *known, *change;
	long long second_ns, known_ns, next_ns;
	unsigned long long seq;
	Py_ssize_t most;

	if (!PyArg_ParseTuple(args, "OULKO!nLLO!:run", &changes, &prefix, &second_ns, &seq, &PyByteArray_Type, &out, &most,
			      &known_ns, &next_ns, &PyDict_Type, &known))
		return NULL;
	if (!PyIter_Check(changes)) {
		PyErr_SetString(PyExc_TypeError, "changes are taken from an iterator");
		return NULL;
	}
	while (PyByteArray_GET_SIZE(out) <= most) {
		int done;

		/* What is behind the iterator folds, and writes nothing: the block may wait meanwhile. */
		if (self->used > BLOCK - ROOM && empty_block(self, out) < 0)
			return NULL;
		change = PyIter_Next(changes);
		if (change == NULL)
			break;
		done = is_known(self, change) && is_easy(self, change, known_ns, next_ns, known)
			       ? add_line(self, change, prefix, second_ns, seq + 1)
			       : 0;
		if (done == 0)
			return empty_block(self, out) < 0 ? NULL : Py_BuildValue("KN", seq, change);
		Py_DECREF(change);
		if (done < 0)
			break;
		seq++;
	}
	if (PyErr_Occurred()) {
		PyObject *type, *value, *trace;

		PyErr_Fetch(&type, &value, &trace);
		if (empty_block(self, out) == 0)
			PyErr_Restore(type, value, trace);
		return NULL;
	}
	return empty_block(self, out) < 0 ? NULL : Py_BuildValue("KO", seq, Py_None);
}

static int liner_init(PyObject *object, PyObject *args, PyObject *kwargs)
{
	Liner *self = (Liner *)object;
	PyObject *names, *errors, *addresses, *owners, *places;

	if (!PyArg_ParseTuple(args, "O!O!O!O!O!:Liner", &PyTuple_Type, &names, &PyDict_Type, &errors, &PyDict_Type, &addresses, &PyDict_Type, &owners,
			      &PyDict_Type, &places))
		return -1;
	if (PyTuple_GET_SIZE(names) != STATES) {
		PyErr_SetString(PyExc_TypeError, "the names are not those of 14 states");
		return -1;
	}
	for (int state = 0; state < STATES; state++) {
		Py_ssize_t length;

		self->states[state] = PyUnicode_AsUTF8AndSize(PyTuple_GET_ITEM(names, state), &length);
		if (self->states[state] == NULL)
			return -1;
		if (length > SHORT) {
			PyErr_SetString(PyExc_ValueError, "no name of a state is as long as that");
			return -1;
		}
		self->lengths[state] = length;
	}
	Py_XSETREF(self->state_names, new_ref(names));
	Py_XSETREF(self->errors, new_ref(errors));
	Py_XSETREF(self->addresses, new_ref(addresses));
	Py_XSETREF(self->owners, new_ref(owners));
	Py_XSETREF(self->places, new_ref(places));
	Py_XSETREF(self->inet, PyLong_FromLong(FAMILY_INET));
	return self->inet != NULL ? 0 : -1;
}

static void liner_dealloc(PyObject *object)
{
	Liner *self = (Liner *)object;

	Py_XDECREF(self->transition_type);
	Py_XDECREF(self->row_type);
	Py_XDECREF(self->state_names);
	Py_XDECREF(self->errors);
	Py_XDECREF(self->addresses);
	Py_XDECREF(self->owners);
	Py_XDECREF(self->places);
	Py_XDECREF(self->inet);
	for (struct memo *memo = &self->local; memo <= &self->owner; memo++) {
		Py_XDECREF(memo->key);
		Py_XDECREF(memo->text);
	}
	Py_TYPE(object)->tp_free(object);
}

static PyMethodDef liner_methods[] = {
	{ "line", liner_line, METH_VARARGS, "line(change, prefix, second_ns, seq, out) -> whether it has been appended" },
	{ "run", liner_run, METH_VARARGS,
	  "run(changes, prefix, second_ns, seq, out, most, known_ns, next_ns, known) -> the last seq given, and the first change that\n"
	  "is not for it; None at their end, or when out is longer than most" },
	{ NULL, NULL, 0, NULL },
};

/* It refers to dicts of texts alone, which refer to nothing: no part of any cycle. */
static PyTypeObject liner_type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "_sstrace.Liner",
	.tp_doc = "Liner(state_names, errno_names, addresses, owners, places)",
	.tp_basicsize = sizeof(Liner),
	.tp_flags = Py_TPFLAGS_DEFAULT,
	.tp_new = PyType_GenericNew,
	.tp_init = liner_init,
	.tp_methods = liner_methods,
	.tp_dealloc = liner_dealloc,
};

int add_liner(PyObject *module)
{
	return PyModule_AddType(module, &liner_type);
}
