/* Refits of frozen scales. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "compress/codecs/grid.h"
#include "tests/compress/qat_trial.h"

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
    for (int i = 0; qat_trial_type(i) != &dtype_f16; i++) {
        const struct dtype *dt = qat_trial_type(i);
        struct qat_trial t;
        qat_trial_start(&t, dt, &(struct qat_options){.clipped = true});
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
        qat_trial_decoded(&t);
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
        qat_trial_drop(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refits_move_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
