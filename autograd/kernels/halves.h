/*
 * Products of rows of f16 or bf16 with f32 activations. For a few activations every variant gives
 * the scalar reference's bits, for any number of rows and threads: 16 partial sums by column,
 * fused, added halves to halves.
 */
#ifndef ATTAR_AUTOGRAD_KERNELS_HALVES_H
#define ATTAR_AUTOGRAD_KERNELS_HALVES_H

#include "autograd/autograd.h"

struct halves_job {
    bool bf16;     /* else f16 */
    const char *w; /* the first row */
    size_t stride; /* bytes from row to row */
    int64_t rows, cols;
    const float *a; /* [n,cols] */
    int64_t n;
    float *y; /* y[i * ldy + r] = row r of w times row i of a */
    int64_t ldy;
};

typedef void halves_fn(const struct halves_job *j);

/* The one in use: chosen before main by cpu_level(), again by halves_init(). */
extern halves_fn *halves;
void halves_init(void);

/* dtype.product of f16 and bf16. */
void halves_product(const struct tensor *t, int64_t row, int64_t rows, const void *a, int64_t n,
                    float *y, int64_t ldy);

halves_fn halves_scalar;
#if defined __x86_64__
halves_fn halves_avx512;
#endif

#endif
