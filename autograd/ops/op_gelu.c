#include "autograd/kernels/rows.h"
#include "autograd/ops/act.h"
#include "autograd/ops/ops.h"

static void forward(struct ctx *ctx, struct node *node)
{
    const struct tensor *x = node->in[0], *y = node->out[0];
    const int64_t N = tensor_rows(x), F = tensor_cols(x);
    const size_t mark = ctx_mark(ctx);
    const struct act_buf buf = act_buf(ctx, y->dt != &dtype_f32, 1, F);
    if (!ctx->measuring && !ctx->failed) {
#pragma omp parallel for schedule(static) if (N > 1)
        for (int64_t i = 0; i < N; i++) {
            float *yi = act_at(y->dt, y->data, i, F, act_row(&buf, 0));
            rows->gelu(F, act_get(x->dt, x->data, i, F, act_row(&buf, 0)), yi);
            act_put(y->dt, y->data, i, F, yi);
        }
    }
    ctx_release(ctx, mark);
}

static void backward(struct ctx *ctx, struct node *node)
{
    struct tensor *x = node->in[0], *y = node->out[0];
    const int64_t N = tensor_rows(x), F = tensor_cols(x);
    bool fresh, taken;
    void *dx = ctx_grad_take(ctx, y, x, &fresh, &taken);
    const size_t mark = ctx_mark(ctx);
    const struct act_buf buf = act_buf(ctx, y->dt != &dtype_f32, 3, F);
    if (!ctx->measuring && !ctx->failed && dx) {
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < N; i++) {
            const float *xi = act_get(x->dt, x->data, i, F, act_row(&buf, 0));
            const float *dy = act_get(y->dt, y->grad, i, F, act_row(&buf, 1));
            float *dxi = act_add(x->dt, dx, i, F, fresh, act_row(&buf, 2));
            rows->gelu_backward(F, xi, dy, dxi, !fresh);
            act_put(x->dt, dx, i, F, dxi);
        }
    }
    ctx_release(ctx, mark);
}

static void cost(const struct ctx *ctx, const struct node *node, bool backward, struct cost *c)
{
    (void)ctx;
    cost_rows(c, node->out[0], backward ? 3 : 2);
    c->exps += (double)tensor_numel(node->out[0]);
}

static const struct op op = {"gelu", forward, backward, cost};

struct tensor *op_gelu(struct ctx *ctx, struct tensor *x)
{
    if (!x || ctx->failed)
        return NULL;
    struct node node = {.op = &op, .in = {x}, .out = {ctx_like(ctx, x)}};
    return node.out[0] ? ctx_run(ctx, &node) : NULL;
}
