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
#include "compress/kernels/panels8.h"

/* ---- panels ---- */

enum { PANEL_ROWS = 16 };

#define PANEL_LANES         4
#define PANEL_LESS(less)    0
#define PANEL_RUN(top, sub) ((sub) / 4)
#define PANEL_SCALE(s)      (s)
#define PANEL_MIN(s, i)     ((s)*PANEL_ROWS + (i))

typedef int32x4_t panel_part;

static inline int32x4_t panel_add(int32x4_t part, const int8_t *w, const int8_t *a, int top)
{
    int32_t four;
    memcpy(&four, a, sizeof four);
    (void)top;
    return vdotq_s32(part, vld1q_s8(w), vreinterpretq_s8_s32(vdupq_n_s32(four)));
}

static inline vec_sums panel_scaled(vec_sums sum, int32x4_t part, const int32_t *scale)
{
    return (vec_sums)vmlaq_s32((int32x4_t)sum, part, vld1q_s32(scale));
}

static inline vec_sums panel_mins(const int16_t *min, const struct act8 *a, int v)
{
    int32x4_t sum = vdupq_n_s32(0);
    for (int s = 0; s < 16; s++)
        sum = vmlal_n_s16(sum, vld1_s16(min + PANEL_MIN(s, PANEL_LANES * v)), a->sum[s]);
    return (vec_sums)sum;
}

#define panel_fma(a, b, c)                                                                         \
    ((panel_floats)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))

#include "compress/kernels/panels8_vec.h"

VEC_FORMATS(VEC_PRODUCT)
VEC_FORMATS(PANEL_PRODUCT)

static void encode(int64_t cols, const float *x, struct act8 *a)
{
    dots_scalar.encode(cols, x, a);
}

const struct dots dots_neondot = {"neon_dot", &dots_scalar, encode, {VEC_FORMATS(PANEL_ENTRY)}};
#endif
