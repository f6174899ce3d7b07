/* The parameters of a model: which there are, their names, shapes, order and initial values. */
#ifndef ATTAR_LAYERS_WEIGHTS_H
#define ATTAR_LAYERS_WEIGHTS_H

#include "layers/transformer.h"

/* Declares those of m->dims, which were checked, in m->store. 0, or -1 with err() set. */
int weights_declare(struct transformer *m);

/* Once the store is complete: sets the pointers of m and m->blocks [n_layers]. */
void weights_bind(struct transformer *m);

/* Elements of: everything; the blocks' matrices; embeddings, positions and head. */
struct weights_count {
    int64_t all, block_matrices, embeddings;
};
struct weights_count weights_count(const struct transformer_dims *dims);

#endif
