/* Checks of the row kernels of norms. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/autograd/rows_check.h"

void check_rows_rmsnorm(const struct rows *r, const struct input *in)
{
    const int64_t n = in->n;
    if (n == 0)
        return; // has no mean
    struct vec y = vec_nan(n, 1), over = vec_copy(in->a);
    double square = 0;
    for (int64_t i = 0; i < n; i++)
        square += (double)in->a.p[i] * in->a.p[i];
    const double want = 1 / sqrt(square / (double)n + 1e-3);
    const float got = r->rmsnorm(n, in->a.p, in->b.p, 1e-3f, y.p);
    assert_true(r->rmsnorm(n, over.p, in->b.p, 1e-3f, over.p) == got);
    near("rmsnorm's r", 0, got, want, 6 * EPS * want);
    for (int64_t i = 0; i < n; i++) {
        const double v = want * in->a.p[i] * in->b.p[i];
        near("rmsnorm", i, y.p[i], v, 8 * EPS * fabs(v));
        assert_true(over.p[i] == y.p[i]);
    }
    vec_free(y), vec_free(over);
}

/* place: what dx lies over; 0 nothing, 1 dy, 2 x */
static void rmsnorm_backward_as(const struct rows *r, const struct input *in, bool acc, int place,
                                bool with_dw)
{
    const int64_t n = in->n;
    struct vec x = vec_copy(in->a), dy = vec_copy(in->c), dw = vec_new(4, n, 2);
    struct vec dx = acc ? vec_new(5, n, 3) : vec_nan(n, 3), dw0 = vec_copy(dw), dx0 = vec_copy(dx);
    float *to = place == 1 ? dy.p : place == 2 ? x.p : dx.p;
    r->rmsnorm_backward(n, x.p, in->b.p, 0.8f, dy.p, to, acc, with_dw ? dw.p : NULL);
    double sum = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        const double part = (double)in->c.p[i] * in->b.p[i] * in->a.p[i];
        sum += part;
        size += fabs(part);
    }
    const double rr = 0.8f, mean = sum * rr * rr / (double)n, most = size * rr * rr / (double)n;
    for (int64_t i = 0; i < n; i++) {
        const double g = (double)in->c.p[i] * in->b.p[i], v = in->a.p[i], old = acc ? dx0.p[i] : 0;
        near("rmsnorm's dx", i, to[i], old + rr * (g - v * mean),
             6 * EPS * (fabs(old) + rr * (fabs(g) + fabs(v) * most)));
        const double w = with_dw ? (double)in->c.p[i] * v * rr : 0;
        near("rmsnorm's dw", i, dw.p[i], dw0.p[i] + w, 3 * EPS * (fabs(w) + fabs(dw0.p[i])));
    }
    vec_free(x), vec_free(dy), vec_free(dw), vec_free(dx), vec_free(dw0), vec_free(dx0);
}

void check_rows_rmsnorm_backward(const struct rows *r, const struct input *in)
{
    for (int with_dw = 0; with_dw <= 1; with_dw++) {
        for (int place = 0; place < 3; place++)
            rmsnorm_backward_as(r, in, false, place, with_dw);
        rmsnorm_backward_as(r, in, true, 0, with_dw);
    }
    struct vec dw = vec_new(4, in->n, 2), old = vec_copy(dw);
    r->rmsnorm_backward(in->n, in->a.p, in->b.p, 0.8f, in->c.p, NULL, false, dw.p);
    for (int64_t i = 0; i < in->n; i++) {
        const double w = (double)in->c.p[i] * in->a.p[i] * 0.8f;
        near("rmsnorm's dw alone", i, dw.p[i], old.p[i] + w,
             3 * EPS * (fabs(w) + fabs((double)old.p[i])));
    }
    vec_free(dw), vec_free(old);
}

/* ---- layer norms: rows around a mean of 3, so that what is left of it counts ---- */

struct normal {
    struct vec x;
    double mean, r; /* of f64 */
};

static struct normal normal_new(const struct input *in)
{
    struct normal s = {.x = vec_copy(in->a)};
    double square = 0;
    for (int64_t i = 0; i < in->n; i++)
        s.mean += (s.x.p[i] += 3) / (double)in->n;
    for (int64_t i = 0; i < in->n; i++)
        square += (s.x.p[i] - s.mean) * (s.x.p[i] - s.mean);
    s.r = 1 / sqrt(square / (double)in->n + 1e-3);
    return s;
}

