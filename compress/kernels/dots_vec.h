/*
 * Products of blocks over vectors of 32 bytes, as gcc and clang know them without intrinsics. Once
 * included by each dots_<isa>.c, which defines
 *
 *     vec_scaled(sum, v, a, lo, hi)   4 or 8 sums in 32 bits, plus those of products of v and a,
 *                                     those of the first 16 elements times lo, of the others hi
 *     vec_total(sum)                  the sum of sums, and the type of them, vec_sums
 *     vec_totals(sum)                 those of eight sums [8]
 *     vec_lookup(table, q)            table[q] of 16 bytes, for each q
 *     vec_eighths(bytes)              8 times the first of four bytes, 8 times the second ...
 *     vec_half(h)                     an f16 as a float
 *     vec_halves_of_8(p, stride)      those at p, p + stride bytes ..., as floats
 *     vec_fma(a, b, c)                a b + c, of 8 floats
 *     vec_tree(p)                     (p1 + p3) + (p5 + p7), of 8 floats
 *
 * A block of 256, or eight blocks of 32, is opened once for all activations.
 */
#include <math.h>
#include <string.h>

#include "compress/codecs/bits.h"
#include "compress/codecs/blocks.h"
#include "compress/codecs/grid.h"
#include "compress/kernels/dots.h"

#define VEC_INLINE static inline __attribute__((always_inline))

typedef uint8_t vec_codes __attribute__((vector_size(32)));
typedef int8_t vec_levels __attribute__((vector_size(32)));
typedef int16_t vec_words __attribute__((vector_size(16)));

VEC_INLINE vec_codes vec_load(const void *p)
{
    vec_codes x;
    memcpy(&x, p, sizeof x);
    return x;
}

typedef uint8_t vec_16 __attribute__((vector_size(16)));

#define VEC_TO_31                                                                                  \
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25,  \
        26, 27, 28, 29, 30, 31

VEC_INLINE vec_codes vec_nibbles(const uint8_t *q)
{
    vec_16 x;
    memcpy(&x, q, sizeof x);
    return __builtin_shufflevector(x & 15, x >> 4, VEC_TO_31);
}

/* Bit i of four bytes at bit 4 of code i. */
VEC_INLINE vec_codes vec_fifth(const uint8_t *bits)
{
    const vec_codes mask = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128,
                            1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    return (vec_codes)(((vec_codes)vec_eighths(bits) & mask) != 0) & 16;
}

/* 256 levels of a row; scales and mins of 16 each (formats of 256), or d and m of 32 each. */
struct vec_open {
    vec_levels v[8];
    int16_t scale[16], min[16];
    float d, dmin;
    vec_floats d32, m32;
};

/* What the compiler knows of a format. */
struct vec_traits {
    void (*open)(const char *block, int64_t n, struct vec_open *o);
    int bytes;
    bool min;
};

/* ---- formats of 256 ---- */

VEC_INLINE void vec_halves(const uint16_t *d, bool min, struct vec_open *o)
{
    o->d = vec_half(d[0]);
    o->dmin = min ? vec_half(d[1]) : 0;
}

VEC_INLINE void vec_q2_k(const char *block, int64_t n, struct vec_open *o)
{
    const struct q2_k *b = (const void *)block;
    (void)n;
    for (int i = 0; i < 2; i++) {
        const vec_codes q = vec_load(b->qs + 32 * i);
        for (int k = 0; k < 4; k++)
            o->v[4 * i + k] = (vec_levels)(q >> 2 * k & 3);
    }
    for (int s = 0; s < 16; s++) {
        o->scale[s] = b->scales[s] & 15;
        o->min[s] = b->scales[s] >> 4;
    }
    vec_halves(&b->d, true, o);
}

VEC_INLINE void vec_q3_k(const char *block, int64_t n, struct vec_open *o)
{
    const struct q3_k *b = (const void *)block;
    const vec_codes high = vec_load(b->hmask);
    (void)n;
    for (int i = 0; i < 2; i++) {
        const vec_codes q = vec_load(b->qs + 32 * i);
        for (int k = 0; k < 4; k++)
            o->v[4 * i + k] = (vec_levels)((q >> 2 * k & 3) | (high >> (4 * i + k) & 1) << 2) - 4;
    }
    for (int s = 0; s < 16; s++) {
        const int low = b->scales[s % 8] >> s / 8 * 4 & 15;
        o->scale[s] = (int16_t)((low | (b->scales[8 + s % 4] >> s / 4 * 2 & 3) << 4) - 32);
    }
    vec_halves(&b->d, false, o);
}

