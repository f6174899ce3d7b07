/*
 * Training steps on random tokens: all that a step of a run does, on a model and batches of its
 * shapes, with the time of each op. And the same step as a plan: its costs, and at what rates this
 * machine does them.
 */
#ifndef ATTAR_EXPERIMENTS_REHEARSAL_H
#define ATTAR_EXPERIMENTS_REHEARSAL_H

#include "experiments/blocks.h"
#include "experiments/plan.h"
#include "experiments/rates.h"

struct rehearsal {
    struct plan_step args;
    struct transformer m, teacher;
    struct blocks blocks;
    struct ctx ctx;
    struct profile profile; /* of the steps since the last profile_clear() */
    struct batch batch;     /* its arrays, [n_seqs * T] each */
    int32_t *tok, *pos, *target;
    uint64_t *row_id;
    struct sequence *seqs;
    int64_t step;
    double loss; /* of the last step, a token */
};

/* Makes the model, with new weights, and an arena as a run would. 0, or -1 with err() set; free it
   either way. */
int rehearsal_init(struct rehearsal *r, const struct plan_step *args);
void rehearsal_free(struct rehearsal *r);

/* One optimizer step. *seconds: its time. 0, or -1 with err() set. */
int rehearsal_step(struct rehearsal *r, double *seconds);

/* Fills p, which is empty, with the costs of such a step: the rows that rehearsal_step() has,
   without their times. 0, or -1 with err() set. */
int rehearsal_plan(const struct plan_step *args, struct profile *p);

/* FLOPs of passes through models: of all rows but the optimizer's. */
double rehearsal_flops(const struct profile *p);

#endif
