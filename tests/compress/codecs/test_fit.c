/* Every variant of the kernels that runs here against the scalar one: encoders write the same
   bytes, rounding too, and the values are the same bits, for every format and kind of row, for rows
   of 1
   ... 5 blocks of 256; and the kernels by themselves. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/cpu.h"
#include "autograd/base/rng.h"
#include "compress/codecs/codecs.h"
#include "compress/codecs/fit.h"
#include "compress/codecs/grid.h"
#include "tests/compress/codecs/samples.h"

enum { COLS = SAMPLES_COLS };

static void use(int level)
{
    cpu_set_level((enum cpu_level)level);
    fit_init();
}

/* What a format makes of a row: bytes encoded plain and with importance, bytes of other values
   rounded to the first, and the values of all three. */
struct made {
    unsigned char bytes[3][COLS * 2];
    float x[3][COLS];
};

static void make(const struct dtype *dt, int64_t cols, const float *x, const float *w,
                 struct made *m)
{
    float other[COLS];
    for (int64_t j = 0; j < cols; j++)
        other[j] = 1.3f * x[j] + 0.1f * x[(j + 1) % cols];
    memset(m, 0, sizeof *m);
    for (int i = 0; i < 3; i++) {
        struct tensor t = {.dt = dt, .nd = 2, .dim = {1, cols}, .data = m->bytes[i]};
        if (i < 2)
            dt->encode(&t, 0, x, i ? w : NULL);
        else
            memcpy(t.data, m->bytes[0], tensor_bytes(&t));
        if (i == 2)
            dt->round(&t, 0, other);
        dt->decode(&t, 0, m->x[i]);
    }
}

static void same_on_all(void **state)
{
    (void)state;
    float x[COLS], w[COLS];
    const char *name;
    struct made *want = malloc(sizeof *want), *got = malloc(sizeof *got);
    for (int c = 0; codecs_at(c); c++)
        for (int kind = 0; samples_row(kind, kind, &name, x); kind++) {
            const int64_t cols = 256 * (1 + kind % 5);
            samples_importance(kind, w);
            use(CPU_SCALAR);
            assert_string_equal(fit->name, "scalar");
            make(codecs_at(c), cols, x, w, want);
            for (int level = CPU_SCALAR + 1; level <= (int)cpu_hardware(); level++) {
                use(level);
                assert_string_not_equal(fit->name, "scalar");
                make(codecs_at(c), cols, x, w, got);
                for (int i = 0; i < 3; i++)
                    if (memcmp(want->bytes[i], got->bytes[i], sizeof want->bytes[i]) ||
                        memcmp(want->x[i], got->x[i], sizeof want->x[i]))
                        fail_msg("%s, %s, %d columns, case %d: %s differs from scalar",
                                 codecs_at(c)->name, name, (int)cols, i, fit->name);
            }
        }
    free(want);
    free(got);
}

static void peak(void **state)
{
    (void)state;
    for (int level = CPU_SCALAR; level <= (int)cpu_hardware(); level++) {
        use(level);
        float x[256];
        rng_normal(3, 1, x, 256);
        for (int i = 0; i < 256; i++) {
            const float was = x[i];
            x[i] = i % 2 ? -77 : 77;
            assert_true(fit->peak(256, x) == 77);
            x[i] = NAN;
            assert_true(fit->peak(256, x) < 77 && fit->peak(256, x) > 1);
            x[i] = -INFINITY;
            assert_true(fit->peak(256, x) == INFINITY);
            x[i] = was;
        }
    }
}

/* Ties go to even codes, what is beyond the ends to the ends, NaN to 0, all of it without a step.
 */
static void snap(void **state)
{
    (void)state;
    const float steps[] = {0.5f, -0.5f, 0}, mins[] = {0, 0, 1};
    const float inputs[16] = {0,  0.25f,    -0.25f,    0.75f, -0.75f, 1.2f,   1.3f,   9,
                              -9, INFINITY, -INFINITY, NAN,   1e30f,  -1e30f, 1e-30f, -0.0f};
    const int want[2][16] = {{0, 0, 0, 2, -2, 2, 3, 3, -4, 3, -4, 0, 3, -4, 0, 0},
                             {0, 0, 0, -2, 2, -2, -3, -4, 3, -4, 3, 0, -4, 3, 0, 0}};
    for (int level = CPU_SCALAR; level <= (int)cpu_hardware(); level++) {
        use(level);
        float x[48];
        int8_t q[48];
        for (int i = 0; i < 48; i++)
            x[i] = inputs[i % 16];
        assert_false(fit->snap(48, 16, NULL, -4, 3, x, steps, mins, q));
        for (int i = 0; i < 32; i++)
            assert_int_equal(q[i], want[i / 16][i % 16]);
        for (int i = 32; i < 48; i++)
            assert_int_equal(q[i], 0);
        rng_normal(1, 1, x, 48);
        assert_true(fit->snap(48, 16, NULL, -4, 3, x, steps, mins, q));
        for (int i = 0; i < 48; i++) { // each of them is looked at
            const float was = x[i];
            x[i] = i % 2 ? NAN : INFINITY;
            assert_false(fit->snap(48, 16, NULL, -4, 3, x, steps, mins, q));
            x[i] = was;
        }
    }
}