/* Q4_K's and Q5_K's: of 32 elements each. */
VEC_INLINE void vec_scales6(const uint8_t *b, struct vec_open *o)
{
    int16_t scale[8], min[8];
    bits_scales6(b, scale, min);
    for (int s = 0; s < 16; s++) {
        o->scale[s] = scale[s / 2];
        o->min[s] = min[s / 2];
    }
}

VEC_INLINE void vec_q4_k(const char *block, int64_t n, struct vec_open *o)
{
    const struct q4_k *b = (const void *)block;
    (void)n;
    for (int i = 0; i < 4; i++) {
        const vec_codes q = vec_load(b->qs + 32 * i);
        o->v[2 * i] = (vec_levels)(q & 15);
        o->v[2 * i + 1] = (vec_levels)(q >> 4);
    }
    vec_scales6(b->scales, o);
    vec_halves(&b->d, true, o);
}

VEC_INLINE void vec_q5_k(const char *block, int64_t n, struct vec_open *o)
{
    const struct q5_k *b = (const void *)block;
    const vec_codes high = vec_load(b->qh);
    (void)n;
    for (int i = 0; i < 4; i++) {
        const vec_codes q = vec_load(b->qs + 32 * i);
        o->v[2 * i] = (vec_levels)((q & 15) | (high >> 2 * i & 1) << 4);
        o->v[2 * i + 1] = (vec_levels)(q >> 4 | (high >> (2 * i + 1) & 1) << 4);
    }
    vec_scales6(b->scales, o);
    vec_halves(&b->d, true, o);
}

VEC_INLINE void vec_q6_k(const char *block, int64_t n, struct vec_open *o)
{
    const struct q6_k *b = (const void *)block;
    (void)n;
    for (int i = 0; i < 2; i++) {
        const vec_codes p = vec_load(b->ql + 64 * i), q = vec_load(b->ql + 64 * i + 32);
        const vec_codes h = vec_load(b->qh + 32 * i);
        o->v[4 * i] = (vec_levels)((p & 15) | (h & 3) << 4) - 32;
        o->v[4 * i + 1] = (vec_levels)((q & 15) | (h >> 2 & 3) << 4) - 32;
        o->v[4 * i + 2] = (vec_levels)(p >> 4 | (h >> 4 & 3) << 4) - 32;
        o->v[4 * i + 3] = (vec_levels)(q >> 4 | (h >> 6) << 4) - 32;
    }
    for (int s = 0; s < 16; s++)
        o->scale[s] = b->scales[s];
    vec_halves(&b->d, false, o);
}

VEC_INLINE void vec_tq2_0(const char *block, int64_t n, struct vec_open *o)
{
    const struct tq2_0 *b = (const void *)block;
    (void)n;
    for (int i = 0; i < 2; i++) {
        const vec_codes q = vec_load(b->qs + 32 * i);
        for (int k = 0; k < 4; k++)
            o->v[4 * i + k] = (vec_levels)(q >> 2 * k & 3) - 1;
    }
    for (int s = 0; s < 16; s++)
        o->scale[s] = 1;
    vec_halves(&b->d, false, o);
}

VEC_INLINE void vec_iq4_xs(const char *block, int64_t n, struct vec_open *o)
{
    const struct iq4_xs *b = (const void *)block;
    (void)n;
    for (int k = 0; k < 8; k++) {
        o->v[k] = (vec_levels)vec_lookup(iq4_nl_levels, vec_nibbles(b->qs + 16 * k));
        const int low = b->scales_l[k / 2] >> k % 2 * 4 & 15, high = b->scales_h >> 2 * k & 3;
        o->scale[2 * k] = o->scale[2 * k + 1] = (int16_t)((low | high << 4) - 32);
    }
    vec_halves(&b->d, false, o);
}

