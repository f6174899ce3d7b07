/* Checks of the row kernels that read or write bf16 and f16. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/autograd/rows_check.h"

/* Every class of f32 in turn: ties of both kinds, what rounds up into the next exponent and into
   infinity, subnormals, zeros, infinities, NaNs whose upper half alone would be an infinity. */
void check_rows_narrow(const struct rows *r, const struct input *in)
{
    static const uint32_t classes[] = {0x00000000, 0x80000000, 0x00000001, 0x00007fff, 0x00008000,
                                       0x00008001, 0x00018000, 0x007fffff, 0x80018000, 0x3f808000,
                                       0x3f818000, 0x3f807fff, 0x3f808001, 0x3f80ffff, 0x3fffffff,
                                       0xbf808000, 0xbf818000, 0x7f7f7fff, 0x7f7f8000, 0x7f7fffff,
                                       0xff7fffff, 0x7f800000, 0xff800000, 0x7f800001, 0x7f80ffff,
                                       0xff800001, 0x7fc00000, 0x7fffffff, 0xffffffff, 0x7fa12345};
    enum { CLASSES = sizeof classes / sizeof *classes };
    struct vec x = vec_copy(in->a);
    uint16_t *y = malloc(((size_t)in->n + 1) * sizeof *y);
    for (int64_t i = 0; i < in->n; i++)
        if ((i + in->n) % 4)
            memcpy(&x.p[i], &classes[(i * 7 + in->n) % CLASSES], sizeof *x.p);
    y[in->n] = 0x1234;
    r->narrow(in->n, x.p, y);
    for (int64_t i = 0; i < in->n; i++) {
        uint32_t u;
        memcpy(&u, &x.p[i], sizeof u);
        // of the two neighbours in bf16 the nearer, or the even one; NaN keeps its sign
        const uint32_t low = u & 0xffff, down = u >> 16;
        const bool nan = (u & 0x7fffffff) > 0x7f800000;
        const uint32_t want = nan                                           ? down | 0x40
                              : low > 0x8000 || (low == 0x8000 && down & 1) ? down + 1
                                                                            : down;
        if (y[i] != want)
            fail_msg("narrow[%d] of %08x: %04x instead of %04x", (int)i, u, y[i], want);
    }
    assert_int_equal(y[in->n], 0x1234);
    free(y), vec_free(x);
}

static double of_bf16(uint16_t h)
{
    float x;
    rows_scalar.widen(1, &h, &x);
    return x;
}

/* Two roundings of exp's argument in f32, one of its value to bf16. */
static double exp_off(double want, double argument)
{
    return want * (0x1p-8 + EPS * (2 + fabs(argument)));
}

void check_rows_exp_bf16(const struct rows *r, const struct input *in)
{
    uint16_t *y = malloc(((size_t)in->n + 1) * sizeof *y);
    const float f = 3, shift = 1.5f;
    double all = 0;
    y[in->n] = 0x1234;
    const float sum = r->exp_bf16(in->n, in->a.p, f, shift, y);
    for (int64_t i = 0; i < in->n; i++) {
        const double argument = (double)f * in->a.p[i], want = exp(argument - shift);
        near("exp_bf16", i, of_bf16(y[i]), want, exp_off(want, fabs(argument) + shift));
        all += want;
    }
    near("sum of exp_bf16, before rounding", 0, sum, all, 40 * EPS * all + 1e-6 * all);
    assert_int_equal(y[in->n], 0x1234);
    for (int64_t i = 0; i < in->n && in->n < 40; i++) { // a masked score adds nothing
        struct vec x = vec_copy(in->a);
        x.p[i] = -INFINITY;
        const float rest = r->exp_bf16(in->n, x.p, f, shift, y);
        const double gone = exp((double)f * in->a.p[i] - shift);
        assert_true(of_bf16(y[i]) < TINY);
        near("sum without one", i, rest, all - gone, 40 * EPS * all + 1e-6 * all);
        x.p[i] = NAN;
        assert_true(isnan(r->exp_bf16(in->n, x.p, f, shift, y)) && isnan(of_bf16(y[i])));
        vec_free(x);
    }
    free(y);
}

