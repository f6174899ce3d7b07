/* A transformer with the dims and weights of a golden file. */
#ifndef ATTAR_TESTS_LAYERS_GOLDEN_MODEL_H
#define ATTAR_TESTS_LAYERS_GOLDEN_MODEL_H

#include "layers/transformer.h"
#include "tests/golden.h"

/* Dims from the attributes of `config`; every parameter's values from <weights>/<name>. */
void golden_model_init(struct transformer *m, struct golden *g, const char *weights,
                       enum store_use use);

/* B sequences of T tokens tok [B,T], whole, at positions from 0. Freed by golden_batch_free(). */
void golden_batch_init(struct batch *b, int64_t B, int64_t T, const int32_t *tok);
void golden_batch_free(struct batch *b);

#endif
