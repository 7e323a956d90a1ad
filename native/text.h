/*
 * JSON as it is being written: numbers, words and times into a room that is there. What does not fit, or is no value of
 * ours, leaves ``at`` NULL, and everything that follows does nothing.
 */
#pragma once

#include "shape.h"

enum { SHORT = 32, SECOND = 1000000000, MICROSECOND = 1000 };

/* Below this, a duration's decimal digits are those of the shortest text that reads back as the same double: they are
 * 15 at most. A longer one (eleven days) is left to the twin. */
static const long long LONGEST_NS = 1000000000000000;

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

static inline void put(struct text *text, const char *bytes, size_t length)
{
	if (text->at != NULL && length > (size_t)(text->end - text->at))
		text->at = NULL;
	put_short(text, bytes, length);
}

static const char PAIRS[200] = "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748"
			       "49505152535455565758596061626364656667686970717273747576777879808182838485868788899091929394959697"
			       "9899";

/* The digits of a number, before ``at``: two at a time. */
static inline char *digits_before(char *at, unsigned long long number)
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

static inline void put_digits(struct text *text, unsigned long long number)
{
	char digits[SHORT], *end = digits + sizeof(digits), *at = digits_before(end, number);

	put_short(text, at, end - at);
}

/* An int of Python's. */
static inline void put_int(struct text *text, PyObject *number)
{
	unsigned long value = PyLong_AsUnsignedLong(number); /* faster than for a long long; where it is short, the twin helps */

	if (value == (unsigned long)-1 && PyErr_Occurred())
		text->at = NULL;
	else
		put_digits(text, value);
}

static inline void put_ascii(struct text *text, PyObject *word)
{
	if (!PyUnicode_Check(word) || !PyUnicode_IS_COMPACT_ASCII(word))
		text->at = NULL;
	else
		put(text, PyUnicode_DATA(word), PyUnicode_GET_LENGTH(word));
}

/* A str that JSON takes as it is: addresses, and words of ours. */
static inline void put_quoted(struct text *text, PyObject *word)
{
	PUT(text, "\"");
	put_ascii(text, word);
	PUT(text, "\"");
}

static inline void put_bytes(struct text *text, PyObject *bytes)
{
	if (!PyBytes_Check(bytes))
		text->at = NULL;
	else
		put(text, PyBytes_AS_STRING(bytes), PyBytes_GET_SIZE(bytes));
}

/* A number that cannot be negative; where it is, the twin helps. */
static inline void put_signed(struct text *text, long long number)
{
	if (number < 0)
		text->at = NULL;
	else
		put_digits(text, number);
}

/* Nanoseconds as microseconds, as a JSON float: 12.0, 0.5, 1234.567. */
static inline void put_duration(struct text *text, long long ns)
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

/* A time of this second: nine digits are those of a number that has ten, but for the first. */
static inline void put_timestamp(struct text *text, PyObject *prefix, long long nanoseconds)
{
	char digits[11];

	if (nanoseconds < 0 || nanoseconds >= SECOND) {
		text->at = NULL;
		return;
	}
	PUT(text, "\"");
	put_ascii(text, prefix);
	digits_before(digits + 10, SECOND + nanoseconds);
	digits[10] = 'Z';
	put_short(text, digits + 1, sizeof(digits) - 1);
	PUT(text, "\"");
}
