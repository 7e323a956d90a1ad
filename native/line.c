/*
 * A transition → its line of the native schema: the twin of sstrace.render.events.EventWriter.state, which says what it
 * means. Which keys there are, how each is written and of what, is that module's PLAN, and what a record reports besides
 * is sstrace.fields': both are lists in native/fields.h, and no key stands here. What is not ready for it (an address, cgroup or
 * set of owners that comes for the first time, a bound device, a line found by looking) it leaves to its twin, which
 * prepares it.
 */
#include "text.h"

enum {
	ROOM = 1 << 13, /* for a line: it has 350 bytes, and 40 for each owner but the first */
	BLOCK = 1 << 16, /* lines are put together here, for a bytearray that grows by a line grows slowly */
};

#define STEP(how, key, of, slot, in) STEP_##key,
enum step { LINE(STEP) STEPS };

/* Dicts value → text, by name; NULL: what would be looked up in it is not told. */
#define MEMBER(name) PyObject *name;
#define NAME(name) #name,
struct texts { TEXTS(MEMBER) PyObject *none; };
static const char *const TEXT_NAMES[] = { TEXTS(NAME) NULL };

/* What was looked up last, since most of it comes again; what it stands for is held. */
struct memo {
	PyObject *key, *text;
};

typedef struct {
	PyObject_HEAD
	PyObject *nothing; /* sstrace.fields.NOTHING */
	struct texts texts;
	struct memo memos[STEPS];
	size_t used;
	char block[BLOCK];
} Liner;

/* A line that is being written: its prefix of timestamps, the second that they are of, its number. */
struct line {
	struct text text;
	PyObject *prefix;
	long long second_ns;
	unsigned long long seq;
};

/* What a line about a whole life needs besides: sstrace.output.handshakes.Handshakes. Both NULL: lines are of transitions. */
struct lives {
	PyObject *took; /* dict: how long the handshake took, ns, by the ids of rows */
	PyObject *over; /* set: ids of rows whose connections have ended */
};

/* A key of a line, and what its value is looked up with. */
struct key {
	const char *text;
	size_t length;
	PyObject *texts;
	struct memo *memo;
};

/* The text of a value that ``by`` stands for, which may be that of the last time. NULL, and no line, where it is not ready. */
static PyObject *find(struct line *line, const struct key *key, PyObject *value, PyObject *by)
{
	PyObject *found;

	if (key->memo->key == by)
		return key->memo->text;
	found = PyDict_GetItemWithError(key->texts, value);
	if (found != NULL) {
		Py_XSETREF(key->memo->key, new_ref(by));
		Py_XSETREF(key->memo->text, new_ref(found));
	} else {
		line->text.at = NULL;
	}
	return found;
}

static inline void put_key(struct line *line, const struct key *key)
{
	put_short(&line->text, key->text, key->length);
}

/* How a key of the plan is written of its value: sstrace.render.plan.PLAN has them by these names. */

static inline void put_time(struct line *line, const struct key *key, PyObject *value)
{
	put_key(line, key);
	put_timestamp(&line->text, line->prefix, whole(value) - line->second_ns);
}

static inline void put_seq(struct line *line, const struct key *key, PyObject *value)
{
	put_key(line, key);
	put_digits(&line->text, line->seq);
}

static inline void put_number(struct line *line, const struct key *key, PyObject *value)
{
	if (value == Py_None)
		return;
	put_key(line, key);
	put_int(&line->text, value);
}

static inline void put_nonzero(struct line *line, const struct key *key, PyObject *value)
{
	if (PyObject_Not(value) != 1)
		put_number(line, key, value);
}

static inline void put_micros(struct line *line, const struct key *key, PyObject *value)
{
	if (value == Py_None)
		return;
	put_key(line, key);
	put_duration(&line->text, whole(value));
}

static inline void put_word(struct line *line, const struct key *key, PyObject *value)
{
	if (value == Py_None)
		return;
	put_key(line, key);
	put_quoted(&line->text, value);
}

static inline void put_truth(struct line *line, const struct key *key, PyObject *value)
{
	if (value == Py_None)
		return;
	put_key(line, key);
	if (value == Py_True)
		PUT(&line->text, "true");
	else
		PUT(&line->text, "false");
}

static inline void put_true(struct line *line, const struct key *key, PyObject *value)
{
	if (value == Py_True)
		put_truth(line, key, value);
}

static inline void put_named(struct line *line, const struct key *key, PyObject *value)
{
	PyObject *found = find(line, key, value, value);

	if (found != NULL)
		put_word(line, key, found);
}

/* What the texts have of it stands with its keys. */
static inline void put_members(struct line *line, const struct key *key, PyObject *value)
{
	PyObject *found = key->texts != NULL && value != Py_None ? find(line, key, value, value) : NULL;

	if (found != NULL)
		put_bytes(&line->text, found);
}

