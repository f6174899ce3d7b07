#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/optim/golden_optim.h"

static const struct optimizer *const sgd = &optimizers[OPTIMIZER_SGD];

static void is_torch(void **state)
{
    const char *group = *state;
    golden_optim_run(
        "optim", group, sgd,
        (struct optimizer_args){.grad_scale = 1,
                                .momentum = golden_optim_number("optim", group, "momentum"),
                                .nesterov = golden_optim_number("optim", group, "nesterov") != 0},
        NULL);
}

static void general(void **state)
{
    (void)state;
    for (int nesterov = 0; nesterov <= 1; nesterov++)
        golden_optim_general(sgd, &(struct optimizer_args){.lr = 0.01f,
                                                           .grad_scale = 0.5f,
                                                           .weight_decay = 0.1f,
                                                           .momentum = 0.9f,
                                                           .nesterov = nesterov});
}

/* Nesterov's form with weight decay, which the golden file has only apart, in f64. */
static void nesterov_with_decay(void **state)
{
    struct store s;
    (void)state;
    golden_optim_large(&s);
    const double g = s.grad[7];
    double p = s.latent[7], b = 0;
    for (int64_t step = 1; step <= 20; step++) {
        const struct optimizer_args a = {.step = step,
                                         .lr = 0.02f,
                                         .grad_scale = 0.5f,
                                         .weight_decay = 0.3f,
                                         .momentum = 0.8f,
                                         .nesterov = true};
        assert_int_equal(sgd->step(&s, &a), 0);
        const double d = 0.5 * g + 0.3 * p;
        b = 0.8 * b + d;
        p -= 0.02 * (d + 0.8 * b);
        assert_true(s.latent[7] - p < 1e-5 && s.latent[7] - p > -1e-5);
    }
    store_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(is_torch, "sgd"),
        cmocka_unit_test_prestate(is_torch, "nesterov"),
        cmocka_unit_test_prestate(is_torch, "sgd_decay"),
        cmocka_unit_test(general),
        cmocka_unit_test(nesterov_with_decay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
