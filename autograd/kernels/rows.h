/*
 * Kernels over rows of f32: everything around the GEMM. One scalar reference (rows_scalar.c), one
 * vector source (rows_vec.h) compiled once per instruction set, one table. A test compares every
 * entry of every table with the scalar one.
 *
 * `acc` says whether a result is added to what is there (true) or written (false: what is there is
 * never read, it may be uninitialized). Unless said otherwise results may alias inputs exactly.
 */
#ifndef ATTAR_AUTOGRAD_KERNELS_ROWS_H
#define ATTAR_AUTOGRAD_KERNELS_ROWS_H

#include <stdbool.h>
#include <stdint.h>

struct adamw_args {
    float lr, beta1, beta2, eps;
    float decay;          /* lr * weight decay of this parameter */
    float inv_c1, inv_c2; /* 1 / (1 - beta^t): bias corrections */
    float grad_scale;     /* the gradient counts this much: 1 / tokens, clipping */
};

struct lion_args {
    float lr, beta1, beta2;
    float decay;      /* lr * weight decay of this parameter */
    float grad_scale; /* as for adamw */
};

/* gelu's 2 u = x (GELU_1 + GELU_3 x^2) */
static const float GELU_1 = 1.59576912f, GELU_3 = 0.0713548163f;

struct rows {
    const char *name;
    float (*dot)(int64_t n, const float *a, const float *b);
    float (*max)(int64_t n, const float *x); /* -inf for n = 0 */
    /* y = a + b; y = f * x; y += f * x */
    void (*add)(int64_t n, const float *a, const float *b, float *y);
    void (*scale)(int64_t n, float f, const float *x, float *y);
    void (*axpy)(int64_t n, float f, const float *x, float *y);
    /* y = exp(f * x - shift); returns its sum */
    float (*exp_sum)(int64_t n, const float *x, float f, float shift, float *y);
    /* y = f * p * (x - shift): a softmax row's gradient from its values p and theirs x */
    void (*softmax_backward)(int64_t n, const float *p, const float *x, float shift, float f,
                             float *y);
    /* for attention in bf16. y = exp(f * x - shift); returns its sum before rounding */
    float (*exp_bf16)(int64_t n, const float *x, float f, float shift, uint16_t *y);
    /* p = exp(f * s - lse), ds = f * p * (dp - delta): one key and n queries */
    void (*softmax_backward_bf16)(int64_t n, const float *s, const float *dp, const float *lse,
                                  const float *delta, float f, uint16_t *p, uint16_t *ds);
    /* y = x * r * w with r = 1 / sqrt(mean(x^2) + eps), returned */
    float (*rmsnorm)(int64_t n, const float *x, const float *w, float eps, float *y);
    /* dx (acc: +)= r * (g - x r mean(g x r)), g = dy * w; dw += dy * x * r. dx or dw may be NULL */
    void (*rmsnorm_backward)(int64_t n, const float *x, const float *w, float r, const float *dy,
                             float *dx, bool acc, float *dw);
    /* y = (x - mean) * r * w + b with r = 1 / sqrt(variance + eps), returned; *mean = mean */
    float (*layernorm)(int64_t n, const float *x, const float *w, const float *b, float eps,
                       float *mean, float *y);
    /* dx (acc: +)= r * (g - mean(g) - z mean(g z)), g = dy * w, z = (x - mean) * r; dw += dy * z;
       db += dy. dx, dw or db may be NULL */
    void (*layernorm_backward)(int64_t n, const float *x, const float *w, float mean, float r,
                               const float *dy, float *dx, bool acc, float *dw, float *db);
    /* y = x / (1 + exp(-2 u)), u = sqrt(2 / pi) (x + 0.044715 x^3): GELU by tanh; dx (acc: +)= */
    void (*gelu)(int64_t n, const float *x, float *y);
    void (*gelu_backward)(int64_t n, const float *x, const float *dy, float *dx, bool acc);
    /* y = silu(g) * u; dg or du may be NULL. All are f32, or, if `bf16` says so, bf16: a result is
       rounded once, as by narrow() */
    void (*swiglu)(int64_t n, bool bf16, const void *g, const void *u, void *y);
    void (*swiglu_backward)(int64_t n, bool bf16, const void *g, const void *u, const void *dy,
                            void *dg, bool acc_g, void *du, bool acc_u);
    /* one head x [2 half]: pairs (2i, 2i+1) or (i, i+half) rotated by the angle whose cosine and
       sign * sine are c [half], s [half] */
    void (*rope_adjacent)(int64_t half, const float *c, const float *s, float sign, float *x);
    void (*rope_half)(int64_t half, const float *c, const float *s, float sign, float *x);
    /* one pass over a parameter p [n], its gradient and moments; Loshchilov, Hutter 2019, alg. 2 */
    void (*adamw)(int64_t n, const struct adamw_args *a, const float *g, float *m, float *v,
                  float *p);
    /* p -= lr sign(beta1 m + (1 - beta1) g) + decay p, then m = beta2 m + (1 - beta2) g */
    void (*lion)(int64_t n, const struct lion_args *a, const float *g, float *m, float *p);
    /* bf16 -> f32, exact; f32 -> bf16, to nearest, ties to even, NaN quiet. y must not alias x */
    void (*widen)(int64_t n, const uint16_t *x, float *y);
    void (*narrow)(int64_t n, const float *x, uint16_t *y);
    /* f16 -> f32, exact, NaN quiet; and back, likewise rounded */
    void (*widen_half)(int64_t n, const uint16_t *x, float *y);
    void (*narrow_half)(int64_t n, const float *x, uint16_t *y);
    double (*sum_squares)(int64_t n, const float *x); /* accumulated in f64 */
    /* y (acc: +)= f * x, but 0 where the draw is below `below`: column c's is word c % 4 of
       rng_block(key, row, c - c % 4) */
    void (*dropout)(int64_t n, uint64_t key, uint64_t row, uint32_t below, float f, const float *x,
                    bool acc, float *y);
};

/* The table for cpu_level(): chosen before main, and again by rows_init() after cpu_set_level(). */
extern const struct rows *rows;
void rows_init(void);

extern const struct rows rows_scalar;
#if defined __x86_64__
extern const struct rows rows_avx2, rows_avx512;
#elif defined __aarch64__
extern const struct rows rows_neon;
#endif

#endif
