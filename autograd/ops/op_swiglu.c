#include "autograd/kernels/rows.h"
#include "autograd/ops/ops.h"

static void forward(struct ctx *ctx, struct node *node)
{
    const struct tensor *g = node->in[0], *u = node->in[1];
    const int64_t N = tensor_rows(g), F = tensor_cols(g);
    float *y = node->out[0]->data;
    if (ctx->measuring)
        return;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < N; i++)
        rows->swiglu(F, (const float *)g->data + i * F, (const float *)u->data + i * F, y + i * F);
}

static void backward(struct ctx *ctx, struct node *node)
{
    struct tensor *g = node->in[0], *u = node->in[1];
    const float *dy = node->out[0]->grad;
    const int64_t N = tensor_rows(g), F = tensor_cols(g);
    bool fresh_g, fresh_u, taken;
    float *du = ctx_grad_take(ctx, node->out[0], u, &fresh_u, &taken);
    float *dg = ctx_grad(ctx, g, &fresh_g);
    if (ctx->measuring || ctx->failed)
        return;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < N; i++)
        rows->swiglu_backward(F, (const float *)g->data + i * F, (const float *)u->data + i * F,
                              dy + i * F, dg ? dg + i * F : NULL, !fresh_g, du ? du + i * F : NULL,
                              !fresh_u);
}

static const struct op op = {"swiglu", forward, backward};

struct tensor *op_swiglu(struct ctx *ctx, struct tensor *gate, struct tensor *up)
{
    if (!gate || !up || ctx->failed)
        return NULL;
    if (!tensor_same_shape(gate, up) || gate == up)
        return ctx_fail(ctx, "swiglu: gate and up must be two tensors of one shape");
    struct node node = {.op = &op, .in = {gate, up}, .out = {ctx_like(ctx, gate)}};
    return node.out[0] ? ctx_run(ctx, &node) : NULL;
}
