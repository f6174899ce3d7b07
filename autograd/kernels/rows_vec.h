/*
 * The row kernels over vf. Included once by each rows_<isa>.c, which defines ROWS_TABLE, the name
 * of its table. The end of a row that does not fill a vector goes through vf_load_part.
 */
#include <math.h>
#include <stddef.h>

#include "autograd/kernels/rng_vec.h"
#include "autograd/kernels/rows.h"
#include "autograd/kernels/vec.h"

static inline vf at(const float *x, int64_t i, int64_t n)
{
    return n - i >= VF_N ? vf_load(x + i) : vf_load_part(x + i, n - i, 0);
}

static inline void put(float *y, int64_t i, int64_t n, vf v)
{
    if (n - i >= VF_N)
        vf_store(y + i, v);
    else
        vf_store_part(y + i, n - i, v);
}

static inline void put_acc(bool acc, float *y, int64_t i, int64_t n, vf v)
{
    if (acc)
        v = v + at(y, i, n);
    put(y, i, n, v);
}

/* 2 VF_N numbers of a row that is f32 or, where the caller's constant says so, bf16: in their
   order, or the even and the odd ones. */
struct two {
    vf a, b;
};

static inline struct two get_two(bool bf16, const void *x, int64_t i)
{
    const float *f = (const float *)x + i;
    const vf pairs = vf_load(bf16 ? (const float *)x + i / 2 : f);
    return bf16 ? (struct two){vf_pair_even(pairs), vf_pair_odd(pairs)}
                : (struct two){pairs, vf_load(f + VF_N)};
}

static inline void set_two(bool bf16, bool acc, void *y, int64_t i, vf a, vf b)
{
    if (acc) {
        const struct two old = get_two(bf16, y, i);
        a = a + old.a;
        b = b + old.b;
    }
    if (bf16) {
        vf_store((float *)y + i / 2, vf_pair(vf_rounded(a), vf_pair_odd(vf_rounded(b))));
    } else {
        vf_store((float *)y + i, a);
        vf_store((float *)y + i + VF_N, b);
    }
}

static void *behind(bool bf16, const void *x, int64_t i)
{
    return x ? (char *)(uintptr_t)x + i * (bf16 ? 2 : 4) : NULL;
}

static float dot(int64_t n, const float *a, const float *b)
{
    vf s0 = vf_set(0), s1 = s0, s2 = s0, s3 = s0;
    int64_t i = 0;
    for (; i + 4 * VF_N <= n; i += 4 * VF_N) {
        s0 = vf_fma(vf_load(a + i), vf_load(b + i), s0);
        s1 = vf_fma(vf_load(a + i + VF_N), vf_load(b + i + VF_N), s1);
        s2 = vf_fma(vf_load(a + i + 2 * VF_N), vf_load(b + i + 2 * VF_N), s2);
        s3 = vf_fma(vf_load(a + i + 3 * VF_N), vf_load(b + i + 3 * VF_N), s3);
    }
    for (; i < n; i += VF_N)
        s0 = vf_fma(at(a, i, n), at(b, i, n), s0);
    return vf_sum((s0 + s1) + (s2 + s3));
}

static float max(int64_t n, const float *x)
{
    vf top = vf_set(-INFINITY);
    int64_t i = 0;
    for (; i + VF_N <= n; i += VF_N)
        top = vf_max(top, vf_load(x + i));
    if (i < n)
        top = vf_max(top, vf_load_part(x + i, n - i, -INFINITY));
    return vf_top(top);
}

static void add(int64_t n, const float *a, const float *b, float *y)
{
    for (int64_t i = 0; i < n; i += VF_N)
        put(y, i, n, at(a, i, n) + at(b, i, n));
}

static void scale(int64_t n, float f, const float *x, float *y)
{
    for (int64_t i = 0; i < n; i += VF_N)
        put(y, i, n, vf_set(f) * at(x, i, n));
}

static void axpy(int64_t n, float f, const float *x, float *y)
{
    for (int64_t i = 0; i < n; i += VF_N)
        put(y, i, n, vf_fma(vf_set(f), at(x, i, n), at(y, i, n)));
}

static float exp_sum(int64_t n, const float *x, float f, float shift, float *y)
{
    const vf factor = vf_set(f), minus = vf_set(-shift);
    vf sum = vf_set(0);
    int64_t i = 0;
    for (; i + VF_N <= n; i += VF_N) {
        const vf e = vf_exp(vf_fma(factor, vf_load(x + i), minus));
        vf_store(y + i, e);
        sum = sum + e;
    }
    float total = vf_sum(sum);
    if (i < n) {
        vf_store_part(y + i, n - i, vf_exp(vf_fma(factor, at(x, i, n), minus)));
        for (; i < n; i++)
            total += y[i];
    }
    return total;
}

