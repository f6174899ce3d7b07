/* The plan's time: what a step costs against an independent count, at rates that are known. */
#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/mem.h"
#include "experiments/estimate.h"

enum { L = 3, C = 48, V = 70, T = 24, B = 6, MICRO = 2 };

static struct transformer_dims dims;

static int setup(void **state)
{
    (void)state;
    dims = (struct transformer_dims){.n_layers = L,
                                     .d_model = C,
                                     .vocab = V,
                                     .head_dim = 8,
                                     .context = T,
                                     .norm_eps = 1e-5,
                                     .init_std = 0.02,
                                     .rope = {.base = 10000}};
    for (int l = 0; l < L; l++) {
        dims.n_heads[l] = 4 + 2 * l;
        dims.n_kv_heads[l] = 2;
        dims.d_ff[l] = 64 + 16 * l;
    }
    return 0;
}

static struct plan_step step_of(void)
{
    return (
        struct plan_step){.dims = &dims, .batch = B, .pass = {.n_seqs = MICRO, .T = T, .parts = 1}};
}

static double flops_of(const struct profile *p)
{
    double sum = 0;
    for (int i = 0; i < p->n; i++)
        sum += p->row[i].flops;
    return sum;
}

/* Of a training step of one token, by the model's formula: a query sees (T + 1) / 2 keys on
   average, and backward of attention makes the scores again, a fifth product beside its four. */
static double training_flops(bool again)
{
    double head;
    const double products = transformer_flops(&dims, 0, &head);
    const double attention = transformer_flops(&dims, (T + 1) / 2.0, &head) - products;
    return 3 * products + 3.5 * attention + (again ? products + attention - head : 0);
}

/* The ops' own counts add up to that. */
static void flops_are_the_models(void **state)
{
    (void)state;
    for (int i = 0; i < 2 * ARCH_N; i++) {
        const bool again = i % 2;
        dims.arch = (enum arch)(i / 2);
        struct profile p = {0};
        struct plan_step a = step_of();
        a.pass.recompute = again;
        assert_int_equal(rehearsal_plan(&a, &p), 0);
        const double expected = training_flops(again) * B * T;
        assert_float_equal(flops_of(&p) / expected, 1, 1e-12);
        double work = 0; // the same again, by product
        for (size_t k = 0; k < p.n_work; k++)
            work += p.work[k].product.flops * p.work[k].product.times;
        assert_float_equal(work / expected, 1, 1e-12);
        profile_free(&p);
    }
}

/* Rates that answer everything at once: `flops` for all products, nothing else takes time. */
static struct rates known_rates(double flops)
{
    struct rates r = {.exps = 1e-30, .draws = 1e-30, .region = 1e-30, .seconds = 1, .most = 1e-9};
    r.known = mem_new(COST_KINDS, sizeof *r.known);
    assert_non_null(r.known);
    r.n = r.cap = COST_KINDS;
    for (int k = 0; k < COST_KINDS; k++) {
        r.known[k] = (struct rate){.flops = flops, .threads = omp_get_max_threads()};
        r.known[k].shape = (struct product){.kind = (enum cost_kind)k,
                                            .dt = &dtype_f32,
                                            .M = 7,
                                            .N = 7,
                                            .K = 7,
                                            .H = k >= COST_ATTENTION,
                                            .Hkv = k >= COST_ATTENTION};
    }
    for (int i = 0; i < RATES_SIZES; i++)
        r.bytes[i] = 1e30;
    return r;
}

static void time_is_flops_over_rate(void **state)
{
    (void)state;
    double head;
    const double flops = transformer_flops(&dims, (T + 1) / 2.0, &head);
    const struct plan_step a = step_of();
    struct rates r = known_rates(1e6);
    struct estimate e;
    assert_int_equal(estimate_training(&a, &r, &e), 0);
    assert_float_equal(e.step / (1e-6 * training_flops(false) * B * T), 1, 1e-9);
    assert_float_equal(e.eval / (1e-6 * flops), 1, 1e-9);
    const struct plan_args alone = {.n_seqs = 1, .T = T, .parts = 1};
    struct estimate once;
    assert_int_equal(estimate_evaluation(&dims, &alone, &r, &once), 0);
    assert_float_equal(once.eval / e.eval, 1, 1e-9);
    assert_float_equal(once.eval_flops / flops, 1, 1e-9);
    assert_true(r.n == COST_KINDS && r.seconds < 1.5); // nothing was measured
    rates_free(&r);
}

/* With products for free: the passes, at so many bytes a second. */
static void time_is_bytes_over_rate(void **state)
{
    (void)state;
    const struct plan_step a = step_of();
    struct rates r = known_rates(1e30);
    struct profile p = {0};
    struct estimate e;
    double bytes = 0;
    for (int i = 0; i < RATES_SIZES; i++)
        r.bytes[i] = 1e6;
    assert_int_equal(rehearsal_plan(&a, &p), 0);
    for (int i = 0; i < p.n; i++)
        bytes += p.row[i].bytes;
    int64_t rest;
    const double params = (double)transformer_params(&dims, &rest);
    assert_float_equal(profile_find(&p, "optimizer", false)->bytes, 7 * 4 * params, 0);
    assert_float_equal(profile_find(&p, "gradient norm", false)->bytes, 4 * params, 0);
    assert_float_equal(profile_find(&p, "projection", false)->bytes, 0, 0);
    assert_int_equal(estimate_training(&a, &r, &e), 0);
    assert_float_equal(e.step / (1e-6 * bytes), 1, 1e-9);
    profile_free(&p);
    rates_free(&r);
}

static void bad_shapes_are_refused(void **state)
{
    (void)state;
    const struct plan_step a = step_of();
    struct rates r = known_rates(1);
    struct estimate e;
    dims.head_dim = 7;
    assert_int_equal(estimate_training(&a, &r, &e), -1);
    rates_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(flops_are_the_models, setup),
        cmocka_unit_test_setup(time_is_flops_over_rate, setup),
        cmocka_unit_test_setup(time_is_bytes_over_rate, setup),
        cmocka_unit_test_setup(bad_shapes_are_refused, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
