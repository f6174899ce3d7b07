/*
 * Typed option tables. A struct that a user can set has one table of fields; parsing, ranges,
 * defaults, `attar check`, overrides and the printed documentation all read that table.
 */
#ifndef ATTAR_AUTOGRAD_BASE_FIELD_H
#define ATTAR_AUTOGRAD_BASE_FIELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "autograd/base/buf.h"

enum field_type {
    FIELD_BOOL,  /* bool        true | false                                                   */
    FIELD_INT,   /* int64_t     12, 600K, 8Ki: K M G are powers of 1000, Ki Mi Gi of 1024      */
    FIELD_FLOAT, /* double      3e-4                                                           */
    FIELD_SHARE, /* struct share   5% of a total, or a count                                   */
    FIELD_ENUM,  /* int         one of `names`                                                 */
    FIELD_TEXT,  /* const char *   owned by whoever owns the struct's text pool                */
    FIELD_INTS,  /* struct ints    one count for all, or a list [4, 4, 2]                      */
};

enum field_flags {
    FIELD_REQUIRED = 1, /* no default: must be given                                       */
    FIELD_LIVE = 2,     /* may differ between a run and its resumption                     */
};

struct share {
    double value; /* a count, or a fraction of the total if `relative` */
    bool relative;
};

enum { INTS_MAX = 512 };

struct ints {
    int n;                    /* 0: not given; 1: one value for all; else a value each */
    int64_t value[INTS_MAX];
};

struct field {
    const char *name;
    enum field_type type;
    size_t offset;            /* of the member in its struct                                 */
    double min, max;          /* inclusive range for numbers (of each element for INTS)      */
    const char *def;          /* default as it would be written in a config; NULL: zero      */
    const char *const *names; /* FIELD_ENUM: the values' names, NULL at the end              */
    const char *doc;          /* one line for the reader of a config                         */
    unsigned flags;
};

#endif
