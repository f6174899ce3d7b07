#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/rng.h"
#include "autograd/kernels/gemm_bf16.h"
#include "compress/codecs/codecs.h"
#include "compress/codecs/grid.h"
#include "optim/optimizer.h"
#include "tests/compress/qat_trial.h"

/* Forward reads what the blocks decode to; scales stay while latents go. */
static void used_is_decoded(void **state)
{
    (void)state;
    for (int i = 0; qat_trial_type(i); i++) {
        const struct dtype *dt = qat_trial_type(i);
        struct qat_trial t;
        qat_trial_start(&t, dt, &(struct qat_options){0});
        qat_trial_decoded(&t);
        const size_t bytes = tensor_bytes(&t.w->blocks);
        uint8_t *before = malloc(bytes);
        memcpy(before, t.w->blocks.data, bytes);
        store_project(&t.s);
        assert_memory_equal(before, t.w->blocks.data, bytes); // nothing moved
        for (int64_t k = 0; k < N; k++)
            t.p->latent[k] += 0.02f * (float)((k * 7) % 5 - 2);
        store_project(&t.s);
        qat_trial_decoded(&t);
        assert_memory_not_equal(before, t.w->blocks.data, bytes);
        for (size_t at = 0; t.w->grid && at < bytes; at += (size_t)dt->bytes) {
            struct grid_scales a = {0}, b = {0};
            t.w->grid->get(before + at, &a);
            t.w->grid->get((uint8_t *)t.w->blocks.data + at, &b);
            assert_memory_equal(&a, &b, sizeof a);
        }
        free(before);
        qat_trial_drop(&t);
    }
}

/* Where all products are of panels there is no copy in f32, and the panels have the same bits. */
static void packed_is_the_same(void **state)
{
    (void)state;
    for (int i = 0; qat_trial_type(i); i++) {
        struct qat_trial t[2];
        for (int packed = 0; packed < 2; packed++) {
            qat_trial_make(&t[packed], qat_trial_type(i), &(struct qat_options){.packed = packed});
            assert_int_equal(store_panels(&t[packed].s), 0);
            if (qat_fit(&t[packed].q, 0, NULL) || qat_attach(&t[packed].q))
                fail_msg("%s", err_text());
            qat_trial_fill(&t[packed], 4, 0.07f);
            store_project(&t[packed].s);
            assert_int_equal(qat_check(&t[packed].q), 0);
        }
        const int64_t n = panels_numel(COLS, ROWS);
        assert_memory_equal(t[0].p->panels->forward, t[1].p->panels->forward, 2 * (size_t)n);
        const bool grid = t[1].w->grid;
        assert_true(!grid || t[1].p->used.data == t[1].w->blocks.data);
        assert_ptr_equal(t[1].p->used.dt, grid ? qat_trial_type(i) : &dtype_f32);
        assert_int_equal(qat_bytes(&t[1].q, 0).values, grid ? 0 : N * sizeof(float));
        assert_int_equal(qat_bytes(&t[0].q, 0).values, N * sizeof(float));
        for (int64_t r = 0; r < ROWS && grid; r++) {
            float y[COLS];
            t[1].p->used.dt->decode(&t[1].p->used, r, y);
            assert_memory_equal(y, (const float *)t[0].p->used.data + r * COLS, sizeof y);
        }
        qat_trial_drop(&t[0]);
        qat_trial_drop(&t[1]);
    }
}

/* Blocks that are given are used as they are, whether scales are learned or not. */
static void given_blocks_stay(void **state)
{
    (void)state;
    for (int i = 0; qat_trial_type(i); i++)
        for (int learned = 0; learned < 3; learned++) {
            struct qat_trial a, b;
            qat_trial_start(&a, qat_trial_type(i), &(struct qat_options){0});
            qat_trial_make(&b, qat_trial_type(i),
                           &(struct qat_options){.learned = learned, .super = learned == 2});
            const size_t bytes = tensor_bytes(&a.w->blocks);
            memcpy(b.w->blocks.data, a.w->blocks.data, bytes);
            assert_int_equal(qat_keep(&b.q, 0), 0);
            assert_int_equal(qat_attach(&b.q), 0);
            memcpy(b.p->latent, a.p->used.data, N * sizeof(float)); // what they decode to
            store_project(&b.s);
            assert_int_equal(qat_check(&b.q), 0);
            assert_memory_equal(a.w->blocks.data, b.w->blocks.data, bytes);
            qat_trial_drop(&a);
            qat_trial_drop(&b);
        }
    struct qat_trial t;
    qat_trial_make(&t, &codecs_q4_0, &(struct qat_options){0});
    memset((char *)t.w->blocks.data + 3 * tensor_row_bytes(&t.w->blocks), 0xff, 2); // d
    assert_int_equal(qat_keep(&t.q, 0), -1);
    assert_non_null(strstr(err_text(), "row 3: a scale of its blocks is not finite"));
    qat_trial_drop(&t);
}

