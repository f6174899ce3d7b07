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
#include "compress/qat.h"
#include "optim/optimizer.h"

enum { ROWS = 37, COLS = 512, N = ROWS * COLS };

/* A matrix beside a vector, and what trains it. */
struct trial {
    struct store s;
    struct qat q;
    struct param *p;
    struct qat_weight *w;
};

static void fill(struct trial *t, uint64_t key, float std)
{
    rng_normal(key, std, t->p->latent, N);
}

static void make(struct trial *t, const struct dtype *dt, const struct qat_options *o)
{
    const int64_t dim[] = {ROWS, COLS};
    *t = (struct trial){0};
    assert_int_equal(store_add(&t->s, "gain", 1, dim + 1, 0), 0);
    assert_int_equal(store_add(&t->s, "blk.0.ffn_up.weight", 2, dim, 1), 0);
    assert_int_equal(store_alloc(&t->s, STORE_TRAINED), 0);
    t->p = &t->s.p[1];
    qat_init(&t->q, o);
    assert_int_equal(qat_add(&t->q, t->p, dt), 0);
    assert_int_equal(qat_ready(&t->q), 0);
    t->w = &t->q.weight[0];
    fill(t, 3, 0.05f);
}

static void start(struct trial *t, const struct dtype *dt, const struct qat_options *o)
{
    make(t, dt, o);
    if (qat_fit(&t->q, 0, NULL) || qat_attach(&t->q))
        fail_msg("%s", err_text());
    store_project(&t->s);
    assert_int_equal(qat_check(&t->q), 0);
}

static void drop(struct trial *t)
{
    qat_free(&t->q);
    store_free(&t->s);
}

/* The i-th type that weights can be trained in, f16 at the end; NULL behind it. */
static const struct dtype *type_at(int i)
{
    for (int k = 0; codecs_at(k); k++) {
        const struct dtype *dt = codecs_at(k);
        if (dt == &codecs_q8_k || !dt->encode || !dt->round)
            continue;
        if (!i--)
            return dt;
    }
    return i ? NULL : &dtype_f16;
}

static void assert_decoded(const struct trial *t)
{
    float y[COLS];
    for (int64_t r = 0; r < ROWS; r++) {
        t->w->blocks.dt->decode(&t->w->blocks, r, y);
        if (memcmp(y, (const float *)t->p->used.data + r * COLS, sizeof y) != 0)
            fail_msg("%s: row %d is not what its blocks are", t->w->blocks.dt->name, (int)r);
    }
}

/* Forward reads what the blocks decode to; scales stay while latents go. */
static void used_is_decoded(void **state)
{
    (void)state;
    for (int i = 0; type_at(i); i++) {
        const struct dtype *dt = type_at(i);
        struct trial t;
        start(&t, dt, &(struct qat_options){0});
        assert_decoded(&t);
        const size_t bytes = tensor_bytes(&t.w->blocks);
        uint8_t *before = malloc(bytes);
        memcpy(before, t.w->blocks.data, bytes);
        store_project(&t.s);
        assert_memory_equal(before, t.w->blocks.data, bytes); // nothing moved
        for (int64_t k = 0; k < N; k++)
            t.p->latent[k] += 0.02f * (float)((k * 7) % 5 - 2);
        store_project(&t.s);
        assert_decoded(&t);
        assert_memory_not_equal(before, t.w->blocks.data, bytes);
        for (size_t at = 0; t.w->grid && at < bytes; at += (size_t)dt->bytes) {
            struct grid_scales a = {0}, b = {0};
            t.w->grid->get(before + at, &a);
            t.w->grid->get((uint8_t *)t.w->blocks.data + at, &b);
            assert_memory_equal(&a, &b, sizeof a);
        }
        free(before);
        drop(&t);
    }
}