static void clip(void **state)
{
    const float low[] = {-1, -0.5f, 0}, high[] = {0.25f, 2, 0};
    (void)state;
    for (int level = CPU_SCALAR; level <= (int)cpu_hardware(); level++) {
        use(level);
        float x[48], g[48];
        rng_normal(1, 1, x, 48);
        x[0] = low[0];
        x[1] = high[0];
        for (int i = 0; i < 48; i++)
            g[i] = (float)(i + 1);
        fit->clip(48, 16, low, high, x, g);
        for (int i = 0; i < 48; i++) {
            const bool in = x[i] >= low[i / 16] && x[i] <= high[i / 16];
            assert_true(fabsf(g[i] - (in ? (float)(i + 1) : 0)) <= 0);
        }
    }
}

/* Codes of steps that have moved: the nearest ones, none of them 0, and steps stay within half a
   code of the ends; what is too small or not finite is found wherever it is. */
static void move(void **state)
{
    enum { LOW = -32, HIGH = 31, MINS = 15 };
    const float d = -0.01f, dmin = 0.02f;
    struct fit_moves first;
    (void)state;
    for (int level = CPU_SCALAR; level <= (int)cpu_hardware(); level++) {
        struct fit_moves f = {true, d, dmin, LOW, HIGH, MINS, 1.0f / 16, .scale = {0}};
        use(level);
        rng_normal(1, 0.15f, f.s, FIT_LANES);
        rng_normal(2, 0.1f, f.m, FIT_LANES);
        rng_normal(3, 0.03f, f.ds, FIT_LANES);
        rng_normal(4, 0.3f, f.dm, FIT_LANES);
        for (int j = 0; j < FIT_LANES; j++)
            f.unit[j] = 0.1f + 0.01f * (float)j;
        f.s[3] = 0.4f * d; // to the codes next to 0
        f.s[4] = -0.2f * d;
        f.s[5] = 0;
        f.s[6] = 100 * d;
        f.m[7] = 100;
        const struct fit_moves was = f;
        assert_int_equal(fit->move(&f), FIT_MOVED);
        for (int j = 0; j < FIT_LANES; j++) {
            const double s = (double)was.s[j] * exp((double)was.ds[j]), r = s / (double)d;
            const double m = (double)was.m[j] + (double)was.unit[j] * (double)was.dm[j];
            const double kept = fmin(fmax(r, LOW - 0.5), HIGH + 0.5);
            const double low = fmin(fmax(m / (double)dmin, 0), MINS + 0.5);
            assert_true(fabs((double)f.s[j] - kept * (double)d) < 1e-6);
            assert_true(fabs((double)f.m[j] - low * (double)dmin) < 1e-6);
            const double code = fmin(fmax(rint(r), LOW), HIGH);
            const double want = code < 0 || code > 0 ? code : s < 0 || s > 0 ? copysign(1, r) : 0;
            assert_int_equal(f.scale[j], (int)want);
            assert_int_equal(f.min[j], (int)fmin(rint(low), MINS));
        }
        if (level == CPU_SCALAR)
            first = f;
        assert_memory_equal(first.s, f.s, sizeof f.s);
        assert_memory_equal(first.m, f.m, sizeof f.m);
        for (int j = 0; j < FIT_LANES; j++) {
            f = was;
            f.s[j] = d / 20;
            assert_int_equal(fit->move(&f), FIT_MOVED_LOST);
            f = was;
            *(j % 2 ? &f.s[j] : &f.dm[j]) = NAN;
            assert_int_equal(fit->move(&f), FIT_MOVED_ODD);
        }
    }
}

enum { SUBS = 3, SIZE = 32, ALL = SUBS * SIZE };

/* What the scalar table makes becomes `first`, and all others make the same. */
static void same_sums(int level, float first[2][SUBS], const float *a, const float *b)
{
    if (level == CPU_SCALAR) {
        memcpy(first[0], a, sizeof first[0]);
        memcpy(first[1], b, sizeof first[1]);
    }
    assert_memory_equal(first[0], a, sizeof first[0]);
    assert_memory_equal(first[1], b, sizeof first[1]);
}

