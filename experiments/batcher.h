/*
 * Many texts from one model at once. All that are under way go through the model together: a pass
 * takes the newest token of each and, with what is left of its size, pieces of prompts still to be
 * read. A text that ends makes room for the next one in line.
 *
 * Their keys and values share one pool of blocks (layers/kv.h). What a prompt has in common with
 * one that was read, or is being read, is shared, not computed again; the blocks of a prompt serve
 * all texts that go on from it. When blocks run out, the youngest text gives its own back and is
 * read again, as far as it had come, when there is room.
 *
 * A text is a function of its request alone, not of what runs beside it or of preemption, as far as
 * products give a row the same bits beside any others: that is so for weights in blocks and halves
 * and for f32 with attar's own kernels (there a row alone is computed twice), not with OpenBLAS.
 */
#ifndef ATTAR_EXPERIMENTS_BATCHER_H
#define ATTAR_EXPERIMENTS_BATCHER_H

#include "autograd/base/field.h"
#include "datasets/tokenizer.h"
#include "layers/sampler.h"
#include "layers/transformer.h"

enum batcher_end {
    BATCHER_EOS,     /* the model ended the text */
    BATCHER_STOP,    /* a text to stop at came; it and what is behind it are cut off */
    BATCHER_LENGTH,  /* as many tokens as were asked for */
    BATCHER_CONTEXT, /* the context is full */
};

struct batcher_request {
    const int32_t *prompt; /* [n] tokens of the model, at least one, at most the context */
    int64_t n;
    int64_t n_predict; /* tokens at most; -1: no limit */
    struct sampler_args sampler;
    uint64_t stream;          /* of its draws */
    const struct texts *stop; /* NULL: none */
};

struct batcher_result {
    size_t index; /* of the request */
    const char *text;
    size_t n_text;
    int64_t made; /* tokens, without the one that ended the text */
    enum batcher_end end;
    int64_t shared, preempted; /* tokens of it that were not computed; how often it was put back */
};

struct batcher_args {
    int64_t parallel; /* texts under way at most */
    int64_t batch;    /* tokens of a pass at most; at least `parallel` */
    int64_t context;  /* tokens of a text at most, within the model's */
    int64_t blocks;   /* of the cache */
    enum kvblock_type cache;
    const volatile sig_atomic_t *stop; /* may be NULL */
};

struct batcher_stats {
    int64_t passes, rows;     /* rows: tokens that went through the model */
    int64_t made, done;       /* tokens drawn; texts finished */
    int64_t shared;           /* tokens that were not computed because others had been */
    int64_t preempted, again; /* texts put back; tokens that they had read until then */
    int64_t peak, copied;     /* blocks: most in use at a time, copied for writing */
    int64_t touched;          /* blocks ever used: those that stay known for prompts to come, too */
    int64_t most;             /* texts under way at most */
    double seconds;
};

/* Blocks that the request can need, with `context` tokens at most. */
int64_t batcher_blocks(const struct batcher_request *r, int64_t context);

/* Makes all texts. Each goes to `done` when it is finished, in any order; `pass` (NULL: not wanted)
   sees how far it is after every pass. Both return 0, or -1 with err() set to end it. 0, or -1 with
   err() set: also if a request can never fit, before any work; *stats is filled in either way. 0
   with stats->done below n: it was stopped. */
int batcher_run(struct transformer *m, const struct tokenizer *t, const struct batcher_args *args,
                const struct batcher_request *requests, size_t n,
                int (*done)(void *arg, const struct batcher_result *result),
                int (*pass)(void *arg, const struct batcher_stats *stats), void *arg,
                struct batcher_stats *stats);

#endif