/* Where all products are of panels there is no copy in f32, and the panels have the same bits. */
static void packed_is_the_same(void **state)
{
    (void)state;
    for (int i = 0; type_at(i); i++) {
        struct trial t[2];
        for (int packed = 0; packed < 2; packed++) {
            make(&t[packed], type_at(i), &(struct qat_options){.packed = packed});
            assert_int_equal(store_panels(&t[packed].s), 0);
            if (qat_fit(&t[packed].q, 0, NULL) || qat_attach(&t[packed].q))
                fail_msg("%s", err_text());
            fill(&t[packed], 4, 0.07f);
            store_project(&t[packed].s);
            assert_int_equal(qat_check(&t[packed].q), 0);
        }
        const int64_t n = panels_numel(COLS, ROWS);
        assert_memory_equal(t[0].p->panels->forward, t[1].p->panels->forward, 2 * (size_t)n);
        const bool grid = t[1].w->grid;
        assert_true(!grid || t[1].p->used.data == t[1].w->blocks.data);
        assert_ptr_equal(t[1].p->used.dt, grid ? type_at(i) : &dtype_f32);
        assert_int_equal(qat_bytes(&t[1].q, 0).values, grid ? 0 : N * sizeof(float));
        assert_int_equal(qat_bytes(&t[0].q, 0).values, N * sizeof(float));
        for (int64_t r = 0; r < ROWS && grid; r++) {
            float y[COLS];
            t[1].p->used.dt->decode(&t[1].p->used, r, y);
            assert_memory_equal(y, (const float *)t[0].p->used.data + r * COLS, sizeof y);
        }
        drop(&t[0]);
        drop(&t[1]);
    }
}

/* Blocks that are given are used as they are, whether scales are learned or not. */
static void given_blocks_stay(void **state)
{
    (void)state;
    for (int i = 0; type_at(i); i++)
        for (int learned = 0; learned < 2; learned++) {
            struct trial a, b;
            start(&a, type_at(i), &(struct qat_options){0});
            make(&b, type_at(i), &(struct qat_options){.learned = learned});
            const size_t bytes = tensor_bytes(&a.w->blocks);
            memcpy(b.w->blocks.data, a.w->blocks.data, bytes);
            assert_int_equal(qat_keep(&b.q, 0), 0);
            assert_int_equal(qat_attach(&b.q), 0);
            memcpy(b.p->latent, a.p->used.data, N * sizeof(float)); // what they decode to
            store_project(&b.s);
            assert_int_equal(qat_check(&b.q), 0);
            assert_memory_equal(a.w->blocks.data, b.w->blocks.data, bytes);
            drop(&a);
            drop(&b);
        }
    struct trial t;
    make(&t, &codecs_q4_0, &(struct qat_options){0});
    memset((char *)t.w->blocks.data + 3 * tensor_row_bytes(&t.w->blocks), 0xff, 2); // d
    assert_int_equal(qat_keep(&t.q, 0), -1);
    assert_non_null(strstr(err_text(), "row 3: a scale of its blocks is not finite"));
    drop(&t);
}

/* Without gradient and decay a step of the optimizer changes nothing. */
static void no_gradient_no_change(void **state)
{
    (void)state;
    for (int learned = 0; learned < 2; learned++) {
        struct trial t;
        start(&t, &codecs_q3_k, &(struct qat_options){.clipped = true, .learned = learned});
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
        drop(&t);
    }
}

/* ---- refits ---- */

static double distance(const float *a, const float *b)
{
    double sum = 0;
    for (int64_t k = 0; k < N; k++)
        sum += ((double)a[k] - (double)b[k]) * ((double)a[k] - (double)b[k]);
    return sum;
}

/* What is gained in distance from the latents is more than what moves; sub-blocks at a time, by a
   code at most; and where the latents are on their grid nothing happens. */
