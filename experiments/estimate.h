/* How fast a model will train here: a second of the real thing, on its first layers. */
#ifndef ATTAR_EXPERIMENTS_ESTIMATE_H
#define ATTAR_EXPERIMENTS_ESTIMATE_H

#include "layers/transformer.h"
#include "optim/optimizer.h"

struct estimate {
    double token;   /* seconds of forward and backward for a token */
    double step;    /* seconds that an optimizer step adds, whatever its tokens */
    double seconds; /* that measuring took */
};

/* Runs models of one and of two layers of these dims on micro-batches of n_seqs * T tokens (less
   for large models) and extrapolates by FLOPs. 0, or -1 with err() set. */
int estimate_training(const struct transformer_dims *dims, enum optimizer_kind optimizer,
                      int64_t n_seqs, int64_t T, bool recompute, struct estimate *e);

#endif
