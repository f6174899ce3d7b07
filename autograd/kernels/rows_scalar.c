/* The reference: what each row kernel means, in portable C. */
#include <math.h>
#include <string.h>

#include "autograd/base/half.h"
#include "autograd/base/rng.h"
#include "autograd/kernels/rows.h"

static void widen(int64_t n, const uint16_t *x, float *y)
{
    for (int64_t i = 0; i < n; i++) {
        const uint32_t u = (uint32_t)x[i] << 16;
        memcpy(&y[i], &u, sizeof u);
    }
}

static void narrow(int64_t n, const float *x, uint16_t *y)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, &x[i], sizeof u);
        const bool nan = (u & 0x7fffffff) > 0x7f800000;
        y[i] = (uint16_t)(nan ? u >> 16 | 0x40 : (u + 0x7fff + (u >> 16 & 1)) >> 16);
    }
}

static void widen_half(int64_t n, const uint16_t *x, float *y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = half_float(x[i]);
}

static void narrow_half(int64_t n, const float *x, uint16_t *y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = half_of(x[i]);
}

static float dot(int64_t n, const float *a, const float *b)
{
    float sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static float max(int64_t n, const float *x)
{
    float top = -INFINITY;
    for (int64_t i = 0; i < n; i++)
        top = x[i] > top ? x[i] : top;
    return top;
}

static void add(int64_t n, const float *a, const float *b, float *y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = a[i] + b[i];
}

static void scale(int64_t n, float f, const float *x, float *y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = f * x[i];
}

static void axpy(int64_t n, float f, const float *x, float *y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] += f * x[i];
}

static float exp_sum(int64_t n, const float *x, float f, float shift, float *y)
{
    float sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += y[i] = expf(f * x[i] - shift);
    return sum;
}

static void softmax_backward(int64_t n, const float *p, const float *x, float shift, float f,
                             float *y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = f * p[i] * (x[i] - shift);
}

static float exp_bf16(int64_t n, const float *x, float f, float shift, uint16_t *y)
{
    float sum = 0;
    for (int64_t i = 0; i < n; i++) {
        const float e = expf(f * x[i] - shift);
        rows_scalar.narrow(1, &e, &y[i]);
        sum += e;
    }
    return sum;
}

static void softmax_backward_bf16(int64_t n, const float *s, const float *dp, const float *lse,
                                  const float *delta, float f, uint16_t *p, uint16_t *ds)
{
    for (int64_t i = 0; i < n; i++) {
        const float e = expf(f * s[i] - lse[i]), d = f * e * (dp[i] - delta[i]);
        rows_scalar.narrow(1, &e, &p[i]);
        rows_scalar.narrow(1, &d, &ds[i]);
    }
}

static float rmsnorm(int64_t n, const float *x, const float *w, float eps, float *y)
{
    const float r = 1 / sqrtf(dot(n, x, x) / (float)n + eps);
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] * r * w[i];
    return r;
}

static void rmsnorm_backward(int64_t n, const float *x, const float *w, float r, const float *dy,
                             float *dx, bool acc, float *dw)
{
    float sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += dy[i] * w[i] * x[i];
    const float mean = sum * r * r / (float)n;
    for (int64_t i = 0; i < n; i++) {
        if (dw)
            dw[i] += dy[i] * x[i] * r;
        if (dx)
            dx[i] = (acc ? dx[i] : 0) + r * (dy[i] * w[i] - x[i] * mean);
    }
}

static float layernorm(int64_t n, const float *x, const float *w, const float *b, float eps,
                       float *mean, float *y)
{
    float sum = 0, square = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i];
    const float middle = sum / (float)n;
    for (int64_t i = 0; i < n; i++)
        square += (x[i] - middle) * (x[i] - middle);
    const float r = 1 / sqrtf(square / (float)n + eps);
    for (int64_t i = 0; i < n; i++)
        y[i] = (x[i] - middle) * r * w[i] + b[i];
    *mean = middle;
    return r;
}

static void layernorm_backward(int64_t n, const float *x, const float *w, float mean, float r,
                               const float *dy, float *dx, bool acc, float *dw, float *db)
{
    float sum = 0, along = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += dy[i] * w[i];
        along += dy[i] * w[i] * (x[i] - mean);
    }
    sum /= (float)n;
    along *= r * r / (float)n;
    for (int64_t i = 0; i < n; i++) {
        const float d = dy[i], away = x[i] - mean;
        if (dx)
            dx[i] = (acc ? dx[i] : 0) + r * (d * w[i] - sum - away * along);
        if (dw)
            dw[i] += d * away * r;
        if (db)
            db[i] += d;
    }
}

static float sigmoid(float x)
{
    return 1 / (1 + expf(-x));
}

static void gelu(int64_t n, const float *x, float *y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] * sigmoid(x[i] * (GELU_1 + GELU_3 * x[i] * x[i]));
}