static void softmax_backward(int64_t n, const float *p, const float *x, float shift, float f,
                             float *y)
{
    for (int64_t i = 0; i < n; i += VF_N)
        put(y, i, n, vf_set(f) * at(p, i, n) * (at(x, i, n) - vf_set(shift)));
}

static float exp_bf16(int64_t n, const float *x, float f, float shift, uint16_t *y)
{
    const vf factor = vf_set(f), minus = vf_set(-shift);
    vf sum = vf_set(0);
    int64_t i = 0;
    for (; i + VF_N <= n; i += VF_N) {
        const vf e = vf_exp(vf_fma(factor, vf_load(x + i), minus));
        vf_narrow(y + i, e);
        sum = sum + e;
    }
    return vf_sum(sum) + rows_scalar.exp_bf16(n - i, x + i, f, shift, y + i);
}

static void softmax_backward_bf16(int64_t n, const float *s, const float *dp, const float *lse,
                                  const float *delta, float f, uint16_t *p, uint16_t *ds)
{
    const vf factor = vf_set(f), zero = vf_set(0);
    int64_t i = 0;
    for (; i + VF_N <= n; i += VF_N) {
        const vf e = vf_exp(vf_fma(factor, vf_load(s + i), zero - vf_load(lse + i)));
        vf_narrow(p + i, e);
        vf_narrow(ds + i, factor * e * (vf_load(dp + i) - vf_load(delta + i)));
    }
    rows_scalar.softmax_backward_bf16(n - i, s + i, dp + i, lse + i, delta + i, f, p + i, ds + i);
}

static float rmsnorm(int64_t n, const float *x, const float *w, float eps, float *y)
{
    const float r = 1 / sqrtf(dot(n, x, x) / (float)n + eps);
    for (int64_t i = 0; i < n; i += VF_N)
        put(y, i, n, at(x, i, n) * vf_set(r) * at(w, i, n));
    return r;
}

static void rmsnorm_backward(int64_t n, const float *x, const float *w, float r, const float *dy,
                             float *dx, bool acc, float *dw)
{
    vf sum = vf_set(0);
    for (int64_t i = 0; i < n; i += VF_N)
        sum = vf_fma(at(dy, i, n) * at(w, i, n), at(x, i, n), sum);
    const vf mean = vf_set(-vf_sum(sum) * r * r / (float)n), rms = vf_set(r);
    for (int64_t i = 0; i < n; i += VF_N) {
        const vf xi = at(x, i, n), dyi = at(dy, i, n);
        if (dw)
            put(dw, i, n, vf_fma(dyi * xi, rms, at(dw, i, n)));
        if (dx)
            put_acc(acc, dx, i, n, rms * vf_fma(xi, mean, dyi * at(w, i, n)));
    }
}

static float layernorm(int64_t n, const float *x, const float *w, const float *b, float eps,
                       float *mean, float *y)
{
    vf sum = vf_set(0), square = vf_set(0);
    int64_t i = 0;
    for (; i < n; i += VF_N)
        sum = sum + at(x, i, n);
    const float middle = vf_sum(sum) / (float)n;
    const vf minus = vf_set(-middle);
    for (i = 0; i + VF_N <= n; i += VF_N) {
        const vf away = vf_load(x + i) + minus;
        square = vf_fma(away, away, square);
    }
    if (i < n) {
        const vf away = vf_load_part(x + i, n - i, middle) + minus;
        square = vf_fma(away, away, square);
    }
    const float r = 1 / sqrtf(vf_sum(square) / (float)n + eps);
    for (i = 0; i < n; i += VF_N)
        put(y, i, n, vf_fma((at(x, i, n) + minus) * vf_set(r), at(w, i, n), at(b, i, n)));
    *mean = middle;
    return r;
}

static void layernorm_backward(int64_t n, const float *x, const float *w, float mean, float r,
                               const float *dy, float *dx, bool acc, float *dw, float *db)
{
    const vf minus = vf_set(-mean), scaled = vf_set(r);
    vf sum = vf_set(0), along = vf_set(0);
    for (int64_t i = 0; i < n; i += VF_N) {
        const vf g = at(dy, i, n) * at(w, i, n); // 0 behind the end
        sum = sum + g;
        along = vf_fma(g, at(x, i, n) + minus, along);
    }
    const vf shift = vf_set(vf_sum(sum) / (float)n);
    const vf turn = vf_set(-vf_sum(along) * r * r / (float)n);
    for (int64_t i = 0; i < n; i += VF_N) {
        const vf d = at(dy, i, n), away = at(x, i, n) + minus;
        if (dx)
            put_acc(acc, dx, i, n, scaled * vf_fma(away, turn, d * at(w, i, n) - shift));
        if (dw)
            put(dw, i, n, vf_fma(d * away, scaled, at(dw, i, n)));
        if (db)
            put(db, i, n, at(db, i, n) + d);
    }
}

