#if defined __aarch64__
#include <arm_neon.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef int32_t vec_sums __attribute__((vector_size(16)));
typedef int32_t vec_ints __attribute__((vector_size(32)));
typedef float vec_floats __attribute__((vector_size(32)));
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

static inline vec_ints vec_totals(const vec_sums *sum)
{
    int32_t t[8];
    vec_ints v;
    for (int i = 0; i < 2; i++) {
        const int32x4_t *s = (const int32x4_t *)sum + 4 * i;
        vst1q_s32(t + 4 * i, vpaddq_s32(vpaddq_s32(s[0], s[1]), vpaddq_s32(s[2], s[3])));
    }
    memcpy(&v, t, sizeof v);
    return v;
}

static inline vec_32 vec_eighths(const uint8_t *bytes)
{
    static const uint8_t at[16] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1};
    uint32_t four;
    memcpy(&four, bytes, sizeof four);
    const uint8x16_t x = vreinterpretq_u8_u32(vdupq_n_u32(four)), i = vld1q_u8(at);
    uint8_t b[32];
    vst1q_u8(b, vqtbl1q_u8(x, i));
    vst1q_u8(b + 16, vqtbl1q_u8(x, vaddq_u8(i, vdupq_n_u8(2))));
    vec_32 v;
    memcpy(&v, b, sizeof v);
    return v;
}

static inline float vec_half(uint16_t h)
{
    return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(h))), 0);
}

static inline vec_floats vec_halves_of_8(const char *p, size_t stride)
{
    vec_floats x;
    for (int k = 0; k < 8; k++) {
        uint16_t h;
        memcpy(&h, p + (size_t)k * stride, sizeof h);
        x[k] = vec_half(h);
    }
    return x;
}

static inline vec_floats vec_fma(vec_floats a, vec_floats b, vec_floats c)
{
    for (int k = 0; k < 8; k++)
        c[k] = fmaf(a[k], b[k], c[k]);
    return c;
}

static inline float vec_tree(vec_floats p)
{
    return (p[1] + p[3]) + (p[5] + p[7]);
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

static void encode_32(int64_t cols, const float *x, struct act8 *a)
{
    dots_scalar.encode_32(cols, x, a);
}

const struct dots dots_neondot = {
    "neon_dot", &dots_scalar, encode, encode_32, {VEC_FORMATS(PANEL_ENTRY)}};
#endif
