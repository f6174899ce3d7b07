/*
 * Where the time of a step goes: calls, seconds and cost by op, forward and backward apart. A ctx
 * with a profile (ctx->profile) fills it; without one a test of a pointer is all that remains. A
 * measuring ctx fills in the costs alone: the plan of a step is this table, by the same code.
 *
 * Rows are exclusive: what runs inside a segment counts for its own op. A block that is computed
 * again counts as forward. Losses do all their work in forward.
 */
#ifndef ATTAR_AUTOGRAD_PROFILE_H
#define ATTAR_AUTOGRAD_PROFILE_H

#include "autograd/cost.h"

enum { PROFILE_ROWS = 64 };

struct profile_row {
    const char *name; /* of the op, or of what the caller did; not copied */
    bool backward;
    int64_t calls;
    double seconds;
    double flops, bytes, exps, draws; /* struct cost's */
};

/* The runs of one kind and shape of product that a row has; product.times counts all. */
struct profile_work {
    int row;
    struct product product;
};

struct profile {
    struct profile_row row[PROFILE_ROWS]; /* in the order of their first call */
    int n;
    struct profile_work *work; /* distinct ones */
    size_t n_work, cap;
    double inner; /* seconds of the rows inside the one that is running */
    bool failed;  /* memory was short: err() is set, work is incomplete */
};

/* Zero-initialize. */
void profile_free(struct profile *p);

/* Forgets what was measured, keeps the memory. */
void profile_clear(struct profile *p);

/* Something that is about to run. */
struct profile_span {
    double begin, outer;
};

/* Begins a row; it ends with profile_add(). Rows nest. p NULL: nothing happens. */
struct profile_span profile_begin(struct profile *p);

/* Ends what began with span: it was `name` and had to do `cost` (NULL: unknown). */
void profile_add(struct profile *p, const struct profile_span *span, const char *name,
                 bool backward, const struct cost *cost);

/* A row, or NULL if it never ran. */
const struct profile_row *profile_find(const struct profile *p, const char *name, bool backward);

#endif