/* Without gradient and decay a step of the optimizer changes nothing. */
static void no_gradient_no_change(void **state)
{
    (void)state;
    for (int learned = 0; learned < 3; learned++) {
        struct qat_trial t;
        qat_trial_start(&t, &codecs_q3_k,
                        &(struct qat_options){.clipped = true,
                                              .learned = learned,
                                              .super = learned == 2});
        const size_t bytes = tensor_bytes(&t.w->blocks), row = tensor_row_bytes(&t.w->blocks);
        uint8_t *before = malloc(bytes);
        memcpy(before, t.w->blocks.data, bytes);
        for (int step = 1; step <= 5; step++) {
            const struct optimizer_args args = {.step = step,
                                                .lr = 0.05f,
                                                .grad_scale = 1,
                                                .beta1 = 0.9f,
                                                .beta2 = 0.95f,
                                                .eps = 1e-8f};
            rng_normal((uint64_t)step, 1, t.p->used.grad, N);
            memset((float *)t.p->used.grad + 5 * COLS, 0, COLS * sizeof(float)); // row 5
            store_pullback(&t.s);
            assert_int_equal(adamw_step(&t.s, &args), 0);
            assert_int_equal(learned ? adamw_step(&t.q.scales, &args) : 0, 0);
            store_project(&t.s);
        }
        for (size_t r = 0; r < ROWS; r++) {
            const bool same = !memcmp(before + r * row, (uint8_t *)t.w->blocks.data + r * row, row);
            assert_int_equal(same, r == 5);
        }
        free(before);
        qat_trial_drop(&t);
    }
}

/* The same bits by one thread and by more. */
static void threads_do_not_matter(void **state)
{
    const int most = omp_get_max_threads();
    struct qat_trial a, b;
    (void)state;
    omp_set_num_threads(1);
    qat_trial_start(&a, &codecs_q4_k, &(struct qat_options){0});
    omp_set_num_threads(3);
    qat_trial_start(&b, &codecs_q4_k, &(struct qat_options){0});
    omp_set_num_threads(most);
    assert_memory_equal(a.w->blocks.data, b.w->blocks.data, tensor_bytes(&a.w->blocks));
    qat_trial_drop(&a);
    qat_trial_drop(&b);
}

/* ---- gradients ---- */

/* Element i of the row with round(u) := u + const: u = (x + m) / s, clamped to the levels. */
static double surrogate(const struct grid *g, double s, double m, double x)
{
    const double lo = g->level ? g->level[g->lo] : g->lo, hi = g->level ? g->level[g->hi] : g->hi;
    const double u = (x + m) / s;
    return s * fmin(fmax(u, lo), hi) - m;
}

/* d/dx of r . used, by differences of the surrogate on the scales that the blocks have. */
static void frozen_is_the_surrogate(void **state)
{
    (void)state;
    for (int i = 0; qat_trial_type(i); i++) {
        const struct dtype *dt = qat_trial_type(i);
        struct qat_trial t;
        int outside = 0;
        qat_trial_start(&t, dt, &(struct qat_options){.clipped = true});
        qat_trial_fill(&t, 4, 0.07f); // some lie outside of the fitted grids
        store_project(&t.s);
        float *r = t.p->used.grad;
        rng_normal(9, 1, r, N);
        float *before = malloc(N * sizeof *before);
        memcpy(before, r, N * sizeof *r);
        store_pullback(&t.s);
        for (int64_t k = 0; k < N && t.w->grid; k++) {
            const struct grid *g = t.w->grid;
            struct grid_scales sc = {0};
            g->get((char *)t.w->blocks.data + k / dt->block * dt->bytes, &sc);
            const int j = (int)(k % dt->block) / g->size;
            const double s = (double)sc.d * sc.scale[j];
            const double m = g->min_hi ? (double)sc.dmin * sc.min[j] : 0;
            const double x = t.p->latent[k], h = 1e-4 * fabs(s);
            const double up = surrogate(g, s, m, x + h), down = surrogate(g, s, m, x - h);
            const double want = before[k] * (up - down) / (2 * h);
            const bool kink = fabs(up - down) < 1.999 * h && fabs(up - down) > 0;
            outside += fabs(want) <= 0;
            if (!kink && fabs(t.p->latent_grad[k] - want) > 1e-2 * fabs((double)before[k]))
                fail_msg("%s, element %d: %g, not %g", dt->name, (int)k,
                         (double)t.p->latent_grad[k], want);
        }
        if (!t.w->grid)
            assert_memory_equal(t.p->latent_grad, before, N * sizeof *before);
        else
            assert_true(outside > N / 1000 && outside < N / 2);
        free(before);
        qat_trial_drop(&t);
    }
}

