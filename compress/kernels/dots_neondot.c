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

static inline vec_32 vec_lookup_(const int8_t *table, vec_32 q)
{
    const int8x16_t t = vld1q_s8(table);
    int8_t b[32];
    vst1q_s8(b, vqtbl1q_s8(t, (uint8x16_t)half_of_vec(q, 0)));
    vst1q_s8(b + 16, vqtbl1q_s8(t, (uint8x16_t)half_of_vec(q, 1)));
    vec_32 v;
    memcpy(&v, b, sizeof v);
    return v;
}

#define vec_lookup(table, q) vec_lookup_(table, (vec_32)(q))

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
