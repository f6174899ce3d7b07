/*
 * Perplexity as llama-perplexity measures it: the text's tokens in chunks of c without overlap; in
 * each, the logits at positions c/2 .. c-2 score the tokens at c/2+1 .. c-1; what is left at the
 * end is dropped. Where the tokenizer puts BOS in front of a text, every chunk's first token is
 * replaced by it. PPL = exp(mean negative log-likelihood).
 */
#ifndef ATTAR_EXPERIMENTS_PERPLEXITY_H
#define ATTAR_EXPERIMENTS_PERPLEXITY_H

#include "layers/transformer.h"

struct perplexity_args {
    int64_t c;                         /* tokens of a chunk, 4 to the model's context */
    int64_t chunks;                    /* at most; <= 0: all there are */
    int32_t bos;                       /* -1: none */
    enum kvblock_type cache;           /* what attention reads keys and values in */
    const volatile sig_atomic_t *stop; /* may be NULL */
    /* NULL, or: sees the logits [V] of token i of the chunk's perplexity_scored(), the one that
       scores `next`. Threads call it at once, for one chunk, before that chunk's end is told. */
    void (*row)(void *arg, int64_t i, const float *logits, int32_t next);
    void *arg;
    struct tap *tap; /* sees what linears multiply; may be NULL */
    bool all;        /* the head reads every token, not only those that are scored: for the tap */
};

struct perplexity {
    int64_t chunks, count; /* done; tokens scored in them */
    double nll, nll2;      /* sums over the tokens: -log p, and its square */
};

/* Chunks that args asks for of n tokens, or -1 with err() set: c is not possible, or the text has
   less than 2 c tokens (llama-perplexity's limit). */
int64_t perplexity_chunks(const struct perplexity_args *args, const struct transformer *m,
                          int64_t n);

/* Tokens of a chunk that are scored. */
int64_t perplexity_scored(int64_t c);

/* Scores token [n] of m. After each chunk, `chunk` (NULL: not wanted) sees what there is so far; it
   returns 0, or -1 with err() set. 0, or -1 with err() set. */
int perplexity_run(struct perplexity *p, struct transformer *m, const int32_t *token, int64_t n,
                   const struct perplexity_args *args,
                   int (*chunk)(void *arg, const struct perplexity *so_far), void *arg);

/* exp(mean), and its standard error: that of the mean times PPL (NAN if there is none). */
double perplexity_value(const struct perplexity *p, double *error);

#endif
