/* What the files of the checkpoint share. */
#ifndef ATTAR_EXPERIMENTS_CHECKPOINT_PARTS_H
#define ATTAR_EXPERIMENTS_CHECKPOINT_PARTS_H

#include "datasets/h5file.h"
#include "experiments/checkpoint.h"

enum { CHECKPOINT_NAME = 240 }; /* bytes of a dataset's name */

/* Slabs that optimizers keep, NULL at the end. */
extern const char *const checkpoint_state_names[];

int checkpoint_write_blocks(struct h5file *f, const struct qat *q, const char *mix);
int checkpoint_read_mix(struct checkpoint *c);

/* The blocks' values become the latents of a model without gradients or with. */
int checkpoint_decode_blocks(struct checkpoint *c, struct transformer *m);

/* Factors, in checkpoint_lora.c. */
int checkpoint_write_factors(struct h5file *f, const struct lora *l);

#endif
