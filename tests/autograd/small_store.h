/* A store of three small parameters, for tests. */
#ifndef ATTAR_TESTS_AUTOGRAD_SMALL_STORE_H
#define ATTAR_TESTS_AUTOGRAD_SMALL_STORE_H

#include "autograd/autograd.h"

/* Adds a matrix [rows,cols], or with no rows a vector [cols]. */
void small_store_add(struct store *s, const char *name, int64_t rows, int64_t cols, float std);

/* matrix [5,7], gain [3], other [2,16], with memory. */
void small_store(struct store *s, enum store_use use);

#endif