static void refits_move_little(void **state)
{
    (void)state;
    for (int i = 0; type_at(i) != &dtype_f16; i++) {
        const struct dtype *dt = type_at(i);
        struct trial t;
        start(&t, dt, &(struct qat_options){.clipped = true});
        const struct grid *g = t.w->grid;
        const size_t bytes = tensor_bytes(&t.w->blocks);
        uint8_t *before = malloc(bytes);
        float *was = malloc(N * sizeof *was);
        for (int64_t k = 0; k < N; k++) // farther out than the grids reach
            t.p->latent[k] *= 1 + 0.4f * (float)(k / g->size % 3);
        store_project(&t.s);
        memcpy(before, t.w->blocks.data, bytes);
        memcpy(was, t.p->used.data, N * sizeof *was);
        const int64_t moved = qat_refit(&t.q, 0, NULL);
        store_project(&t.s);
        assert_decoded(&t);
        const float *x = t.p->latent, *y = t.p->used.data;
        if (moved < qat_subs(&t.q, 0) / 20 || moved > qat_subs(&t.q, 0) * 9 / 10)
            fail_msg("%s: %d of %d", dt->name, (int)moved, (int)qat_subs(&t.q, 0));
        if (distance(x, y) + distance(y, was) >= distance(x, was))
            fail_msg("%s: %g + %g, %g before", dt->name, distance(x, y), distance(y, was),
                     distance(x, was));
        int64_t changed = 0;
        for (size_t at = 0; at < bytes; at += (size_t)dt->bytes) {
            struct grid_scales a = {0}, b = {0};
            g->get(before + at, &a);
            g->get((uint8_t *)t.w->blocks.data + at, &b);
            for (int j = 0; j < g->subs; j++) {
                const bool same = a.scale[j] == b.scale[j] && a.min[j] == b.min[j];
                assert_true(abs(a.scale[j] - b.scale[j]) <= 1 && abs(a.min[j] - b.min[j]) <= 1);
                changed += !same || memcmp(&a.d, &b.d, 2 * sizeof a.d) != 0;
            }
        }
        assert_int_equal(changed, moved);
        memcpy(t.p->latent, t.p->used.data, N * sizeof *was);
        assert_int_equal(qat_refit(&t.q, 0, NULL), 0);
        free(before);
        free(was);
        drop(&t);
    }
}

/* The same bits by one thread and by more. */
static void threads_do_not_matter(void **state)
{
    const int most = omp_get_max_threads();
    struct trial a, b;
    (void)state;
    omp_set_num_threads(1);
    start(&a, &codecs_q4_k, &(struct qat_options){0});
    omp_set_num_threads(3);
    start(&b, &codecs_q4_k, &(struct qat_options){0});
    omp_set_num_threads(most);
    assert_memory_equal(a.w->blocks.data, b.w->blocks.data, tensor_bytes(&a.w->blocks));
    drop(&a);
    drop(&b);
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
    for (int i = 0; type_at(i); i++) {
        const struct dtype *dt = type_at(i);
        struct trial t;
        int outside = 0;
        start(&t, dt, &(struct qat_options){.clipped = true});
        fill(&t, 4, 0.07f); // some lie outside of the fitted grids
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
        drop(&t);
    }
}

/* ---- learned scales ---- */

/* sum of r * used with round(u) := u + const, while the j-th move of scale or min is p. */
static double moved(const struct trial *t, const float *r, int64_t sub, bool of_min, double p)
{
    const struct qat *q = &t->q;
    const struct grid *g = t->w->grid;
    const int64_t per_row = COLS / g->size, block = sub / g->subs;
    const float *value = q->value;
    struct grid_scales sc = {0};
    double sum = 0;
    g->get((char *)t->w->blocks.data + block * t->w->blocks.dt->bytes, &sc);
    const int j = (int)(sub % g->subs);
    const double step = (double)sc.d * sc.scale[j],
                 min = g->min_hi ? (double)sc.dmin * sc.min[j] : 0;
    const double s_latent = value[q->scales.p[t->w->s].latent - q->scales.latent + sub];
    // the codes' rounding is a constant: the step moves as the latent does
    const double s = of_min ? step : step + s_latent * (exp(p) - 1);
    const double m = of_min ? min + fabs(step) * p : min;
    const double lo = g->level ? g->level[g->lo] : g->lo, hi = g->level ? g->level[g->hi] : g->hi;
    for (int i = 0; i < g->size; i++) {
        const int64_t k = sub / per_row * COLS + sub % per_row * g->size + i;
        const double x = t->p->latent[k], y = ((const float *)t->p->used.data)[k];
        const double u0 = (x + min) / step, c = (y + min) / step - fmin(fmax(u0, lo), hi);
        const double u = fmin(fmax((x + m) / s, lo), hi);
        sum += (double)r[k] * (s * (u + (u0 < lo || u0 > hi ? 0 : c)) - m);
    }
    return sum;
}

