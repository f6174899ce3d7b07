/* Grids: a block's scales and codes out of its bytes and in again; rounding to the nearest level of
   the grid that is there. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/rng.h"
#include "compress/codecs/codecs.h"
#include "compress/codecs/grid.h"
#include "tests/compress/codecs/samples.h"

enum { COLS = SAMPLES_COLS };

/* What get and unpack read, set and pack write, into memory that held something else. */
static void bytes_and_back(void **state)
{
    (void)state;
    float x[COLS];
    const char *name;
    samples_row(0, 1, &name, x);
    for (int c = 0; codecs_at(c); c++) {
        const struct dtype *dt = codecs_at(c);
        const struct grid *g = codecs_grid(dt);
        struct tensor t = samples_tensor(dt, 1, COLS);
        dt->encode(&t, 0, x, NULL);
        for (int64_t b = 0; b < COLS / dt->block; b++) {
            const unsigned char *from = (unsigned char *)t.data + b * dt->bytes;
            unsigned char to[512];
            struct grid_scales s;
            int8_t q[GRID_BLOCK];
            memset(to, 0x5a, sizeof to);
            g->get(from, &s);
            g->unpack(from, q);
            for (int i = 0; i < dt->block; i++)
                assert_true(q[i] >= g->lo && q[i] <= g->hi);
            for (int j = 0; j < g->subs; j++) {
                assert_true(s.scale[j] >= g->scale_lo && s.scale[j] <= g->scale_hi);
                assert_true(!g->min_hi || (s.min[j] >= 0 && s.min[j] <= g->min_hi));
            }
            g->set(to, &s);
            g->pack(to, q);
            assert_memory_equal(from, to, dt->bytes);
            assert_int_equal(to[dt->bytes], 0x5a);
            // codes stay when scales are set, scales when codes are packed
            struct grid_scales half = s, again;
            int8_t r[GRID_BLOCK];
            half.d = 0.375f;
            g->set(to, &half);
            g->unpack(to, r);
            assert_memory_equal(q, r, (size_t)dt->block);
            for (int i = 0; i < dt->block; i++)
                r[i] = (int8_t)(g->lo + (q[i] - g->lo) / 2);
            g->pack(to, r);
            g->get(to, &again);
            assert_true(again.d == half.d && again.dmin == half.dmin);
            for (int j = 0; j < g->subs; j++)
                assert_true(again.scale[j] == s.scale[j]);
        }
        samples_free(&t);
    }
}

/* Every code of every field, at every place. */
static void every_code(void **state)
{
    (void)state;
    for (int c = 0; codecs_at(c); c++) {
        const struct dtype *dt = codecs_at(c);
        const struct grid *g = codecs_grid(dt);
        for (int k = 0; k < 256; k++) {
            unsigned char block[512] = {0};
            struct grid_scales s = {.d = 0.125f, .dmin = g->min_hi ? 2 : 0}, r = {0};
            int8_t q[GRID_BLOCK], p[GRID_BLOCK];
            for (int j = 0; j < g->subs; j++) {
                s.scale[j] = (int16_t)(g->scale_lo + (k + 5 * j) % (g->scale_hi - g->scale_lo + 1));
                s.min[j] = (int16_t)(g->min_hi == 1 ? 1 : (k + 3 * j) % (g->min_hi + 1));
            }
            for (int i = 0; i < dt->block; i++)
                q[i] = (int8_t)(g->lo + (k + i * (i / 16 + 1)) % (g->hi - g->lo + 1));
            g->pack(block, q);
            g->set(block, &s);
            g->unpack(block, p);
            g->get(block, &r);
            assert_memory_equal(p, q, (size_t)dt->block);
            assert_true(r.d == s.d && r.dmin == s.dmin);
            for (int j = 0; j < g->subs; j++)
                assert_true(r.scale[j] == s.scale[j] && (!g->min_hi || r.min[j] == s.min[j]));
        }
    }
}

/* Rounding leaves the scales, and no level is nearer than the one it takes; rounding a block's own
   values changes nothing. */
static void rounds_to_the_nearest(void **state)
{
    (void)state;
    float x[COLS], y[COLS], z[COLS];
    const char *name;
    for (int c = 0; codecs_at(c); c++) {
        const struct dtype *dt = codecs_at(c);
        const struct grid *g = codecs_grid(dt);
        struct tensor t = samples_tensor(dt, 2, COLS);
        const size_t bytes = tensor_row_bytes(&t);
        samples_row(0, c, &name, x);
        dt->encode(&t, 0, x, NULL);
        memcpy((char *)t.data + bytes, t.data, bytes);
        dt->decode(&t, 0, y);
        dt->round(&t, 1, y);
        assert_memory_equal((char *)t.data + bytes, t.data, bytes);
        samples_row(0, c + 100, &name, y);
        for (int j = 0; j < COLS; j++)
            y[j] = x[j] + 0.2f * y[j];
        dt->round(&t, 1, y);
        dt->decode(&t, 1, z);
        for (int64_t b = 0; b < COLS / dt->block; b++) {
            struct grid_scales s, r;
            g->get((char *)t.data + b * dt->bytes, &s);
            g->get((char *)t.data + bytes + b * dt->bytes, &r);
            assert_true(s.d == r.d && s.dmin == r.dmin);
            assert_memory_equal(s.scale, r.scale, (size_t)g->subs * sizeof *s.scale);
            for (int i = 0; i < dt->block; i++) {
                const double step = (double)s.d * s.scale[i / g->size];
                const double min = g->min_hi ? (double)s.dmin * s.min[i / g->size] : 0;
                const double at = y[b * dt->block + i], got = z[b * dt->block + i];
                double best = INFINITY;
                for (int q = g->lo; q <= g->hi; q++)
                    best = fmin(best, fabs(step * (g->level ? g->level[q] : q) - min - at));
                if (fabs(got - at) > best + 1e-5 * fabs(step))
                    fail_msg("%s: %g went to %g, %g away, not %g", dt->name, at, got,
                             fabs(got - at), best);
            }
        }
        samples_free(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_and_back),
        cmocka_unit_test(every_code),
        cmocka_unit_test(rounds_to_the_nearest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
