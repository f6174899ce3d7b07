#include "autograd/kernels/rows.h"
#include "autograd/ops/act.h"
#include "autograd/ops/ops.h"

/* y (acc: +)= f * x, rows of t's shape and dtype: forward and backward alike. */
static void scale(struct ctx *ctx, const struct tensor *t, float f, const void *x, bool acc,
                  void *y)
{
    const int64_t N = tensor_rows(t), C = tensor_cols(t);
    const size_t mark = ctx_mark(ctx);
    const struct act_buf buf = act_buf(ctx, t->dt != &dtype_f32, 2, C);
    if (!ctx->measuring && !ctx->failed && y) {
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < N; i++) {
            const float *xi = act_get(t->dt, x, i, C, act_row(&buf, 0));
            float *yi = act_add(t->dt, y, i, C, !acc, act_row(&buf, 1));
            if (acc)
                rows->axpy(C, f, xi, yi);
            else
                rows->scale(C, f, xi, yi);
            act_put(t->dt, y, i, C, yi);
        }
    }
    ctx_release(ctx, mark);
}

static void forward(struct ctx *ctx, struct node *node)
{
    const struct tensor *x = node->in[0];
    const float *f = node->saved;
    scale(ctx, x, *f, x->data, false, node->out[0]->data);
}

static void backward(struct ctx *ctx, struct node *node)
{
    struct tensor *x = node->in[0], *y = node->out[0];
    const float *f = node->saved;
    bool fresh, taken;
    void *dx = ctx_grad_take(ctx, y, x, &fresh, &taken);
    scale(ctx, x, *f, y->grad, !fresh, dx);
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
