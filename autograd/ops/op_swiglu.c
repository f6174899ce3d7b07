#include "autograd/kernels/rows.h"
#include "autograd/ops/act.h"
#include "autograd/ops/ops.h"

static void forward(struct ctx *ctx, struct node *node)
{
    const struct tensor *g = node->in[0], *u = node->in[1], *y = node->out[0];
    const int64_t N = tensor_rows(g), F = tensor_cols(g);
    const size_t mark = ctx_mark(ctx);
    const struct act_buf buf = act_buf(ctx, y->dt != &dtype_f32, 2, F);
    if (!ctx->measuring && !ctx->failed) {
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < N; i++) {
            const float *up = act_get(u->dt, u->data, i, F, act_row(&buf, 1));
            float *yi = act_at(y->dt, y->data, i, F, act_row(&buf, 1));
            rows->swiglu(F, act_get(g->dt, g->data, i, F, act_row(&buf, 0)), up, yi);
            act_put(y->dt, y->data, i, F, yi);
        }
    }
    ctx_release(ctx, mark);
}

static void backward(struct ctx *ctx, struct node *node)
{
    struct tensor *g = node->in[0], *u = node->in[1], *y = node->out[0];
    const int64_t N = tensor_rows(g), F = tensor_cols(g);
    bool fresh_g, fresh_u, taken;
    void *du = ctx_grad_take(ctx, y, u, &fresh_u, &taken);
    void *dg = ctx_grad(ctx, g, &fresh_g);
    const size_t mark = ctx_mark(ctx);
    const struct act_buf buf = act_buf(ctx, y->dt != &dtype_f32, 5, F);
    if (!ctx->measuring && !ctx->failed) {
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < N; i++) {
            const float *gi = act_get(g->dt, g->data, i, F, act_row(&buf, 0));
            const float *ui = act_get(u->dt, u->data, i, F, act_row(&buf, 1));
            const float *dy = act_get(y->dt, y->grad, i, F, act_row(&buf, 2));
            float *dgi = act_add(g->dt, dg, i, F, fresh_g, act_row(&buf, 3));
            float *dui = act_add(u->dt, du, i, F, fresh_u, act_row(&buf, 4));
            rows->swiglu_backward(F, gi, ui, dy, dgi, !fresh_g, dui, !fresh_u);
            act_put(g->dt, dg, i, F, dgi);
            act_put(u->dt, du, i, F, dui);
        }
    }
    ctx_release(ctx, mark);
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