static void plain_lets_all_through(void **state)
{
    struct qat_trial t;
    (void)state;
    qat_trial_start(&t, &codecs_q3_k, &(struct qat_options){.clipped = false});
    qat_trial_fill(&t, 4, 0.2f);
    store_project(&t.s);
    rng_normal(9, 1, t.p->used.grad, N);
    float *before = malloc(N * sizeof *before);
    memcpy(before, t.p->used.grad, N * sizeof *before);
    store_pullback(&t.s);
    assert_memory_equal(t.p->latent_grad, before, N * sizeof *before);
    free(before);
    qat_trial_drop(&t);
}

/* ---- what goes wrong ---- */

static void not_a_number_is_named(void **state)
{
    struct qat_trial t;
    (void)state;
    qat_trial_start(&t, &codecs_q4_k, &(struct qat_options){0});
    t.p->latent[35 * COLS + 3] = NAN;
    t.p->latent[17 * COLS + 300] = INFINITY;
    store_project(&t.s);
    assert_int_equal(qat_check(&t.q), -1);
    assert_non_null(strstr(err_text(), "blk.0.ffn_up.weight"));
    assert_non_null(strstr(err_text(), "row 17"));
    qat_trial_drop(&t);
    qat_trial_make(&t, &codecs_q4_k, &(struct qat_options){0});
    t.p->latent[35 * COLS + 3] = NAN;
    assert_int_equal(qat_fit(&t.q, 0, NULL), -1);
    assert_non_null(strstr(err_text(), "row 35: not finite"));
    qat_trial_drop(&t);
}

/* A row of one positive value, as a fresh or a pruned one may be, is trained, not refused. */
static void rows_of_one_value_are_kept(void **state)
{
    static const struct dtype *const types[] = {&codecs_q2_k, &codecs_q4_k, &codecs_q5_k};
    (void)state;
    for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
        struct qat_trial t;
        qat_trial_make(&t, types[k], &(struct qat_options){0});
        for (int c = 0; c < COLS; c++)
            t.p->latent[5 * COLS + c] = 0.01f;
        if (qat_fit(&t.q, 0, NULL))
            fail_msg("%s", err_text());
        assert_int_equal(qat_attach(&t.q), 0);
        store_project(&t.s);
        const float *y = (const float *)t.p->used.data + 5 * COLS;
        for (int c = 0; c < COLS; c++)
            assert_true(fabsf(y[c] - 0.01f) < 2e-4f);
        qat_trial_drop(&t);
    }
}

static void weights_too_small_for_their_scales_are_named(void **state)
{
    struct qat_trial t;
    (void)state;
    qat_trial_make(&t, &codecs_q8_0, &(struct qat_options){0});
    for (int c = 0; c < COLS; c++) {
        t.p->latent[5 * COLS + c] = 0;
        t.p->latent[9 * COLS + c] = c % 2 ? 1e-9f : -1e-9f;
    }
    assert_int_equal(qat_fit(&t.q, 0, NULL), -1);
    assert_non_null(strstr(err_text(), "row 9: too small for the scales of q8_0"));
    memset(t.p->latent + 9 * COLS, 0, COLS * sizeof(float)); // all zero is a value like others
    assert_int_equal(qat_fit(&t.q, 0, NULL), 0);
    qat_trial_drop(&t);
}

static void rows_that_do_not_fit_are_refused(void **state)
{
    const int64_t dim[] = {4, 96};
    struct store s = {0};
    struct qat q;
    (void)state;
    assert_int_equal(store_add(&s, "odd", 2, dim, 1), 0);
    assert_int_equal(store_alloc(&s, STORE_TRAINED), 0);
    qat_init(&q, &(struct qat_options){0});
    assert_int_equal(qat_add(&q, &s.p[0], &codecs_q4_k), -1);
    assert_non_null(strstr(err_text(), "rows of 96 cannot be trained as q4_k"));
    assert_int_equal(qat_add(&q, &s.p[0], &codecs_q4_0), 0);
    assert_null(qat_find(&q, "even"));
    assert_ptr_equal(qat_find(&q, "odd"), q.weight);
    qat_free(&q);
    store_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(used_is_decoded),
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(packed_is_the_same),
        cmocka_unit_test(given_blocks_stay),
        cmocka_unit_test(no_gradient_no_change),
        cmocka_unit_test(frozen_is_the_surrogate),
        cmocka_unit_test(plain_lets_all_through),
        cmocka_unit_test(not_a_number_is_named),
        cmocka_unit_test(rows_of_one_value_are_kept),
        cmocka_unit_test(weights_too_small_for_their_scales_are_named),
        cmocka_unit_test(rows_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
