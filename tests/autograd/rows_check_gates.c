/* Checks of the row kernels of GELU and SwiGLU. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/autograd/rows_check.h"

/* Gates from -20 to 20 and a few beyond what exp can do. */
static struct vec gates(const struct input *in)
{
    struct vec g = vec_copy(in->a);
    static const float far[] = {-200, -90, -88.5f, 88.5f, 300, 0};
    for (int64_t i = 0; i < g.n; i++)
        g.p[i] = i % 7 == 6 ? far[i / 7 % 6] : 8 * g.p[i];
    return g;
}

/* GELU's 2 u, and how much of it is rounding: the sigmoid of it is off by as much of itself */
static double gelu_at(double x, double *doubt)
{
    const double u = 2 * sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x);
    *doubt = EPS * (4 + 3 * fabs(u));
    return u;
}

void check_rows_gelu(const struct rows *r, const struct input *in)
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

void check_rows_gelu_backward(const struct rows *r, const struct input *in)
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

void check_rows_swiglu(const struct rows *r, const struct input *in)
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

void check_rows_swiglu_backward(const struct rows *r, const struct input *in)
{
    static const int which[] = {1, 2, 3, 5, 10, 7, 11, 15, 3 + 16, 7 + 16, 3 + 32, 3 + 48};
    for (size_t i = 0; i < sizeof which / sizeof *which; i++)
        swiglu_backward_as(r, in, which[i]);
}
