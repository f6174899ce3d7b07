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
#include "tests/optim/golden_optim.h"

/* Swapping in and out after each step changes nothing: the steps after it would show it. */
static void is_torch(void **state)
{
    const char *group = *state;
    const struct ema_args a = {.decay = (double)golden_optim_number("blocks", group, "decay"),
                               .warmup = strcmp(group, "ema") != 0};
    golden_optim_run("blocks", group, &optimizers[OPTIMIZER_LION],
                     (struct optimizer_args){.grad_scale = 1,
                                             .beta1 = golden_optim_number("blocks", group, "beta1"),
                                             .beta2 =
                                                 golden_optim_number("blocks", group, "beta2")},
                     &a);
}

static void *copy(const float *x, size_t n)
{
    float *y = malloc(n * sizeof *y);
    memcpy(y, x, n * sizeof *y);
    return y;
}

static void swapping_twice_changes_no_bit(void **state)
{
    struct store s;
    (void)state;
    golden_optim_large(&s);
    s.latent[0] = -0.0f;
    s.latent[1] = NAN;
    assert_int_equal(ema_update(&s, &(struct ema_args){.decay = 0.5}, 1), 0);
    s.latent[2] += 1;
    assert_int_equal(ema_update(&s, &(struct ema_args){.decay = 0.5}, 2), 0);
    const float *slab = store_state(&s, ema_name);
    float *latent = copy(s.latent, s.len), *average = copy(slab, s.len);
    ema_swap(&s);
    assert_memory_equal(s.latent, average, s.len * sizeof *average);
    assert_memory_equal(slab, latent, s.len * sizeof *latent);
    assert_true(latent[2] - s.latent[2] == 0.5f);
    ema_swap(&s);
    assert_memory_equal(s.latent, latent, s.len * sizeof *latent);
    assert_memory_equal(slab, average, s.len * sizeof *average);
    assert_true(s.n_states == 1);
    free(latent);
    free(average);
    store_free(&s);
}

static void twice(const struct reparam *r, int64_t row, int64_t n, const float *x, float *y)
{
    (void)row;
    for (int64_t i = 0; i < n * r->cols; i++)
        y[i] = 2 * x[i];
}

/* What forward reads follows. */
static void swapping_projects(void **state)
{
    static const struct reparam_op op = {.name = "twice", .project = twice};
    struct store s;
    (void)state;
    golden_optim_large(&s);
    struct reparam *r = mem_new(1, sizeof *r);
    r->op = &op;
    assert_int_equal(param_chain(&s.p[1], r), 0);
    const float *used = s.p[1].used.data, before = s.p[1].latent[3];
    assert_int_equal(ema_update(&s, &(struct ema_args){.decay = 0.5}, 1), 0);
    s.p[1].latent[3] = 7;
    store_project(&s);
    assert_true(used[3] == 14);
    ema_swap(&s);
    assert_true(used[3] == 2 * before);
    ema_swap(&s);
    assert_true(used[3] == 14);
    store_free(&s);
}

/* The first update takes the weights as they are, also into a slab that held something. */
static void starts_at_the_first_weights(void **state)
{
    struct store s;
    (void)state;
    golden_optim_large(&s);
    float *slab = store_state(&s, ema_name);
    slab[3] = 1e30f;
    assert_int_equal(ema_update(&s, &(struct ema_args){.decay = 0.9999, .warmup = true}, 1), 0);
    assert_memory_equal(slab, s.latent, s.len * sizeof *slab);
    store_free(&s);
}

/* Weights that stand still stay where they are, however long and slow the average. */
static void does_not_creep(void **state)
{
    struct store s = {0};
    (void)state;
    assert_int_equal(store_add(&s, "x", 1, (int64_t[]){1000}, 1), 0);
    assert_int_equal(store_alloc(&s, STORE_TRAINED), 0);
    store_init(&s, 1);
    for (int64_t step = 1; step <= 20000; step++)
        assert_int_equal(ema_update(&s, &(struct ema_args){.decay = 0.9999}, step), 0);
    const float *slab = store_state(&s, ema_name);
    for (int i = 0; i < 1000; i++)
        assert_true(fabsf(slab[i] - s.latent[i]) <= 3e-5f * fabsf(s.latent[i]));
    store_free(&s);
}

static void threads(void **state)
{
    const int old = omp_get_max_threads();
    float *one = NULL;
    (void)state;
    for (int n = 1; n <= 3; n++) {
        struct store s;
        omp_set_num_threads(n);
        golden_optim_large(&s);
        for (int64_t step = 1; step <= 3; step++) {
            assert_int_equal(ema_update(&s, &(struct ema_args){.decay = 0.9}, step), 0);
            for (size_t i = 0; i < s.len; i++)
                s.latent[i] += s.grad[i];
        }
        ema_swap(&s);
        if (one)
            assert_memory_equal(one, s.latent, s.len * sizeof *one);
        else
            one = copy(s.latent, s.len);
        store_free(&s);
    }
    free(one);
    omp_set_num_threads(old);
}

static void memory_is_short(void **state)
{
    struct store s;
    (void)state;
    golden_optim_large(&s);
    mem_fail_at(1);
    assert_int_equal(ema_update(&s, &(struct ema_args){.decay = 0.9}, 1), -1);
    mem_fail_at(0);
    assert_int_equal(ema_update(&s, &(struct ema_args){.decay = 0.9}, 1), 0);
    store_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(is_torch, "ema"),
        cmocka_unit_test_prestate(is_torch, "ema_warm"),
        cmocka_unit_test(swapping_twice_changes_no_bit),
        cmocka_unit_test(swapping_projects),
        cmocka_unit_test(starts_at_the_first_weights),
        cmocka_unit_test(does_not_creep),
        cmocka_unit_test(threads),
        cmocka_unit_test(memory_is_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
