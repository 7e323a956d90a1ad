/*
 * A transition → its line of the native schema: the twin of sstrace.render.events.EventWriter.state, which says what it
 * means, and gives the plan by which it is written here, key by key. What is not ready for it (an address, cgroup or set of
 * owners that comes for the first time, a bound device, a line found by looking) it leaves to its twin, which prepares it.
 */
#include "shape.h"

enum {
	ROOM = 1 << 13, /* for a line: it has 350 bytes, and 40 for each owner but the first */
	BLOCK = 1 << 16, /* lines are put together here, for a bytearray that grows by a line grows slowly */
	SHORT = 32,
	STEPS = 48,
	SECOND = 1000000000,
	MICROSECOND = 1000,
};

/* Below this, a duration's decimal digits are those of the shortest text that reads back as the same double: they are
 * 15 at most. A longer one (eleven days) is left to the twin. */
static const long long LONGEST_NS = 1000000000000000;

/* How a step of the plan is written: sstrace.render.events.PLAN has them by these names. */
enum how { TIME, SEQ, NUMBER, NONZERO, MICROS, WORD, TRUTH, NAMED, ADDRESS, OWNERS, PLACE, WORK, TRUE, NEVER, HOWS };
static const char *const HOW_NAMES[HOWS] = { "time", "seq", "number", "nonzero", "micros", "word", "truth", "named",
					     "address", "owners", "place", "work", "true", "never" };

/* What was looked up last, since most of it comes again; what it stands for is held. */
struct memo {
	PyObject *key, *text;
};

struct step {
	char key[SHORT]; /* with the comma before it, the colon behind, and the quote of what is quoted */
	size_t length;
	enum how how;
	int of_row;      /* whether the slot is the row's; else the transition's */
	PyObject *slot;  /* its name */
	Py_ssize_t at;   /* its offset */
	PyObject *texts; /* dict value → text; NULL: it needs none */
	struct memo memo;
};

/* A member of the record that goes into the line as it is: sstrace.fields.REPORTED. */
struct carried {
	char key[SHORT];
	size_t length;
	unsigned offset;
	char code;
	int more; /* what it is more there: sstrace.fields.MEMBERS */
	PyObject *texts; /* dict number → word that stands for it; NULL: the number itself */
};

