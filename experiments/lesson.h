/*
 * One micro-batch of training: who speaks, who learns, what is compared. The training loop, its
 * plan (by a measuring ctx) and its rehearsal run this and nothing else, so that what is planned is
 * what runs.
 */
#ifndef ATTAR_EXPERIMENTS_LESSON_H
#define ATTAR_EXPERIMENTS_LESSON_H

#include "layers/transformer.h"

struct lesson {
    struct transformer *m;       /* learns */
    struct transformer *teacher; /* frozen, in the same precision; NULL: there is none */
    float kl;                    /* part of the loss that is the divergence from the teacher */
    float label_smoothing, z_loss;
};

/* The teacher's forward pass, of which its hidden states stay; the model's; the loss, which is
   added to *loss; backward. ctx was reset. Whether it went well is in ctx->failed. target [b->n].
 */
void lesson_run(struct ctx *ctx, const struct lesson *l, const struct batch *b,
                const int32_t *target, struct loss *loss);

#endif
