/*
 * How far a model's predictions are from another's, as llama-perplexity measures it: perplexities
 * and their ratio, Kullback-Leibler divergence, changes of the right token's probability (Delta p),
 * and how often both find the same token likeliest. The other's come from a logits_file.
 */
#ifndef ATTAR_EXPERIMENTS_DIVERGENCE_H
#define ATTAR_EXPERIMENTS_DIVERGENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "autograd/base/buf.h"

/* At one token. */
struct divergence_at {
    double nll, nll_base; /* -log p of the token that follows */
    double kld;           /* sum p_base log(p_base / p), of all with log p_base > -16 */
    double p_diff;        /* p - p_base of the token that follows */
    bool same_top;
};

/* logits [V], and the base's row of a logits_file. */
struct divergence_at divergence_at(int32_t V, const float *logits, const uint16_t *base,
                                   int32_t next);

/* Zero-initialize. */
struct divergence {
    int64_t count, same_top;
    double nll, nll2, base, base2, both; /* sums; both: of their product */
    double kld_sum, kld2, diff, diff2, diff4;
    float *kld, *p_diff; /* [count] */
    size_t cap[2];
};

/* Adds n tokens. 0, or -1 with err() set. */
int divergence_add(struct divergence *d, const struct divergence_at *at, int64_t n);
void divergence_free(struct divergence *d);

/* A mean and its standard error. */
struct divergence_mean {
    double mean, error;
};
struct divergence_mean divergence_log_ratio(const struct divergence *d); /* ln(PPL / PPL base) */
struct divergence_mean divergence_kld(const struct divergence *d);

/* The value that a share of sorted x [n] is not above, between two of them in proportion. */
double divergence_percentile(const float *x, int64_t n, double share);

/* Line `chunk` of the running table, and its heading. */
void divergence_heading(struct buf *out);
void divergence_line(const struct divergence *d, int64_t chunk, struct buf *out);

/* The statistics of all; sorts d->kld and d->p_diff. */
void divergence_table(struct divergence *d, struct buf *out);

#endif
