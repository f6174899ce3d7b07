/* Every entry of every table of row kernels against the scalar one: all lengths around vectors,
   pointers aligned to a float only, results over their inputs where that is allowed. Memory behind
   a row is guarded, and what is only written starts as NaN. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/cpu.h"
#include "autograd/base/rng.h"
#include "autograd/kernels/rows.h"

#define EPS 0x1p-23 /* two roundings */

// the address sanitizer guards the end of an allocation by itself, for reads too
#if defined __SANITIZE_ADDRESS__
enum { GUARD = 0 };
#else
enum { GUARD = 24 };
#endif
static const float CANARY = -7654321;

struct vec {
    float *p; /* [n], `shift` floats behind an aligned address */
    int64_t n;
    int shift;
};

static struct vec vec_nan(int64_t n, int shift)
{
    float *base = aligned_alloc(64, ((size_t)(n + shift + GUARD) * sizeof *base + 64) / 64 * 64);
#if defined __SANITIZE_ADDRESS__
    free(base);
    base = malloc((size_t)(n + shift) * sizeof *base);
#endif
    for (int64_t i = 0; i < n + shift + GUARD; i++)
        base[i] = i < shift || i >= n + shift ? CANARY : NAN;
    return (struct vec){base + shift, n, shift};
}

static struct vec vec_copy(struct vec from)
{
    struct vec v = vec_nan(from.n, from.shift);
    for (int64_t i = 0; i < v.n; i++)
        v.p[i] = from.p[i];
    return v;
}

static struct vec vec_new(uint64_t key, int64_t n, int shift)
{
    struct vec v = vec_nan(n, shift);
    rng_normal(key, 1, v.p, (size_t)n);
    return v;
}

static void vec_free(struct vec v)
{
    float *base = v.p - v.shift;
    for (int64_t i = 0; i < v.n + v.shift + GUARD; i++)
        if ((i < v.shift || i >= v.n + v.shift) && base[i] != CANARY)
            fail_msg("element %d of %d was written", (int)i - v.shift, (int)v.n);
    free(base);
}

static void near(const char *what, int64_t i, double got, double want, double most)
{
    if (!(fabs(got - want) <= most))
        fail_msg("%s[%d]: %.9g instead of %.9g +- %.2g", what, (int)i, got, want, most);
}

/* ---- a check for each entry: table r, length n, operands a, b, c at different alignments ---- */

struct input {
    int64_t n;
    struct vec a, b, c;
};

static double sum_of_products(const struct input *in)
{
    double sum = 0;
    for (int64_t i = 0; i < in->n; i++)
        sum += fabs((double)in->a.p[i] * in->b.p[i]);
    return sum;
}

static void dot(const struct rows *r, const struct input *in)
{
    double sum = 0;
    for (int64_t i = 0; i < in->n; i++)
        sum += (double)in->a.p[i] * in->b.p[i];
    near("dot", 0, r->dot(in->n, in->a.p, in->b.p), sum, 4 * EPS * sum_of_products(in));
}

static void max(const struct rows *r, const struct input *in)
{
    assert_true(r->max(in->n, in->a.p) == rows_scalar.max(in->n, in->a.p));
    struct vec x = vec_copy(in->a);
    for (int64_t i = 0; i < in->n; i++)
        x.p[i] -= 100; // below the zeros that might fill the rest of a vector
    assert_true(r->max(in->n, x.p) == rows_scalar.max(in->n, x.p));
    for (int64_t i = 0; i < in->n && in->n < 40; i++) { // the largest at each place
        x.p[i] = -50;
        assert_true(r->max(in->n, x.p) == -50);
        x.p[i] = -INFINITY;
        assert_true(r->max(i + 1, x.p) == -INFINITY);
    }
    vec_free(x);
}

static void add(const struct rows *r, const struct input *in)
{
    struct vec y = vec_nan(in->n, 1), over = vec_copy(in->a), twice = vec_copy(in->b);
    r->add(in->n, in->a.p, in->b.p, y.p);
    r->add(in->n, over.p, in->b.p, over.p);
    r->add(in->n, twice.p, twice.p, twice.p);
    for (int64_t i = 0; i < in->n; i++) {
        assert_true(y.p[i] == in->a.p[i] + in->b.p[i] && over.p[i] == y.p[i]);
        assert_true(twice.p[i] == 2 * in->b.p[i]);
    }
    vec_free(y), vec_free(over), vec_free(twice);
}

