/* What the checks of row kernels share: guarded rows, and a check for each entry of struct rows. */
#ifndef ATTAR_TESTS_AUTOGRAD_ROWS_CHECK_H
#define ATTAR_TESTS_AUTOGRAD_ROWS_CHECK_H

#include "autograd/kernels/rows.h"

#define EPS  0x1p-23 /* two roundings */
#define TINY 1e-34   /* what a bounded exp leaves of a sigmoid that is zero */

struct vec {
    float *p; /* [n], `shift` floats behind an aligned address */
    int64_t n;
    int shift;
};

/* Of length n: of NaN; of normal numbers; of another's numbers. */
struct vec vec_nan(int64_t n, int shift);
struct vec vec_new(uint64_t key, int64_t n, int shift);
struct vec vec_copy(struct vec from);

/* Fails if anything beside the vector was written. */
void vec_free(struct vec v);

/* Fails unless got lies within most of want. */
void near(const char *what, int64_t i, double got, double want, double most);

/* Operands at different alignments. */
struct input {
    int64_t n;
    struct vec a, b, c;
};

/* A check for each entry, of table r. */
void check_rows_dot(const struct rows *r, const struct input *in);
void check_rows_max(const struct rows *r, const struct input *in);
void check_rows_add(const struct rows *r, const struct input *in);
void check_rows_scale(const struct rows *r, const struct input *in);
void check_rows_axpy(const struct rows *r, const struct input *in);
void check_rows_exp_sum(const struct rows *r, const struct input *in);
void check_rows_softmax_backward(const struct rows *r, const struct input *in);
void check_rows_rmsnorm(const struct rows *r, const struct input *in);
void check_rows_rmsnorm_backward(const struct rows *r, const struct input *in);
void check_rows_layernorm(const struct rows *r, const struct input *in);
void check_rows_layernorm_backward(const struct rows *r, const struct input *in);
void check_rows_gelu(const struct rows *r, const struct input *in);
void check_rows_gelu_backward(const struct rows *r, const struct input *in);
void check_rows_swiglu(const struct rows *r, const struct input *in);
void check_rows_swiglu_backward(const struct rows *r, const struct input *in);
void check_rows_rope_adjacent(const struct rows *r, const struct input *in);
void check_rows_rope_half(const struct rows *r, const struct input *in);
void check_rows_adamw(const struct rows *r, const struct input *in);
void check_rows_lion(const struct rows *r, const struct input *in);
void check_rows_exp_bf16(const struct rows *r, const struct input *in);
void check_rows_softmax_backward_bf16(const struct rows *r, const struct input *in);
void check_rows_widen(const struct rows *r, const struct input *in);
void check_rows_narrow(const struct rows *r, const struct input *in);
void check_rows_widen_half(const struct rows *r, const struct input *in);
void check_rows_narrow_half(const struct rows *r, const struct input *in);
void check_rows_sum_squares(const struct rows *r, const struct input *in);
void check_rows_dropout(const struct rows *r, const struct input *in);

#endif