static inline vf sigmoid(vf x)
{
    return vf_set(1) / (vf_set(1) + vf_exp(vf_set(0) - x));
}

static void gelu(int64_t n, const float *x, float *y)
{
    const vf one = vf_set(GELU_1), three = vf_set(GELU_3);
    for (int64_t i = 0; i < n; i += VF_N) {
        const vf v = at(x, i, n);
        put(y, i, n, v * sigmoid(v * vf_fma(v * v, three, one)));
    }
}

static void gelu_backward(int64_t n, const float *x, const float *dy, float *dx, bool acc)
{
    const vf one = vf_set(GELU_1), three = vf_set(GELU_3), slope3 = vf_set(3 * GELU_3);
    for (int64_t i = 0; i < n; i += VF_N) {
        const vf v = at(x, i, n), vv = v * v, s = sigmoid(v * vf_fma(vv, three, one));
        const vf slope = vf_fma(v * (s * (vf_set(1) - s)), vf_fma(vv, slope3, one), s);
        put_acc(acc, dx, i, n, at(dy, i, n) * slope);
    }
}

static inline void swiglu_as(bool bf16, int64_t n, const void *g, const void *u, void *y)
{
    for (int64_t i = 0; i < n; i += 2 * VF_N) {
        const struct two gate = get_two(bf16, g, i), up = get_two(bf16, u, i);
        set_two(bf16, false, y, i, gate.a * sigmoid(gate.a) * up.a,
                gate.b * sigmoid(gate.b) * up.b);
    }
}

static void swiglu(int64_t n, bool bf16, const void *g, const void *u, void *y)
{
    const int64_t k = n / (2 * VF_N) * (2 * VF_N);
    if (bf16)
        swiglu_as(true, k, g, u, y);
    else
        swiglu_as(false, k, g, u, y);
    if (k < n)
        rows_scalar.swiglu(n - k, bf16, behind(bf16, g, k), behind(bf16, u, k), behind(bf16, y, k));
}

static inline void swiglu_backward_as(bool bf16, int64_t n, const void *g, const void *u,
                                      const void *dy, void *dg, bool acc_g, void *du, bool acc_u)
{
    for (int64_t i = 0; i < n; i += 2 * VF_N) {
        const struct two gate = get_two(bf16, g, i), up = get_two(bf16, u, i);
        const struct two d = get_two(bf16, dy, i), s = {sigmoid(gate.a), sigmoid(gate.b)};
        const struct two silu = {gate.a * s.a, gate.b * s.b};
        if (dg)
            set_two(bf16, acc_g, dg, i, d.a * up.a * vf_fma(silu.a, vf_set(1) - s.a, s.a),
                    d.b * up.b * vf_fma(silu.b, vf_set(1) - s.b, s.b));
        if (du)
            set_two(bf16, acc_u, du, i, d.a * silu.a, d.b * silu.b);
    }
}

static void swiglu_backward(int64_t n, bool bf16, const void *g, const void *u, const void *dy,
                            void *dg, bool acc_g, void *du, bool acc_u)
{
    const int64_t k = n / (2 * VF_N) * (2 * VF_N);
    if (bf16)
        swiglu_backward_as(true, k, g, u, dy, dg, acc_g, du, acc_u);
    else
        swiglu_backward_as(false, k, g, u, dy, dg, acc_g, du, acc_u);
    if (k < n)
        rows_scalar.swiglu_backward(n - k, bf16, behind(bf16, g, k), behind(bf16, u, k),
                                    behind(bf16, dy, k), behind(bf16, dg, k), acc_g,
                                    behind(bf16, du, k), acc_u);
}

static void rope_adjacent(int64_t half, const float *c, const float *s, float sign, float *x)
{
    // lanes: (-, +) for (x cos - y sin, y cos + x sin)
    float signs[VF_N];
    for (int i = 0; i < VF_N; i++)
        signs[i] = i & 1 ? sign : -sign;
    const vf alternate = vf_load(signs);
    int64_t i = 0;
    for (; i + VF_N / 2 <= half; i += VF_N / 2) {
        const vf v = vf_load(x + 2 * i);
        const vf turned = vf_swap(v) * (alternate * vf_load_twice(s + i));
        vf_store(x + 2 * i, vf_fma(v, vf_load_twice(c + i), turned));
    }
    if (i < half)
        rows_scalar.rope_adjacent(half - i, c + i, s + i, sign, x + 2 * i);
}

