#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "experiments/rehearsal.h"

enum { L = 2, C = 32, V = 61, T = 20, B = 4, MICRO = 2, STEPS = 3 };

static struct transformer_dims dims = {.n_layers = L,
                                       .d_model = C,
                                       .vocab = V,
                                       .head_dim = 8,
                                       .context = T,
                                       .n_heads = {4, 4},
                                       .n_kv_heads = {2, 2},
                                       .d_ff = {48, 40},
                                       .norm_eps = 1e-5,
                                       .init_std = 0.02,
                                       .rope = {.base = 10000}};

static struct plan_step step_of(bool recompute, bool bf16)
{
    return (struct plan_step){
        .dims = &dims,
        .batch = B,
        .pass = {.n_seqs = MICRO, .T = T, .parts = 1, .recompute = recompute, .bf16 = bf16}};
}

static void same_cost(const struct profile_row *real, const struct profile_row *plan)
{
    if (!plan)
        fail_msg("%s was not planned", real->name);
    if (real->calls != plan->calls * STEPS || fabs(real->flops - STEPS * plan->flops) > 0.5 ||
        fabs(real->bytes - STEPS * plan->bytes) > 0.5 || real->exps != STEPS * plan->exps ||
        fabs(real->draws - STEPS * plan->draws) > 0.5)
        fail_msg("%s: %lld calls, %lld planned; %g FLOPs, %g; %g bytes, %g", real->name,
                 (long long)real->calls, (long long)plan->calls, real->flops, plan->flops,
                 real->bytes, plan->bytes);
}

/* The rows of real steps are those of the plan, and their times are within the steps'. */
static void steps_are_as_planned(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++) {
        const struct plan_step a = step_of(i & 1, i & 2);
        struct rehearsal r;
        struct profile plan = {0};
        double sum = 0, known = 0, seconds;
        dims.dropout = i & 4 ? 0.1 : 0;
        assert_int_equal(rehearsal_plan(&a, &plan), 0);
        assert_int_equal(rehearsal_init(&r, &a), 0);
        for (int k = 0; k < STEPS; k++) {
            assert_int_equal(rehearsal_step(&r, &seconds), 0);
            sum += seconds;
        }
        assert_int_equal(r.profile.n, plan.n);
        for (int k = 0; k < r.profile.n; k++) {
            const struct profile_row *row = &r.profile.row[k];
            same_cost(row, profile_find(&plan, row->name, row->backward));
            assert_true(row->seconds >= 0);
            known += row->seconds;
        }
        assert_true(known > 0 && known <= sum);
        assert_true(fabs(r.loss - log(V)) < 0.3);
        const struct plan_args bytes = {.n_seqs = MICRO,
                                        .T = T,
                                        .parts = 1,
                                        .recompute = a.pass.recompute,
                                        .bf16 = a.pass.bf16};
        assert_int_equal(r.ctx.arena.peak, plan_train(&dims, &bytes));
        rehearsal_free(&r);
        profile_free(&plan);
    }
    dims.dropout = 0;
}

/* Weights move, tokens differ from step to step and are the same in every run. */
static void steps_train(void **state)
{
    (void)state;
    const struct plan_step a = step_of(false, false);
    double loss[2], seconds;
    for (int run = 0; run < 2; run++) {
        struct rehearsal r;
        assert_int_equal(rehearsal_init(&r, &a), 0);
        const float before = r.m.store.latent[0];
        int32_t tok[T];
        assert_int_equal(rehearsal_step(&r, &seconds), 0);
        assert_true(r.m.store.latent[0] != before && seconds > 0);
        memcpy(tok, r.tok, sizeof tok);
        assert_memory_equal(r.target, r.tok + 1, (T - 1) * sizeof *tok);
        assert_int_equal(rehearsal_step(&r, &seconds), 0);
        assert_memory_not_equal(tok, r.tok, sizeof tok);
        loss[run] = r.loss;
        rehearsal_free(&r);
    }
    assert_true(loss[0] == loss[1]);
}

static void every_optimizer_runs(void **state)
{
    (void)state;
    for (int i = 0; i < OPTIMIZERS; i++) {
        struct plan_step a = step_of(false, false);
        struct rehearsal r;
        double seconds;
        a.optimizer = (enum optimizer_kind)i;
        assert_int_equal(rehearsal_init(&r, &a), 0);
        assert_int_equal(rehearsal_step(&r, &seconds), 0);
        assert_true(isfinite(r.m.store.latent[0]));
        const struct profile_row *row = profile_find(&r.profile, "optimizer", false);
        // q, k, v, output, gate, up, down of both layers: five times x x^T, its square, and back
        const double muon = 5 * 2.0 *
                            (2 * (2 * (2 * 32 + 32) * 32 * 32 + 2 * (2 * 32 + 16) * 16 * 16) +
                             3 * (2 * 48 + 32) * 32 * 32 + 3 * (2 * 40 + 32) * 32 * 32);
        assert_float_equal(row->flops, i == OPTIMIZER_MUON ? muon : 0, 1);
        rehearsal_free(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_are_as_planned),
        cmocka_unit_test(steps_train),
        cmocka_unit_test(every_optimizer_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