/* The same of a tuple: that of one owner is made anew for each of its sockets. */
static inline void put_owners(struct line *line, const struct key *key, PyObject *value)
{
	int is_one = PyTuple_CheckExact(value) && PyTuple_GET_SIZE(value) == 1;
	PyObject *found = find(line, key, value, is_one ? PyTuple_GET_ITEM(value, 0) : value);

	if (found != NULL)
		put_bytes(&line->text, found);
}

/* What only the twin can write. */
static inline void put_never(struct line *line, const struct key *key, PyObject *value)
{
	if (value != Py_None && PyObject_IsTrue(value) != 0)
		line->text.at = NULL;
}

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
		OWNED *number = PyLong_FromLong(raw->err);
		PyObject *found = number != NULL ? PyDict_GetItemWithError(self->texts.errnos, number) : NULL;

		if (found == NULL)
			text->at = NULL;
		else
			put_bytes(text, found);
	}
#define REPORT(member, more)                                   \
	if (raw->member != 0) {                                \
		PUT(text, ",\"" #member "\":");                \
		put_signed(text, (long long)raw->member - more); \
	}
	REPORTED(REPORT)
}

/* The line, from its type to the end: step by step as planned. */
static void put_line(Liner *self, struct line *line, PyObject *transition, const struct lives *lives)
{
	PyObject *row = SLOT(transition, transition, row), *took;

	if (lives->took == NULL)
		PUT(&line->text, "{\"type\":\"state\"");
	else
		PUT(&line->text, "{\"type\":\"life\"");
#define WRITE(how, name, of, slot, in)                                                                               \
	if (line->text.at != NULL) {                                                                                 \
		static const char text[] = ",\"" #name "\":";                                                        \
		put_##how(line, &(struct key){ text, sizeof(text) - 1, self->texts.in, &self->memos[STEP_##name] },   \
			  SLOT(of, of, slot));                                                                       \
	}
	LINE(WRITE)
	put_reported(self, &line->text, SLOT(transition, transition, reported));
	took = lives->took != NULL ? PyDict_GetItemWithError(lives->took, ROW(id)) : NULL;
	if (took == NULL && lives->took != NULL && SLOT(transition, transition, handshake_ns) != Py_None)
		took = SLOT(transition, transition, handshake_ns);
	if (took != NULL) {
		PUT(&line->text, ",\"handshake_us\":");
		put_duration(&line->text, whole(took));
	}
	PUT(&line->text, "}\n");
}