static void rope_half(int64_t half, const float *c, const float *s, float sign, float *x)
{
    for (int64_t i = 0; i < half; i += VF_N) {
        const vf a = at(x, i, half), b = at(x + half, i, half);
        const vf ci = at(c, i, half), si = vf_set(sign) * at(s, i, half);
        put(x, i, half, vf_fma(a, ci, vf_set(0) - b * si));
        put(x + half, i, half, vf_fma(b, ci, a * si));
    }
}

static void adamw(int64_t n, const struct adamw_args *a, const float *g, float *m, float *v,
                  float *p)
{
    const vf b1 = vf_set(a->beta1), b2 = vf_set(a->beta2);
    const vf r1 = vf_set(1 - a->beta1), r2 = vf_set(1 - a->beta2);
    const vf c1 = vf_set(a->lr * a->inv_c1), c2 = vf_set(a->inv_c2), eps = vf_set(a->eps);
    const vf keep = vf_set(1 - a->decay), gs = vf_set(a->grad_scale);
    for (int64_t i = 0; i < n; i += VF_N) {
        const vf grad = at(g, i, n) * gs;
        const vf mi = vf_fma(b1, at(m, i, n), r1 * grad);
        const vf vi = vf_fma(b2, at(v, i, n), r2 * (grad * grad));
        put(m, i, n, mi);
        put(v, i, n, vi);
        const vf step = c1 * mi / (vf_sqrt(vi * c2) + eps);
        put(p, i, n, vf_fma(keep, at(p, i, n), vf_set(0) - step));
    }
}

static void lion(int64_t n, const struct lion_args *a, const float *g, float *m, float *p)
{
    const vf b1 = vf_set(a->beta1), b2 = vf_set(a->beta2), gs = vf_set(a->grad_scale);
    const vf r1 = vf_set(1 - a->beta1), r2 = vf_set(1 - a->beta2), keep = vf_set(1 - a->decay);
    const vf lr = vf_set(a->lr), huge = vf_set(0x1p100f); // twice: any but 0 is then beyond 1
    for (int64_t i = 0; i < n; i += VF_N) {
        const vf grad = at(g, i, n) * gs, old = at(m, i, n);
        const vf c = vf_fma(b1, old, r1 * grad) * huge * huge;
        const vf sign = vf_max(vf_min(c, vf_set(1)), vf_set(-1));
        put(m, i, n, vf_fma(b2, old, r2 * grad));
        put(p, i, n, vf_fma(keep, at(p, i, n), vf_set(0) - lr * sign));
    }
}

static void widen(int64_t n, const uint16_t *x, float *y)
{
    int64_t i = 0;
    for (; i + VF_N <= n; i += VF_N)
        vf_store(y + i, vf_widen(x + i));
    if (i < n)
        rows_scalar.widen(n - i, x + i, y + i);
}

static void narrow(int64_t n, const float *x, uint16_t *y)
{
    int64_t i = 0;
    for (; i + VF_N <= n; i += VF_N)
        vf_narrow(y + i, vf_load(x + i));
    if (i < n)
        rows_scalar.narrow(n - i, x + i, y + i);
}

static void widen_half(int64_t n, const uint16_t *x, float *y)
{
    int64_t i = 0;
    for (; i + VF_N <= n; i += VF_N)
        vf_store(y + i, vf_load_f16(x + i));
    if (i < n)
        rows_scalar.widen_half(n - i, x + i, y + i);
}

static void narrow_half(int64_t n, const float *x, uint16_t *y)
{
    int64_t i = 0;
    for (; i + VF_N <= n; i += VF_N)
        vf_store_f16(y + i, vf_load(x + i));
    if (i < n)
        rows_scalar.narrow_half(n - i, x + i, y + i);
}

static double sum_squares(int64_t n, const float *x)
{
    enum { RUN = 512 }; // squares are added in f32 over a run, runs in f64
    double total = 0;
    for (int64_t i = 0; i < n; i += RUN) {
        const int64_t k = n - i < RUN ? n - i : RUN;
        const float part = dot(k, x + i, x + i);
        total += part < INFINITY ? (double)part : rows_scalar.sum_squares(k, x + i);
    }
    return total;
}

static void dropout(int64_t n, uint64_t key, uint64_t row, uint32_t below, float f, const float *x,
                    bool acc, float *y)
{
    uint32_t r[DRAWS];
    for (int64_t i = 0; i < n; i += DRAWS) {
        const int64_t k = n - i < DRAWS ? n - i : DRAWS;
        draws(key, row, (uint64_t)i, r);
        for (int64_t j = 0; j < k; j++) {
            const float v = r[j] < below ? 0 : f * x[i + j];
            y[i + j] = acc ? y[i + j] + v : v;
        }
    }
}

const struct rows ROWS_TABLE = {
    .name = ROWS_NAME,
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
