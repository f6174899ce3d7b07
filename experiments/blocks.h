/*
 * The blocks of a stage `qat`: which weights get which, by the recipe of the config's mix, when
 * they begin, and what weighs their errors.
 */
#ifndef ATTAR_EXPERIMENTS_BLOCKS_H
#define ATTAR_EXPERIMENTS_BLOCKS_H

#include "compress/qat.h"
#include "experiments/config.h"
#include "layers/transformer.h"

struct blocks {
    struct qat qat;
    struct recipe recipe;
    struct imatrix own;
    const struct imatrix *imatrix; /* own, or NULL */
};

/* Gives the model's matrices the blocks of the types that a file of that mix has, empty ones. The
   importance matrix' path starts from `folder`. 0, or -1 with err() set: the recipe does not fit
   the model, the importance matrix cannot be read. blocks_close() after 0. */
int blocks_open(struct blocks *b, const struct config_qat *c, const char *folder,
                const struct transformer *m);
void blocks_close(struct blocks *b);

/* Fits the scales to the weights as they are; forward reads the blocks from now on. 0, or -1 with
   err() set. */
int blocks_begin(struct blocks *b, struct transformer *m);

#endif
