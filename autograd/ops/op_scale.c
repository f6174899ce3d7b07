#include "autograd/kernels/rows.h"
#include "autograd/ops/ops.h"

static void forward(struct ctx *ctx, struct node *node)
{
    const struct tensor *x = node->in[0];
    const float *f = node->saved;
    if (!ctx->measuring)
        rows->scale(tensor_numel(x), *f, x->data, node->out[0]->data);
}

static void backward(struct ctx *ctx, struct node *node)
{
    struct tensor *x = node->in[0];
    const float *f = node->saved, *dy = node->out[0]->grad;
    bool fresh, taken;
    float *dx = ctx_grad_take(ctx, node->out[0], x, &fresh, &taken);
    if (ctx->measuring || !dx)
        return;
    if (fresh)
        rows->scale(tensor_numel(x), *f, dy, dx);
    else
        rows->axpy(tensor_numel(x), *f, dy, dx);
}

static void cost(const struct ctx *ctx, const struct node *node, bool backward, struct cost *c)
{
    (void)ctx;
    (void)backward;
    cost_rows(c, node->out[0], 2);
}

static const struct op op = {"scale", forward, backward, cost};

struct tensor *op_scale(struct ctx *ctx, struct tensor *x, float factor)
{
    if (!x || ctx->failed)
        return NULL;
    float *f = ctx_push(ctx, sizeof *f);
    struct tensor *y = ctx_like(ctx, x);
    if (!y)
        return NULL;
    *f = factor;
    struct node node = {.op = &op, .in = {x}, .out = {y}, .saved = f};
    return ctx_run(ctx, &node);
}
