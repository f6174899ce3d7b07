/*
 * Typed option tables. A struct that a user can set has one table of fields; parsing, ranges,
 * defaults, `attar check`, overrides, flags and the printed documentation all read that table.
 * A table ends with a row without a name:
 *
 *     static const struct field table[] = {
 *         {FIELD_AT(bottle, height), .type = FIELD_INT, .min = 1, .max = 90, .def = "12",
 *          .doc = "height in millimetres"},
 *         {0},
 *     };
 */
#ifndef ATTAR_AUTOGRAD_BASE_FIELD_H
#define ATTAR_AUTOGRAD_BASE_FIELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "autograd/base/buf.h"
#include "autograd/base/pool.h"

enum field_type {
    FIELD_BOOL,  /* bool        true | false                                                   */
    FIELD_INT,   /* int64_t     12, 600K, 8Ki: K M G are powers of 1000, Ki Mi Gi of 1024      */
    FIELD_FLOAT, /* double      3e-4; also 5% where the range lies within 0 to 1               */
    FIELD_SHARE, /* struct share   5% of a total, or a count                                   */
    FIELD_ENUM,  /* int         one of `names`                                                 */
    FIELD_TEXT,  /* const char *   owned by whoever owns the struct's text pool                */
    FIELD_INTS,  /* struct ints    one count for all, or a list [4, 4, 2]                      */
    FIELD_TEXTS, /* struct texts   one text, or a list of them                                 */
    FIELD_MAP,   /* a struct inside this one, with a table of its own (`fields`)               */
};

enum field_flags {
    FIELD_REQUIRED = 1,   /* no default: must be given (where `when` holds)                    */
    FIELD_LIVE = 2,       /* may differ between a run and its resumption: changes no result    */
    FIELD_POSITIONAL = 4, /* flags: an argument without a name; TEXTS takes all that are left  */
    FIELD_LABEL = 8,      /* says what something is called, or which of several is meant       */
};

struct share {
    double value; /* a count, or a fraction of the total if `relative` */
    bool relative;
};

enum { INTS_MAX = 512, TEXTS_MAX = 1024 };

struct ints {
    int n; /* 0: not given; 1: one value for all; else a value each */
    int64_t value[INTS_MAX];
};

struct texts {
    int n;
    const char **value; /* [n], and the texts: in the struct's text pool */
};

struct field {
    const char *name;
    enum field_type type;
    size_t offset;            /* of the member in its struct                                 */
    double min, max;          /* inclusive range for numbers (of each element for INTS; of the
                                 count for SHARE); both 0: any; max may be INFINITY          */
    const char *def;          /* default as it would be written in a config; NULL: zero, which
                                 then means "not given" and may lie outside the range        */
    const char *const *names; /* FIELD_ENUM: the values' names, NULL at the end              */
    const char *doc;          /* one line for the reader of a config                         */
    unsigned flags;
    const char *when;           /* "key" or "key=a|b": has an effect only if that other field of the
                                   table is not zero, or one of these values; NULL: always   */
    const struct field *fields; /* FIELD_MAP: the inner struct's table                       */
    char letter;                /* flags: -n for --n-predict; 0: none                        */
};

/* The name and offset of a row: the member's name is the field's name. */
#define FIELD_AT(tag, member) .name = #member, .offset = offsetof(struct tag, member)

/* The count that a share stands for, rounded to the nearest; total >= 0. */
int64_t share_of(struct share s, int64_t total);

/* The value for element i: the one for all, or the i-th; i below n unless n is 1. */
int64_t ints_at(const struct ints *list, int i);

const struct field *field_find(const struct field *table, const char *name);

/* Parses text [n] (of UTF-8, no NUL) into base's member, replacing what was there; INTS and TEXTS
   become a list of one. 0, or -1 with err() set to the reason ("'abc' is not a number ...") and the
   member untouched. Never for FIELD_MAP. */
int field_set(const struct field *f, void *base, const char *text, size_t n, struct pool *pool);

/* The same for one more element of an INTS or TEXTS. */
int field_append(const struct field *f, void *base, const char *text, size_t n, struct pool *pool);

/* Sets the member to zero, a list to no elements. Never for FIELD_MAP. */
void field_clear(const struct field *f, void *base);

/* Sets the member to its default, maps with all they hold. 0, or -1 with err() set (no memory). */
int field_default(const struct field *f, void *base, struct pool *pool);

/* Is the member at the zero that means "not given"? Never for bools, enums and required ones. */
bool field_absent(const struct field *f, const void *base);

/* Does f, a row of `table`, have an effect with base's other members as they are? */
bool field_applies(const struct field *table, const struct field *f, const void *base);

/* The name of the field that f's `when` looks at, and the values it asks for (empty: not zero);
   false if f has none. */
bool field_condition(const struct field *table, const struct field *f, const struct field **on,
                     const char **values);

/* Prints the member as it could be written in a config (YAML flow style), so that field_set()
   reads the same value again. Never for FIELD_MAP. */
void field_print(const struct field *f, const void *base, struct buf *out);

/* Prints s as a YAML scalar, in quotes where it needs them. */
void field_print_text(const char *s, struct buf *out);

/* Prints the range of a field that has one: "1 to 512", "at least 0". */
void field_print_range(const struct field *f, struct buf *out);

/* Prints what kind of value it takes: "whole number, 1 to 512", "adamw | sgd". */
void field_print_type(const struct field *f, struct buf *out);

/* Prints all that may be given: "a whole number, 1 to 512; default 8Ki". */
void field_print_kind(const struct field *f, struct buf *out);

/* Prints a paragraph for each row of the table, inner maps indented. */
void field_print_docs(const struct field *table, int indent, struct buf *out);

#endif
