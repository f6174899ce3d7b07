/*
 * The kernels of KV blocks over vf. Included once by each kvblock_<isa>.c, which defines
 * KVBLOCK_TABLE, the name of its table. A tile is so many rows and vectors that their sums stay in
 * registers; each element that is read from the cache serves all rows of the tile.
 */
#include "autograd/kernels/kvblock.h"
#include "autograd/kernels/vec.h"

#define ALWAYS static inline __attribute__((always_inline))

/* PER: vectors of a block's tokens. MANY: rows of the tallest tile; its vectors, and those of
   lower ones: sums fill half of 32 registers, or most of 16. */
enum { PER = KVBLOCK / VF_N };
#if defined __AVX512F__
enum { MANY = 8, TALL = 2, FLAT = 4 };
#elif defined __aarch64__
enum { MANY = 4, TALL = 4, FLAT = 4 };
#else
enum { MANY = 4, TALL = 2, FLAT = 4 };
#endif

ALWAYS vf get(enum kvblock_type type, const void *x, int64_t i)
{
    return type == KVBLOCK_F32   ? vf_load((const float *)x + i)
           : type == KVBLOCK_F16 ? vf_load_f16((const uint16_t *)x + i)
                                 : vf_load_i8((const int8_t *)x + i);
}

/* q8_0: the scales, f16, behind n bytes at x. */
ALWAYS const uint16_t *scales(const void *x, int64_t n)
{
    return (const uint16_t *)(const void *)((const int8_t *)x + n);
}

/* R rows of scores of V vectors of tokens, from the first block's first on. */
ALWAYS void score_tile(enum kvblock_type type, const int R, const int V, int64_t D, const float *q,
                       const void *const *block, float *s, int64_t ld)
{
    const int64_t group = type == KVBLOCK_Q8_0 ? KVBLOCK_GROUP : D;
    vf sum[8][4], scale[4], k[4];
    for (int r = 0; r < R; r++)
        for (int v = 0; v < V; v++)
            sum[r][v] = vf_set(0);
    for (int64_t d0 = 0; d0 < D; d0 += group) {
        for (int v = 0; v < V && type == KVBLOCK_Q8_0; v++)
            scale[v] = vf_load_f16(scales(block[v / PER], D * KVBLOCK) +
                                   d0 / KVBLOCK_GROUP * KVBLOCK + v % PER * VF_N);
        for (int64_t d = d0; d < d0 + group; d++) {
            for (int v = 0; v < V; v++) {
                k[v] = get(type, block[v / PER], d * KVBLOCK + v % PER * VF_N);
                if (type == KVBLOCK_Q8_0)
                    k[v] = k[v] * scale[v];
            }
            for (int r = 0; r < R; r++) {
                const vf x = vf_set(q[r * D + d]);
                for (int v = 0; v < V; v++)
                    sum[r][v] = vf_fma(x, k[v], sum[r][v]);
            }
        }
    }
    for (int r = 0; r < R; r++)
        for (int v = 0; v < V; v++)
            vf_store(s + r * ld + v * VF_N, sum[r][v]);
}

/* All blocks for R rows: V vectors at a time, then block by block. */
ALWAYS void score_rows(enum kvblock_type type, const int R, const int V, int64_t D, const float *q,
                       int64_t n, const void *const *block, float *s, int64_t ld)
{
    enum { ONE = PER };
    int64_t b = 0;
    const int step = V / PER;
    for (; step > 1 && b + step <= n; b += step)
        score_tile(type, R, V, D, q, block + b, s + b * KVBLOCK, ld);
    for (; b < n; b++)
        score_tile(type, R, ONE, D, q, block + b, s + b * KVBLOCK, ld);
}

ALWAYS void scores(enum kvblock_type type, int64_t D, int64_t R, const float *q, int64_t n,
                   const void *const *block, float *s, int64_t ld)
{
    int64_t r = 0;
    for (; r + MANY <= R; r += MANY)
        score_rows(type, MANY, TALL, D, q + r * D, n, block, s + r * ld, ld);
    for (; MANY > 4 && r + 4 <= R; r += 4)
        score_rows(type, 4, FLAT, D, q + r * D, n, block, s + r * ld, ld);
    for (; r + 2 <= R; r += 2)
        score_rows(type, 2, FLAT, D, q + r * D, n, block, s + r * ld, ld);
    if (r < R)
        score_rows(type, 1, FLAT, D, q + r * D, n, block, s + r * ld, ld);
}

/* R rows of results, V vectors from element d0 on, over n tokens. */
ALWAYS void value_tile(enum kvblock_type type, const int R, const int V, int64_t W, int64_t at,
                       int64_t d0, const float *p, int64_t ld, int64_t n, const void *const *block,
                       float *y)
{
    vf sum[8][4], x[4];
    for (int r = 0; r < R; r++)
        for (int v = 0; v < V; v++)
            sum[r][v] = vf_load(y + r * W + d0 + v * VF_N);
    for (int64_t t = 0; t < n; t++) {
        const char *values = (const char *)block[t / KVBLOCK] + at;
        const int64_t first = t % KVBLOCK * W + d0;
        for (int v = 0; v < V; v++) {
            const int64_t i = first + v * VF_N;
            x[v] = get(type, values, i);
            if (type == KVBLOCK_Q8_0) // a vector lies within a group
                x[v] = x[v] * vf_set_f16(scales(values, W * KVBLOCK)[i / KVBLOCK_GROUP]);
        }
        for (int r = 0; r < R; r++) {
            const vf weight = vf_set(p[r * ld + t]);
            for (int v = 0; v < V; v++)
                sum[r][v] = vf_fma(weight, x[v], sum[r][v]);
        }
    }
    for (int r = 0; r < R; r++)
        for (int v = 0; v < V; v++)
            vf_store(y + r * W + d0 + v * VF_N, sum[r][v]);
}