static void scale(const struct rows *r, const struct input *in)
{
    struct vec y = vec_nan(in->n, 3), over = vec_copy(in->a);
    r->scale(in->n, -1.7f, in->a.p, y.p);
    r->scale(in->n, -1.7f, over.p, over.p);
    for (int64_t i = 0; i < in->n; i++)
        assert_true(y.p[i] == -1.7f * in->a.p[i] && over.p[i] == y.p[i]);
    vec_free(y), vec_free(over);
}

static void axpy(const struct rows *r, const struct input *in)
{
    struct vec y = vec_copy(in->b), over = vec_copy(in->a);
    r->axpy(in->n, 1.3f, in->a.p, y.p);
    r->axpy(in->n, 1.3f, over.p, over.p);
    for (int64_t i = 0; i < in->n; i++) {
        const double a = in->a.p[i], b = in->b.p[i], f = 1.3f;
        near("axpy", i, y.p[i], b + f * a, EPS * (fabs(b) + fabs(f * a)));
        near("axpy over x", i, over.p[i], a + f * a, EPS * fabs(a + f * a));
    }
    vec_free(y), vec_free(over);
}

static void exp_sum(const struct rows *r, const struct input *in)
{
    struct vec y = vec_nan(in->n, 2), over = vec_copy(in->a);
    const float f = 3, shift = 1.5f;
    const float sum = r->exp_sum(in->n, in->a.p, f, shift, y.p);
    assert_true(r->exp_sum(in->n, over.p, f, shift, over.p) == sum);
    double all = 0;
    for (int64_t i = 0; i < in->n; i++) {
        const double want = exp((double)f * in->a.p[i] - shift);
        near("exp", i, y.p[i], want, want * EPS * (2 + fabs((double)f * in->a.p[i]) + shift));
        assert_true(over.p[i] == y.p[i]);
        all += y.p[i];
    }
    near("sum of exp", 0, sum, all, (4 + (double)in->n / 64) * EPS * all);
    for (int64_t i = 0; i < in->n && in->n < 40; i++) { // NaN at each place is seen
        struct vec x = vec_copy(in->a);
        x.p[i] = NAN;
        assert_true(isnan(r->exp_sum(in->n, x.p, f, shift, y.p)) && isnan(y.p[i]));
        assert_false(i + 1 < in->n && isnan(y.p[i + 1]));
        vec_free(x);
    }
    vec_free(y), vec_free(over);
}

static void softmax_backward(const struct rows *r, const struct input *in)
{
    struct vec y = vec_nan(in->n, 1), over_x = vec_copy(in->b), over_p = vec_copy(in->a);
    r->softmax_backward(in->n, in->a.p, in->b.p, 0.7f, 0.3f, y.p);
    r->softmax_backward(in->n, in->a.p, over_x.p, 0.7f, 0.3f, over_x.p);
    r->softmax_backward(in->n, over_p.p, in->b.p, 0.7f, 0.3f, over_p.p);
    for (int64_t i = 0; i < in->n; i++) {
        const double part = (double)0.3f * in->a.p[i];
        const double size = fabs(part) * (fabs((double)in->b.p[i]) + 0.7);
        near("softmax_backward", i, y.p[i], part * ((double)in->b.p[i] - 0.7f), 2 * EPS * size);
        assert_true(over_x.p[i] == y.p[i] && over_p.p[i] == y.p[i]);
    }
    vec_free(y), vec_free(over_x), vec_free(over_p);
}

static void rmsnorm(const struct rows *r, const struct input *in)
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

static void rmsnorm_backward(const struct rows *r, const struct input *in)
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

/* Gates from -20 to 20 and a few beyond what exp can do. */
static struct vec gates(const struct input *in)
{
    struct vec g = vec_copy(in->a);
    static const float far[] = {-200, -90, -88.5f, 88.5f, 300, 0};
    for (int64_t i = 0; i < g.n; i++)
        g.p[i] = i % 7 == 6 ? far[i / 7 % 6] : 8 * g.p[i];
    return g;
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

static void layernorm(const struct rows *r, const struct input *in)
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

static void layernorm_backward(const struct rows *r, const struct input *in)
{
    for (int which = 0; which < 4; which++) {
        for (int place = 0; place < 4; place++)
            layernorm_backward_as(r, in, false, place, which);
        layernorm_backward_as(r, in, true, 0, which);
    }
}

static const double TINY = 1e-34; /* what a bounded exp leaves of a sigmoid that is zero */

/* GELU's 2 u, and how much of it is rounding: the sigmoid of it is off by as much of itself */
static double gelu_at(double x, double *doubt)
{
    const double u = 2 * sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x);
    *doubt = EPS * (4 + 3 * fabs(u));
    return u;
}