static void learned_is_the_surrogate(void **state)
{
    (void)state;
    for (int i = 0; type_at(i) != &dtype_f16; i++) {
        struct trial t;
        start(&t, type_at(i), &(struct qat_options){.clipped = true, .learned = true});
        fill(&t, 4, 0.07f);
        store_project(&t.s);
        assert_decoded(&t);
        const struct grid *g = t.w->grid;
        const int top = g->level ? g->level[g->hi] : g->hi;
        const int bottom = g->level ? g->level[g->lo] : g->lo;
        const double f = 1 / sqrt(g->size * fmax(abs(top), abs(bottom)));
        float *r = malloc(N * sizeof *r);
        rng_normal(9, 1, r, N);
        memcpy(t.p->used.grad, r, N * sizeof *r);
        store_pullback(&t.s);
        int looked = 0;
        for (int64_t k = 0; k < N / g->size; k += 7)
            for (int of_min = 0; of_min <= (t.w->m >= 0); of_min++) {
                const struct param *p = &t.q.scales.p[of_min ? t.w->m : t.w->s];
                const double h = 1e-5;
                const double a = moved(&t, r, k, of_min, h), b = moved(&t, r, k, of_min, 0),
                             c = moved(&t, r, k, of_min, -h);
                const double want = (a - c) / (2 * h), size = fabs(want) + fabs(b) + 1e-3;
                if (fabs((a - b) - (b - c)) > 1e-3 * fabs(a - c) + 1e-10) // a kink lies there
                    continue;
                looked++;
                if (fabs(p->latent_grad[k] - (of_min ? 1 : f) * want) > 1e-3 * size)
                    fail_msg("%s, %s %d: %g, not %g", type_at(i)->name, of_min ? "min" : "scale",
                             (int)k, (double)p->latent_grad[k], (of_min ? 1 : f) * want);
            }
        assert_true(looked > N / g->size / 20);
        free(r);
        drop(&t);
    }
}

/* What a scale is moved by changes it in proportion, and the codes follow; without gradients and
   moves not a bit changes. */
static void learned_scales_move(void **state)
{
    (void)state;
    for (int i = 0; type_at(i) != &dtype_f16; i++) {
        struct trial t;
        start(&t, type_at(i), &(struct qat_options){.clipped = true, .learned = true});
        const size_t bytes = tensor_bytes(&t.w->blocks);
        uint8_t *before = malloc(bytes);
        memcpy(before, t.w->blocks.data, bytes);
        store_project(&t.s);
        assert_memory_equal(before, t.w->blocks.data, bytes);
        struct param *p = &t.q.scales.p[t.w->s];
        const int64_t n = p->used.dim[0], from = p->latent - t.q.scales.latent;
        float *old = malloc((size_t)n * sizeof *old);
        memcpy(old, t.q.value + from, (size_t)n * sizeof *old);
        for (int64_t k = 0; k < n; k += 2)
            p->latent[k] = logf(0.9f);
        store_project(&t.s);
        assert_int_equal(qat_check(&t.q), 0);
        assert_decoded(&t);
        for (int64_t k = 0; k < n; k++) {
            const float want = k % 2 ? old[k] : 0.9f * old[k], is = t.q.value[from + k];
            assert_true(fabsf(is - want) <= 1e-5f * fabsf(want));
            assert_true(fabsf(p->latent[k]) <= 0);
        }
        const struct grid *g = t.w->grid;
        int64_t changed = 0;
        for (int64_t k = 0; k < n; k++) {
            struct grid_scales a = {0}, b = {0};
            const size_t at = (size_t)(k / g->subs * t.w->blocks.dt->bytes);
            g->get(before + at, &a);
            g->get((char *)t.w->blocks.data + at, &b);
            const int j = (int)(k % g->subs);
            changed += a.scale[j] != b.scale[j] || (g->scale_lo == g->scale_hi && a.d > b.d);
            if (g->scale_lo != g->scale_hi)
                assert_true(fabsf(a.d - b.d) <= 0 && fabsf(a.dmin - b.dmin) <= 0);
        }
        assert_true(changed > n / 5);
        free(before);
        free(old);
        drop(&t);
    }
}

