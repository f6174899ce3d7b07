/* Between batcher.c, which makes passes, and batcher_queue.c, which decides who takes part. */
#ifndef ATTAR_EXPERIMENTS_BATCHER_PARTS_H
#define ATTAR_EXPERIMENTS_BATCHER_PARTS_H

#include "experiments/batcher.h"

/* A request under way, or put back. */
struct text {
    const struct batcher_request *r; /* NULL: not begun, or done */
    struct tokens tokens;            /* the prompt and what was drawn */
    struct buf bytes;
    struct kv kv;
    int64_t made;
    int64_t shared, preempted;
    int64_t take; /* tokens of the pass that is being made */
    int32_t drawn;
};

struct batcher {
    struct transformer *m;
    const struct tokenizer *tok;
    const struct batcher_args *args;
    const struct batcher_request *requests;
    size_t n;
    struct batcher_stats *stats;
    int (*done)(void *arg, const struct batcher_result *result);
    void *arg;

    struct ctx ctx;
    struct kv_pool pool;
    struct text *text; /* [n] */
    size_t *running;   /* [parallel] indices of texts under way, the oldest first */
    int64_t n_running;
    size_t *back; /* [parallel] texts put back, the next one last */
    int64_t n_back;
    size_t next; /* the first request that has not begun */
    /* a pass */
    int32_t *token, *pos;    /* [batch + 1] */
    struct sequence *seqs;   /* [parallel + 1] */
    int32_t *last;           /* [parallel + 1] rows whose logits are wanted */
    struct text **whose;     /* [parallel] the texts they belong to */
    struct sampler *sampler; /* [threads] */
    int threads;
    bool company; /* a row alone is given some */
};

/* Fills up with what waits: first those that were put back, then in the order of the requests. 0,
   or -1 with err() set. */
int batcher_admit(struct batcher *b);

/* How many tokens each gives to the next pass (take), with blocks for them; may put texts back. 0,
   or -1 with err() set. */
int batcher_share_out(struct batcher *b);

/* Gives the text's blocks back. */
void batcher_give_back(struct text *t);

/* Texts that do not run: put back, or not begun. */
int64_t batcher_waiting(const struct batcher *b);

#endif