static void gelu(const struct rows *r, const struct input *in)
{
    struct vec x = gates(in), y = vec_nan(in->n, 1), over = vec_copy(x);
    r->gelu(in->n, x.p, y.p);
    r->gelu(in->n, over.p, over.p);
    for (int64_t i = 0; i < in->n; i++) {
        double doubt;
        const double v = x.p[i] / (1 + exp(-gelu_at(x.p[i], &doubt)));
        near("gelu", i, y.p[i], v, doubt * fabs(v) + TINY);
        assert_true(over.p[i] == y.p[i]);
    }
    vec_free(x), vec_free(y), vec_free(over);
}

/* place: what dx lies over; 0 nothing, 1 dy, 2 x */
static void gelu_backward_as(const struct rows *r, const struct input *in, bool acc, int place)
{
    struct vec x = gates(in), x0 = vec_copy(x), dy = vec_copy(in->c);
    struct vec dx = acc ? vec_new(5, in->n, 3) : vec_nan(in->n, 3), dx0 = vec_copy(dx);
    float *to = place == 1 ? dy.p : place == 2 ? x.p : dx.p;
    r->gelu_backward(in->n, x.p, dy.p, to, acc);
    for (int64_t i = 0; i < in->n; i++) {
        double doubt;
        const double v = x0.p[i], u = gelu_at(v, &doubt), s = 1 / (1 + exp(-u));
        const double slope = 2 * sqrt(2 / 3.14159265358979323846) * (1 + 3 * 0.044715 * v * v);
        const double turn = v * s / (1 + exp(u)) * slope, d = in->c.p[i], old = acc ? dx0.p[i] : 0;
        // 1 - s is off by a part of 1
        const double size = doubt * (s + fabs(turn)) + 4 * EPS * s * fabs(v * slope);
        near("gelu's dx", i, to[i], old + d * (s + turn),
             fabs(d) * size + 2 * EPS * fabs(old) + TINY * (1 + fabs(v * slope)));
    }
    vec_free(x), vec_free(x0), vec_free(dy), vec_free(dx), vec_free(dx0);
}

static void gelu_backward(const struct rows *r, const struct input *in)
{
    for (int place = 0; place < 3; place++)
        gelu_backward_as(r, in, false, place);
    gelu_backward_as(r, in, true, 0);
}

/* x [n] becomes what bf16 holds of it, which is put into h [n] too; h [n] is a canary. */
static uint16_t *rounded(struct vec x)
{
    uint16_t *h = malloc(((size_t)x.n + 1) * sizeof *h);
    rows_scalar.narrow(x.n, x.p, h);
    rows_scalar.widen(x.n, h, x.p);
    h[x.n] = 0x1234;
    return h;
}

/* got is x rounded once. Frees both. */
static void same_rounded(const char *what, uint16_t *got, struct vec x)
{
    uint16_t *want = rounded(x);
    for (int64_t i = 0; i <= x.n; i++)
        if (got[i] != want[i])
            fail_msg("%s[%d] of %d in bf16: %04x instead of %04x", what, (int)i, (int)x.n, got[i],
                     want[i]);
    free(got), free(want), vec_free(x);
}

/* On bf16, what it makes on f32, rounded: also over its inputs, also added to what is there. */
static void swiglu_bf16(const struct rows *r, const struct input *in)
{
    const int64_t n = in->n;
    struct vec g = gates(in), u = vec_copy(in->b), dy = vec_copy(in->c), y = vec_nan(n, 0);
    uint16_t *hg = rounded(g), *hu = rounded(u), *hdy = rounded(dy);
    for (int acc = 0; acc <= 1; acc++) {
        struct vec dg = vec_new(4, n, 0), du = vec_new(5, n, 0);
        uint16_t *hdg = rounded(dg), *hdu = rounded(du);
        r->swiglu_backward(n, false, g.p, u.p, dy.p, dg.p, acc, du.p, acc);
        r->swiglu_backward(n, true, hg, hu, hdy, hdg, acc, NULL, acc);
        r->swiglu_backward(n, true, hg, hu, hdy, NULL, acc, acc ? hdu : hdy, acc);
        same_rounded("swiglu's dg", hdg, dg);
        same_rounded("swiglu's du", acc ? hdu : hdy, du);
        if (!acc)
            free(hdu), hdy = rounded(dy);
    }
    r->swiglu(n, false, g.p, u.p, y.p);
    r->swiglu(n, true, hg, hu, hu);
    same_rounded("swiglu", hu, y);
    free(hg), free(hdy), vec_free(g), vec_free(u), vec_free(dy);
}

