/*
 * Text from a model: a prompt is read in pieces into a KV cache, then token after token is drawn.
 * Any transformer will do, one in training as well: the ctx is the decoder's own, records nothing,
 * and is as large as a measuring run of the same code found.
 */
#ifndef ATTAR_EXPERIMENTS_DECODE_H
#define ATTAR_EXPERIMENTS_DECODE_H

#include "datasets/tokenizer.h"
#include "layers/sampler.h"
#include "layers/transformer.h"

enum { DECODE_CHUNK = 256 }; /* tokens of a prompt per forward pass */

enum decode_end {
    DECODE_COUNT,   /* as many tokens as were asked for */
    DECODE_EOT,     /* the model ended the text */
    DECODE_FULL,    /* the context is full */
    DECODE_STOPPED, /* *stop was set */
    DECODE_CUT,     /* emit wanted no more */
};

/* Read only for others. */
struct decode {
    struct transformer *m;
    const struct tokenizer *tok;
    struct ctx ctx;
    struct kv_pool pool;
    struct kv kv;
    int64_t capacity; /* tokens of the context */
    struct sampler sampler;
    struct tokens history; /* all that was read and drawn; the KV cache may lack the last one */
    float *logits;         /* [V] behind the last token of the KV cache */
    uint64_t stream;       /* of the sampler's draws */
    bool stopped;
    double seconds[2]; /* of the fastest single token so far with one thread, and with all */
    int timed;         /* tokens that were timed for that */
};

/* Room for `capacity` tokens, the model's context at the most. d must stay where it is; m and t
   outlive it, stop may be NULL. 0, or -1 with err() set and nothing to close. */
int decode_open(struct decode *d, struct transformer *m, const struct tokenizer *t,
                int64_t capacity, enum kvblock_type cache, const struct sampler_args *args,
                const volatile sig_atomic_t *stop);
void decode_close(struct decode *d);

/* Appends what a prompt becomes: BOS, if the tokenizer has one, and the text [n] with control
   tokens recognized; of an empty one, BOS or <|endoftext|>. 0, or -1 with err() set. */
int decode_prompt(const struct tokenizer *t, const char *text, size_t n, struct tokens *out);

/* The bytes that a token shows, *n of them: none for control tokens and ids without a token. */
const char *decode_shown(const struct tokenizer *t, int32_t id, size_t *n);

/* Reads n tokens behind those that are there; d->logits are then those of the next one. 0 (also if
   d->stopped), or -1 with err() set: they are no tokens of the model, or do not fit. */
int decode_feed(struct decode *d, const int32_t *token, int64_t n);

/* Draws up to n tokens (-1: no limit) after at least one was fed. The bytes of each go to emit,
   which returns 0, 1 to end the text, or -1 with err() set to end it all; control tokens have none.
   *made: tokens drawn, without the one that ends the text. Says in *end why it ended. 0, or -1 with
   err() set. */
int decode_generate(struct decode *d, int64_t n,
                    int (*emit)(void *arg, const char *bytes, size_t n), void *arg, int64_t *made,
                    enum decode_end *end);

/* All of the above, with a cache in f16: up to n tokens (-1: to the end of the context) after the
   prompt are appended to out. 0, also if it was stopped, or -1 with err() set. */
int decode_sample(struct transformer *m, const struct tokenizer *t, const char *prompt, int64_t n,
                  const struct sampler_args *args, const volatile sig_atomic_t *stop,
                  struct buf *out);

#endif
