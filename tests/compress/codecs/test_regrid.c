/* Grids out of values: found wherever an encoder made the values, to the bit; not found elsewhere;
   and the quick look never denies what the search finds. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "compress/codecs/codecs.h"
#include "compress/codecs/regrid.h"
#include "tests/compress/codecs/samples.h"

enum { COLS = SAMPLES_COLS };

/* What regrid_could() is told of the first sub-block. */
static bool could(const struct grid *g, const float *x)
{
    float base = g->min_hi ? x[0] : 0, top = 0;
    const int n = g->subs * g->size;
    for (int i = 0; i < g->size && g->min_hi; i++)
        base = fminf(base, x[i]);
    if (g->min_hi > 1)
        base = fminf(base, 0);
    for (int i = 0; i < n; i++)
        top = fmaxf(top, fabsf(x[i]));
    return regrid_could(g, x, base, top);
}

static bool all_zero(const float *x, int n)
{
    bool zero = true;
    for (int i = 0; i < n; i++)
        zero = zero && x[i] == 0;
    return zero;
}

static void what_was_encoded(void **state)
{
    (void)state;
    float x[COLS], y[COLS], again[GRID_BLOCK];
    const char *name;
    for (int c = 0; codecs_at(c); c++) {
        const struct dtype *dt = codecs_at(c);
        const struct grid *g = codecs_grid(dt);
        if (g->wide)
            continue; // Q8_K finds its scale by itself: test_grid_encode.c
        for (int kind = 0; samples_row(kind, 50, &name, x); kind++) {
            struct tensor t = samples_tensor(dt, 1, COLS);
            dt->encode(&t, 0, x, NULL);
            dt->decode(&t, 0, y);
            for (const float *p = y; p < y + COLS; p += dt->block) {
                struct grid_scales s;
                int8_t q[GRID_BLOCK];
                if (all_zero(p, dt->block))
                    continue;
                if (!regrid_find(g, p, &s, q))
                    fail_msg("%s, %s: block %d is not found", dt->name, name,
                             (int)((p - y) / dt->block));
                grid_values(g, &s, q, again);
                assert_memory_equal(again, p, (size_t)dt->block * sizeof *p);
                for (int i = 0; i < dt->block; i++)
                    assert_true(q[i] >= g->lo && q[i] <= g->hi);
                for (int j = 0; j < g->subs; j++) {
                    assert_true(s.scale[j] >= g->scale_lo && s.scale[j] <= g->scale_hi);
                    assert_true(!g->min_hi || (s.min[j] >= 0 && s.min[j] <= g->min_hi));
                }
                // as the encoder does: it looks at ordinary magnitudes only
                float top = 0;
                for (int i = 0; i < dt->block; i++)
                    top = fmaxf(top, fabsf(p[i]));
                if (top > 0x1p-60f && top < 0x1p60f)
                    assert_true(could(g, p));
            }
            samples_free(&t);
        }
    }
}

static void what_was_not(void **state)
{
    (void)state;
    float x[COLS], y[COLS];
    const char *name;
    samples_row(0, 60, &name, x);
    for (int c = 0; codecs_at(c); c++) {
        const struct dtype *dt = codecs_at(c);
        const struct grid *g = codecs_grid(dt);
        struct grid_scales s;
        int8_t q[GRID_BLOCK];
        // draws, as f32 and as f16
        assert_false(regrid_find(g, x, &s, q));
        assert_false(could(g, x));
        struct tensor h = samples_tensor(&dtype_f16, 1, COLS);
        h.dt->encode(&h, 0, x, NULL);
        h.dt->decode(&h, 0, y);
        assert_false(regrid_find(g, y, &s, q));
        samples_free(&h);
        // values of a grid, but one of them between two levels
        struct tensor t = samples_tensor(dt, 1, COLS);
        dt->encode(&t, 0, x, NULL);
        dt->decode(&t, 0, y);
        y[dt->block - 1] += 0.013f * fabsf(y[0] - y[1]) + 1e-6f;
        assert_false(regrid_find(g, y, &s, q));
        y[dt->block - 1] = NAN;
        assert_false(regrid_find(g, y, &s, q));
        samples_free(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_encoded),
        cmocka_unit_test(what_was_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
