/*
 * A transition → its line of the native schema: the twin of sstrace.render.events.EventWriter.state, which says what it
 * means. Which keys there are, how each is written and of what, is that module's PLAN, and what a record reports besides
 * is sstrace.fields': both are lists in native/fields.h, and no key stands here. What is not ready for it (an address, cgroup or
 * set of owners that comes for the first time, a bound device, a line found by looking) it leaves to its twin, which
 * prepares it.
 */
#include "fields.h"
#include "text.h"

enum {
	ROOM = 1 << 13, /* for a line: it has 350 bytes, and 40 for each owner but the first */
	BLOCK = 1 << 16, /* lines are put together here, for a bytearray that grows by a line grows slowly */
};

#define STEP(how, key, of, slot, in) STEP_##key,
enum step { LINE(STEP) STEPS };
#undef STEP

/* Of which object each is, and its slot there. */
enum { OF_change, OF_row };
#define SLOT_OF(how, key, of, slot, in) { OF_##of, { #slot, NULL } },
static const struct {
	int of;
	const char *slot[2];
} PLAN[STEPS] = { LINE(SLOT_OF) };
#undef SLOT_OF

/* Dicts value → text, by name; NULL: what would be looked up in it is not told. */
#define MEMBER(name) PyObject *name;
struct texts { TEXTS(MEMBER) MEMBER(errnos) };
#undef MEMBER
#define NAME(name) #name,
static const char *const TEXT_NAMES[] = { TEXTS(NAME) NAME(errnos) NULL };
#undef NAME

/* What was looked up last, since most of it comes again; what it stands for is held. */
struct memo {
	PyObject *key, *text;
};

typedef struct {
	PyObject_HEAD
	PyObject *nothing; /* sstrace.fields.NOTHING */
	struct texts texts;
	Py_ssize_t at[STEPS]; /* offsets of the plan's slots */
	struct memo memos[STEPS];
	struct row_slots row;
	struct transition_slots transition;
	PyTypeObject *row_type, *transition_type; /* whose slots these are; NULL before the first line */
	size_t used;
	char block[BLOCK];
} Liner;

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
	for (int step = 0; step < STEPS; step++)
		if (find_slots(PLAN[step].of == OF_row ? row : transition, PLAN[step].slot, &self->at[step]) < 0)
			return -1;
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

/* The text that stands for a value: a borrowed reference; NULL, and no line, where it is not ready. */
static PyObject *found(struct text *text, struct memo *memo, PyObject *texts, PyObject *value)
{
	PyObject *known = find(memo, texts, value);

	if (known == NULL)
		text->at = NULL;
	return known;
}

/* Members that stand with a cgroup or a namespace: one of two. */
static void put_members(struct text *text, struct memo *memo, PyObject *texts, PyObject *value, Py_ssize_t which)
{
	PyObject *pair = texts != NULL && value != Py_None ? found(text, memo, texts, value) : NULL;

	if (pair == NULL)
		return;
	if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2)
		text->at = NULL;
	else
		put_bytes(text, PyTuple_GET_ITEM(pair, which));
}

/* The text of some owners; NULL where there are none, or, and then there is no line, where it is not ready. */
static PyObject *owners_text(struct text *text, struct memo *memo, PyObject *texts, PyObject *owners)
{
	PyObject *known = NULL;

	if (PyTuple_Check(owners) && PyTuple_GET_SIZE(owners) == 0)
		return NULL;
	if (PyTuple_Check(owners))
		known = find_owners(memo, texts, owners);
	if (known == NULL)
		text->at = NULL;
	return known;
}

static void put_word_for(struct text *text, PyObject *texts, long long value)
{
	PyObject *number = PyLong_FromLongLong(value), *word = number != NULL ? PyDict_GetItemWithError(texts, number) : NULL;

	if (word == NULL)
		text->at = NULL;
	else
		put_word(text, word);
	Py_XDECREF(number);
}

/* A member of the record, and what it is more there. */
static inline void put_member(struct text *text, long long value, int more)
{
	if (value < 0)
		text->at = NULL;
	else
		put_digits(text, value - more);
}

#define KEY(key) ",\"" #key "\":"

/* What the record reports besides, and the word for its errno. */
static void put_reported(Liner *self, struct text *text, PyObject *reported)
{
	const struct sock_event *raw = &((Event *)reported)->raw;

	if (reported == self->nothing)
		return;
	if (!Py_IS_TYPE(reported, &event_type)) {
		text->at = NULL;
		return;
	}
	if (raw->err != 0) {
		PUT(text, KEY(errno) "\"");
		put_word_for(text, self->texts.errnos, raw->err);
		PUT(text, "\"");
	}
#define REPORT(member, more)                             \
	if (raw->member != 0) {                          \
		PUT(text, KEY(member));                  \
		put_member(text, raw->member, more); \
	}
	REPORTED(REPORT)
#undef REPORT
}

