/*
 * An exponential moving average of the weights (Polyak, Juditsky 1992; with the decay's warm-up of
 * TensorFlow's ExponentialMovingAverage). It is one more slab of the store, "ema", saved with the
 * optimizer's; the optimizer never sees it. What the averaged weights are for: a model read without
 * its optimizer (checkpoint_load()) gets them instead of the ones that were trained.
 */
#ifndef ATTAR_OPTIM_EMA_H
#define ATTAR_OPTIM_EMA_H

#include "autograd/autograd.h"

struct ema_args {
    double decay; /* what is kept of the average, in [0, 1) */
    bool warmup;  /* keep less of it at first: min(decay, (1 + t) / (10 + t)) after t updates */
};

/* The slab's name in the store and in checkpoints. */
extern const char ema_name[];

/* After optimizer step `step` (1 for the first): the average moves towards the latent weights;
   after the first step it is them. Any number of threads gives the same bits. 0, or -1 with err()
   set if there is no memory for the slab. */
int ema_update(struct store *s, const struct ema_args *a, int64_t step);

/* Exchanges the latent weights and their average, and projects. Called twice it leaves every bit as
   it was. After the first ema_update(), or where a checkpoint had an average. */
void ema_swap(struct store *s);

#endif
