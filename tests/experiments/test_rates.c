#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "autograd/base/mem.h"
#include "experiments/rates.h"

static struct product product(enum cost_kind kind, int64_t M, int64_t N, int64_t K)
{
    struct product p = {.kind = kind, .dt = &dtype_f32, .M = M, .N = N, .K = K, .times = 1};
    p.flops = 2 * (double)M * (double)N * (double)K;
    if (kind >= COST_ATTENTION)
        p.H = p.Hkv = 2;
    return p;
}

/* Every kind can be measured, in both dtypes, and is measured once. */
static void products_are_measured_once(void **state)
{
    (void)state;
    static const struct dtype *const dts[] = {&dtype_f32, &dtype_bf16};
    struct rates r = {0};
    for (int k = 0; k < COST_KINDS; k++)
        for (int d = 0; d < 2; d++) {
            struct product p = product((enum cost_kind)k, 32, 40, 16);
            p.dt = dts[d];
            const double rate = rates_product(&r, &p);
            assert_true(rate > 1e4 && rate < 1e15);
            const double spent = r.seconds;
            assert_int_equal(r.n, 2 * k + d + 1);
            assert_true(rates_product(&r, &p) == rate && r.seconds == spent);
        }
    const int threads = omp_get_max_threads();
    omp_set_num_threads(threads + 1); // that is another rate
    struct product p = product(COST_FORWARD, 32, 40, 16);
    assert_true(rates_product(&r, &p) > 0);
    assert_int_equal(r.n, 2 * COST_KINDS + 1);
    omp_set_num_threads(threads);
    rates_free(&r);
}

/* A product that takes long is measured on a part of it, and its rate is the whole one's. */
static void large_products_are_cut(void **state)
{
    (void)state;
    struct rates r = {.most = 0};
    const struct product p = product(COST_FORWARD, 1 << 20, 1 << 16, 1 << 14); // 2e15 FLOPs
    assert_true(rates_product(&r, &p) > 1e6);
    assert_true(r.known[0].shape.M == 1 << 20);
    rates_free(&r);
}

/* So is attention over a sequence that no machine could wait for. */
static void long_attention_is_cut(void **state)
{
    (void)state;
    struct rates r = {.most = 0};
    struct product p = product(COST_ATTENTION, 1 << 20, 1, 32);
    for (int k = COST_ATTENTION; k <= COST_ATTENTION_BACKWARD; k++) {
        p.kind = (enum cost_kind)k;
        p.H = p.Hkv = 4;
        p.flops = (k == COST_ATTENTION ? 2 : 5) * 4.0 * 32 * ldexp(1, 40); // 3e14 and more
        assert_true(rates_product(&r, &p) > 1e6);
    }
    assert_true(r.seconds < 60); // a second or so where nothing else runs
    rates_free(&r);
}

/* The head pads a vocabulary of odd size, or of one that is odd when it was halved: its products
   are those of a size that panels divide. */
static void odd_sizes_are_measured_even(void **state)
{
    (void)state;
    struct rates r = {.most = 0};
    for (int k = COST_FORWARD; k <= COST_DW; k++) {
        struct product odd = product((enum cost_kind)k, 256, 4099, 128), even = odd;
        even.N = 4096;
        odd.dt = even.dt = &dtype_bf16;
        assert_true(rates_product(&r, &odd) > rates_product(&r, &even) / 20);
    }
    rates_free(&r);
}

/* When the time is used up the nearest shape of the same kind answers, of another kind never. */
static void nearest_shape_answers(void **state)
{
    (void)state;
    struct rates r = {.most = 1};
    const struct product small = product(COST_DX, 16, 16, 16),
                         large = product(COST_DX, 512, 64, 64);
    const struct product middle = product(COST_DX, 300, 64, 64);
    assert_true(rates_product(&r, &small) > 0 && rates_product(&r, &large) > 0);
    r.known[0].flops = 5;
    r.known[1].flops = 7;
    r.seconds = 2;
    assert_true(rates_product(&r, &middle) == 7);
    assert_int_equal(r.n, 2);
    const struct product other = product(COST_DW, 16, 16, 16);
    assert_true(rates_product(&r, &other) > 100);
    assert_int_equal(r.n, 3);
    assert_true(rates_peak(&r) == r.known[2].flops);
    rates_free(&r);
}

/* Between two footprints a rate lies between theirs; outside it is the last one's. */
static void bytes_by_footprint(void **state)
{
    (void)state;
    struct rates r = {.bytes = {8e9, 4e9, 2e9, 1e9}};
    assert_float_equal(rates_bytes(&r, 1 << 17), 8e9, 1);
    assert_float_equal(rates_bytes(&r, 10), 8e9, 1);
    assert_float_equal(rates_bytes(&r, 1 << 20), 4e9, 1);
    assert_float_equal(rates_bytes(&r, sqrt(0x1p20 * 0x1p23)), sqrt(4e9 * 2e9), 100);
    assert_float_equal(rates_bytes(&r, 1e12), 1e9, 1);
    struct rates fresh = {0};
    assert_true(rates_bytes(&fresh, 1 << 16) > 1e3 && fresh.bytes[0] > 0);
    assert_true(rates_exps(&fresh) > 1e5 && rates_draws(&fresh) > 1e5);
    assert_true(rates_region(&fresh) < 1 && fresh.seconds > 0);
    rates_free(&r);
}

/* A row: its products, the slower of its bytes and exponentials, its draws, its calls. */
static void rows_add_up(void **state)
{
    (void)state;
    struct profile p = {.n = 2};
    struct rates r = {.bytes = {1e3, 1e3, 1e3, 1e3}, .region = 0.5};
    struct profile_work work[2] = {{0, product(COST_FORWARD, 2, 3, 4)},
                                   {1, product(COST_FORWARD, 2, 3, 5)}};
    work[0].product.times = 10;
    p.work = work;
    p.n_work = 2;
    p.row[0] = (struct profile_row){.calls = 10};
    r.known = mem_new(2, sizeof *r.known);
    assert_non_null(r.known);
    r.n = 2;
    for (int i = 0; i < 2; i++)
        r.known[i] = (struct rate){work[i].product, omp_get_max_threads(), 48};
    assert_float_equal(rates_row(&r, &p, 0), 10, 1e-9); // 48 FLOPs ten times
    p.row[0].bytes = 4e3;
    assert_float_equal(rates_row(&r, &p, 0), 10 + 4 + 10 * 0.5, 1e-9);
    r.exps = r.draws = 1; // seconds of the kernels' own number of elements
    const double a_second = rates_exps(&r), draws = rates_draws(&r);
    p.row[0].exps = 3 * a_second;
    assert_float_equal(rates_row(&r, &p, 0), 10 + 4 + 5, 1e-9);
    p.row[0].exps = 9 * a_second;
    assert_float_equal(rates_row(&r, &p, 0), 10 + 9 + 5, 1e-9);
    p.row[0].draws = 2 * draws;
    assert_float_equal(rates_row(&r, &p, 0), 10 + 9 + 5 + 2, 1e-9);
    free(r.known);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_measured_once),
        cmocka_unit_test(large_products_are_cut),
        cmocka_unit_test(long_attention_is_cut),
        cmocka_unit_test(odd_sizes_are_measured_even),
        cmocka_unit_test(nearest_shape_answers),
        cmocka_unit_test(bytes_by_footprint),
        cmocka_unit_test(rows_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
