/*
 * Training steps on random tokens: all that a step of a run does, on a model and batches of its
 * shapes, with the time of each op. And the same step as a plan: its costs, and at what rates this
 * machine does them.
 */
#ifndef ATTAR_EXPERIMENTS_REHEARSAL_H
#define ATTAR_EXPERIMENTS_REHEARSAL_H

#include "experiments/plan.h"
#include "experiments/rates.h"
#include "optim/optimizer.h"

struct rehearsal_args {
    const struct transformer_dims *dims;
    int64_t T, batch; /* tokens of a sequence, sequences of an optimizer step */
    int64_t micro;    /* sequences at once; divides batch */
    enum optimizer_kind optimizer;
    bool ema; /* the weights are averaged */
    bool recompute, bf16;
    const struct lora_args *lora; /* factors over frozen weights are trained; NULL: all is */
};

struct rehearsal {
    struct rehearsal_args args;
    struct transformer m;
    struct ctx ctx;
    struct profile profile; /* of the steps since the last profile_clear() */
    struct batch batch;     /* its arrays, [micro * T] each */
    int32_t *tok, *pos, *target;
    uint64_t *row_id;
    struct sequence *seqs;
    int64_t step;
    double loss; /* of the last step, a token */
};

/* Makes the model, with new weights, and an arena as a run would. 0, or -1 with err() set; free it
   either way. */
int rehearsal_init(struct rehearsal *r, const struct rehearsal_args *args);
void rehearsal_free(struct rehearsal *r);

/* One optimizer step. *seconds: its time. 0, or -1 with err() set. */
int rehearsal_step(struct rehearsal *r, double *seconds);

/* Fills p, which is empty, with the costs of such a step: the rows that rehearsal_step() has,
   without their times. 0, or -1 with err() set. */
int rehearsal_plan(const struct rehearsal_args *args, struct profile *p);

#endif
