/* Learned scales. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/rng.h"
#include "compress/codecs/codecs.h"
#include "compress/codecs/grid.h"
#include "tests/compress/qat_trial.h"

/* The scales of block k. */
static struct grid_scales scales_of(const struct qat_trial *t, int64_t k)
{
    struct grid_scales sc = {0};
    t->w->grid->get((char *)t->w->blocks.data + k * t->w->blocks.dt->bytes, &sc);
    return sc;
}

/* sum of r * used with round(u) := u + const, while the k-th move of scale or min is p. */
static double moved_sub(const struct qat_trial *t, const float *r, int64_t k, bool of_min, double p)
{
    const struct qat *q = &t->q;
    const struct grid *g = t->w->grid;
    const struct grid_scales sc = scales_of(t, k / g->subs);
    double sum = 0;
    const int j = (int)(k % g->subs);
    const double step = (double)sc.d * sc.scale[j],
                 min = g->min_hi ? (double)sc.dmin * sc.min[j] : 0;
    const double s_latent = q->value[q->scales.p[t->w->s].latent - q->scales.latent + k];
    // the codes' rounding is a constant: the step moves as the latent does
    const double s = of_min ? step : step + s_latent * (exp(p) - 1);
    const double m = of_min ? min + fabs(step) * p : min;
    const double lo = g->level ? g->level[g->lo] : g->lo, hi = g->level ? g->level[g->hi] : g->hi;
    for (int64_t i = k * g->size; i < (k + 1) * g->size; i++) {
        const double x = t->p->latent[i], y = ((const float *)t->p->used.data)[i];
        const double u0 = (x + min) / step, c = (y + min) / step - fmin(fmax(u0, lo), hi);
        const double u = fmin(fmax((x + m) / s, lo), hi);
        sum += (double)r[i] * (s * (u + (u0 < lo || u0 > hi ? 0 : c)) - m);
    }
    return sum;
}

/* The same of block k, all codes of which stay. */
static double moved_super(const struct qat_trial *t, const float *r, int64_t k, bool of_min,
                          double p)
{
    const struct grid *g = t->w->grid;
    const struct grid_scales sc = scales_of(t, k);
    double sum = 0;
    for (int i = 0; i < g->subs * g->size; i++) {
        const int64_t at = k * g->subs * g->size + i;
        const double m = g->min_hi ? (double)sc.dmin * sc.min[i / g->size] : 0;
        const double y = ((const float *)t->p->used.data)[at], sv = y + m;
        sum += (double)r[at] * (of_min ? sv - m * exp(p) : sv * exp(p) - m);
    }
    return sum;
}

static void is_the_surrogate(bool super)
{
    for (int i = 0; qat_trial_type(i) != &dtype_f16; i++) {
        struct qat_trial t;
        qat_trial_start(&t, qat_trial_type(i),
                        &(struct qat_options){.clipped = true, .learned = true, .super = super});
        qat_trial_fill(&t, 4, 0.07f);
        store_project(&t.s);
        qat_trial_decoded(&t);
        const struct grid *g = t.w->grid;
        const int top = g->level ? g->level[g->hi] : g->hi;
        const int bottom = g->level ? g->level[g->lo] : g->lo;
        const int64_t n = t.q.scales.p[t.w->s].used.dim[0];
        const double f = 1 / sqrt((double)(N / n) * fmax(abs(top), abs(bottom)));
        assert_int_equal(n, super ? N / t.w->blocks.dt->block : N / g->size);
        float *r = malloc(N * sizeof *r);
        rng_normal(9, 1, r, N);
        memcpy(t.p->used.grad, r, N * sizeof *r);
        store_pullback(&t.s);
        int looked = 0;
        for (int64_t k = 0; k < n; k += super ? 1 : 7)
            for (int of_min = 0; of_min <= (t.w->m >= 0); of_min++) {
                const struct param *p = &t.q.scales.p[of_min ? t.w->m : t.w->s];
                double (*const moved)(const struct qat_trial *, const float *, int64_t, bool,
                                      double) = super ? moved_super : moved_sub;
                const double h = 1e-5;
                const double a = moved(&t, r, k, of_min, h), b = moved(&t, r, k, of_min, 0),
                             c = moved(&t, r, k, of_min, -h);
                const double want = (super || !of_min ? f : 1) * (a - c) / (2 * h),
                             size = fabs(want) + fabs(b) + 1e-3;
                if (fabs((a - b) - (b - c)) > 1e-3 * fabs(a - c) + 1e-10) // a kink lies there
                    continue;
                looked++;
                if (fabs(p->latent_grad[k] - want) > 1e-3 * size)
                    fail_msg("%s, %s %d: %g, not %g", qat_trial_type(i)->name,
                             of_min ? "min" : "scale", (int)k, (double)p->latent_grad[k], want);
            }
        assert_true(looked > n / 20);
        free(r);
        qat_trial_drop(&t);
    }
}