/* How a key of the plan is written of its value: sstrace.render.events.PLAN has them by these names. */
#define WRITE_TIME(key, value, memo, in)                          \
	PUT(text, KEY(key) "\"");                                 \
	put_time(text, prefix, whole(value) - second_ns)
#define WRITE_SEQ(key, value, memo, in) \
	(void)value;                    \
	PUT(text, KEY(key));            \
	put_digits(text, seq)
#define WRITE_NUMBER(key, value, memo, in) \
	if (value != Py_None) {            \
		PUT(text, KEY(key));       \
		put_int(text, value);      \
	}
#define WRITE_NONZERO(key, value, memo, in) \
	if (!is_zero(value))                \
		WRITE_NUMBER(key, value, memo, in)
#define WRITE_MICROS(key, value, memo, in)       \
	if (value != Py_None) {                  \
		PUT(text, KEY(key));             \
		put_micros(text, whole(value));  \
	}
#define WRITE_WORD(key, value, memo, in)    \
	if (value != Py_None) {             \
		PUT(text, KEY(key) "\"");   \
		put_word(text, value);      \
		PUT(text, "\"");            \
	}
#define WRITE_TRUTH(key, value, memo, in)       \
	if (value == Py_True) {                 \
		PUT(text, KEY(key) "true");     \
	} else if (value != Py_None) {          \
		PUT(text, KEY(key) "false");    \
	}
#define WRITE_TRUE(key, value, memo, in)    \
	if (value == Py_True)               \
		PUT(text, KEY(key) "true")
#define WRITE_NAMED(key, value, memo, in)                                     \
	PyObject *word = found(text, memo, self->texts.in, value);            \
	if (word != NULL) {                                                   \
		PUT(text, KEY(key) "\"");                                     \
		put_word(text, word);                                         \
		PUT(text, "\"");                                              \
	}
#define WRITE_ADDRESS WRITE_NAMED
#define WRITE_OWNERS(key, value, memo, in)                                    \
	PyObject *owners = owners_text(text, memo, self->texts.in, value);    \
	if (owners != NULL) {                                                 \
		PUT(text, KEY(key));                                          \
		put_bytes(text, owners);                                      \
	}
#define WRITE_PLACE(key, value, memo, in) put_members(text, memo, self->texts.in, value, 0)
#define WRITE_WORK(key, value, memo, in) put_members(text, memo, self->texts.in, value, 1)
/* What only the twin can write. */
#define WRITE_NEVER(key, value, memo, in)                        \
	if (value != Py_None && PyObject_IsTrue(value) != 0)     \
		text->at = NULL

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
#define WRITE(how, key, of, slot, in)                                              \
	if (text->at != NULL) {                                                    \
		PyObject *value = *(PyObject **)((char *)of + self->at[STEP_##key]); \
		WRITE_##how(key, value, &self->memos[STEP_##key], in);             \
	}
	LINE(WRITE)
#undef WRITE
	put_reported(self, text, SLOT(change, self->transition, reported));
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

/* Liner(texts, nothing) */
static int liner_init(PyObject *object, PyObject *args, PyObject *kwargs)
{
	Liner *self = (Liner *)object;
	PyObject *texts, *nothing, **given = (PyObject **)&self->texts;

	if (self->nothing || !PyArg_ParseTuple(args, "O!O:Liner", &PyDict_Type, &texts, &nothing))
		return -1;
	for (const char *const *name = TEXT_NAMES; *name != NULL; name++, given++) {
		PyObject *one = PyDict_GetItemString(texts, *name);

		if (one == NULL || !(PyDict_Check(one) || (one == Py_None && strcmp(*name, "errnos") != 0))) {
			PyErr_Format(PyExc_TypeError, "there are no texts by the name of %s", *name);
			return -1;
		}
		*given = one != Py_None ? new_ref(one) : NULL;
	}
	self->nothing = new_ref(nothing);
	return 0;
}

static void liner_dealloc(PyObject *object)
{
	Liner *self = (Liner *)object;

	Py_XDECREF(self->transition_type);
	Py_XDECREF(self->row_type);
	Py_XDECREF(self->nothing);
#define RELEASE(name) Py_XDECREF(self->texts.name);
	TEXTS(RELEASE) RELEASE(errnos)
#undef RELEASE
	for (struct memo *memo = self->memos; memo < self->memos + STEPS; memo++) {
		Py_XDECREF(memo->key);
		Py_XDECREF(memo->text);
	}
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
	.tp_doc = "Liner(texts, nothing): see sstrace.render.events.PLAN",
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
