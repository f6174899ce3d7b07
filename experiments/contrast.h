/*
 * A model on the windows of a validation feed, and beside a reference: how well it predicts the
 * text, and how far its predictions are from the reference's. Either model may be in blocks, which
 * are multiplied as generation does it.
 *
 *     KL = sum_v q_v log(q_v / p_v)      q the reference's, p the model's
 */
#ifndef ATTAR_EXPERIMENTS_CONTRAST_H
#define ATTAR_EXPERIMENTS_CONTRAST_H

#include "experiments/divergence.h"
#include "experiments/feed.h"

/* Of one token. */
struct contrast_at {
    double nll, kl; /* kl 0 without a reference */
    bool same_top;  /* both find the same token likeliest */
};

/* logits [V], reference [V] or NULL; own [V]: scratch. */
struct contrast_at contrast_at(int64_t V, const float *logits, const float *reference,
                               int32_t target, float *own);

/* Sums over the tokens that have a target. */
struct contrast {
    int64_t count, same_top;
    double nll, kl, kl2;
};

/* Adds windows [0, windows) of the feed, in batches of f->most. reference NULL: none. 0; -1 with
   err() set; 1: interrupted. */
int contrast_run(struct contrast *c, struct feed *f, struct transformer *m,
                 struct transformer *reference, int64_t windows, const char *label);

/* The mean divergence and its standard error, as if tokens were independent. */
struct divergence_mean contrast_kl(const struct contrast *c);

#endif
