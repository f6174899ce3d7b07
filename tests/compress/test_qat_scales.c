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

/* sum of r * used with round(u) := u + const, while the j-th move of scale or min is p. */
static double moved(const struct qat_trial *t, const float *r, int64_t sub, bool of_min, double p)
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
    for (int i = 0; qat_trial_type(i) != &dtype_f16; i++) {
        struct qat_trial t;
        qat_trial_start(&t, qat_trial_type(i),
                        &(struct qat_options){.clipped = true, .learned = true});
        qat_trial_fill(&t, 4, 0.07f);
        store_project(&t.s);
        qat_trial_decoded(&t);
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
                    fail_msg("%s, %s %d: %g, not %g", qat_trial_type(i)->name,
                             of_min ? "min" : "scale", (int)k, (double)p->latent_grad[k],
                             (of_min ? 1 : f) * want);
            }
        assert_true(looked > N / g->size / 20);
        free(r);
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
    for (int i = 0; i < 3; i++) {
        struct qat_trial t;
        qat_trial_start(&t, types[i], &(struct qat_options){.learned = true});
        struct param *p = &t.q.scales.p[t.w->s];
        p->latent[p->used.dim[0] / ROWS * 21 + 1] = -40;
        store_project(&t.s);
        assert_int_equal(qat_check(&t.q), -1);
        assert_non_null(strstr(err_text(), "row 21: a learned scale has collapsed"));
        assert_non_null(strstr(err_text(), "blk.0.ffn_up.weight"));
        qat_trial_drop(&t);
        qat_trial_start(&t, types[i], &(struct qat_options){.learned = true});
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
        cmocka_unit_test(learned_is_the_surrogate),
        cmocka_unit_test(learned_scales_move),
        cmocka_unit_test(a_collapsed_scale_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