/* Put a transition's line into the block, where there is ROOM: 1; 0 where that is the twin's; -1 with an exception. */
static int add_line(Liner *self, PyObject *change, PyObject *prefix, long long second_ns, unsigned long long seq,
		    const struct lives *lives)
{
	char *at = self->block + self->used;
	struct line line = { { at, at + ROOM - SHORT }, prefix, second_ns, seq };

	if (!Py_IS_TYPE(change, (PyTypeObject *)known.transition) || !Py_IS_TYPE(SLOT(change, transition, row), (PyTypeObject *)known.row))
		return 0;
	put_line(self, &line, change, lives);
	if (PyErr_Occurred()) {
		/* A number that is none of the kernel's: the twin has words for it. */
		if (!PyErr_ExceptionMatches(PyExc_OverflowError) && !PyErr_ExceptionMatches(PyExc_TypeError))
			return -1;
		PyErr_Clear();
		return 0;
	}
	if (line.text.at == NULL)
		return 0;
	self->used = line.text.at - self->block;
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

/* line(change, prefix, second_ns, seq, out) */
static PyObject *liner_line(PyObject *object, PyObject *args)
{
	static const struct lives none;
	Liner *self = (Liner *)object;
	PyObject *change, *prefix, *out;
	long long second_ns;
	unsigned long long seq;
	int done;

	if (!PyArg_ParseTuple(args, "OULKO!:line", &change, &prefix, &second_ns, &seq, &PyByteArray_Type, &out))
		return NULL;
	done = add_line(self, change, prefix, second_ns, seq, &none);
	return done < 0 || empty_block(self, out) < 0 ? NULL : PyBool_FromLong(done);
}

/* Whether a change needs nothing but its line: it is a transition, of one of these protocols. -1 with an exception. */
static int is_easy(PyObject *change, PyObject *protocols)
{
	PyObject *row = Py_IS_TYPE(change, (PyTypeObject *)known.transition) ? SLOT(change, transition, row) : NULL;

	if (row == NULL)
		return 0;
	return Py_IS_TYPE(row, (PyTypeObject *)known.row) ? PySet_Contains(protocols, ROW(protocol)) : 0;
}

/* sstrace.output.handshakes.Handshakes.hear, of a transition that ends nothing: -1 with an exception. */
static int hear(const struct lives *lives, PyObject *change)
{
	PyObject *row = SLOT(change, transition, row), *held = SLOT(change, transition, held_ns);
	long old = small(SLOT(change, transition, old)), new = small(SLOT(change, transition, new));

	if (held != Py_None && (old == SYN_SENT || old == SYN_RECV) && (new == ESTABLISHED || new == CLOSE_WAIT) &&
	    PyDict_SetItem(lives->took, ROW(id), held) < 0)
		return -1;
	return new == CLOSE ? PySet_Discard(lives->over, ROW(id)) : 0;
}

/* The line of a life is written: -1 with an exception. */
static int forget(const struct lives *lives, PyObject *change)
{
	PyObject *row = SLOT(change, transition, row);
	long new = small(SLOT(change, transition, new));

	if (PyDict_GetItemWithError(lives->took, ROW(id)) != NULL && PyDict_DelItem(lives->took, ROW(id)) < 0)
		return -1;
	return new == TIME_WAIT || new == FIN_WAIT2 ? PySet_Add(lives->over, ROW(id)) : 0;
}

/* run(changes, protocols, prefix, second_ns, seq, out, most, took, over) */
static PyObject *liner_run(PyObject *object, PyObject *args)
{
	Liner *self = (Liner *)object;
	PyObject *changes, *protocols, *prefix, *out, *type, *value, *trace;
	OWNED *change = NULL;
	long long second_ns;
	unsigned long long seq;
	struct lives lives = { NULL, NULL };
	Py_ssize_t most;
	int done = 1;

	if (!PyArg_ParseTuple(args, "OO!ULKO!n|O!O!:run", &changes, &PyFrozenSet_Type, &protocols, &prefix, &second_ns, &seq,
			      &PyByteArray_Type, &out, &most, &PyDict_Type, &lives.took, &PySet_Type, &lives.over))
		return NULL;
	if (!PyIter_Check(changes)) {
		PyErr_SetString(PyExc_TypeError, "changes are taken from an iterator");
		return NULL;
	}
	while (done == 1 && PyByteArray_GET_SIZE(out) <= most) {
		/* What is behind the iterator folds, and writes nothing: the block may wait meanwhile. */
		if (self->used > BLOCK - ROOM && empty_block(self, out) < 0)
			return NULL;
		Py_XSETREF(change, NULL);
		change = PyIter_Next(changes);
		if (change == NULL)
			break;
		done = is_easy(change, protocols);
		if (done == 1 && lives.over != NULL && SLOT(change, transition, ended) == Py_False) {
			done = hear(&lives, change) < 0 ? -1 : 1;
			continue;
		}
		if (done == 1)
			done = add_line(self, change, prefix, second_ns, seq + 1, &lives);
		seq += done == 1;
		if (done == 1 && lives.over != NULL && forget(&lives, change) < 0)
			done = -1;
	}
	if (done == 1)
		Py_CLEAR(change);
	PyErr_Fetch(&type, &value, &trace); /* the lines before what went wrong are whole */
	if (empty_block(self, out) == 0 && type != NULL)
		PyErr_Restore(type, value, trace);
	return PyErr_Occurred() ? NULL : Py_BuildValue("KO", seq, change != NULL ? change : Py_None);
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

		if (one == NULL || !(PyDict_Check(one) || (one == Py_None && given == &self->texts.spaces))) {
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

	Py_XDECREF(self->nothing);
	for (PyObject **text = (PyObject **)&self->texts; text < (PyObject **)(&self->texts + 1); text++)
		Py_XDECREF(*text);
	for (struct memo *memo = self->memos; memo < self->memos + STEPS; memo++) {
		Py_XDECREF(memo->key);
		Py_XDECREF(memo->text);
	}
	Py_TYPE(object)->tp_free(object);
}

static PyMethodDef liner_methods[] = {
	{ "line", liner_line, METH_VARARGS, "line(change, prefix, second_ns, seq, out) -> whether it has been appended" },
	{ "run", liner_run, METH_VARARGS,
	  "run(changes, protocols, prefix, second_ns, seq, out, most[, took, over]) -> the last seq given, and the first change that is\n"
	  "not for it; None at their end, or when out is longer than most" },
	{ NULL, NULL, 0, NULL },
};

/* It refers to dicts of texts alone, which refer to nothing: no part of any cycle. */
static PyTypeObject liner_type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "_sstrace.Liner",
	.tp_doc = "Liner(texts, nothing): see sstrace.render.plan.PLAN",
	.tp_basicsize = sizeof(Liner),
	.tp_flags = Py_TPFLAGS_DEFAULT,
	.tp_methods = liner_methods,
	.tp_new = PyType_GenericNew,
	.tp_init = liner_init,
	.tp_dealloc = liner_dealloc,
};

int add_liner(PyObject *module)
{
	return PyModule_AddType(module, &liner_type);
}