static void swiglu(const struct rows *r, const struct input *in)
{
    struct vec g = gates(in), y = vec_nan(in->n, 1), over = vec_copy(in->b);
    r->swiglu(in->n, false, g.p, in->b.p, y.p);
    r->swiglu(in->n, false, g.p, over.p, over.p);
    for (int64_t i = 0; i < in->n; i++) {
        const double v = g.p[i] / (1 + exp(-(double)g.p[i])) * in->b.p[i];
        near("swiglu", i, y.p[i], v, 4 * EPS * fabs(v) + TINY);
        assert_true(over.p[i] == y.p[i]);
    }
    vec_free(g), vec_free(y), vec_free(over);
    swiglu_bf16(r, in);
}

/* which: bit 0 dg wanted, 1 du wanted, 2 dg added, 3 du added, 4 du over dy, 5 dg over g */
static void swiglu_backward_as(const struct rows *r, const struct input *in, int which)
{
    const int64_t n = in->n;
    const bool acc_g = which & 4, acc_u = which & 8;
    struct vec g = gates(in), g0 = vec_copy(g), dy = vec_copy(in->c);
    struct vec dg = acc_g ? vec_new(4, n, 2) : vec_nan(n, 2), dg0 = vec_copy(dg);
    struct vec du = acc_u ? vec_new(5, n, 1) : vec_nan(n, 1), du0 = vec_copy(du);
    float *to_g = which & 32 ? g.p : dg.p, *to_u = which & 16 ? dy.p : du.p;
    r->swiglu_backward(n, false, g.p, in->b.p, dy.p, which & 1 ? to_g : NULL, acc_g,
                       which & 2 ? to_u : NULL, acc_u);
    for (int64_t i = 0; i < n; i++) {
        const double x = g0.p[i], u = in->b.p[i], d = in->c.p[i], s = 1 / (1 + exp(-x));
        const double a = d * u * (s + x * s * (1 - s)), b = d * x * s;
        const double size = fabs(d * u) * (s + fabs(x * s)); // 1 - s is off by a part of 1
        if (which & 1)
            near("swiglu's dg", i, to_g[i], (acc_g ? dg0.p[i] : 0) + a,
                 6 * EPS * (size + (acc_g ? fabs((double)dg0.p[i]) : 0)) + TINY);
        if (which & 2)
            near("swiglu's du", i, to_u[i], (acc_u ? du0.p[i] : 0) + b,
                 4 * EPS * (fabs(b) + (acc_u ? fabs((double)du0.p[i]) : 0)) + TINY);
    }
    vec_free(g), vec_free(g0), vec_free(dy), vec_free(dg), vec_free(dg0), vec_free(du);
    vec_free(du0);
}

static void swiglu_backward(const struct rows *r, const struct input *in)
{
    static const int which[] = {1, 2, 3, 5, 10, 7, 11, 15, 3 + 16, 7 + 16, 3 + 32, 3 + 48};
    for (size_t i = 0; i < sizeof which / sizeof *which; i++)
        swiglu_backward_as(r, in, which[i]);
}

static void rotate(const struct input *in, bool half_split, float sign, struct vec x,
                   void (*turn)(int64_t, const float *, const float *, float, float *))
{
    const int64_t half = in->n / 2;
    struct vec y = vec_copy(x);
    turn(half, in->b.p, in->c.p, sign, y.p);
    for (int64_t i = 0; i < half; i++) {
        const int64_t p = half_split ? i : 2 * i, q = half_split ? i + half : 2 * i + 1;
        const double a = x.p[p], b = x.p[q], c = in->b.p[i], s = (double)sign * in->c.p[i];
        const double size = 2 * EPS * (fabs(a) + fabs(b)) * (fabs(c) + fabs(s));
        near("rope", p, y.p[p], a * c - b * s, size);
        near("rope", q, y.p[q], b * c + a * s, size);
    }
    vec_free(y);
}

