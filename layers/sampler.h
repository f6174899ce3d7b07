/* From logits to a token. Filters in llama.cpp's order: repeat penalty, top-k, top-p, min-p,
   temperature, then a draw. */
#ifndef ATTAR_LAYERS_SAMPLER_H
#define ATTAR_LAYERS_SAMPLER_H

#include <stdint.h>

struct sampler_args {
    double temp;           /* <= 0: greedy, the lowest id among equals */
    int64_t top_k;         /* <= 0: all */
    double top_p;          /* >= 1: off; Holtzman et al. 2020: the fewest that reach p in sum */
    double min_p;          /* <= 0: off; those at least min_p times as likely as the likeliest */
    double repeat_penalty; /* > 0, 1: off; positive logits are divided by it, others multiplied */
    int64_t repeat_last_n; /* tokens looked at; 0: none, -1: all */
    int64_t seed;
};

struct sampler {
    struct sampler_args args;
    uint64_t key;
    int vocab;
    struct sampler_token {
        int32_t id;
        float logit; /* after the penalty */
        double p;
    } * candidates; /* [V] owned */
};

/* For a vocabulary of ids 0 .. vocab - 1. 0, or -1 with err() set. */
int sampler_init(struct sampler *s, const struct sampler_args *args, int vocab);
void sampler_free(struct sampler *s);

/* Other args for the same vocabulary. 0, or -1 with err() set. */
int sampler_set(struct sampler *s, const struct sampler_args *args);

/* What the filters leave of logits [V], which are not changed, after history [n]: s->candidates
   with their probabilities, which add up to 1. Their number, at least 1; or -1 with err() set if a
   logit is NaN or +infinite, or all are -infinite (one that is stays out). */
int sampler_filter(struct sampler *s, const float *logits, const int32_t *history, int64_t n);

/* The next token of `stream` (a prompt's number: streams draw independently) after history [n].
   The draw is a function of (seed, stream, n). -1 with err() set as sampler_filter() does. */
int32_t sampler_pick(struct sampler *s, const float *logits, const int32_t *history, int64_t n,
                     uint64_t stream);

#endif