/* By the format's grid: it is rare. */
VEC_INLINE void vec_tq1_0(const char *block, int64_t n, struct vec_open *o)
{
    struct grid_scales s;
    int8_t v[GRID_BLOCK];
    (void)n;
    tq1_0_grid.get(block, &s);
    tq1_0_grid.unpack(block, v);
    memcpy(o->v, v, sizeof v);
    for (int i = 0; i < 16; i++)
        o->scale[i] = 1;
    o->d = s.d;
}

VEC_INLINE vec_sums vec_dot(const struct vec_open *o, const struct act8 *a)
{
    vec_sums sum = {0};
    for (int i = 0; i < 8; i++)
        sum = vec_scaled(sum, o->v[i], (vec_levels)vec_load(a->q + 32 * i), o->scale[2 * i],
                         o->scale[2 * i + 1]);
    return sum;
}

VEC_INLINE int32_t vec_mins(const struct vec_open *o, const struct act8 *a)
{
    int32_t sum = 0;
    for (int s = 0; s < 16; s++)
        sum += o->min[s] * a->sum[s];
    return sum;
}

/* Up to VEC_ACTS activations and one row. */
enum { VEC_ACTS = 16 };

VEC_INLINE void vec_row(const struct dots_job *j, const struct vec_traits *f, int64_t r, int64_t i,
                        int64_t n, float *y)
{
    const int64_t blocks = j->cols / GRID_BLOCK;
    const char *row = j->w + (size_t)r * j->stride;
    const struct act8 *a = (const struct act8 *)j->a + i * blocks;
    for (int64_t b = 0; b < blocks; b++) {
        struct vec_open o;
        f->open(row + b * f->bytes, 8, &o);
        for (int64_t t = 0; t < n; t++) {
            const struct act8 *at = a + t * blocks + b;
            y[t] = fmaf(o.d * at->d, (float)vec_total(vec_dot(&o, at)), y[t]);
            if (f->min)
                y[t] = fmaf(-(o.dmin * at->d), (float)vec_mins(&o, at), y[t]);
        }
    }
}

/* ---- formats of 32 ---- */

/* The halves at p of n blocks, if there are so many; else 0. */
VEC_INLINE vec_floats vec_scales(const char *p, size_t bytes, int64_t n)
{
    if (n >= 8)
        return vec_halves_of_8(p, bytes);
    vec_floats x = {0};
    for (int k = 0; k < n; k++) {
        uint16_t h;
        memcpy(&h, p + (size_t)k * bytes, sizeof h);
        x[k] = vec_half(h);
    }
    return x;
}

#define VEC_EIGHT(stem, level, min)                                                                \
    VEC_INLINE void vec_##stem(const char *blocks, int64_t n, struct vec_open *o)                  \
    {                                                                                              \
        const struct stem *b = (const void *)blocks;                                               \
        for (int k = 0; k < 8; k++) {                                                              \
            const struct stem *at = b + (k < n ? k : 0);                                           \
            o->v[k] = (vec_levels)(level);                                                         \
        }                                                                                          \
        o->d32 = vec_scales(blocks, sizeof *b, n);                                                 \
        o->m32 = (vec_floats){0};                                                                  \
        if (min)                                                                                   \
            o->m32 = vec_scales(blocks + sizeof b->d, sizeof *b, n);                               \
    }
VEC_EIGHT(q4_0, (vec_levels)vec_nibbles(at->qs) - 8, false)
VEC_EIGHT(q4_1, vec_nibbles(at->qs), true)
VEC_EIGHT(q5_0, (vec_levels)(vec_nibbles(at->qs) | vec_fifth(at->qh)) - 16, false)
VEC_EIGHT(q5_1, vec_nibbles(at->qs) | vec_fifth(at->qh), true)
VEC_EIGHT(q8_0, vec_load(at->qs), false)
VEC_EIGHT(iq4_nl, vec_lookup(iq4_nl_levels, vec_nibbles(at->qs)), false)