static void rope(const struct rows *r, const struct input *in, bool half_split)
{
    struct vec x = vec_nan(in->n / 2 * 2, in->a.shift);
    for (int64_t i = 0; i < x.n; i++)
        x.p[i] = in->a.p[i];
    rotate(in, half_split, 1, x, half_split ? r->rope_half : r->rope_adjacent);
    rotate(in, half_split, -1, x, half_split ? r->rope_half : r->rope_adjacent);
    vec_free(x);
}

static void rope_adjacent(const struct rows *r, const struct input *in)
{
    rope(r, in, false);
}

static void rope_half(const struct rows *r, const struct input *in)
{
    rope(r, in, true);
}

static void adamw(const struct rows *r, const struct input *in)
{
    const struct adamw_args k = {.lr = 0.01f,
                                 .beta1 = 0.9f,
                                 .beta2 = 0.95f,
                                 .eps = 1e-6f,
                                 .decay = 0.02f,
                                 .inv_c1 = 1.3f,
                                 .inv_c2 = 2.1f,
                                 .grad_scale = 0.7f};
    struct vec m = vec_copy(in->b), v = vec_copy(in->c), p = vec_new(9, in->n, 1);
    for (int64_t i = 0; i < in->n; i++)
        v.p[i] = i % 5 == 4 ? 0 : v.p[i] * v.p[i];
    struct vec v0 = vec_copy(v), p0 = vec_copy(p);
    r->adamw(in->n, &k, in->a.p, m.p, v.p, p.p);
    for (int64_t i = 0; i < in->n; i++) {
        const double g = (double)k.grad_scale * in->a.p[i], b1 = k.beta1, b2 = k.beta2;
        const double mi = b1 * in->b.p[i] + (1 - b1) * g, vi = b2 * v0.p[i] + (1 - b2) * g * g;
        near("adamw's m", i, m.p[i], mi, 2 * EPS * (fabs((double)in->b.p[i]) + fabs(g)));
        near("adamw's v", i, v.p[i], vi, 3 * EPS * vi);
        const double root = sqrt(vi * k.inv_c2) + k.eps, step = k.lr * mi * k.inv_c1 / root;
        const double size = (fabs((double)in->b.p[i]) + fabs(g)) * k.lr * k.inv_c1 / root;
        near("adamw's p", i, p.p[i], p0.p[i] * (1 - (double)k.decay) - step,
             3 * EPS * (fabs((double)p0.p[i]) + 2 * size));
    }
    vec_free(m), vec_free(v), vec_free(p), vec_free(v0), vec_free(p0);
}

/* Near no sign change, where rounding decides; the gradients of every sixth are subnormal or 0. */
static void lion(const struct rows *r, const struct input *in)
{
    const struct lion_args k = {
        .lr = 0.01f, .beta1 = 0.9f, .beta2 = 0.99f, .decay = 0.02f, .grad_scale = 0.7f};
    struct vec g = vec_copy(in->a), m = vec_copy(in->b), p = vec_new(9, in->n, 1);
    for (int64_t i = 0; i < in->n; i++) {
        const double c = 0.9 * m.p[i] + 0.07 * g.p[i];
        g.p[i] = fabs(c) < 1e-6 ? -1 : i % 6 == 5 ? (float)(i % 4 - 1) * 0x1p-140f : g.p[i];
        m.p[i] = fabs(c) < 1e-6 || i % 6 == 5 ? 0 : m.p[i];
    }
    struct vec m0 = vec_copy(m), p0 = vec_copy(p);
    r->lion(in->n, &k, g.p, m.p, p.p);
    for (int64_t i = 0; i < in->n; i++) {
        const double d = (double)k.grad_scale * g.p[i], b1 = k.beta1, b2 = k.beta2;
        const double c = b1 * m0.p[i] + (1 - b1) * d, sign = (c > 0) - (c < 0);
        const double size = fabs((double)m0.p[i]) + fabs(d);
        near("lion's m", i, m.p[i], b2 * m0.p[i] + (1 - b2) * d, 2 * EPS * size + 0x1p-148);
        near("lion's p", i, p.p[i], p0.p[i] * (1 - (double)k.decay) - (double)k.lr * sign,
             3 * EPS * (fabs((double)p0.p[i]) + (double)k.lr));
    }
    vec_free(g), vec_free(m), vec_free(p), vec_free(m0), vec_free(p0);
}

