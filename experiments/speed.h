/* What `attar bench` prints: how fast this machine multiplies and trains, and where the time goes.
   Tables of at most 100 columns, or one line of JSON. */
#ifndef ATTAR_EXPERIMENTS_SPEED_H
#define ATTAR_EXPERIMENTS_SPEED_H

#include "autograd/base/buf.h"
#include "experiments/config.h"
#include "experiments/rehearsal.h"

struct speed_args {
    struct plan_step step; /* bf16 in it: what `precision` comes to */
    enum config_precision precision;
    const char *what; /* "tiny", "pretrain of quickstart" */
    int64_t steps;    /* of training that are measured */
    bool json;
};

/* FLOP/s of the products of a step, forward and for both gradients, on one thread and on all: in
   f32 and, asked for or native, in bf16. 0, or -1 with err() set. */
int speed_gemm(const struct speed_args *a, struct buf *out);

/* Trains for some steps: tokens/s beside the plan's, memory, and each op's calls, time, speed and
   how much of the time the rates of this machine account for. 0, or -1 with err() set. */
int speed_train(const struct speed_args *a, struct buf *out);

#endif