static void gelu_backward(int64_t n, const float *x, const float *dy, float *dx, bool acc)
{
    for (int64_t i = 0; i < n; i++) {
        const float xx = x[i] * x[i], s = sigmoid(x[i] * (GELU_1 + GELU_3 * xx));
        const float slope = s + x[i] * (s * (1 - s)) * (GELU_1 + 3 * GELU_3 * xx);
        dx[i] = (acc ? dx[i] : 0) + dy[i] * slope;
    }
}

static float get(bool bf16, const void *x, int64_t i)
{
    float v;
    if (!bf16)
        return ((const float *)x)[i];
    widen(1, (const uint16_t *)x + i, &v);
    return v;
}

static void set(bool bf16, void *y, int64_t i, float v)
{
    if (bf16)
        narrow(1, &v, (uint16_t *)y + i);
    else
        ((float *)y)[i] = v;
}

static void swiglu(int64_t n, bool bf16, const void *g, const void *u, void *y)
{
    for (int64_t i = 0; i < n; i++) {
        const float gate = get(bf16, g, i);
        set(bf16, y, i, gate * sigmoid(gate) * get(bf16, u, i));
    }
}

static void swiglu_backward(int64_t n, bool bf16, const void *g, const void *u, const void *dy,
                            void *dg, bool acc_g, void *du, bool acc_u)
{
    for (int64_t i = 0; i < n; i++) {
        const float gate = get(bf16, g, i), up = get(bf16, u, i), d = get(bf16, dy, i);
        const float s = sigmoid(gate), silu = gate * s;
        if (dg)
            set(bf16, dg, i, (acc_g ? get(bf16, dg, i) : 0) + d * up * (s + silu * (1 - s)));
        if (du)
            set(bf16, du, i, (acc_u ? get(bf16, du, i) : 0) + d * silu);
    }
}

static void rotate(const float c, const float s, float *a, float *b)
{
    const float x = *a, y = *b;
    *a = x * c - y * s;
    *b = y * c + x * s;
}

static void rope_adjacent(int64_t half, const float *c, const float *s, float sign, float *x)
{
    for (int64_t i = 0; i < half; i++)
        rotate(c[i], sign * s[i], &x[2 * i], &x[2 * i + 1]);
}

static void rope_half(int64_t half, const float *c, const float *s, float sign, float *x)
{
    for (int64_t i = 0; i < half; i++)
        rotate(c[i], sign * s[i], &x[i], &x[i + half]);
}

static void adamw(int64_t n, const struct adamw_args *a, const float *g, float *m, float *v,
                  float *p)
{
    for (int64_t i = 0; i < n; i++) {
        const float grad = g[i] * a->grad_scale;
        m[i] = a->beta1 * m[i] + (1 - a->beta1) * grad;
        v[i] = a->beta2 * v[i] + (1 - a->beta2) * grad * grad;
        const float step = m[i] * a->inv_c1 / (sqrtf(v[i] * a->inv_c2) + a->eps);
        p[i] -= a->decay * p[i] + a->lr * step;
    }
}

static void lion(int64_t n, const struct lion_args *a, const float *g, float *m, float *p)
{
    for (int64_t i = 0; i < n; i++) {
        const float grad = g[i] * a->grad_scale;
        const float c = a->beta1 * m[i] + (1 - a->beta1) * grad;
        m[i] = a->beta2 * m[i] + (1 - a->beta2) * grad;
        p[i] -= a->decay * p[i] + a->lr * (float)((c > 0) - (c < 0));
    }
}

static double sum_squares(int64_t n, const float *x)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    return sum;
}

static void dropout(int64_t n, uint64_t key, uint64_t row, uint32_t below, float f, const float *x,
                    bool acc, float *y)
{
    uint32_t r[4];
    for (int64_t i = 0; i < n; i++) {
        if (i % 4 == 0)
            rng_block(key, row, (uint64_t)i, r);
        y[i] = (acc ? y[i] : 0) + (r[i % 4] < below ? 0 : f * x[i]);
    }
}

const struct rows rows_scalar = {
    .name = "scalar",
    .dot = dot,
    .max = max,
    .add = add,
    .scale = scale,
    .axpy = axpy,
    .exp_sum = exp_sum,
    .softmax_backward = softmax_backward,
    .exp_bf16 = exp_bf16,
    .softmax_backward_bf16 = softmax_backward_bf16,
    .rmsnorm = rmsnorm,
    .rmsnorm_backward = rmsnorm_backward,
    .layernorm = layernorm,
    .layernorm_backward = layernorm_backward,
    .gelu = gelu,
    .gelu_backward = gelu_backward,
    .swiglu = swiglu,
    .swiglu_backward = swiglu_backward,
    .rope_adjacent = rope_adjacent,
    .rope_half = rope_half,
    .adamw = adamw,
    .lion = lion,
    .widen = widen,
    .narrow = narrow,
    .widen_half = widen_half,
    .narrow_half = narrow_half,
    .sum_squares = sum_squares,
    .dropout = dropout,
};
