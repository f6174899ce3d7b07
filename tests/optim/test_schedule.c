#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "optim/schedule.h"
#include "tests/golden.h"

static void near(double a, double b)
{
    assert_true(fabs(a - b) < 1e-12);
}

static void cosine_is_the_oracle(void **state)
{
    struct golden *g = golden_open("optim");
    const struct golden_array *lrs = golden_read(g, "lrs");
    const struct schedule sc = {SCHEDULE_COSINE,
                                golden_number(g, "/", "max_lr"),
                                golden_number(g, "/", "min_lr"),
                                1,
                                lrs->n,
                                (int64_t)golden_number(g, "/", "warmup"),
                                0};
    (void)state;
    for (int64_t s = 0; s < lrs->n; s++)
        assert_true(fabs(schedule_lr(&sc, s) / lrs->f[s] - 1) < 1e-6);
    golden_close(g);
}

static void shapes(void **state)
{
    (void)state;
    const struct schedule linear = {SCHEDULE_LINEAR, 2, 1, 1, 14, 4, 0};
    near(schedule_lr(&linear, 0), 0.5);
    near(schedule_lr(&linear, 3), 2);
    near(schedule_lr(&linear, 4), 2);
    near(schedule_lr(&linear, 9), 1.5);
    near(schedule_lr(&linear, 13), 1.1);
    near(schedule_lr(&linear, 14), 1);
    near(schedule_lr(&linear, 99), 1); // past the end: min
    const struct schedule constant = {SCHEDULE_CONSTANT, 2, 1, 1, 14, 4, 0};
    near(schedule_lr(&constant, 1), 1);
    near(schedule_lr(&constant, 13), 2);
    const struct schedule wsd = {SCHEDULE_WSD, 2, 0, 1, 20, 4, 10};
    near(schedule_lr(&wsd, 4), 2);
    near(schedule_lr(&wsd, 10), 2);
    near(schedule_lr(&wsd, 11), 1.8);
    near(schedule_lr(&wsd, 19), 0.2);
    const struct schedule all_decay = {SCHEDULE_WSD, 2, 0, 1, 14, 4, 99};
    near(schedule_lr(&all_decay, 3), 2);
    near(schedule_lr(&all_decay, 9), 1);
    const struct schedule only_warmup = {SCHEDULE_COSINE, 2, 1, 1, 4, 4, 0};
    near(schedule_lr(&only_warmup, 3), 2);
    near(schedule_lr(&only_warmup, 4), 2);
    const struct schedule square = {SCHEDULE_LINEAR, 3, 1, 2, 14, 4, 0};
    near(schedule_lr(&square, 4), 3);
    near(schedule_lr(&square, 9), 1.5);
    near(schedule_lr(&square, 14), 1);
    const struct schedule none = {SCHEDULE_COSINE, 2, 1, 1, 10, 0, 0};
    near(schedule_lr(&none, 0), 2);
    near(schedule_lr(&none, 5), 1.5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cosine_is_the_oracle),
        cmocka_unit_test(shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
