/* The learning rate of a step. */
#ifndef ATTAR_OPTIM_SCHEDULE_H
#define ATTAR_OPTIM_SCHEDULE_H

#include <stdint.h>

enum schedule_kind {
    SCHEDULE_COSINE,   /* half a cosine from lr to min; Loshchilov, Hutter 2017, eq. 5 */
    SCHEDULE_LINEAR,   /* a line from lr to min */
    SCHEDULE_CONSTANT, /* lr */
    SCHEDULE_WSD,      /* lr, then a line to min over the last `decay` steps; Hu et al. 2024 */
};

struct schedule {
    enum schedule_kind kind;
    double lr, min, power;        /* power: of the fall, a shape of 1 .. 0; 1 leaves it as it is */
    int64_t steps, warmup, decay; /* decay: WSD only */
};

/* Step s counts from 0. The first `warmup` steps rise linearly: lr (s + 1) / warmup. */
double schedule_lr(const struct schedule *sc, int64_t s);

#endif
