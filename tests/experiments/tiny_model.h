/* A small random llama over bytes, for tests of what uses a model. */
#ifndef ATTAR_TESTS_EXPERIMENTS_TINY_MODEL_H
#define ATTAR_TESTS_EXPERIMENTS_TINY_MODEL_H

#include "datasets/tokenizer.h"
#include "layers/transformer.h"

enum { TINY_CONTEXT = 320 };

/* Two layers of different widths, grouped heads, a vocabulary of 257 and, if `padded`, three ids
   more than the tokenizer has. Fails the test if it cannot be made. */
void tiny_model(struct transformer *m, bool with_grad, bool padded);

/* The same of another architecture. */
void tiny_model_of(struct transformer *m, enum arch arch, bool with_grad, bool padded);

/* The same without gradients, its head tied or not. */
void tiny_model_with(struct transformer *m, enum arch arch, bool tied);

/* The same, and both layers of the width of the first. */
void tiny_model_even(struct transformer *m, enum arch arch, bool tied);

/* Makes token `id` the likeliest one after anything, by far. */
void tiny_model_always(struct transformer *m, int id);

/* Saves it with a byte tokenizer. */
void tiny_model_save(const char *path, const struct transformer *m);

#endif
