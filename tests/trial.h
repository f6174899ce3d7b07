/* A case of gradcheck.h with its values: what the checks run again and again. */
#ifndef ATTAR_TESTS_TRIAL_H
#define ATTAR_TESTS_TRIAL_H

#include "tests/gradcheck.h"

enum { TRIAL_ARENA = 64 << 20 };

/* A case with its values. */
struct trial {
    const struct gradcheck *c;
    struct tensor t[GRADCHECK_IN], *in[GRADCHECK_IN]; /* in: NULL where absent */
    float *value[GRADCHECK_IN];                       /* what is loaded before each build */
    float *grad[GRADCHECK_IN];                        /* of params: the memory beforehand */
    struct ctx ctx;
};

/* What one forward and backward left behind. */
struct trial_result {
    float *out[NODE_OUT], *grad[GRADCHECK_IN]; /* NULL: none */
    int64_t n_out[NODE_OUT];
    double loss;
};

void trial_init(struct trial *w, const struct gradcheck *c);
void trial_free(struct trial *w);

/* Values loaded, no gradient anywhere, the ctx empty. */
void trial_load(struct trial *w, struct ctx *ctx);

/* The op. False if the ctx failed. */
bool trial_build(struct trial *w, struct ctx *ctx, struct tensor *out[], struct loss *loss);

/* L at the loaded values; *size: the magnitude of what was added up, and so of the rounding. */
double trial_objective(struct trial *w, double *size);

/* The op `times` times on one tape, then backward. o may be NULL. False if the ctx failed. */
bool trial_run(struct trial *w, struct ctx *ctx, int times, struct trial_result *o);
void trial_result_free(struct trial_result *o);

#endif