static void learned_is_the_surrogate(void **state)
{
    (void)state;
    is_the_surrogate(false);
}

static void super_is_the_surrogate(void **state)
{
    (void)state;
    is_the_surrogate(true);
}

/* d and dmin change in proportion, and all codes stay, as the latents go along; without moves, not
   a bit changes. */
static void super_scales_move(void **state)
{
    (void)state;
    for (int i = 0; qat_trial_type(i) != &dtype_f16; i++) {
        struct qat_trial t;
        const struct grid *g = codecs_grid(qat_trial_type(i));
        qat_trial_start(&t, qat_trial_type(i),
                        &(struct qat_options){.learned = true, .super = true});
        const size_t bytes = tensor_bytes(&t.w->blocks), block = (size_t)t.w->blocks.dt->bytes;
        char *before = malloc(bytes);
        memcpy(before, t.w->blocks.data, bytes);
        store_project(&t.s);
        assert_memory_equal(before, t.w->blocks.data, bytes);
        const int64_t n = N / t.w->blocks.dt->block;
        for (int64_t k = 0; k < n; k += 2) {
            t.q.scales.p[t.w->s].latent[k] = logf(0.75f);
            if (t.w->m >= 0)
                t.q.scales.p[t.w->m].latent[k + 1] = logf(1.5f);
        }
        store_project(&t.s);
        assert_int_equal(qat_check(&t.q), 0);
        qat_trial_decoded(&t);
        for (int64_t k = 0; k < n; k++) {
            struct grid_scales a = {0}, b = {0};
            g->get(before + (size_t)k * block, &a);
            g->get((char *)t.w->blocks.data + (size_t)k * block, &b);
            assert_memory_equal(a.scale, b.scale, sizeof a.scale);
            assert_memory_equal(a.min, b.min, sizeof a.min);
            int8_t was[GRID_BLOCK], is[GRID_BLOCK];
            g->unpack(before + (size_t)k * block, was);
            g->unpack((char *)t.w->blocks.data + (size_t)k * block, is);
            assert_memory_equal(was, is, (size_t)t.w->blocks.dt->block);
            const float d = k % 2 ? a.d : 0.75f * a.d, dmin = k % 2 ? 1.5f * a.dmin : a.dmin;
            assert_true(fabsf(b.d - d) <= 1e-3f * fabsf(d) + 6e-8f);
            assert_true(fabsf(b.dmin - dmin) <= 1e-3f * fabsf(dmin) + 6e-8f);
        }
        memcpy(before, t.w->blocks.data, bytes); // what has been made is not made again
        store_project(&t.s);
        assert_memory_equal(before, t.w->blocks.data, bytes);
        free(before);
        qat_trial_drop(&t);
    }
}

/* What a scale is moved by changes it in proportion, and the codes follow; without gradients and
   moves not a bit changes. */
static void learned_scales_move(void **state)
{
    (void)state;
    for (int i = 0; qat_trial_type(i) != &dtype_f16; i++) {
        struct qat_trial t;
        qat_trial_start(&t, qat_trial_type(i),
                        &(struct qat_options){.clipped = true, .learned = true});
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
        qat_trial_decoded(&t);
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
        qat_trial_drop(&t);
    }
}

static void a_collapsed_scale_is_named(void **state)
{
    static const struct dtype *const types[] = {&codecs_q4_k, &codecs_q3_k, &codecs_q8_0};
    (void)state;
    for (int i = 0; i < 6; i++) {
        struct qat_trial t;
        const struct qat_options options = {.learned = true, .super = i >= 3};
        qat_trial_start(&t, types[i % 3], &options);
        struct param *p = &t.q.scales.p[t.w->s];
        p->latent[p->used.dim[0] / ROWS * 21 + 1] = -40;
        store_project(&t.s);
        assert_int_equal(qat_check(&t.q), -1);
        assert_non_null(strstr(err_text(), "row 21: a learned scale has collapsed"));
        assert_non_null(strstr(err_text(), "blk.0.ffn_up.weight"));
        qat_trial_drop(&t);
        qat_trial_start(&t, types[i % 3], &options);
        t.q.scales.p[t.w->s].latent[0] = NAN;
        store_project(&t.s);
        assert_int_equal(qat_check(&t.q), -1);
        assert_non_null(strstr(err_text(), "row 0: a weight or a scale is not finite"));
        qat_trial_drop(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(learned_is_the_surrogate),   cmocka_unit_test(super_is_the_surrogate),
        cmocka_unit_test(super_scales_move),          cmocka_unit_test(learned_scales_move),
        cmocka_unit_test(a_collapsed_scale_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
