/*
 * Products of rows of f16 or bf16 with activations (act16.h). For few activations every variant
 * gives the scalar reference's bits: f32, 32 partial sums by column, fused, added halves to halves.
 * From HALVES_MANY on those that multiply pairs of 16-bit integers may do just that, twice as fast
 * as f32: weights too become 14-bit integers in runs of 32, with a scale. Each is then off by up to
 * half a step, 2^-14 of the largest of its run, as f16 is by 2^-12 of itself; sums within a run are
 * exact. Neither way depends on the number of rows and threads, nor on the other activations.
 */
#ifndef ATTAR_AUTOGRAD_KERNELS_HALVES_H
#define ATTAR_AUTOGRAD_KERNELS_HALVES_H

#include "autograd/autograd.h"
#include "autograd/kernels/act16.h"

enum { HALVES_MANY = 32 };

struct halves_job {
    bool bf16;     /* else f16 */
    const char *w; /* the first row */
    size_t stride; /* bytes from row to row */
    int64_t rows, cols;
    const struct act16 *a; /* [n, act16_groups(cols)] */
    int64_t n;
    float *y; /* y[i * ldy + r] = row r of w times row i of a */
    int64_t ldy;
};

typedef void halves_fn(const struct halves_job *j);
typedef void halves_encode_fn(int64_t cols, const float *x, struct act16 *a);

/* Those in use: chosen before main by cpu_level(), again by halves_init(). Encoding gives the same
   bits everywhere. */
extern halves_fn *halves;
extern halves_encode_fn *halves_encode;
void halves_init(void);

/* dtype.product of f16 and bf16. */
void halves_product(const struct tensor *t, int64_t row, int64_t rows, const void *a, int64_t n,
                    float *y, int64_t ldy);

halves_fn halves_scalar;
halves_encode_fn halves_encode_scalar;
#if defined __x86_64__
halves_fn halves_avx512, halves_avx512vnni;
halves_encode_fn halves_encode_avx512;
#endif

#endif