static void sum_squares(const struct rows *r, const struct input *in)
{
    double sum = 0;
    for (int64_t i = 0; i < in->n; i++)
        sum += (double)in->a.p[i] * in->a.p[i];
    near("sum_squares", 0, r->sum_squares(in->n, in->a.p), sum, 4 * EPS * sum);
    if (!in->n)
        return;
    struct vec x = vec_copy(in->a);
    x.p[in->n - 1] = 0x1p100f; // its square is no f32
    near("sum_squares", 0, r->sum_squares(in->n, x.p) / 0x1p200, 1, 1e-6);
    x.p[in->n / 2] = INFINITY;
    assert_true(isinf(r->sum_squares(in->n, x.p)));
    x.p[in->n / 2] = NAN;
    assert_true(isnan(r->sum_squares(in->n, x.p)));
    vec_free(x);
}

/* Every class of f32 in turn: ties of both kinds, what rounds up into the next exponent and into
   infinity, subnormals, zeros, infinities, NaNs whose upper half alone would be an infinity. */
static void narrow(const struct rows *r, const struct input *in)
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

static void exp_bf16(const struct rows *r, const struct input *in)
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

static void softmax_backward_bf16(const struct rows *r, const struct input *in)
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
static void widen(const struct rows *r, const struct input *in)
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
static void widen_half(const struct rows *r, const struct input *in)
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
static void narrow_half(const struct rows *r, const struct input *in)
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

/* The very draws of rng_block(); what is dropped is 0 even of infinity. */
static void dropout(const struct rows *r, const struct input *in)
{
    const uint64_t key = 0x123456789abcdef1, row = 0xfedcba9876543210 + (uint64_t)in->n;
    const uint32_t below = 0x60000000;
    struct vec x = vec_copy(in->a), y = vec_nan(in->n, 3), sum = vec_copy(in->b);
    uint32_t draw[4] = {0};
    for (int64_t i = 0; i < in->n; i++) {
        if (i % 4 == 0)
            rng_block(key, row, (uint64_t)i, draw);
        x.p[i] = draw[i % 4] < below && i % 3 ? INFINITY : x.p[i];
    }
    r->dropout(in->n, key, row, below, 1.7f, x.p, false, y.p);
    r->dropout(in->n, key, row, below, 1.7f, x.p, true, sum.p);
    r->dropout(in->n, key, row, below, 1.7f, x.p, false, x.p);
    for (int64_t i = 0; i < in->n; i++) {
        if (i % 4 == 0)
            rng_block(key, row, (uint64_t)i, draw);
        const float want = draw[i % 4] < below ? 0 : 1.7f * in->a.p[i];
        assert_true(y.p[i] == want && sum.p[i] == in->b.p[i] + want && x.p[i] == want);
    }
    vec_free(x), vec_free(y), vec_free(sum);
}

#define ENTRY(name)                                                                                \
    {                                                                                              \
#name, name, offsetof(struct rows, name)                                                   \
    }
static const struct {
    const char *name;
    void (*check)(const struct rows *r, const struct input *in);
    size_t offset;
} checks[] = {
    ENTRY(dot),
    ENTRY(max),
    ENTRY(add),
    ENTRY(scale),
    ENTRY(axpy),
    ENTRY(exp_sum),
    ENTRY(softmax_backward),
    ENTRY(rmsnorm),
    ENTRY(rmsnorm_backward),
    ENTRY(layernorm),
    ENTRY(layernorm_backward),
    ENTRY(gelu),
    ENTRY(gelu_backward),
    ENTRY(swiglu),
    ENTRY(swiglu_backward),
    ENTRY(rope_adjacent),
    ENTRY(rope_half),
    ENTRY(adamw),
    ENTRY(lion),
    ENTRY(exp_bf16),
    ENTRY(softmax_backward_bf16),
    ENTRY(widen),
    ENTRY(narrow),
    ENTRY(widen_half),
    ENTRY(narrow_half),
    ENTRY(sum_squares),
    ENTRY(dropout),
};
enum { CHECKS = sizeof checks / sizeof *checks };
_Static_assert(sizeof(struct rows) == sizeof(char *) + CHECKS * sizeof(void (*)(void)),
               "an entry of struct rows without a check");

