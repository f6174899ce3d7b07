#include "autograd/kernels/rows.h"
#include "autograd/ops/act.h"
#include "autograd/ops/ops.h"

struct dropout {
    float p;
    uint64_t key;
    const uint64_t *row_id;
};

/* y (acc: +)= x masked, rows of t's shape and dtype: forward and backward alike. */
static void mask(struct ctx *ctx, const struct tensor *t, const struct dropout *d, const void *x,
                 bool acc, void *y)
{
    const int64_t N = tensor_rows(t), C = tensor_cols(t);
    const size_t mark = ctx_mark(ctx);
    const struct act_buf buf = act_buf(ctx, t->dt != &dtype_f32, 2, C);
    const uint32_t below = (uint32_t)((double)d->p * 0x1p32);
    const float keep = 1 / (1 - d->p);
    if (!ctx->measuring && !ctx->failed && y) {
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < N; i++) {
            const float *xi = act_get(t->dt, x, i, C, act_row(&buf, 0));
            float *yi = act_add(t->dt, y, i, C, !acc, act_row(&buf, 1));
            rows->dropout(C, d->key, d->row_id[i], below, keep, xi, acc, yi);
            act_put(t->dt, y, i, C, yi);
        }
    }
    ctx_release(ctx, mark);
}

static void forward(struct ctx *ctx, struct node *node)
{
    const struct tensor *x = node->in[0];
    mask(ctx, x, node->saved, x->data, false, node->out[0]->data);
}

static void backward(struct ctx *ctx, struct node *node)
{
    struct tensor *x = node->in[0], *y = node->out[0];
    bool fresh, taken;
    void *dx = ctx_grad_take(ctx, y, x, &fresh, &taken);
    mask(ctx, x, node->saved, y->grad, !fresh, dx);
}

static void cost(const struct ctx *ctx, const struct node *node, bool backward, struct cost *c)
{
    (void)ctx;
    (void)backward;
    cost_rows(c, node->out[0], 2);
    c->draws += (double)tensor_numel(node->out[0]);
}

static const struct op op = {"dropout", forward, backward, cost};

struct tensor *op_dropout(struct ctx *ctx, struct tensor *x, float p, uint64_t key,
                          const uint64_t *row_id)
{
    if (!x || ctx->failed || p == 0 || !ctx->training)
        return ctx->failed ? NULL : x;
    if (!(p > 0 && p < 1))
        return ctx_fail(ctx, "dropout: probability %g is not in [0, 1)", (double)p);
    if (!row_id)
        return ctx_fail(ctx, "dropout: the batch has no row ids");
    struct dropout *d = ctx_push(ctx, sizeof *d);
    struct tensor *y = ctx_like(ctx, x);
    if (!y)
        return NULL;
    *d = (struct dropout){p, key, row_id};
    struct node node = {.op = &op, .in = {x}, .out = {y}, .saved = d};
    return ctx_run(ctx, &node);
}
