#include <string.h>

#include "autograd/kernels/rows.h"
#include "autograd/ops/ops.h"

/* The gradient of w sums over tokens: in a fixed number of parts, whatever the threads. */
enum { PARTS = 16 };

struct rmsnorm {
    float eps;
    float *r; /* [N] 1/rms */
};

static void forward(struct ctx *ctx, struct node *node)
{
    const struct tensor *x = node->in[0], *w = node->in[1];
    const struct rmsnorm *s = node->saved;
    const int64_t N = tensor_rows(x), C = tensor_cols(x);
    float *y = node->out[0]->data;
    if (ctx->measuring)
        return;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < N; i++)
        s->r[i] = rows->rmsnorm(C, (const float *)x->data + i * C, w->data, s->eps, y + i * C);
}

static void backward(struct ctx *ctx, struct node *node)
{
    struct tensor *x = node->in[0], *w = node->in[1], *y = node->out[0];
    const struct rmsnorm *s = node->saved;
    const int64_t N = tensor_rows(x), C = tensor_cols(x), step = (N + PARTS - 1) / PARTS;
    bool fresh, taken;
    const float *dy = y->grad;
    float *dx = ctx_grad_take(ctx, y, x, &fresh, &taken), *dw = ctx_grad_sum(ctx, w);
    const size_t mark = ctx_mark(ctx);
    float *parts = dw ? ctx_scratch(ctx, PARTS * (size_t)C * sizeof *parts) : NULL;
    if (!ctx->measuring && !ctx->failed) {
        if (parts)
            memset(parts, 0, PARTS * (size_t)C * sizeof *parts);
#pragma omp parallel for schedule(dynamic, 1)
        for (int64_t p = 0; p < PARTS; p++)
            for (int64_t i = p * step; i < (p + 1) * step && i < N; i++)
                rows->rmsnorm_backward(C, (const float *)x->data + i * C, w->data, s->r[i],
                                       dy + i * C, dx ? dx + i * C : NULL, !fresh,
                                       parts ? parts + p * C : NULL);
        for (int64_t p = 0; p < PARTS && parts; p++)
            rows->add(C, dw, parts + p * C, dw);
    }
    ctx_release(ctx, mark);
}

static const struct op op = {"rmsnorm", forward, backward};

struct tensor *op_rmsnorm(struct ctx *ctx, struct tensor *x, struct tensor *w, float eps)
{
    if (!x || !w || ctx->failed)
        return NULL;
    if (tensor_numel(w) != tensor_cols(x))
        return ctx_fail(ctx, "rmsnorm: a gain of %lld on rows of %lld", (long long)tensor_numel(w),
                        (long long)tensor_cols(x));
    struct rmsnorm *s = ctx_push(ctx, sizeof *s);
    float *r = ctx_push(ctx, (size_t)tensor_rows(x) * sizeof *r);
    struct tensor *y = ctx_like(ctx, x);
    if (!y)
        return NULL;
    *s = (struct rmsnorm){eps, r};
    struct node node = {.op = &op, .in = {x, w}, .out = {y}, .saved = s};
    return ctx_run(ctx, &node);
}