/* p, part i of dots.h in lane 2i + 1, plus a group's sums. */
VEC_INLINE vec_floats vec_eight(const struct vec_open *o, const struct act8 *a, bool min,
                                vec_floats p)
{
    vec_sums sum[8];
    for (int k = 0; k < 8; k++)
        sum[k] = vec_scaled((vec_sums){0}, o->v[k], (vec_levels)vec_load(a->q + 32 * k), 1, 1);
    const vec_floats total = __builtin_convertvector(vec_totals(sum), vec_floats);
    vec_floats e, all;
    vec_words plain;
    memcpy(&e, a->d32, sizeof e);
    memcpy(&plain, a->sum32, sizeof plain);
    all = e * __builtin_convertvector(plain, vec_floats);
    const vec_floats de = o->d32 * e;
    for (int odd = 0; odd < 2; odd++) { // even lanes' blocks come first
        p = odd ? __builtin_shufflevector(p, p, 0, 0, 2, 2, 4, 4, 6, 6)
                : __builtin_shufflevector(p, p, 1, 1, 3, 3, 5, 5, 7, 7);
        p = vec_fma(de, total, p);
        if (min)
            p = vec_fma(o->m32, all, p);
    }
    return p;
}

VEC_INLINE void vec_row_32(const struct dots_job *j, const struct vec_traits *f, int64_t r,
                           int64_t i, int64_t n, float *y)
{
    const int64_t groups = act8_groups(j->cols);
    const char *row = j->w + (size_t)r * j->stride;
    const struct act8 *a = (const struct act8 *)j->a + i * groups;
    vec_floats p[VEC_ACTS] = {{0}};
    for (int64_t g = 0; g < groups; g++) {
        struct vec_open o;
        f->open(row + 8 * g * f->bytes, j->cols / 32 - 8 * g, &o);
        for (int64_t t = 0; t < n; t++)
            p[t] = vec_eight(&o, a + t * groups + g, f->min, p[t]);
    }
    for (int64_t t = 0; t < n; t++)
        y[t] = vec_tree(p[t]);
}

/* ---- */

/* VEC_ACTS activations pass by all rows before the next ones come: they stay in the cache. */
VEC_INLINE void vec_product(const struct dots_job *j, const struct vec_traits *f, bool small)
{
    for (int64_t i = 0; i < j->n; i += VEC_ACTS)
        for (int64_t r = 0; r < j->rows; r++) {
            const int64_t n = j->n - i < VEC_ACTS ? j->n - i : VEC_ACTS;
            float y[VEC_ACTS] = {0};
            if (small)
                vec_row_32(j, f, r, i, n, y);
            else
                vec_row(j, f, r, i, n, y);
            for (int64_t t = 0; t < n; t++)
                j->y[(i + t) * j->ldy + r] = y[t];
        }
}

/* FORMAT(stem, min, small, less, top, sub): level + less is a code, 0 to top, where top is not
   TOP_SIGNED; sub elements share a scale */
enum { TOP_SIGNED = 255 };

#define VEC_FORMATS(FORMAT)                                                                        \
    FORMAT(q2_k, true, false, 0, 3, 16)                                                            \
    FORMAT(q3_k, false, false, 4, 7, 16)                                                           \
    FORMAT(q4_k, true, false, 0, 15, 32)                                                           \
    FORMAT(q5_k, true, false, 0, 31, 32)                                                           \
    FORMAT(q6_k, false, false, 32, 63, 16)                                                         \
    FORMAT(iq4_xs, false, false, 0, TOP_SIGNED, 32)                                                \
    FORMAT(tq1_0, false, false, 1, 2, 32)                                                          \
    FORMAT(tq2_0, false, false, 1, 2, 32)                                                          \
    FORMAT(q4_0, false, true, 8, 15, 32)                                                           \
    FORMAT(q4_1, true, true, 0, 15, 32)                                                            \
    FORMAT(q5_0, false, true, 16, 31, 32)                                                          \
    FORMAT(q5_1, true, true, 0, 31, 32)                                                            \
    FORMAT(q8_0, false, true, 0, TOP_SIGNED, 32)                                                   \
    FORMAT(iq4_nl, false, true, 0, TOP_SIGNED, 32)

/* By themselves: beside panels the compiler does worse. */
#define VEC_PRODUCT(stem, min, small, less, top, sub)                                              \
    static __attribute__((noinline)) void vec_product_##stem(const struct dots_job *j)             \
    {                                                                                              \
        const struct vec_traits f = {vec_##stem, sizeof(struct stem), min};                        \
        vec_product(j, &f, small);                                                                 \
    }
