/*
 * Products of weights in blocks with encoded activations (act8.h). The scalar reference defines
 * the result to the bit, and every variant gives just that, for any number of rows, activations and
 * threads:
 *
 *   formats of 256 (Q2_K ...)  y <- fma(d e, sum of scale q a, y), then, with mins,
 *                              y <- fma(-(dmin e), sum of min a, y)       block by block
 *   formats of 32 (Q4_0 ...)   y = (p0 + p1) + (p2 + p3), p_i of all blocks b, in turn, of which
 *                              b / 2 % 4 is i: p <- fma(d e, sum of q a, p), then, with mins,
 *                              p <- fma(-dmin, e (sum of a), p)
 *
 * where e is the scale of the activations (of 256, of 32) and the sums are exact, in 32-bit
 * integers.
 */
#ifndef ATTAR_COMPRESS_KERNELS_DOTS_H
#define ATTAR_COMPRESS_KERNELS_DOTS_H

#include "compress/kernels/act8.h"

/* In the order of codecs.def. */
enum dots_format {
#define CODEC(stem, name, id, block, bytes) DOTS_##stem,
#include "compress/codecs/codecs.def"
#undef CODEC
    DOTS_N
};

struct dots_job {
    enum dots_format format;
    const char *w;      /* the first row */
    size_t stride;      /* bytes from row to row */
    int64_t rows, cols; /* of w */
    const void *a;      /* n rows of struct act8 [act8_groups(cols)], encoded for the format */
    int64_t n;
    float *y; /* y[i * ldy + r] = row r of w times row i of a */
    int64_t ldy;
};

enum { DOTS_PARTS = 4 }; /* p_i */

typedef void dots_fn(const struct dots_job *j);
typedef void dots_encode_fn(int64_t cols, const float *x, struct act8 *a);

struct dots {
    const char *name;
    const struct dots *below;           /* does what this one has not; NULL: it has all */
    dots_encode_fn *encode, *encode_32; /* as act8_dtype, act8_32_dtype */
    dots_fn *fn[DOTS_N];                /* NULL: below's */
};

/* The table for cpu_level(): chosen before main, and again by dots_init() after cpu_set_level(). */
extern const struct dots *dots;
void dots_init(void);

/* dtype.product of the formats above. */
void dots_product(const struct tensor *t, int64_t row, int64_t rows, const void *a, int64_t n,
                  float *y, int64_t ldy);

extern const struct dots dots_scalar;
#if defined __x86_64__
extern const struct dots dots_avx2, dots_avx512vnni, dots_amx;
#elif defined __aarch64__
extern const struct dots dots_neondot;
#endif

#endif