void check_rows_softmax_backward_bf16(const struct rows *r, const struct input *in)
{
    const int64_t n = in->n;
    struct vec delta = vec_new(6, n, 2);
    uint16_t *p = malloc(((size_t)n + 1) * sizeof *p), *ds = malloc(((size_t)n + 1) * sizeof *ds);
    const float f = 0.7f;
    p[n] = ds[n] = 0x1234;
    r->softmax_backward_bf16(n, in->a.p, in->b.p, in->c.p, delta.p, f, p, ds);
    for (int64_t i = 0; i < n; i++) {
        const double s = (double)f * in->a.p[i], lse = in->c.p[i], e = exp(s - lse);
        const double apart = (double)in->b.p[i] - delta.p[i], off = exp_off(e, fabs(s) + fabs(lse));
        near("p", i, of_bf16(p[i]), e, off);
        near("ds", i, of_bf16(ds[i]), f * e * apart,
             f * fabs(apart) * off + 4 * EPS * f * e * (fabs(apart) + fabs((double)in->b.p[i])));
    }
    assert_true(p[n] == 0x1234 && ds[n] == 0x1234);
    free(p), free(ds), vec_free(delta);
}

/* All values of a half: a length n sees those from 97 n on. */
void check_rows_widen(const struct rows *r, const struct input *in)
{
    struct vec y = vec_nan(in->n, in->a.shift);
    uint16_t *x = malloc((size_t)in->n * sizeof *x);
    for (int64_t first = 97 * in->n, end = first + 0x10000; first < end && in->n; first += in->n) {
        for (int64_t i = 0; i < in->n; i++)
            x[i] = (uint16_t)(first + i);
        r->widen(in->n, x, y.p);
        for (int64_t i = 0; i < in->n; i++) {
            uint32_t u;
            memcpy(&u, &y.p[i], sizeof u);
            assert_true(u == (uint32_t)x[i] << 16);
        }
    }
    free(x), vec_free(y);
}

/* All values of f16, those of NaN quiet, against the scalar ones, which test_dtype.c checks. */
void check_rows_widen_half(const struct rows *r, const struct input *in)
{
    struct vec y = vec_nan(in->n, in->a.shift), want = vec_nan(in->n, 0);
    uint16_t *x = malloc((size_t)in->n * sizeof *x);
    for (int64_t first = 97 * in->n, end = first + 0x10000; first < end && in->n; first += in->n) {
        for (int64_t i = 0; i < in->n; i++)
            x[i] = (uint16_t)(first + i);
        r->widen_half(in->n, x, y.p);
        rows_scalar.widen_half(in->n, x, want.p);
        assert_memory_equal(y.p, want.p, (size_t)in->n * sizeof *y.p);
    }
    free(x), vec_free(y), vec_free(want);
}

/* Patterns that step through all of f32: ties, subnormals, what overflows, NaN. */
void check_rows_narrow_half(const struct rows *r, const struct input *in)
{
    struct vec x = vec_copy(in->a);
    uint16_t *y = malloc(((size_t)in->n + 1) * sizeof *y), want;
    for (int64_t i = 0; i < in->n; i++) {
        const uint32_t u = (uint32_t)(i * 7 + in->n) * 0x00abf000u + (uint32_t)(i % 3) - 1;
        memcpy(&x.p[i], &u, sizeof u);
    }
    y[in->n] = 0x1234;
    r->narrow_half(in->n, x.p, y);
    for (int64_t i = 0; i < in->n; i++) {
        rows_scalar.narrow_half(1, &x.p[i], &want);
        if (y[i] != want)
            fail_msg("narrow_half[%d] of %a: %04x instead of %04x", (int)i, x.p[i], y[i], want);
    }
    assert_int_equal(y[in->n], 0x1234);
    free(y), vec_free(x);
}
