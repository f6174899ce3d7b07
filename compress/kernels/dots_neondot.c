#if defined __aarch64__
#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

typedef int32_t vec_sums __attribute__((vector_size(16)));
typedef int8_t vec_32 __attribute__((vector_size(32)));

static inline int8x16_t half_of_vec(vec_32 x, int half)
{
    int8_t b[32];
    memcpy(b, &x, sizeof b);
    return vld1q_s8(b + 16 * half);
}

static inline vec_sums vec_scaled(vec_sums sum, vec_32 v, vec_32 a, int16_t lo, int16_t hi)
{
    const int32x4_t zero = vdupq_n_s32(0);
    const int32x4_t p = vdotq_s32(zero, half_of_vec(v, 0), half_of_vec(a, 0));
    const int32x4_t q = vdotq_s32(zero, half_of_vec(v, 1), half_of_vec(a, 1));
    return (vec_sums)vmlaq_n_s32(vmlaq_n_s32((int32x4_t)sum, p, lo), q, hi);
}

static inline int32_t vec_total(vec_sums sum)
{
    return vaddvq_s32((int32x4_t)sum);
}

#include "compress/kernels/dots_vec.h"

VEC_FORMATS_256(VEC_PRODUCT)
VEC_FORMATS_32(VEC_PRODUCT)

static void encode(int64_t cols, const float *x, struct act8 *a)
{
    dots_scalar.encode(cols, x, a);
}

const struct dots dots_neondot = {"neon_dot",
                                  &dots_scalar,
                                  encode,
                                  {VEC_FORMATS_256(VEC_ENTRY) VEC_FORMATS_32(VEC_ENTRY)}};
#endif
