/* What the tests of training in blocks share: a matrix in them. */
#ifndef ATTAR_TESTS_COMPRESS_QAT_TRIAL_H
#define ATTAR_TESTS_COMPRESS_QAT_TRIAL_H

#include "compress/qat.h"

enum { ROWS = 37, COLS = 512, N = ROWS * COLS };

/* A matrix beside a vector, and what trains it. */
struct qat_trial {
    struct store s;
    struct qat q;
    struct param *p;
    struct qat_weight *w;
};

/* The i-th type that weights can be trained in, f16 at the end; NULL behind it. */
const struct dtype *qat_trial_type(int i);

/* A matrix of type dt, not fitted yet; then fitted and projected. Freed by qat_trial_drop(). */
void qat_trial_make(struct qat_trial *t, const struct dtype *dt, const struct qat_options *o);
void qat_trial_start(struct qat_trial *t, const struct dtype *dt, const struct qat_options *o);
void qat_trial_drop(struct qat_trial *t);

/* Other latents, normal. */
void qat_trial_fill(struct qat_trial *t, uint64_t key, float std);

/* What forward reads is what the blocks decode to, to the bit. */
void qat_trial_decoded(const struct qat_trial *t);

#endif
