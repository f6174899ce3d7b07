/*
 * JSON as other programs write it: beside RFC 8259 also what Python's json module reads and writes,
 * whole numbers of any length and NaN, Infinity, -Infinity; and a byte order mark in front. Every
 * file that is not our own is read here.
 *
 * A whole number beyond 64 bits is read as a real one (rounded). NaN, the infinities and numbers
 * beyond a double become an object, {"not a number": true}: harmless under a key that nobody reads,
 * and the wrong type for who reads it.
 */
#ifndef ATTAR_AUTOGRAD_BASE_JSONTEXT_H
#define ATTAR_AUTOGRAD_BASE_JSONTEXT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* Reads s [n]; an object with a key twice is an error; `nul`: texts may hold \u0000. The result is
   the caller's; NULL with err() set: "line 3, column 7: ...". */
json_t *jsontext_parse(const char *s, size_t n, bool nul);

/* The same of one line, with \u0000: "column 7: ...". */
json_t *jsontext_line(const char *s, size_t n);

/* The value of an object's member as s [n], which was read, spells it: *len bytes; NULL: there is
   no member of this name, or it is spelt with escapes. */
const char *jsontext_member(const char *s, size_t n, const char *name, size_t *len);

#endif
