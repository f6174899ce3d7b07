#include "autograd/kernels/rows.h"
#include "autograd/ops/act.h"
#include "autograd/ops/ops.h"

static void forward(struct ctx *ctx, struct node *node)
{
    const struct tensor *g = node->in[0], *u = node->in[1], *y = node->out[0];
    const int64_t N = tensor_rows(g), F = tensor_cols(g);
    const bool bf16 = y->dt == &dtype_bf16;
    if (ctx->measuring)
        return;
#pragma omp parallel for schedule(static) if (N > 1)
    for (int64_t i = 0; i < N; i++)
        rows->swiglu(F, bf16, act_place(g->dt, g->data, i, F), act_place(u->dt, u->data, i, F),
                     act_place(y->dt, y->data, i, F));
}

static void backward(struct ctx *ctx, struct node *node)
{
    struct tensor *g = node->in[0], *u = node->in[1], *y = node->out[0];
    const int64_t N = tensor_rows(g), F = tensor_cols(g);
    const bool bf16 = y->dt == &dtype_bf16;
    bool fresh_g, fresh_u, taken;
    void *du = ctx_grad_take(ctx, y, u, &fresh_u, &taken);
    void *dg = ctx_grad(ctx, g, &fresh_g);
    if (ctx->measuring || ctx->failed)
        return;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < N; i++)
        rows->swiglu_backward(F, bf16, act_place(g->dt, g->data, i, F),
                              act_place(u->dt, u->data, i, F), act_place(y->dt, y->grad, i, F),
                              act_place(g->dt, dg, i, F), !fresh_g, act_place(u->dt, du, i, F),
                              !fresh_u);
}

static void cost(const struct ctx *ctx, const struct node *node, bool backward, struct cost *c)
{
    (void)ctx;
    cost_rows(c, node->out[0], backward ? 5 : 3);
    c->exps += (double)tensor_numel(node->out[0]);
}

static const struct op op = {"swiglu", forward, backward, cost};

struct tensor *op_swiglu(struct ctx *ctx, struct tensor *gate, struct tensor *up)
{
    if (!gate || !up || ctx->failed)
        return NULL;
    if (!tensor_same_shape(gate, up) || gate->dt != up->dt || gate == up)
        return ctx_fail(ctx, "swiglu: gate and up must be two tensors of one shape and dtype");
    struct node node = {.op = &op, .in = {gate, up}, .out = {ctx_like(ctx, gate)}};
    return node.out[0] ? ctx_run(ctx, &node) : NULL;
}