typedef struct {
	PyObject_HEAD
	PyObject *nothing; /* sstrace.fields.NOTHING */
	struct step steps[STEPS];
	int step_count;
	struct carried carried[STEPS];
	int carried_count;
	struct row_slots row;
	struct transition_slots transition;
	PyTypeObject *row_type, *transition_type; /* whose slots these are; NULL before the first line */
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
static PyObject *find_owners(struct memo *memo, PyObject *texts, PyObject *owners)
{
	PyObject *first = PyTuple_GET_ITEM(owners, 0), *found;

	if (PyTuple_GET_SIZE(owners) != 1)
		return PyDict_GetItemWithError(texts, owners);
	if (memo->key == first)
		return memo->text;
	found = PyDict_GetItemWithError(texts, owners);
	if (found != NULL) {
		Py_XSETREF(memo->key, new_ref(first));
		Py_XSETREF(memo->text, new_ref(found));
	}
	return found;
}

/* Fill the offsets of the plan's slots; -1 with an exception. */
static int find_steps(Liner *self, PyObject *transition, PyObject *row)
{
	for (struct step *step = self->steps; step < self->steps + self->step_count; step++) {
		const char *names[] = { PyUnicode_AsUTF8(step->slot), NULL };

		if (names[0] == NULL || (names[0][0] && find_slots(step->of_row ? row : transition, names, &step->at) < 0))
			return -1;
	}
	return 0;
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
	if (find_slots((PyObject *)Py_TYPE(of), ROW_NAMES, &row) < 0 ||
	    find_steps(self, (PyObject *)Py_TYPE(change), (PyObject *)Py_TYPE(of)) < 0)
		return 0;
	self->transition = transition;
	self->row = row;
	Py_XSETREF(self->transition_type, (PyTypeObject *)new_ref((PyObject *)Py_TYPE(change)));
	Py_XSETREF(self->row_type, (PyTypeObject *)new_ref((PyObject *)Py_TYPE(of)));
	return 1;
}

/* There is always room for what is SHORT, and a copy of a length that the compiler knows costs next to nothing. */
static inline void put_fixed(struct text *text, const char key[SHORT], size_t length)
{
	if (text->at != NULL) {
		memcpy(text->at, key, SHORT);
		text->at += length;
		if (text->at > text->end)
			text->at = NULL;
	}
}

static inline void put_key(struct text *text, const struct step *step)
{
	put_fixed(text, step->key, step->length);
}

/* A time of this second: nine digits are those of a number that has ten, but for the first. */
static void put_time(struct text *text, PyObject *prefix, long long nanoseconds)
{
	char digits[11];

	if (nanoseconds < 0 || nanoseconds >= SECOND) {
		text->at = NULL;
		return;
	}
	put_word(text, prefix);
	digits_before(digits + 10, SECOND + nanoseconds);
	digits[10] = 'Z';
	put_short(text, digits + 1, sizeof(digits) - 1);
	PUT(text, "\"");
}

/* A word out of the step's texts. */
static void put_found(struct text *text, struct step *step, PyObject *value)
{
	PyObject *word = find(&step->memo, step->texts, value);

	if (word == NULL) {
		text->at = NULL;
		return;
	}
	put_key(text, step);
	put_word(text, word);
	PUT(text, "\"");
}

/* Members that stand with a cgroup: its path, or what runs in it. */
static void put_members(struct text *text, struct step *step, PyObject *cgroup, Py_ssize_t which)
{
	PyObject *place = find(&step->memo, step->texts, cgroup);

	if (place == NULL || !PyTuple_Check(place) || PyTuple_GET_SIZE(place) != 2)
		text->at = NULL;
	else
		put_bytes(text, PyTuple_GET_ITEM(place, which));
}

static void put_owners(struct text *text, struct step *step, PyObject *owners)
{
	PyObject *found;

	if (!PyTuple_Check(owners)) {
		text->at = NULL;
		return;
	}
	if (PyTuple_GET_SIZE(owners) == 0)
		return;
	found = find_owners(&step->memo, step->texts, owners);
	if (found == NULL) {
		text->at = NULL;
		return;
	}
	put_key(text, step);
	put_bytes(text, found);
}

static void put_word_for(struct text *text, PyObject *texts, long long value)
{
	PyObject *number = PyLong_FromLongLong(value), *word = number != NULL ? PyDict_GetItemWithError(texts, number) : NULL;

	if (word == NULL)
		text->at = NULL;
	else
		put_word(text, word);
	PUT(text, "\"");
	Py_XDECREF(number);
}

static void put_carried(Liner *self, struct text *text, PyObject *reported)
{
	if (reported == self->nothing)
		return;
	if (!Py_IS_TYPE(reported, &event_type)) {
		text->at = NULL;
		return;
	}
	for (const struct carried *one = self->carried; one < self->carried + self->carried_count; one++) {
		long long value = load((const char *)&((Event *)reported)->raw + one->offset, one->code);

		if (value == 0)
			continue;
		if (value < 0)
			text->at = NULL;
		put_fixed(text, one->key, one->length);
		if (one->texts == NULL)
			put_digits(text, value - one->more);
		else
			put_word_for(text, one->texts, value);
	}
}

/* The line, from its type to the end: step by step as planned. */
static void put_line(Liner *self, struct text *text, PyObject *change, PyObject *prefix, long long second_ns,
		     unsigned long long seq)
{
	PyObject *row = SLOT(change, self->transition, row);

	if (!Py_IS_TYPE(row, self->row_type)) {
		text->at = NULL;
		return;
	}
	PUT(text, "{\"type\":\"state\"");
	for (struct step *step = self->steps; text->at != NULL && step < self->steps + self->step_count; step++) {
		PyObject *value = *(PyObject **)((char *)(step->of_row ? row : change) + step->at);

		switch (step->how) {
		case TIME:
			put_key(text, step);
			put_time(text, prefix, whole(value) - second_ns);
			break;
		case SEQ:
			put_key(text, step);
			put_digits(text, seq);
			break;
		case NONZERO:
			if (is_zero(value))
				break;
			/* fall through */
		case NUMBER:
			if (value == Py_None)
				break;
			put_key(text, step);
			put_int(text, value);
			break;
		case MICROS:
			if (value == Py_None)
				break;
			put_key(text, step);
			put_micros(text, whole(value));
			break;
		case WORD:
			if (value == Py_None)
				break;
			put_key(text, step);
			put_word(text, value);
			PUT(text, "\"");
			break;
		case TRUTH:
			if (value == Py_None)
				break;
			put_key(text, step);
			if (value == Py_True)
				PUT(text, "true");
			else
				PUT(text, "false");
			break;
		case NAMED:
		case ADDRESS:
			put_found(text, step, value);
			break;
		case OWNERS:
			put_owners(text, step, value);
			break;
		case PLACE:
		case WORK:
			if (value != Py_None)
				put_members(text, step, value, step->how == WORK);
			break;
		case TRUE:
			if (value != Py_True)
				break;
			put_key(text, step);
			PUT(text, "true");
			break;
		default: /* what only the twin can write */
			if (value != Py_None && PyObject_IsTrue(value) != 0)
				text->at = NULL;
		}
	}
	put_carried(self, text, SLOT(change, self->transition, reported));
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

/* Whether a transition needs nothing but its line: it is of TCP. */
static int is_easy(Liner *self, PyObject *change)
{
	PyObject *row = SLOT(change, self->transition, row);

	return Py_IS_TYPE(row, self->row_type) && small(SLOT(row, self->row, protocol)) == IPPROTO_OF_TCP;
}

/* run(changes, prefix, second_ns, seq, out, most) */
static PyObject *liner_run(PyObject *object, PyObject *args)
{
	Liner *self = (Liner *)object;
	PyObject *changes, *prefix, *out, *change;
	long long second_ns;
	unsigned long long seq;
	Py_ssize_t most;

	if (!PyArg_ParseTuple(args, "OULKO!n:run", &changes, &prefix, &second_ns, &seq, &PyByteArray_Type, &out, &most))
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
		done = is_known(self, change) && is_easy(self, change) ? add_line(self, change, prefix, second_ns, seq + 1) : 0;
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

static int is_quoted(enum how how)
{
	return how == TIME || how == WORD || how == NAMED || how == ADDRESS;
}

/* (key, how, slot, whether of the row, texts or None) */
static int plan_step(struct step *step, PyObject *planned)
{
	const char *key, *how;
	PyObject *slot, *texts;
	int of_row;

	if (!PyArg_ParseTuple(planned, "ssUpO:step", &key, &how, &slot, &of_row, &texts))
		return -1;
	while (step->how < HOWS && strcmp(HOW_NAMES[step->how], how) != 0)
		step->how++;
	step->length = snprintf(step->key, SHORT, ",\"%s\":%s", key, is_quoted(step->how) ? "\"" : "");
	if (step->length >= SHORT || step->how == HOWS || (texts != Py_None && !PyDict_Check(texts))) {
		PyErr_Format(PyExc_ValueError, "%s cannot be written as %s", key, how);
		return -1;
	}
	step->of_row = of_row;
	step->slot = new_ref(slot);
	step->texts = texts != Py_None ? new_ref(texts) : NULL;
	return 0;
}

/* (key, offset, code, texts or None) */
static int plan_carried(struct carried *one, PyObject *planned)
{
	const char *key, *code;
	PyObject *texts;

	if (!PyArg_ParseTuple(planned, "sIsiO:carried", &key, &one->offset, &code, &one->more, &texts))
		return -1;
	one->code = code[0];
	one->length = snprintf(one->key, SHORT, ",\"%s\":%s", key, texts != Py_None ? "\"" : "");
	if (one->length >= SHORT || one->offset >= sizeof(struct sock_event) || (texts != Py_None && !PyDict_Check(texts))) {
		PyErr_Format(PyExc_ValueError, "%s is no member of a record", key);
		return -1;
	}
	one->texts = texts != Py_None ? new_ref(texts) : NULL;
	return 0;
}

static int liner_init(PyObject *object, PyObject *args, PyObject *kwargs)
{
	Liner *self = (Liner *)object;
	PyObject *plan, *carried, *nothing;

	if (self->nothing || !PyArg_ParseTuple(args, "O!O!O:Liner", &PyTuple_Type, &plan, &PyTuple_Type, &carried, &nothing))
		return -1;
	self->nothing = new_ref(nothing);
	if (PyTuple_GET_SIZE(plan) > STEPS || PyTuple_GET_SIZE(carried) > STEPS) {
		PyErr_SetString(PyExc_ValueError, "no line is as long as that");
		return -1;
	}
	for (; self->step_count < PyTuple_GET_SIZE(plan); self->step_count++)
		if (plan_step(&self->steps[self->step_count], PyTuple_GET_ITEM(plan, self->step_count)) < 0)
			return -1;
	for (; self->carried_count < PyTuple_GET_SIZE(carried); self->carried_count++)
		if (plan_carried(&self->carried[self->carried_count], PyTuple_GET_ITEM(carried, self->carried_count)) < 0)
			return -1;
	return 0;
}

static void liner_dealloc(PyObject *object)
{
	Liner *self = (Liner *)object;

	Py_XDECREF(self->transition_type);
	Py_XDECREF(self->row_type);
	Py_XDECREF(self->nothing);
	for (struct step *step = self->steps; step < self->steps + STEPS; step++) {
		Py_XDECREF(step->slot);
		Py_XDECREF(step->texts);
		Py_XDECREF(step->memo.key);
		Py_XDECREF(step->memo.text);
	}
	for (int at = 0; at < STEPS; at++)
		Py_XDECREF(self->carried[at].texts);
	Py_TYPE(object)->tp_free(object);
}

static PyMethodDef liner_methods[] = {
	{ "line", liner_line, METH_VARARGS, "line(change, prefix, second_ns, seq, out) -> whether it has been appended" },
	{ "run", liner_run, METH_VARARGS,
	  "run(changes, prefix, second_ns, seq, out, most) -> the last seq given, and the first change that is not for it; None at\n"
	  "their end, or when out is longer than most" },
	{ NULL, NULL, 0, NULL },
};

/* It refers to dicts of texts alone, which refer to nothing: no part of any cycle. */
static PyTypeObject liner_type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "_sstrace.Liner",
	.tp_doc = "Liner(plan, carried, nothing): see sstrace.render.events.PLAN",
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
