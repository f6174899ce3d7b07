/* Rows that encoders meet, by kind: draws, a trained model's, and what is out of the ordinary. */
#ifndef ATTAR_TESTS_COMPRESS_CODECS_SAMPLES_H
#define ATTAR_TESTS_COMPRESS_CODECS_SAMPLES_H

#include <stdbool.h>
#include <stdint.h>

#include "autograd/autograd.h"

enum { SAMPLES_COLS = 1280 }; /* five blocks of 256: not all lanes are filled */

/* x [SAMPLES_COLS]: the i-th row of that kind, by name, or false behind the last kind. */
bool samples_row(int kind, int i, const char **name, float *x);

/* Importance [SAMPLES_COLS]: log-normal, a few columns 0. */
void samples_importance(int i, float *w);

/* Rows of a matrix of kjv-5m: x [rows][cols], to be freed; NULL, with a visible note, where the
   file is absent. */
float *samples_trained(const char *tensor, int64_t *rows, int64_t *cols);

/* A row of that format, to be freed with samples_free(). */
struct tensor samples_tensor(const struct dtype *dt, int64_t rows, int64_t cols);
void samples_free(struct tensor *t);

#endif
