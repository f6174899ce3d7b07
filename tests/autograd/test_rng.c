#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/rng.h"

/* Known answers for philox4x32-10 from the Random123 distribution. */
static void known_answers(void **state)
{
    static const struct {
        uint64_t key, hi, lo;
        uint32_t out[4];
    } kat[] = {
        {0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {UINT64_MAX, UINT64_MAX, UINT64_MAX, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {0x299f31d0a4093822,
         0x0370734413198a2e,
         0x85a308d3243f6a88,
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    (void)state;
    for (int i = 0; i < 3; i++) {
        uint32_t out[4];
        rng_block(kat[i].key, kat[i].hi, kat[i].lo, out);
        assert_memory_equal(out, kat[i].out, sizeof out);
    }
}

static int order(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Keys differ for all short names and seeds. */
static void keys_differ(void **state)
{
    static const char *const names[] = {"",   "a",  "b",  "ab",      "ba",           "aa", "aaa",
                                        "ac", "\1", "\2", "dropout", "blk.0.weight", "z",  "init"};
    enum { N = sizeof names / sizeof *names, SEEDS = 50 };
    uint64_t keys[N * SEEDS];
    (void)state;
    for (uint64_t i = 0; i < N * SEEDS; i++)
        keys[i] = rng_key(i / N, names[i % N]);
    assert_true(rng_key(3, "dropout") == rng_key(3, "dropout"));
    qsort(keys, N * SEEDS, sizeof *keys, order);
    for (int i = 1; i < N * SEEDS; i++)
        assert_true(keys[i] != keys[i - 1]);
}

static void uniform(void **state)
{
    enum { N = 100000, BINS = 20 };
    int bins[BINS] = {0};
    double chi = 0;
    (void)state;
    for (uint64_t i = 0; i < N; i++) {
        const float x = rng_uniform(1, i % 7, i);
        assert_true(x >= 0 && x < 1);
        bins[(int)(x * BINS)]++;
    }
    for (int i = 0; i < BINS; i++)
        chi += pow(bins[i] - N / BINS, 2) / (N / BINS);
    assert_true(chi < 45); // 19 degrees of freedom: one draw of a thousand is above 44
    assert_true(rng_uniform(1, 2, 3) != rng_uniform(1, 3, 2));
}

static void below(void **state)
{
    static const uint64_t sizes[] = {1, 2, 3, 7, 1000, (uint64_t)1 << 63, UINT64_MAX};
    (void)state;
    for (int k = 0; k < 7; k++)
        for (uint64_t i = 0; i < 1000; i++)
            assert_true(rng_below(4, i, sizes[k]) < sizes[k]);
    int bins[7] = {0};
    for (uint64_t i = 0; i < 70000; i++)
        bins[rng_below(5, i, 7)]++;
    for (int i = 0; i < 7; i++)
        assert_true(abs(bins[i] - 10000) < 5 * 93);
    // 3 * 2^62 of 2^64: a remainder alone would draw the first third twice as often
    const uint64_t n = (uint64_t)3 << 62;
    int low = 0;
    for (uint64_t i = 0; i < 30000; i++)
        low += rng_below(6, i, n) < n / 3;
    assert_true(abs(low - 10000) < 5 * 82);
}

static void normal(void **state)
{
    enum { N = 200000 };
    static float x[N], y[N];
    double sum[5] = {0};
    int beyond = 0;
    (void)state;
    rng_normal(9, 2, x, N);
    for (int i = 0; i < N; i++) {
        const double z = x[i] / 2.0;
        for (int k = 1; k < 5; k++)
            sum[k] += pow(z, k) / N;
        beyond += fabs(z) > 2;
        assert_true(fabs(z) < 6);
    }
    const double sigma = 1 / sqrt(N);
    assert_true(fabs(sum[1]) < 5 * sigma);
    assert_true(fabs(sum[2] - 1) < 5 * sqrt(2) * sigma);
    assert_true(fabs(sum[3]) < 5 * sqrt(15) * sigma);
    assert_true(fabs(sum[4] - 3) < 5 * sqrt(96) * sigma);
    assert_true(fabs(beyond / (double)N - 0.0455) < 5 * sqrt(0.0455) * sigma);
    double neighbours = 0;
    for (int i = 0; i + 1 < N; i++)
        neighbours += x[i] / 4.0 * x[i + 1] / N;
    assert_true(fabs(neighbours) < 5 * sigma);
    for (size_t n = 0; n < 9; n++) { // a prefix is a prefix, and nothing is written behind it
        y[n] = 77;
        rng_normal(9, 2, y, n);
        assert_memory_equal(x, y, n * sizeof *x);
        assert_true(y[n] == 77);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers), cmocka_unit_test(keys_differ), cmocka_unit_test(uniform),
        cmocka_unit_test(below),         cmocka_unit_test(normal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
