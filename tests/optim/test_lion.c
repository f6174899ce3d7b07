#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/optim/golden_optim.h"

static const struct optimizer *const lion = &optimizers[OPTIMIZER_LION];

static void is_the_paper(void **state)
{
    (void)state;
    golden_optim_run("blocks", "lion", lion,
                     (struct optimizer_args){.grad_scale = 1,
                                             .beta1 =
                                                 golden_optim_number("blocks", "lion", "beta1"),
                                             .beta2 =
                                                 golden_optim_number("blocks", "lion", "beta2")},
                     NULL);
}

static void general(void **state)
{
    (void)state;
    golden_optim_general(lion, &(struct optimizer_args){.lr = 0.01f,
                                                        .grad_scale = 0.5f,
                                                        .weight_decay = 0.1f,
                                                        .beta1 = 0.9f,
                                                        .beta2 = 0.99f});
}

/* The direction is that of the momentum before this step's gradient is in it: after -100 at beta2
   0.9 that is -10, which 80 outvotes at beta1 0.85 and does not at 0.9. */
static void direction_comes_before_the_momentum(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct store s;
        struct optimizer_args a = {
            .step = 1, .lr = 0.25f, .grad_scale = 1, .beta1 = i ? 0.85f : 0.9f, .beta2 = 0.9f};
        golden_optim_large(&s);
        s.grad[7] = -100;
        assert_int_equal(lion->step(&s, &a), 0);
        const float before = s.latent[7];
        s.grad[7] = 80;
        a.step = 2;
        assert_int_equal(lion->step(&s, &a), 0);
        assert_true(s.latent[7] == before + (i ? -0.25f : 0.25f));
        store_free(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_the_paper),
        cmocka_unit_test(general),
        cmocka_unit_test(direction_comes_before_the_momentum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