ALWAYS void value_rows(enum kvblock_type type, const int R, const int V, int64_t D, const float *p,
                       int64_t ld, int64_t n, const void *const *block, float *y)
{
    const int64_t W = kvblock_wide(D), at = (int64_t)kvblock_values_at(type, D);
    int64_t d = 0;
    for (; d + V * VF_N <= W; d += V * VF_N)
        value_tile(type, R, V, W, at, d, p, ld, n, block, y);
    for (; d < W; d += VF_N)
        value_tile(type, R, 1, W, at, d, p, ld, n, block, y);
}

ALWAYS void values(enum kvblock_type type, int64_t D, int64_t R, const float *p, int64_t ld,
                   int64_t n, const void *const *block, float *y)
{
    const int64_t W = kvblock_wide(D);
    int64_t r = 0;
    for (; r + MANY <= R; r += MANY)
        value_rows(type, MANY, TALL, D, p + r * ld, ld, n, block, y + r * W);
    for (; MANY > 4 && r + 4 <= R; r += 4)
        value_rows(type, 4, FLAT, D, p + r * ld, ld, n, block, y + r * W);
    for (; r + 2 <= R; r += 2)
        value_rows(type, 2, FLAT, D, p + r * ld, ld, n, block, y + r * W);
    if (r < R)
        value_rows(type, 1, FLAT, D, p + r * ld, ld, n, block, y + r * W);
}

static void put_f16(int64_t D, void *block, int slot, const float *k, const float *v)
{
    const int64_t W = kvblock_wide(D);
    uint16_t *keys = block, row[KVBLOCK];
    uint16_t *to =
        (uint16_t *)(void *)((char *)block + kvblock_values_at(KVBLOCK_F16, D)) + slot * W;
    for (int64_t d = 0; d < D; d += KVBLOCK) {
        for (int64_t i = 0; i < KVBLOCK; i += VF_N)
            vf_store_f16(row + i, D - d - i >= VF_N ? vf_load(k + d + i)
                                                    : vf_load_part(k + d + i, D - d - i, 0));
        for (int64_t i = 0; i < KVBLOCK && d + i < D; i++)
            keys[(d + i) * KVBLOCK + slot] = row[i];
        for (int64_t i = 0; i < KVBLOCK; i += VF_N)
            vf_store_f16(to + d + i, D - d - i >= VF_N ? vf_load(v + d + i)
                                                       : vf_load_part(v + d + i, D - d - i, 0));
    }
}

static void scores_f32(int64_t D, int64_t R, const float *q, int64_t n, const void *const *block,
                       float *s, int64_t ld)
{
    scores(KVBLOCK_F32, D, R, q, n, block, s, ld);
}

static void values_f32(int64_t D, int64_t R, const float *p, int64_t ld, int64_t n,
                       const void *const *block, float *y)
{
    values(KVBLOCK_F32, D, R, p, ld, n, block, y);
}

static void scores_f16(int64_t D, int64_t R, const float *q, int64_t n, const void *const *block,
                       float *s, int64_t ld)
{
    scores(KVBLOCK_F16, D, R, q, n, block, s, ld);
}

static void values_f16(int64_t D, int64_t R, const float *p, int64_t ld, int64_t n,
                       const void *const *block, float *y)
{
    values(KVBLOCK_F16, D, R, p, ld, n, block, y);
}

static void scores_q8_0(int64_t D, int64_t R, const float *q, int64_t n, const void *const *block,
                        float *s, int64_t ld)
{
    scores(KVBLOCK_Q8_0, D, R, q, n, block, s, ld);
}

static void values_q8_0(int64_t D, int64_t R, const float *p, int64_t ld, int64_t n,
                        const void *const *block, float *y)
{
    values(KVBLOCK_Q8_0, D, R, p, ld, n, block, y);
}

static void put_f32(int64_t D, void *block, int slot, const float *k, const float *v)
{
    kvblock_scalar[KVBLOCK_F32].put(D, block, slot, k, v);
}

static void put_q8_0(int64_t D, void *block, int slot, const float *k, const float *v)
{
    kvblock_scalar[KVBLOCK_Q8_0].put(D, block, slot, k, v);
}

const struct kvblock KVBLOCK_TABLE[] = {
    [KVBLOCK_F32] = {KVBLOCK_NAME " f32", put_f32, scores_f32, values_f32},
    [KVBLOCK_F16] = {KVBLOCK_NAME " f16", put_f16, scores_f16, values_f16},
    [KVBLOCK_Q8_0] = {KVBLOCK_NAME " q8_0", put_q8_0, scores_q8_0, values_q8_0},
};