/* Sums of gradients, to the bit the same everywhere; without a step all is outside. */
static void pull(void **state)
{
    const float steps[SUBS] = {0.25f, -0.5f, 0}, mins[SUBS] = {0.5f, 0, 1};
    float x[ALL], g[ALL], first[2][SUBS], ds[SUBS], lost[SUBS];
    int8_t v[ALL];
    (void)state;
    rng_normal(1, 1, x, ALL);
    rng_normal(2, 1, g, ALL);
    for (int i = 0; i < ALL; i++)
        v[i] = (int8_t)(i % 8 - 4);
    for (int level = CPU_SCALAR; level <= (int)cpu_hardware(); level++) {
        use(level);
        fit->pull(ALL, SIZE, NULL, -4, 3, x, g, v, steps, mins, ds, lost);
        same_sums(level, first, ds, lost);
    }
    for (int j = 0; j < SUBS; j++) {
        double sum = 0, out = 0;
        for (int i = j * SIZE; i < (j + 1) * SIZE; i++) {
            const double u = j == 2 ? 99 : ((double)x[i] + (double)mins[j]) / (double)steps[j];
            const bool in = u >= -4 && u <= 3;
            sum += (double)g[i] * (in ? (double)v[i] - u : (double)v[i]);
            out += in ? 0 : (double)g[i];
        }
        assert_true(fabs(ds[j] - sum) < 1e-4 && fabs(lost[j] - out) < 1e-4);
        assert_true(fabs(out) > 0.1);
    }
}

static void tally(void **state)
{
    float g[ALL], first[2][SUBS], sg[SUBS], sgv[SUBS];
    int8_t q[ALL];
    (void)state;
    rng_normal(2, 1, g, ALL);
    for (int i = 0; i < ALL; i++)
        q[i] = (int8_t)(i * 7 % 16);
    for (int table = 0; table < 2; table++) {
        const int8_t *levels = table ? iq4_nl_levels : NULL;
        for (int level = CPU_SCALAR; level <= (int)cpu_hardware(); level++) {
            use(level);
            fit->tally(ALL, SIZE, levels, g, q, sg, sgv);
            same_sums(level, first, sg, sgv);
        }
        for (int j = 0; j < SUBS; j++) {
            double sum = 0, by = 0;
            for (int i = j * SIZE; i < (j + 1) * SIZE; i++) {
                sum += (double)g[i];
                by += (double)g[i] * (table ? iq4_nl_levels[q[i]] : q[i]);
            }
            assert_true(fabs(sg[j] - sum) < 1e-4 && fabs(sgv[j] - by) < 2e-3);
        }
    }
}

/* Levels of another table than IQ4_NL's are those of the format that names it: values, codes, sums
   and the scale that is found are its own, on every instruction set. */
static void second_table(void **state)
{
    static const int8_t own[GRID_LEVELS] = {-100, -80, -64, -50, -37, -25, -14, -4,
                                            5,    16,  28,  41,  55,  70,  90,  120};
    const float step = 0.03f, min = 0;
    (void)state;
    for (int level = CPU_SCALAR; level <= (int)cpu_hardware(); level++) {
        _Alignas(64) struct fit f = {.size = SIZE, .lanes = FIT_LANES, .level = own};
        float x[FIT_LANES * SIZE], y[SIZE], sg, sgv;
        int8_t q[SIZE], r[SIZE];
        use(level);
        for (int i = 0; i < SIZE; i++)
            q[i] = (int8_t)(i * 7 % GRID_LEVELS);
        fit->spread(SIZE, SIZE, own, q, &step, &min, y);
        for (int i = 0; i < SIZE; i++)
            assert_true(fabsf(y[i] - step * own[q[i]]) <= 0);
        fit->snap(SIZE, SIZE, own, 0, GRID_LEVELS - 1, y, &step, &min, r);
        assert_memory_equal(q, r, sizeof q);
        fit->tally(SIZE, SIZE, own, y, q, &sg, &sgv);
        double want = 0;
        for (int i = 0; i < SIZE; i++)
            want += (double)y[i] * own[q[i]];
        assert_true(fabs(want - (double)sgv) < 1e-4 * fabs(want));
        for (int l = 0; l < FIT_LANES; l++) // a grid of each lane
            for (int i = 0; i < SIZE; i++)
                x[l * SIZE + i] = y[i] * (float)(l + 1);
        const float gain[FIT_LANES] = {0},
                    ones[FIT_LANES] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
        f.lo = own[0];
        f.hi = own[GRID_LEVELS - 1];
        f.starts = 8;
        f.turns = 1;
        f.start = 0.75f;
        f.start_step = 0.05f;
        fit->load(&f, x, NULL);
        fit->ready(&f, gain, ones);
        fit->start(&f);
        for (int l = 0; l < FIT_LANES; l++)
            assert_true(fabsf(f.s[l] / (step * (float)(l + 1)) - 1) < 1e-5f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_on_all), cmocka_unit_test(peak),         cmocka_unit_test(snap),
        cmocka_unit_test(clip),        cmocka_unit_test(move),         cmocka_unit_test(pull),
        cmocka_unit_test(tally),       cmocka_unit_test(second_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
