/* Kernels of KV blocks: every table against the scalar one, and that against plain loops. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/cpu.h"
#include "autograd/base/half.h"
#include "autograd/base/rng.h"
#include "autograd/kernels/kvblock.h"

enum { BLOCKS = 7, TOKENS = BLOCKS * KVBLOCK, MOST_D = 160, MOST_R = 13 };

static const int64_t sizes[] = {2, 8, 25, 32, 64, 80, 96, 128, 160};

static const struct kvblock *const tables[] = {
    kvblock_scalar,
#if defined __x86_64__
    kvblock_avx2,
    kvblock_avx512,
#elif defined __aarch64__
    kvblock_neon,
#endif
};

static bool runs(size_t table)
{
#if defined __x86_64__
    return !table || cpu_hardware() >= (table == 1 ? CPU_AVX2 : CPU_AVX512);
#else
    (void)table;
    return true;
#endif
}

/* Some blocks full of tokens, put there by one table. */
struct blocks {
    char *memory;
    const void *block[BLOCKS];
    size_t bytes;
};

static float k[TOKENS][MOST_D], v[TOKENS][MOST_D];

static void draw(int64_t D)
{
    for (int64_t t = 0; t < TOKENS; t++) {
        rng_normal((uint64_t)(D * 1000 + t), t % 5 ? 1 : 30, k[t], (size_t)D);
        rng_normal((uint64_t)(D * 2000 + t), 1, v[t], (size_t)D);
    }
}

static void fill(struct blocks *b, const struct kvblock *table, enum kvblock_type type, int64_t D)
{
    b->bytes = kvblock_bytes(type, D);
    b->memory = aligned_alloc(64, BLOCKS * b->bytes);
    assert_non_null(b->memory);
    memset(b->memory, 0, BLOCKS * b->bytes);
    for (int i = 0; i < BLOCKS; i++)
        b->block[i] = b->memory + (size_t)(BLOCKS - 1 - i) * b->bytes;
    for (int t = 0; t < TOKENS; t++)
        table[type].put(D, (void *)(uintptr_t)b->block[t / KVBLOCK], t % KVBLOCK, k[t], v[t]);
}

/* What a type makes of x [D]. */
static void rounded(enum kvblock_type type, int64_t D, const float *x, double *to)
{
    int8_t q[MOST_D];
    uint16_t scale[MOST_D / KVBLOCK_GROUP];
    if (type == KVBLOCK_Q8_0)
        kvblock_to_q8_0(D, x, q, scale);
    for (int64_t d = 0; d < D; d++)
        to[d] = type == KVBLOCK_F32   ? x[d]
                : type == KVBLOCK_F16 ? half_float(half_of(x[d]))
                                      : (double)half_float(scale[d / KVBLOCK_GROUP]) * q[d];
}

/* Every table puts the same bytes. */
static void tables_store_the_same(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int type = 0; type < KVBLOCK_TYPES; type++) {
            struct blocks one, other;
            if (!kvblock_bytes((enum kvblock_type)type, sizes[i]))
                continue;
            draw(sizes[i]);
            fill(&one, kvblock_scalar, (enum kvblock_type)type, sizes[i]);
            for (size_t t = 1; t < sizeof tables / sizeof *tables && runs(t); t++) {
                fill(&other, tables[t], (enum kvblock_type)type, sizes[i]);
                assert_memory_equal(one.memory, other.memory, BLOCKS * one.bytes);
                free(other.memory);
            }
            free(one.memory);
        }
}

/* An f32 sum of n products, each with one rounding or two, is off by n roundings of its size. */
static double bound(int64_t n, double size)
{
    return ((double)n + 1) * 0x1p-24 * size + 1e-30;
}

static void one_shape(const struct kvblock *table, enum kvblock_type type, int64_t D, int64_t R,
                      int64_t n)
{
    static float q[MOST_R * MOST_D], s[MOST_R][TOKENS + 3], y[MOST_R * MOST_D];
    const int64_t W = kvblock_wide(D), blocks = (n + KVBLOCK - 1) / KVBLOCK;
    double x[MOST_D];
    struct blocks b;
    fill(&b, table, type, D);
    rng_normal(7, 1, q, (size_t)(R * D));
    for (int64_t r = 0; r < R; r++)
        for (int64_t t = 0; t < TOKENS + 3; t++)
            s[r][t] = NAN;
    table[type].scores(D, R, q, blocks, b.block, s[0], TOKENS + 3);
    for (int64_t t = 0; t < blocks * KVBLOCK; t++) {
        rounded(type, D, k[t], x);
        for (int64_t r = 0; r < R; r++) {
            double sum = 0, size = 0;
            for (int64_t d = 0; d < D; d++) {
                sum += q[r * D + d] * x[d];
                size += fabs(q[r * D + d] * x[d]);
            }
            assert_true(fabs(s[r][t] - sum) <= bound(D, size));
        }
    }
    for (int64_t r = 0; r < R; r++)
        assert_true(isnan(s[r][blocks * KVBLOCK])); // nothing is written behind them
    // results: added to what is there
    static float p[MOST_R][TOKENS];
    double expected[MOST_R][MOST_D], size[MOST_R][MOST_D];
    for (int64_t r = 0; r < R; r++) {
        rng_normal((uint64_t)(r + 90), 1, p[r], TOKENS);
        for (int64_t d = 0; d < W; d++) {
            y[r * W + d] = d < D ? (float)d : 0;
            expected[r][d] = size[r][d] = y[r * W + d];
        }
    }
    for (int64_t t = 0; t < n; t++) {
        rounded(type, D, v[t], x);
        for (int64_t r = 0; r < R; r++)
            for (int64_t d = 0; d < D; d++) {
                expected[r][d] += p[r][t] * x[d];
                size[r][d] += fabs(p[r][t] * x[d]);
            }
    }
    table[type].values(D, R, p[0], TOKENS, n, b.block, y);
    for (int64_t r = 0; r < R; r++)
        for (int64_t d = 0; d < W; d++)
            assert_true(d < D ? fabs(y[r * W + d] - expected[r][d]) <= bound(n, size[r][d])
                              : y[r * W + d] == 0);
    free(b.memory);
}

