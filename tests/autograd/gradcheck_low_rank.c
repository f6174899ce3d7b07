#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "autograd/kernels/rows.h"
#include "tests/gradcheck.h"

/* in: x, a, b, y; the op destroys y, so it gets a copy. */
static bool build(struct ctx *ctx, const void *arg, struct tensor *const in[], struct tensor *out[],
                  struct loss *loss)
{
    (void)loss;
    out[0] = op_low_rank(ctx, in[0], in[1], in[2], *(const float *)arg, op_scale(ctx, in[3], 1));
    return out[0] != NULL;
}

/* x and y also go elsewhere before, and y has had a gradient by then. */
static bool shared(struct ctx *ctx, const void *arg, struct tensor *const in[],
                   struct tensor *out[], struct loss *loss)
{
    struct tensor *x = op_scale(ctx, in[0], 0.5f), *y = op_scale(ctx, in[3], 1);
    if (!x || !in[1] || !in[2] || op_mse(ctx, y, in[4], 0.3f, loss))
        return false;
    y = op_low_rank(ctx, x, in[1], in[2], *(const float *)arg, y);
    return (out[0] = op_add(ctx, y, x)) != NULL;
}

/* in: x, w, a, b, bias: what a linear does with a weight that has more to it. */
static bool linear(struct ctx *ctx, const void *arg, struct tensor *const in[],
                   struct tensor *out[], struct loss *loss)
{
    static struct low_rank plus;
    plus = (struct low_rank){in[2], in[3], *(const float *)arg};
    (void)loss;
    if (!in[1] || !in[2] || !in[3])
        return false;
    struct tensor w = *in[1], *const ws[] = {ctx_push(ctx, sizeof w)};
    if (!ws[0])
        return false;
    *ws[0] = w;
    ws[0]->plus = &plus;
    return op_linear(ctx, in[0], 1, ws, in + 4, NULL, out) == 0;
}

/* Two parts of such a weight, the second of which comes first. */
static bool parts(struct ctx *ctx, const void *arg, struct tensor *const in[], struct tensor *out[],
                  struct loss *loss)
{
    static struct low_rank plus;
    plus = (struct low_rank){in[2], in[3], *(const float *)arg};
    (void)loss;
    if (!in[1] || !in[2] || !in[3])
        return false;
    struct tensor *whole = ctx_push(ctx, sizeof *whole), *w[2];
    if (!whole)
        return false;
    *whole = *in[1];
    whole->plus = &plus;
    w[0] = ctx_part(ctx, whole, 3, whole->dim[0] - 3);
    w[1] = ctx_part(ctx, whole, 0, 3);
    return op_linear(ctx, in[0], 2, w, NULL, NULL, out) == 0;
}

#define P .param = true, .std = 0.4f

