#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/optim/golden_optim.h"

static const struct optimizer *const adamw = &optimizers[OPTIMIZER_ADAMW];

static void is_torch(void **state)
{
    (void)state;
    golden_optim_run("optim", "adamw", adamw,
                     (struct optimizer_args){.grad_scale = 1,
                                             .beta1 =
                                                 golden_optim_number("optim", "adamw", "beta1"),
                                             .beta2 =
                                                 golden_optim_number("optim", "adamw", "beta2"),
                                             .eps = golden_optim_number("optim", "adamw", "eps")},
                     NULL);
}

static void general(void **state)
{
    (void)state;
    golden_optim_general(adamw, &(struct optimizer_args){.lr = 0.01f,
                                                         .grad_scale = 0.5f,
                                                         .weight_decay = 0.1f,
                                                         .beta1 = 0.9f,
                                                         .beta2 = 0.999f,
                                                         .eps = 1e-8f});
}

/* The first step of a beta2 close to one goes lr in the direction of the sign. */
static void first_step(void **state)
{
    struct store s;
    (void)state;
    golden_optim_large(&s);
    const float before = s.p[1].latent[2], g = s.p[1].latent_grad[2];
    const struct optimizer_args a = {
        .step = 1, .lr = 0.01f, .grad_scale = 1, .beta1 = 0.9f, .beta2 = 0.9999f, .eps = 1e-12f};
    assert_int_equal(adamw->step(&s, &a), 0);
    const float moved = s.p[1].latent[2] - before + (g > 0 ? 0.01f : -0.01f);
    assert_true(moved < 1e-6f && moved > -1e-6f);
    store_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_torch),
        cmocka_unit_test(general),
        cmocka_unit_test(first_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