/* ---- tables ---- */

static const struct rows *const tables[] = {
    &rows_scalar,
#if defined __x86_64__
    &rows_avx2,
    &rows_avx512,
#elif defined __aarch64__
    &rows_neon,
#endif
};
enum { TABLES = sizeof tables / sizeof *tables };

/* Tables bear their level's name. */
static int level_of(const struct rows *r)
{
    int l = 0;
    while (strcmp(cpu_level_name((enum cpu_level)l), r->name))
        if (++l == CPU_LEVELS)
            fail_msg("%s is no level's name", r->name);
    return l;
}

static bool runs_here(const struct rows *r)
{
    const bool runs = level_of(r) <= (int)cpu_hardware();
    if (!runs)
        print_message("this CPU has no %s: skipped\n", r->name);
    return runs;
}

static void check_lengths(void **state)
{
    const int which = *(const int *)*state;
    const struct rows *r = tables[which / CHECKS];
    static const int64_t large[] = {255, 256, 511, 513, 1000, 4099};
    if (!runs_here(r))
        skip();
    for (int64_t k = 0; k <= 70 + (int64_t)(sizeof large / sizeof *large); k++) {
        const int64_t n = k <= 70 ? k : large[k - 71];
        for (int shift = 0; shift < 2; shift++) {
            const struct input in = {n, vec_new(1, n, shift), vec_new(2, n, 3 * shift),
                                     vec_new(3, n, 7 * shift)};
            checks[which % CHECKS].check(r, &in);
            vec_free(in.a), vec_free(in.b), vec_free(in.c);
        }
    }
}

/* exp over its whole range, alone in a row and in the middle of a vector. */
static void exp_range(void **state)
{
    (void)state;
    for (int t = 0; t < TABLES; t++) {
        const struct rows *r = tables[t];
        enum { N = 40000 };
        static float x[N], y[N];
        if (!runs_here(r))
            continue;
        for (int i = 0; i < N; i++)
            x[i] = -110 + 220 * (float)i / N;
        r->exp_sum(N, x, 1, 0, y);
        for (int i = 0; i < N; i++) {
            float one;
            r->exp_sum(1, x + i, 1, 0, &one);
            const double want = exp((double)x[i]);
            if (x[i] > -87.3f && x[i] < 88)
                near("exp", i, y[i], want, 2.5 * EPS * want);
            else
                assert_true(x[i] < 0 ? y[i] >= 0 && y[i] < 1.3e-38f : y[i] > 1.6e38f);
            assert_true(one == y[i]);
        }
        const float edge[] = {-INFINITY, INFINITY, 0, -0.0f};
        r->exp_sum(4, edge, 1, 0, y);
        assert_true(y[0] >= 0 && y[0] < 1.3e-38f && y[1] > 1.6e38f && y[2] == 1 && y[3] == 1);
    }
}

static void table_follows_level(void **state)
{
    (void)state;
    const enum cpu_level level = cpu_level();
    for (int l = CPU_SCALAR; l < CPU_LEVELS; l++) {
        const struct rows *best = NULL; // they ascend
        cpu_set_level((enum cpu_level)l);
        rows_init();
        for (int t = 0; t < TABLES; t++)
            if (level_of(tables[t]) <= (int)cpu_level())
                best = tables[t];
        assert_ptr_equal(rows, best);
    }
    cpu_set_level(level);
    rows_init();
}

int main(void)
{
    enum { ALL = TABLES * CHECKS };
    static char names[ALL][48];
    static int which[ALL];
    struct CMUnitTest tests[ALL + 2] = {[ALL] = cmocka_unit_test(exp_range),
                                        cmocka_unit_test(table_follows_level)};
    for (int i = 0; i < ALL; i++) {
        which[i] = i;
        snprintf(names[i], sizeof names[i], "%s %s", tables[i / CHECKS]->name,
                 checks[i % CHECKS].name);
        tests[i] = (struct CMUnitTest){names[i], check_lengths, NULL, NULL, &which[i]};
        for (int j = 0; j < i % CHECKS; j++)
            if (checks[j].offset == checks[i % CHECKS].offset)
                return 1; // an entry twice hides one that is missing
    }
    return cmocka_run_group_tests_name("rows", tests, NULL, NULL);
}