static void a_collapsed_scale_is_named(void **state)
{
    static const struct dtype *const types[] = {&codecs_q4_k, &codecs_q3_k, &codecs_q8_0};
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct trial t;
        start(&t, types[i], &(struct qat_options){.learned = true});
        struct param *p = &t.q.scales.p[t.w->s];
        p->latent[p->used.dim[0] / ROWS * 21 + 1] = -40;
        store_project(&t.s);
        assert_int_equal(qat_check(&t.q), -1);
        assert_non_null(strstr(err_text(), "row 21: a learned scale has collapsed"));
        assert_non_null(strstr(err_text(), "blk.0.ffn_up.weight"));
        drop(&t);
        start(&t, types[i], &(struct qat_options){.learned = true});
        t.q.scales.p[t.w->s].latent[0] = NAN;
        store_project(&t.s);
        assert_int_equal(qat_check(&t.q), -1);
        assert_non_null(strstr(err_text(), "row 0: a weight or a scale is not finite"));
        drop(&t);
    }
}

static void plain_lets_all_through(void **state)
{
    struct trial t;
    (void)state;
    start(&t, &codecs_q3_k, &(struct qat_options){.clipped = false});
    fill(&t, 4, 0.2f);
    store_project(&t.s);
    rng_normal(9, 1, t.p->used.grad, N);
    float *before = malloc(N * sizeof *before);
    memcpy(before, t.p->used.grad, N * sizeof *before);
    store_pullback(&t.s);
    assert_memory_equal(t.p->latent_grad, before, N * sizeof *before);
    free(before);
    drop(&t);
}

/* ---- what goes wrong ---- */

static void not_a_number_is_named(void **state)
{
    struct trial t;
    (void)state;
    start(&t, &codecs_q4_k, &(struct qat_options){0});
    t.p->latent[35 * COLS + 3] = NAN;
    t.p->latent[17 * COLS + 300] = INFINITY;
    store_project(&t.s);
    assert_int_equal(qat_check(&t.q), -1);
    assert_non_null(strstr(err_text(), "blk.0.ffn_up.weight"));
    assert_non_null(strstr(err_text(), "row 17"));
    drop(&t);
    make(&t, &codecs_q4_k, &(struct qat_options){0});
    t.p->latent[35 * COLS + 3] = NAN;
    assert_int_equal(qat_fit(&t.q, 0, NULL), -1);
    assert_non_null(strstr(err_text(), "row 35: not finite"));
    drop(&t);
}

static void weights_too_small_for_their_scales_are_named(void **state)
{
    struct trial t;
    (void)state;
    make(&t, &codecs_q8_0, &(struct qat_options){0});
    for (int c = 0; c < COLS; c++) {
        t.p->latent[5 * COLS + c] = 0;
        t.p->latent[9 * COLS + c] = c % 2 ? 1e-9f : -1e-9f;
    }
    assert_int_equal(qat_fit(&t.q, 0, NULL), -1);
    assert_non_null(strstr(err_text(), "row 9: too small for the scales of q8_0"));
    memset(t.p->latent + 9 * COLS, 0, COLS * sizeof(float)); // all zero is a value like others
    assert_int_equal(qat_fit(&t.q, 0, NULL), 0);
    drop(&t);
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
        cmocka_unit_test(refits_move_little),
        cmocka_unit_test(frozen_is_the_surrogate),
        cmocka_unit_test(learned_is_the_surrogate),
        cmocka_unit_test(learned_scales_move),
        cmocka_unit_test(a_collapsed_scale_is_named),
        cmocka_unit_test(plain_lets_all_through),
        cmocka_unit_test(not_a_number_is_named),
        cmocka_unit_test(weights_too_small_for_their_scales_are_named),
        cmocka_unit_test(rows_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
