#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/rng.h"
#include "tests/optim/golden_optim.h"

static const struct optimizer *const muon = &optimizers[OPTIMIZER_MUON];

static struct optimizer_args args_of(const char *group, enum muon_scale scale)
{
    return (struct optimizer_args){.grad_scale = 1,
                                   .momentum = golden_optim_number("blocks", group, "momentum"),
                                   .nesterov =
                                       golden_optim_number("blocks", group, "nesterov") != 0,
                                   .adam_lr = golden_optim_number("blocks", group, "adam_lr_ratio"),
                                   .beta1 = golden_optim_number("blocks", group, "beta1"),
                                   .beta2 = golden_optim_number("blocks", group, "beta2"),
                                   .eps = golden_optim_number("blocks", group, "eps"),
                                   .muon_scale = scale};
}

static void is_torch(void **state)
{
    (void)state;
    golden_optim_run("blocks", "muon", muon, args_of("muon", MUON_MATCH_RMS), NULL);
    golden_optim_run("blocks", "muon_original", muon, args_of("muon_original", MUON_ORIGINAL),
                     NULL);
}

static void general(void **state)
{
    (void)state;
    for (int nesterov = 0; nesterov <= 1; nesterov++)
        golden_optim_general(muon, &(struct optimizer_args){.lr = 0.01f,
                                                            .adam_lr = 0.02f,
                                                            .grad_scale = 0.5f,
                                                            .weight_decay = 0.1f,
                                                            .momentum = 0.9f,
                                                            .nesterov = nesterov,
                                                            .beta1 = 0.9f,
                                                            .beta2 = 0.99f,
                                                            .eps = 1e-8f});
}

/* |v u|^2 or |u v|^2 for a random v of length 1, over the shorter side of u: between the squares of
   the smallest and the largest singular value. */
static double stretch(const double *u, int64_t rows, int64_t cols, uint64_t seed)
{
    const bool wide = rows < cols;
    const int64_t n = wide ? rows : cols, m = wide ? cols : rows;
    float *v = malloc((size_t)n * sizeof *v);
    double length = 0, sum = 0;
    rng_normal(seed, 1, v, (size_t)n);
    for (int64_t i = 0; i < n; i++)
        length += (double)v[i] * v[i];
    for (int64_t j = 0; j < m; j++) {
        double dot = 0;
        for (int64_t i = 0; i < n; i++)
            dot += v[i] * (wide ? u[i * cols + j] : u[j * cols + i]);
        sum += dot * dot;
    }
    free(v);
    return sum / length;
}

/* The first step of parameter i, from zero, over its rate and scale: [rows,cols], owned by the
   caller. */
static double *first_step(const struct optimizer_args *a, int i, int64_t *rows, int64_t *cols)
{
    struct store s;
    golden_optim_large(&s);
    const struct tensor *t = &s.p[i].used;
    const int64_t n = tensor_numel(t);
    double *u = malloc((size_t)n * sizeof *u);
    memset(s.latent, 0, s.len * sizeof *s.latent);
    assert_int_equal(muon->step(&s, a), 0);
    *rows = t->dim[0];
    *cols = t->dim[1];
    const double m = (double)*rows, k = (double)*cols;
    const double scale =
        a->muon_scale == MUON_ORIGINAL ? sqrt(fmax(1, m / k)) : 0.2 * sqrt(fmax(m, k));
    for (int64_t j = 0; j < n; j++)
        u[j] = -s.p[i].latent[j] / (scale * a->lr);
    store_free(&s);
    return u;
}

/* Whatever the gradient's size and shape, a step is near orthogonal. */
static void steps_are_orthogonal(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        int64_t rows, cols;
        const struct optimizer_args a = {.step = 1,
                                         .lr = 0.5f,
                                         .grad_scale = i & 1 ? 1e-4f : 1e3f,
                                         .momentum = 0.95f,
                                         .nesterov = true,
                                         .eps = 1e-8f,
                                         .muon_scale = i & 1 ? MUON_ORIGINAL : MUON_MATCH_RMS};
        double *u = first_step(&a, 2 + i / 2, &rows, &cols);
        for (uint64_t seed = 0; seed < 20; seed++) {
            const double x = stretch(u, rows, cols, seed);
            assert_true(x > 0.4 && x < 1.5);
        }
        free(u);
    }
}

/* No gradient at all: the matrix only decays. */
static void nothing_to_learn(void **state)
{
    struct store s;
    (void)state;
    golden_optim_large(&s);
    for (size_t i = 0; i < s.len; i++)
        s.grad[i] = 0;
    const float before = s.p[3].latent[5];
    const struct optimizer_args a = {.step = 1,
                                     .lr = 0.5f,
                                     .grad_scale = 1,
                                     .weight_decay = 0.5f,
                                     .momentum = 0.9f,
                                     .beta1 = 0.9f,
                                     .beta2 = 0.9f,
                                     .eps = 1e-8f};
    assert_int_equal(muon->step(&s, &a), 0);
    assert_true(s.p[3].latent[5] == 0.75f * before);
    store_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_torch),
        cmocka_unit_test(general),
        cmocka_unit_test(steps_are_orthogonal),
        cmocka_unit_test(nothing_to_learn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
