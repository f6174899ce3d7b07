/* The training loop: one stage's optimizer steps, with evaluation, samples and checkpoints. */
#ifndef ATTAR_EXPERIMENTS_TRAIN_H
#define ATTAR_EXPERIMENTS_TRAIN_H

#include "datasets/tokenizer.h"
#include "experiments/blocks.h"
#include "experiments/checkpoint.h"
#include "experiments/config.h"
#include "experiments/events.h"
#include "experiments/feed.h"
#include "experiments/metrics.h"
#include "experiments/progress.h"
#include "layers/transformer.h"

struct train {
    /* given */
    const struct config *config;
    const struct config_stage *stage;
    const char *folder;                     /* of the stage, exists */
    const struct checkpoint_source *source; /* texts for checkpoints */
    struct transformer *m;
    const struct tokenizer *tok;
    struct feed *train, *valid;    /* valid: NULL if there is no validation part */
    int64_t valid_bytes;           /* of the validation part's predicted text */
    struct checkpoint_state state; /* where to go on; in the end, where it ended */
    int64_t steps;
    int64_t steps_was; /* that the stage had when the state was saved, fewer than now; 0: as many */
    int64_t before;    /* steps that the optimizer has done in earlier stages */
    struct blocks *blocks;       /* qat, or NULL */
    struct transformer *teacher; /* frozen, in the same precision; or NULL */
    /* found */
    size_t arena_bytes, arena_peak;
    size_t memory;           /* bytes of models and arena at the end; blocks are the caller's */
    double flops;            /* of the products of a step, as they were run; 0: not yet known */
    double seconds_to_first; /* from train_run() to the end of the first step */
    /* the loop's own */
    struct ctx ctx;
    struct metrics metrics;
    struct events events;
    struct progress progress;
    double started;     /* clock at which state.seconds was 0 */
    double saved_at;    /* clock of the last save (or try) */
    int64_t saved_step; /* of the last good one, -1: none */
    double retry;       /* seconds until a failed save is tried again; 0: the last one was good */
    double gemm_peak;   /* GFLOP/s; 0: not measured yet */
    bool skipped;       /* a batch without a target, which was said */
};

enum train_end { TRAIN_DONE, TRAIN_STOPPED };

/* Runs the steps that are left and saves a last checkpoint. TRAIN_DONE; TRAIN_STOPPED after a
   signal (a checkpoint is saved, err() says where); -1 with err() set: what happened, and the step
   and file to return to. */
int train_run(struct train *t);

#endif
