/* Checks of the row kernels of RoPE, optimizers and dropout. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/rng.h"
#include "tests/autograd/rows_check.h"

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

void check_rows_rope_adjacent(const struct rows *r, const struct input *in)
{
    rope(r, in, false);
}

void check_rows_rope_half(const struct rows *r, const struct input *in)
{
    rope(r, in, true);
}

void check_rows_adamw(const struct rows *r, const struct input *in)
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
void check_rows_lion(const struct rows *r, const struct input *in)
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

/* The very draws of rng_block(); what is dropped is 0 even of infinity. */
void check_rows_dropout(const struct rows *r, const struct input *in)
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
