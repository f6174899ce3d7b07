#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autograd/base/mem.h"
#include "tests/optim/golden_optim.h"

static void norm_is_that_of_all(void **state)
{
    struct store s;
    double sum = 0;
    (void)state;
    golden_optim_large(&s);
    for (int i = 0; i < s.n; i++)
        for (int64_t j = 0; j < tensor_numel(&s.p[i].used); j++)
            sum += (double)s.p[i].latent_grad[j] * s.p[i].latent_grad[j];
    const int old = omp_get_max_threads();
    omp_set_num_threads(1);
    const double one = grad_norm(&s);
    assert_true(fabs(one / sqrt(sum) - 1) < 1e-6);
    for (int threads = 2; threads <= 3; threads++) {
        omp_set_num_threads(threads);
        assert_true(grad_norm(&s) == one);
    }
    omp_set_num_threads(old);
    s.p[1].latent_grad[4] = NAN;
    assert_true(isnan(grad_norm(&s)));
    s.p[1].latent_grad[4] = -INFINITY;
    assert_true(isinf(grad_norm(&s)));
    store_free(&s);
}

/* More than one round of parts: every element counts, the last ones too. */
static void norm_of_many(void **state)
{
    struct store s = {0};
    (void)state;
    assert_int_equal(store_add(&s, "x", 1, (int64_t[]){(1 << 22) + 70001}, 1), 0);
    assert_int_equal(store_alloc(&s, STORE_TRAINED), 0);
    const int64_t n = tensor_numel(&s.p[0].used), at[] = {0, 65535, 1 << 22, n - 1};
    for (int i = 0; i < 4; i++)
        s.grad[at[i]] = (float)(i + 1);
    assert_true(fabs(grad_norm(&s) - sqrt(30)) < 1e-9);
    store_free(&s);
}

/* Only an infinite element makes the norm infinite, no square does. */
static void norm_does_not_overflow(void **state)
{
    struct store s;
    (void)state;
    golden_optim_large(&s);
    const double norm = grad_norm(&s);
    for (size_t i = 0; i < s.len; i++)
        s.grad[i] *= 0x1p+80f;
    assert_true(fabs(grad_norm(&s) / (norm * 0x1p+80) - 1) < 1e-6);
    store_free(&s);
}

/* The first step makes slabs and scratch; it moves nothing, and says so, where there is no memory.
 */
static void memory_is_short(void **state)
{
    (void)state;
    for (int k = 0; k < OPTIMIZERS; k++) {
        const struct optimizer *o = &optimizers[k];
        const struct optimizer_args a = {
            .step = 1, .lr = 0.1f, .adam_lr = 0.1f, .beta1 = 0.9f, .beta2 = 0.9f, .grad_scale = 1};
        for (int at = 1; at <= o->n_states + (o->scratch != NULL); at++) {
            struct store s;
            golden_optim_large(&s);
            const float before = s.latent[0];
            mem_fail_at(at);
            assert_int_equal(o->step(&s, &a), -1);
            mem_fail_at(0);
            assert_true(s.n_states == o->n_states - (at <= o->n_states));
            assert_true(s.latent[0] == before && s.n_scratch == 0);
            assert_int_equal(o->step(&s, &a), 0);
            assert_true(s.latent[0] != before);
            assert_int_equal(s.n_states, o->n_states);
            assert_int_equal(s.n_scratch, o->scratch ? o->scratch(&s) : 0);
            store_free(&s);
        }
    }
}

static void muons(void **state)
{
    static const struct {
        const char *name;
        int nd;
        bool muons;
    } given[] = {
        {"blk.0.attn_q.weight", 2, true}, {"blk.11.ffn_down.weight", 2, true},
        {"blk.0.attn_q.bias", 1, false},  {"blk.0.ffn_norm.weight", 1, false},
        {"token_embd.weight", 2, false},  {"output.weight", 2, false},
        {"output_norm.weight", 1, false}, {"position_embd.weight", 2, false},
    };
    struct store s = {0};
    (void)state;
    for (size_t i = 0; i < sizeof given / sizeof *given; i++) {
        assert_int_equal(store_add(&s, given[i].name, given[i].nd, (int64_t[]){5, 3}, 1), 0);
        assert_true(optimizer_is_muons(&s.p[i]) == given[i].muons);
    }
    store_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norm_is_that_of_all),
        cmocka_unit_test(norm_of_many),
        cmocka_unit_test(norm_does_not_overflow),
        cmocka_unit_test(memory_is_short),
        cmocka_unit_test(muons),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
