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

/* Gives the model's matrices the blocks of the types that a file of that mix has, empty ones. bf16:
   products are of panels, which the model has or gets. The importance matrix' path starts from
   `folder`. A model of shapes gets shapes of blocks. 0, or -1 with err() set: the recipe does not
   fit the model, the importance matrix cannot be read. blocks_close() after 0. */
int blocks_open(struct blocks *b, const struct config_qat *c, bool bf16, const char *folder,
                const struct transformer *m);
void blocks_close(struct blocks *b);

/* Fits the scales to the weights as they are, but for blocks that are given, no more. 0, or -1 with
   err() set. */
int blocks_fit(struct blocks *b);

/* Blocks that have their scales are what a model without gradients has from now on: what they
   decode to is in its latents; or (let_go) they themselves are `used`, the latents are freed, and
   the blocks have to outlive the model's use. 0, or -1 with err() set. */
int blocks_freeze(struct blocks *b, struct transformer *m, bool let_go);

/* blocks_fit(), and forward reads the blocks from now on. 0, or -1 with err() set. */
int blocks_begin(struct blocks *b, struct transformer *m);

/* Refits frozen scales (qat_refit()); store_project() is to follow. 0, or -1 with err() set. */
int blocks_refit(struct blocks *b, int64_t *moved, int64_t *all);

/* How much longer a step takes than a plain one, by rates that are measured now; activations
   apart. 0, or -1 with err() set. */
int blocks_seconds(const struct blocks *b, double *seconds);

/* For plans of memory: a model of shapes whose linears round their inputs as they do with
   `activations`. weighed: there is an importance matrix. 0, or -1 with err() set. */
int blocks_round_inputs(struct transformer *shapes, const struct recipe *r, bool weighed);

#endif
