#include <string.h>

#include "autograd/kernels/rows.h"
#include "autograd/ops/act.h"
#include "autograd/ops/ops.h"

/* The gradient of w sums over tokens: in a fixed number of parts, whatever the threads. */
enum { PARTS = 16 };

struct rmsnorm {
    float eps;
    float *r; /* [N] 1/rms */
};

/* The rows that are normed: as long as the gain, be they a part of x's. */
static int64_t cols(const struct node *node)
{
    return tensor_numel(node->in[1]);
}

static int64_t count(const struct node *node)
{
    return tensor_numel(node->in[0]) / cols(node);
}

static void forward(struct ctx *ctx, struct node *node)
{
    const struct tensor *x = node->in[0], *w = node->in[1];
    const struct rmsnorm *s = node->saved;
    const int64_t N = count(node), C = cols(node);
    const struct tensor *y = node->out[0];
    const size_t mark = ctx_mark(ctx);
    const struct act_buf buf = act_buf(ctx, x->dt != &dtype_f32 || y->dt != &dtype_f32, 2, C);
    if (!ctx->measuring && !ctx->failed) {
#pragma omp parallel for schedule(static) if (N > 1)
        for (int64_t i = 0; i < N; i++) {
            float *yi = act_at(y->dt, y->data, i, C, act_row(&buf, 1));
            s->r[i] = rows->rmsnorm(C, act_get(x->dt, x->data, i, C, act_row(&buf, 0)), w->data,
                                    s->eps, yi);
            act_put(y->dt, y->data, i, C, yi);
        }
    }
    ctx_release(ctx, mark);
}

/* Rows [from, to): dx (NULL: none; fresh: not added to) and dw [C] (likewise) += theirs. */
static void backward_rows(const struct node *node, int64_t from, int64_t to, void *dx, bool fresh,
                          float *dw, const struct act_buf *buf)
{
    const struct tensor *x = node->in[0], *w = node->in[1], *y = node->out[0];
    const struct rmsnorm *s = node->saved;
    const int64_t C = cols(node);
    for (int64_t i = from; i < to; i++) {
        const float *xi = act_get(x->dt, x->data, i, C, act_row(buf, 0));
        const float *dy = act_get(y->dt, y->grad, i, C, act_row(buf, 1));
        float *dxi = act_add(x->dt, dx, i, C, fresh, act_row(buf, 2));
        rows->rmsnorm_backward(C, xi, w->data, s->r[i], dy, dxi, !fresh, dw);
        act_put(x->dt, dx, i, C, dxi);
    }
}

static void backward(struct ctx *ctx, struct node *node)
{
    struct tensor *x = node->in[0], *w = node->in[1], *y = node->out[0];
    const int64_t N = count(node), C = cols(node), step = (N + PARTS - 1) / PARTS;
    bool fresh, taken;
    void *dx = ctx_grad_take(ctx, y, x, &fresh, &taken);
    float *dw = ctx_grad_sum(ctx, w);
    const size_t mark = ctx_mark(ctx);
    float *parts = dw ? ctx_scratch(ctx, PARTS * (size_t)C * sizeof *parts) : NULL;
    const struct act_buf buf = act_buf(ctx, x->dt != &dtype_f32 || y->dt != &dtype_f32, 3, C);
    if (!ctx->measuring && !ctx->failed) {
        if (parts)
            memset(parts, 0, PARTS * (size_t)C * sizeof *parts);
#pragma omp parallel for schedule(dynamic, 1)
        for (int64_t p = 0; p < PARTS; p++)
            backward_rows(node, p * step, p * step + step < N ? p * step + step : N, dx, fresh,
                          parts ? parts + p * C : NULL, &buf);
        for (int64_t p = 0; p < PARTS && parts; p++)
            rows->add(C, dw, parts + p * C, dw);
    }
    ctx_release(ctx, mark);
}

static void cost(const struct ctx *ctx, const struct node *node, bool backward, struct cost *c)
{
    (void)ctx;
    cost_rows(c, node->in[0], backward ? 3 : 1);
    cost_rows(c, node->out[0], 1);
}

static const struct op op = {"rmsnorm", forward, backward, cost};

struct tensor *op_rmsnorm(struct ctx *ctx, struct tensor *x, struct tensor *w, float eps)
{
    if (!x || !w || ctx->failed)
        return NULL;
    if (tensor_cols(x) % tensor_numel(w))
        return ctx_fail(ctx, "rmsnorm: a gain of %lld on rows of %lld", (long long)tensor_numel(w),
                        (long long)tensor_cols(x));
    struct rmsnorm *s = ctx_push(ctx, sizeof *s);
    float *r = ctx_push(ctx, (size_t)(tensor_numel(x) / tensor_numel(w)) * sizeof *r);
    struct tensor *y = ctx_tensor(ctx, ctx->act, x->nd, x->dim);
    if (!y)
        return NULL;
    *s = (struct rmsnorm){eps, r};
    struct node node = {.op = &op, .in = {x, w}, .out = {y}, .saved = s};
    return ctx_run(ctx, &node);
}