void check_rows_layernorm(const struct rows *r, const struct input *in)
{
    const int64_t n = in->n;
    if (n == 0)
        return; // has no mean
    const struct normal s = normal_new(in);
    struct vec y = vec_nan(n, 1), over = vec_copy(s.x);
    float mean, again;
    const float got = r->layernorm(n, s.x.p, in->b.p, in->c.p, 1e-3f, &mean, y.p);
    assert_true(r->layernorm(n, over.p, in->b.p, in->c.p, 1e-3f, &again, over.p) == got);
    assert_true(mean == again);
    const double size = 4 * fabs(s.mean) * (1 + (double)n / 256); // a scalar sum of n drifts
    near("layernorm's mean", 0, mean, s.mean, EPS * size);
    near("layernorm's r", 0, got, s.r, EPS * (size * size * s.r * s.r + 8 + (double)n / 256) * s.r);
    for (int64_t i = 0; i < n; i++) {
        const double away = (s.x.p[i] - s.mean) * s.r, v = away * in->b.p[i] + in->c.p[i];
        const double most = EPS * (size * s.r + (12 + (double)n / 256) * fabs(away));
        near("layernorm", i, y.p[i], v,
             most * fabs((double)in->b.p[i]) + EPS * fabs((double)in->c.p[i]));
        assert_true(over.p[i] == y.p[i]);
    }
    vec_free(s.x), vec_free(y), vec_free(over);
}

/* place: what dx lies over; 0 nothing, 1 dy, 2 x, 3 there is none. which: bit 0 dw, 1 db wanted */
static void layernorm_backward_as(const struct rows *r, const struct input *in, bool acc, int place,
                                  int which)
{
    const int64_t n = in->n;
    const struct normal s = normal_new(in);
    const float mean = (float)s.mean, rr = (float)s.r;
    struct vec x = vec_copy(s.x), dy = vec_copy(in->c), dw = vec_new(4, n, 2),
               db = vec_new(6, n, 1);
    struct vec dx = acc ? vec_new(5, n, 3) : vec_nan(n, 3);
    struct vec dx0 = vec_copy(dx), dw0 = vec_copy(dw), db0 = vec_copy(db);
    float *to = place == 1 ? dy.p : place == 2 ? x.p : place == 3 ? NULL : dx.p;
    r->layernorm_backward(n, x.p, in->b.p, mean, rr, dy.p, to, acc, which & 1 ? dw.p : NULL,
                          which & 2 ? db.p : NULL);
    double sum = 0, along = 0, size = 0, size_along = 0;
    for (int64_t i = 0; i < n; i++) {
        const double g = (double)in->c.p[i] * in->b.p[i], z = ((double)s.x.p[i] - mean) * rr;
        sum += g / (double)n;
        size += fabs(g) / (double)n;
        along += g * z / (double)n;
        size_along += fabs(g * z) / (double)n;
    }
    for (int64_t i = 0; i < n; i++) {
        const double d = in->c.p[i], g = d * in->b.p[i], z = ((double)s.x.p[i] - mean) * rr;
        const double old = acc ? dx0.p[i] : 0, more = 1 + (double)n / 256;
        if (to)
            near("layernorm's dx", i, to[i], old + rr * (g - sum - z * along),
                 8 * EPS * (fabs(old) + rr * (fabs(g) + more * (size + fabs(z) * size_along))));
        const double w = which & 1 ? d * z : 0, b = which & 2 ? d : 0;
        near("layernorm's dw", i, dw.p[i], dw0.p[i] + w, 3 * EPS * (fabs(w) + fabs(dw0.p[i])));
        near("layernorm's db", i, db.p[i], db0.p[i] + b, EPS * (fabs(b) + fabs(db0.p[i])));
    }
    vec_free(s.x), vec_free(x), vec_free(dy), vec_free(dw), vec_free(db), vec_free(dx);
    vec_free(dx0), vec_free(dw0), vec_free(db0);
}

void check_rows_layernorm_backward(const struct rows *r, const struct input *in)
{
    for (int which = 0; which < 4; which++) {
        for (int place = 0; place < 4; place++)
            layernorm_backward_as(r, in, false, place, which);
        layernorm_backward_as(r, in, true, 0, which);
    }
}