static void tables_are_right(void **state)
{
    static const int64_t tokens[] = {1, 15, 16, 17, 64, 65, 111, TOKENS};
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        draw(sizes[i]);
        for (size_t t = 0; t < sizeof tables / sizeof *tables && runs(t); t++)
            for (int type = 0; type < KVBLOCK_TYPES; type++)
                for (int64_t R = 1; R <= MOST_R && kvblock_bytes((enum kvblock_type)type, sizes[i]);
                     R += R < 5 ? 1 : 4)
                    for (size_t n = 0; n < sizeof tokens / sizeof *tokens; n++)
                        one_shape(tables[t], (enum kvblock_type)type, sizes[i], R, tokens[n]);
    }
}

/* A row's bits do not depend on the rows beside it, nor on what comes behind its keys. */
static void rows_do_not_meet(void **state)
{
    static float q[MOST_R * MOST_D], all[MOST_R][TOKENS], one[TOKENS], p[MOST_R][TOKENS];
    static float y[MOST_R * MOST_D], z[MOST_D];
    const int64_t D = 96, W = 96;
    (void)state;
    draw(D);
    rng_normal(8, 1, q, (size_t)(MOST_R * D));
    rng_normal(9, 1, p[0], sizeof p / sizeof(float));
    for (size_t t = 0; t < sizeof tables / sizeof *tables && runs(t); t++)
        for (int type = 0; type < KVBLOCK_TYPES; type++) {
            struct blocks b;
            fill(&b, tables[t], (enum kvblock_type)type, D);
            memset(y, 0, sizeof y);
            tables[t][type].scores(D, MOST_R, q, BLOCKS, b.block, all[0], TOKENS);
            tables[t][type].values(D, MOST_R, p[0], TOKENS, TOKENS, b.block, y);
            for (int64_t r = 0; r < MOST_R; r++) {
                for (int n = 1; n <= BLOCKS; n++) {
                    tables[t][type].scores(D, 1, q + r * D, n, b.block, one, TOKENS);
                    assert_memory_equal(one, all[r], (size_t)n * KVBLOCK * sizeof *one);
                }
                memset(z, 0, sizeof z);
                tables[t][type].values(D, 1, p[r], TOKENS, TOKENS, b.block, z);
                assert_memory_equal(z, y + r * W, (size_t)D * sizeof *z);
            }
            free(b.memory);
        }
}

/* A group's largest element is off by the scale's rounding, the others by half a step more; and
   what was read is stored again without a change. */
static void q8_0_is_near_and_stays(void **state)
{
    float x[64], again[64];
    int8_t q[64], q2[64];
    uint16_t scale[2], scale2[2];
    (void)state;
    for (uint64_t i = 0; i < 200; i++) {
        rng_normal(i, i % 3 ? 1 : 1e-3f, x, 64);
        if (i == 7)
            memset(x, 0, 32 * sizeof *x);
        kvblock_to_q8_0(64, x, q, scale);
        for (int d = 0; d < 64; d++) {
            const float step = half_float(scale[d / 32]);
            again[d] = step * q[d];
            float most = 0;
            for (int j = d / 32 * 32; j < d / 32 * 32 + 32; j++)
                most = fmaxf(most, fabsf(x[j]));
            assert_true(fabsf(again[d] - x[d]) <=
                        most / 127 / 2 + 127 * fabsf(step - most / 127) + 1e-12f);
        }
        kvblock_to_q8_0(64, again, q2, scale2);
        if (i % 3) // where the scale is a normal number of f16
            assert_memory_equal(q, q2, sizeof q);
    }
}

static void sizes_fit_the_cpu(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const size_t f32 = kvblock_bytes(KVBLOCK_F32, sizes[i]);
        const size_t f16 = kvblock_bytes(KVBLOCK_F16, sizes[i]);
        const size_t q8_0 = kvblock_bytes(KVBLOCK_Q8_0, sizes[i]);
        assert_true(f32 % 64 == 0 && f16 % 64 == 0 && q8_0 % 64 == 0);
        if (sizes[i] % 32)
            assert_int_equal(q8_0, 0);
        else
            assert_in_range(q8_0, f32 / 4 * 34 / 32, f32 / 4 * 34 / 32 + 2 * 63);
        if (sizes[i] % 16 == 0)
            assert_int_equal(f32, 2 * f16);
    }
    const enum cpu_level best = cpu_level();
    for (int l = 0; l <= (int)best; l++) {
        cpu_set_level((enum cpu_level)l);
        kvblock_init();
        if (!l)
            assert_ptr_equal(kvblock, kvblock_scalar);
        else
            assert_ptr_not_equal(kvblock, kvblock_scalar);
    }
    cpu_set_level(best);
    kvblock_init();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_store_the_same), cmocka_unit_test(tables_are_right),
        cmocka_unit_test(rows_do_not_meet),      cmocka_unit_test(q8_0_is_near_and_stays),
        cmocka_unit_test(sizes_fit_the_cpu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
