/* The reference, and what runs without vectors. */
#include <string.h>

#include "autograd/base/half.h"
#include "autograd/kernels/kvblock.h"

/* Where the parts of a block lie. q8_0: keys and values are followed by their scales, in the same
   order with D / 32 in place of D. */
struct parts {
    enum kvblock_type type;
    int64_t D, W;
    const char *k, *v;
};

static struct parts parts_of(enum kvblock_type type, int64_t D, const void *block)
{
    const char *k = block;
    return (struct parts){type, D, kvblock_wide(D), k, k + kvblock_values_at(type, D)};
}

static float element(enum kvblock_type type, const char *x, int64_t i, int64_t n, int64_t scale)
{
    float f;
    uint16_t h;
    if (type == KVBLOCK_F32) {
        memcpy(&f, x + i * 4, sizeof f);
        return f;
    }
    if (type == KVBLOCK_F16) {
        memcpy(&h, x + i * 2, sizeof h);
        return half_float(h);
    }
    memcpy(&h, x + n + scale * 2, sizeof h);
    return (float)((const int8_t *)x)[i] * half_float(h);
}

static float key(const struct parts *b, int64_t t, int64_t d)
{
    return element(b->type, b->k, d * KVBLOCK + t, b->D * KVBLOCK, d / KVBLOCK_GROUP * KVBLOCK + t);
}

static float value(const struct parts *b, int64_t t, int64_t d)
{
    return element(b->type, b->v, t * b->W + d, b->W * KVBLOCK, (t * b->W + d) / KVBLOCK_GROUP);
}

static void put_f32(int64_t D, void *block, int slot, const float *k, const float *v)
{
    const struct parts b = parts_of(KVBLOCK_F32, D, block);
    float *keys = (float *)(uintptr_t)b.k, *values = (float *)(uintptr_t)b.v + slot * b.W;
    for (int64_t d = 0; d < D; d++)
        keys[d * KVBLOCK + slot] = k[d];
    for (int64_t d = 0; d < b.W; d++)
        values[d] = d < D ? v[d] : 0;
}

static void put_f16(int64_t D, void *block, int slot, const float *k, const float *v)
{
    const struct parts b = parts_of(KVBLOCK_F16, D, block);
    uint16_t *keys = (uint16_t *)(uintptr_t)b.k, *values = (uint16_t *)(uintptr_t)b.v + slot * b.W;
    for (int64_t d = 0; d < D; d++)
        keys[d * KVBLOCK + slot] = half_of(k[d]);
    for (int64_t d = 0; d < b.W; d++)
        values[d] = d < D ? half_of(v[d]) : 0;
}

static void put_q8_0(int64_t D, void *block, int slot, const float *k, const float *v)
{
    const struct parts b = parts_of(KVBLOCK_Q8_0, D, block);
    int8_t *keys = (int8_t *)(uintptr_t)b.k, *values = (int8_t *)(uintptr_t)b.v;
    uint16_t *key_scale = (uint16_t *)(void *)(keys + D * KVBLOCK);
    uint16_t *value_scale = (uint16_t *)(void *)(values + D * KVBLOCK);
    for (int64_t d = 0; d < D; d += KVBLOCK_GROUP) {
        int8_t q[KVBLOCK_GROUP];
        kvblock_to_q8_0(KVBLOCK_GROUP, k + d, q, &key_scale[d / KVBLOCK_GROUP * KVBLOCK + slot]);
        for (int i = 0; i < KVBLOCK_GROUP; i++)
            keys[(d + i) * KVBLOCK + slot] = q[i];
    }
    kvblock_to_q8_0(D, v, values + slot * D, value_scale + slot * (D / KVBLOCK_GROUP));
}

static void scores(enum kvblock_type type, int64_t D, int64_t R, const float *q, int64_t n,
                   const void *const *block, float *s, int64_t ld)
{
    for (int64_t r = 0; r < R; r++)
        for (int64_t t = 0; t < n * KVBLOCK; t++) {
            const struct parts b = parts_of(type, D, block[t / KVBLOCK]);
            float sum = 0;
            for (int64_t d = 0; d < D; d++)
                sum += q[r * D + d] * key(&b, t % KVBLOCK, d);
            s[r * ld + t] = sum;
        }
}

static void values(enum kvblock_type type, int64_t D, int64_t R, const float *p, int64_t ld,
                   int64_t n, const void *const *block, float *y)
{
    const int64_t W = kvblock_wide(D);
    for (int64_t r = 0; r < R; r++)
        for (int64_t t = 0; t < n; t++) {
            const struct parts b = parts_of(type, D, block[t / KVBLOCK]);
            for (int64_t d = 0; d < D; d++)
                y[r * W + d] += p[r * ld + t] * value(&b, t % KVBLOCK, d);
        }
}

static void scores_f32(int64_t D, int64_t R, const float *q, int64_t n, const void *const *block,
                       float *s, int64_t ld)
{
    scores(KVBLOCK_F32, D, R, q, n, block, s, ld);
}

static void scores_f16(int64_t D, int64_t R, const float *q, int64_t n, const void *const *block,
                       float *s, int64_t ld)
{
    scores(KVBLOCK_F16, D, R, q, n, block, s, ld);
}

static void scores_q8_0(int64_t D, int64_t R, const float *q, int64_t n, const void *const *block,
                        float *s, int64_t ld)
{
    scores(KVBLOCK_Q8_0, D, R, q, n, block, s, ld);
}

static void values_f32(int64_t D, int64_t R, const float *p, int64_t ld, int64_t n,
                       const void *const *block, float *y)
{
    values(KVBLOCK_F32, D, R, p, ld, n, block, y);
}

static void values_f16(int64_t D, int64_t R, const float *p, int64_t ld, int64_t n,
                       const void *const *block, float *y)
{
    values(KVBLOCK_F16, D, R, p, ld, n, block, y);
}

static void values_q8_0(int64_t D, int64_t R, const float *p, int64_t ld, int64_t n,
                        const void *const *block, float *y)
{
    values(KVBLOCK_Q8_0, D, R, p, ld, n, block, y);
}

const struct kvblock kvblock_scalar[] = {
    [KVBLOCK_F32] = {"scalar f32", put_f32, scores_f32, values_f32},
    [KVBLOCK_F16] = {"scalar f16", put_f16, scores_f16, values_f16},
    [KVBLOCK_Q8_0] = {"scalar q8_0", put_q8_0, scores_q8_0, values_q8_0},
};
