/*
 * Gradient checks. A case describes the inputs of an op and builds it; gradcheck_run() then asks of
 * it everything that holds for every op:
 *
 *   analytic gradients are the central differences of L = sum(r * out), r random, per element and
 *   along random directions; they add up; an input that needs none gets none; NULL in gives NULL
 *   out; a failed ctx stays as it was; a measuring ctx foretells the arena's peak to the byte; an
 *   arena that is too small fails cleanly; any number of threads gives the same bits
 */
#ifndef ATTAR_TESTS_GRADCHECK_H
#define ATTAR_TESTS_GRADCHECK_H

#include "autograd/ops/ops.h"

// rows of these tables leave out what is zero
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

enum { GRADCHECK_IN = 8 };

struct gradcheck_in {
    int64_t rows, cols;     /* rows 0: a vector [cols]; cols 0: absent, NULL */
    float std, mean;        /* normal values; std 0: 1 */
    bool param;             /* its gradient exists beforehand, zeroed, as a parameter's does */
    bool frozen;            /* needs no gradient */
    bool optional;          /* the op takes NULL for it */
    const struct dtype *dt; /* NULL: f32; others must be frozen */
};

struct gradcheck {
    const char *name;
    struct gradcheck_in in[GRADCHECK_IN];
    /* Builds the op from in[] (NULL where absent): tensors into out[NODE_OUT], or adds to *loss.
       False if the op failed. */
    bool (*build)(struct ctx *ctx, const void *arg, struct tensor *const in[], struct tensor *out[],
                  struct loss *loss);
    const void *arg;
    float step;      /* of the differences, per unit of std; 0: 0.03 */
    unsigned silent; /* bit i: no gradient arrives at out[i] */
    bool training, recompute;
};

void gradcheck_run(const struct gradcheck *c);

/* The check of each op, in autograd/gradcheck_<op>.c. */
#define OP(name) void gradcheck_##name(void **state);
#include "autograd/ops/ops.def"
#undef OP

/* Builds the case, which must fail the ctx with a message that has `part` in it. */
void gradcheck_refuses(const struct gradcheck *c, const char *part);

/* x [n]: normal draws of deviation std, the same for the same key. To be freed. */
float *gradcheck_normal(uint64_t key, float std, int64_t n);

/* ||a - b|| / ||b|| of x [n]; 0 where both are zero. */
double gradcheck_distance(int64_t n, const float *a, const double *b);

#endif