static void gradients(void)
{
    static const float scale = 0.75f;
    const struct gradcheck cases[] = {
        {"low rank", {{5, 6}, {2, 6, P}, {7, 2, P}, {5, 7}}, build, &scale},
        {"low rank, memory of its own",
         {{5, 6}, {2, 6, .std = 0.4f}, {7, 2, .std = 0.4f}, {5, 7}},
         build,
         &scale},
        {"low rank, frozen input",
         {{5, 6, .frozen = true}, {1, 6, P}, {7, 1, P}, {5, 7}},
         build,
         &scale},
        {"low rank, shared", {{5, 6}, {2, 6, P}, {6, 2, P}, {5, 6}, {5, 6}}, shared, &scale},
        {"low rank, many", // linear in each of its inputs: any step will do
         {{70, 66}, {3, 66, P}, {65, 3, P}, {70, 65}},
         build,
         &scale,
         .step = 0.5f},
        {"low rank, deep", {{300, 5}, {3, 5, P}, {4, 3, P}, {300, 4}}, build, &scale, .step = 0.5f},
        {"linear with more",
         {{5, 6},
          {7, 6, .std = 0.4f, .frozen = true},
          {2, 6, P},
          {7, 2, P},
          {0, 7, P, .optional = true}},
         linear,
         &scale},
        {"linear of f16 with more",
         {{5, 6}, {70, 6, .frozen = true, .dt = &dtype_f16}, {2, 6, P}, {70, 2, P}},
         linear,
         &scale},
        {"linear, parts with more",
         {{5, 6}, {8, 6, .std = 0.4f, .frozen = true}, {2, 6, P}, {8, 2, P}},
         parts,
         &scale},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        gradcheck_run(&cases[i]);
    gradcheck_refuses(
        &(struct gradcheck){"width", {{5, 6}, {2, 5, P}, {7, 2, P}, {5, 7}}, build, &scale},
        "from width 6 to 7");
    gradcheck_refuses(
        &(struct gradcheck){"rank", {{5, 6}, {2, 6, P}, {7, 3, P}, {5, 7}}, build, &scale},
        "[2,6] and [7,3]");
    gradcheck_refuses(
        &(struct gradcheck){"outputs", {{5, 6}, {2, 6, P}, {8, 2, P}, {5, 7}}, build, &scale},
        "from width 6 to 7");
}

/* ---- bf16: against f32, from values that bf16 holds ---- */

enum { N = 300, I = 70, O = 130, R = 4, ARENA = 16 << 20 };

static struct tensor *values(struct ctx *ctx, const struct dtype *dt, uint64_t key, int64_t n,
                             int64_t cols)
{
    struct tensor *t = ctx_matrix(ctx, dt, n, cols);
    float *x = gradcheck_normal(key, 1, n * cols);
    uint16_t *h = malloc((size_t)(n * cols) * sizeof *h);
    rows->narrow(n * cols, x, h);
    if (dt == &dtype_bf16)
        rows->narrow(n * cols, x, t->data);
    else
        rows->widen(n * cols, h, t->data);
    free(x);
    free(h);
    t->needs_grad = true;
    return t;
}

/* y, dx, dy, da, db, one behind the other. */
static float *results(const struct dtype *dt, int threads)
{
    static float out[2 * N * O + N * I + R * I + O * R];
    struct ctx ctx;
    float *at = out;
    const int old = omp_get_max_threads();
    omp_set_num_threads(threads);
    assert_int_equal(ctx_init(&ctx, ARENA), 0);
    ctx.recording = true;
    struct tensor *x = values(&ctx, dt, 1, N, I), *y = values(&ctx, dt, 2, N, O);
    struct tensor *a = values(&ctx, &dtype_f32, 3, R, I), *b = values(&ctx, &dtype_f32, 4, O, R);
    struct tensor *z = op_low_rank(&ctx, x, a, b, 0.25f, y);
    assert_non_null(z);
    assert_ptr_equal(z->data, y->data);
    z->grad = values(&ctx, dt, 5, N, O)->data;
    struct tensor *const kept[] = {z, x, y, a, b};
    for (int i = 0; i < 5; i++) {
        const int64_t n = tensor_numel(kept[i]);
        if (i == 1)
            tape_backward(&ctx, NULL);
        const void *from = i ? kept[i]->grad : kept[i]->data;
        if (kept[i]->dt == &dtype_bf16)
            rows->widen(n, from, at);
        else
            for (int64_t j = 0; j < n; j++)
                at[j] = ((const float *)from)[j];
        at += n;
    }
    assert_false(ctx.failed);
    ctx_free(&ctx);
    omp_set_num_threads(old);
    return out;
}

static void bf16_is_near(void)
{
    static const int64_t len[] = {N * O, N * I, N * O, R * I, O * R};
    static double want[2 * N * O + N * I + R * I + O * R];
    static float one[2 * N * O + N * I + R * I + O * R];
    const int64_t all = sizeof want / sizeof *want;
    const float *x = results(&dtype_f32, 2);
    for (int64_t i = 0; i < all; i++)
        want[i] = x[i];
    x = results(&dtype_bf16, 1);
    for (int64_t i = 0; i < all; i++)
        one[i] = x[i];
    x = results(&dtype_bf16, 3);
    for (int64_t i = 0; i < all; i++)
        assert_true(x[i] == one[i]);
    for (int64_t i = 0, at = 0; i < 5; at += len[i++]) {
        const double off = gradcheck_distance(len[i], one + at, want + at);
        // what is of bf16 was rounded once; sums of f32 differ by nothing but the shapes' order
        if (!(off <= (i < 2 ? 0x1p-9 : 1e-6)))
            fail_msg("low rank in bf16: result %d is off by %g", (int)i, off);
    }
}

void gradcheck_low_rank(void **state)
{
    (void)state;
    gradients();
    bf16_is_near();
}
