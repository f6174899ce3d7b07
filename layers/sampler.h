/* From logits to a token. Filters in llama.cpp's order: repeat penalty, top-k, top-p, min-p,
   temperature, then a draw. */
#ifndef ATTAR_LAYERS_SAMPLER_H
#define ATTAR_LAYERS_SAMPLER_H

#include <stdint.h>

struct sampler_args {
    double temp;           /* <= 0: greedy, the lowest id among equals */
    int64_t top_k;         /* <= 0: all */
    double top_p;          /* >= 1: off */
    double min_p;          /* <= 0: off */
    double repeat_penalty; /* 1: off; positive logits are divided by it, others multiplied */
    int64_t repeat_last_n; /* tokens looked at; 0: none, -1: all */
    int64_t seed;
};

struct sampler {
    struct sampler_args args;
    int vocab;
    struct sampler_token {
        int32_t id;
        float logit, p;
    } *candidates; /* [V] owned */
};

/* 0, or -1 with err() set. */
int sampler_init(struct sampler *s, const struct sampler_args *args, int vocab);
void sampler_free(struct sampler *s);

/* The next token of `stream` (a prompt's number: streams draw independently) after history [n];
   logits [V] are not changed. The draw is a function of (seed, stream, n). -1 with err() set if no
   logit is finite. */
int32_t sampler_pick(struct sampler *s, const float *logits, const int32_t *history, int64_t n,
                     uint64_t stream);

#endif
