/* Checks of the row kernels that add up, scale and take maxima. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/autograd/rows_check.h"

static double sum_of_products(const struct input *in)
{
    double sum = 0;
    for (int64_t i = 0; i < in->n; i++)
        sum += fabs((double)in->a.p[i] * in->b.p[i]);
    return sum;
}

void check_rows_dot(const struct rows *r, const struct input *in)
{
    double sum = 0;
    for (int64_t i = 0; i < in->n; i++)
        sum += (double)in->a.p[i] * in->b.p[i];
    near("dot", 0, r->dot(in->n, in->a.p, in->b.p), sum, 4 * EPS * sum_of_products(in));
}

void check_rows_max(const struct rows *r, const struct input *in)
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

void check_rows_add(const struct rows *r, const struct input *in)
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

void check_rows_scale(const struct rows *r, const struct input *in)
{
    struct vec y = vec_nan(in->n, 3), over = vec_copy(in->a);
    r->scale(in->n, -1.7f, in->a.p, y.p);
    r->scale(in->n, -1.7f, over.p, over.p);
    for (int64_t i = 0; i < in->n; i++)
        assert_true(y.p[i] == -1.7f * in->a.p[i] && over.p[i] == y.p[i]);
    vec_free(y), vec_free(over);
}

void check_rows_axpy(const struct rows *r, const struct input *in)
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

void check_rows_exp_sum(const struct rows *r, const struct input *in)
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

void check_rows_softmax_backward(const struct rows *r, const struct input *in)
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

void check_rows_sum_squares(const struct rows *r, const struct input *in)
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
