#include <string.h>

#include "autograd/kernels/rows.h"
#include "autograd/ops/act.h"
#include "autograd/ops/ops.h"

/* The gradients of w and b sum over tokens: in a fixed number of parts, whatever the threads. */
enum { PARTS = 16 };

struct layernorm {
    float eps;
    float *mean, *r; /* [N]; r: 1 / deviation */
};

static void forward(struct ctx *ctx, struct node *node)
{
    const struct tensor *x = node->in[0], *w = node->in[1], *b = node->in[2], *y = node->out[0];
    const struct layernorm *s = node->saved;
    const int64_t N = tensor_rows(x), C = tensor_cols(x);
    const size_t mark = ctx_mark(ctx);
    const struct act_buf buf = act_buf(ctx, x->dt != &dtype_f32 || y->dt != &dtype_f32, 2, C);
    if (!ctx->measuring && !ctx->failed) {
#pragma omp parallel for schedule(static) if (N > 1)
        for (int64_t i = 0; i < N; i++) {
            const float *xi = act_get(x->dt, x->data, i, C, act_row(&buf, 0));
            float *yi = act_at(y->dt, y->data, i, C, act_row(&buf, 1));
            s->r[i] = rows->layernorm(C, xi, w->data, b->data, s->eps, &s->mean[i], yi);
            act_put(y->dt, y->data, i, C, yi);
        }
    }
    ctx_release(ctx, mark);
}

/* Rows [from, to): dx (NULL: none; fresh: not added to), dw and db [C] (likewise) += theirs. */
static void backward_rows(const struct node *node, int64_t from, int64_t to, void *dx, bool fresh,
                          float *dw, float *db, const struct act_buf *buf)
{
    const struct tensor *x = node->in[0], *w = node->in[1], *y = node->out[0];
    const struct layernorm *s = node->saved;
    const int64_t C = tensor_cols(x);
    for (int64_t i = from; i < to; i++) {
        const float *xi = act_get(x->dt, x->data, i, C, act_row(buf, 0));
        const float *dy = act_get(y->dt, y->grad, i, C, act_row(buf, 1));
        float *dxi = act_add(x->dt, dx, i, C, fresh, act_row(buf, 2));
        rows->layernorm_backward(C, xi, w->data, s->mean[i], s->r[i], dy, dxi, !fresh, dw, db);
        act_put(x->dt, dx, i, C, dxi);
    }
}

static void backward(struct ctx *ctx, struct node *node)
{
    struct tensor *x = node->in[0], *w = node->in[1], *b = node->in[2], *y = node->out[0];
    const int64_t N = tensor_rows(x), C = tensor_cols(x), step = (N + PARTS - 1) / PARTS;
    bool fresh, taken;
    void *dx = ctx_grad_take(ctx, y, x, &fresh, &taken);
    float *dw = ctx_grad_sum(ctx, w), *db = ctx_grad_sum(ctx, b);
    const size_t mark = ctx_mark(ctx), part = PARTS * (size_t)C * sizeof(float);
    float *w_parts = dw ? ctx_scratch(ctx, part) : NULL;
    float *b_parts = db ? ctx_scratch(ctx, part) : NULL;
    const struct act_buf buf = act_buf(ctx, x->dt != &dtype_f32 || y->dt != &dtype_f32, 3, C);
    if (!ctx->measuring && !ctx->failed) {
        if (w_parts)
            memset(w_parts, 0, part);
        if (b_parts)
            memset(b_parts, 0, part);
#pragma omp parallel for schedule(dynamic, 1)
        for (int64_t p = 0; p < PARTS; p++)
            backward_rows(node, p * step, p * step + step < N ? p * step + step : N, dx, fresh,
                          w_parts ? w_parts + p * C : NULL, b_parts ? b_parts + p * C : NULL, &buf);
        for (int64_t p = 0; p < PARTS && w_parts; p++)
            rows->add(C, dw, w_parts + p * C, dw);
        for (int64_t p = 0; p < PARTS && b_parts; p++)
            rows->add(C, db, b_parts + p * C, db);
    }
    ctx_release(ctx, mark);
}

static void cost(const struct ctx *ctx, const struct node *node, bool backward, struct cost *c)
{
    (void)ctx;
    cost_rows(c, node->in[0], backward ? 3 : 1);
    cost_rows(c, node->out[0], 1);
}

static const struct op op = {"layernorm", forward, backward, cost};

struct tensor *op_layernorm(struct ctx *ctx, struct tensor *x, struct tensor *w, struct tensor *b,
                            float eps)
{
    if (!x || !w || !b || ctx->failed)
        return NULL;
    if (tensor_numel(w) != tensor_cols(x) || tensor_numel(b) != tensor_cols(x))
        return ctx_fail(ctx, "layernorm: a gain of %lld and a bias of %lld on rows of %lld",
                        (long long)tensor_numel(w), (long long)tensor_numel(b),
                        (long long)tensor_cols(x));
    struct layernorm *s = ctx_push(ctx, sizeof *s);
    float *mean = ctx_push(ctx, (size_t)tensor_rows(x) * sizeof *mean);
    float *r = ctx_push(ctx, (size_t)tensor_rows(x) * sizeof *r);
    struct tensor *y = ctx_tensor(ctx, ctx->act, x->nd, x->dim);
    if (!y)
        return NULL;
    *s = (struct layernorm){eps, mean, r};
    struct node node = {.op = &op, .in = {x, w, b}, .out = {y}, .saved = s};
    return ctx_run(ctx, &node);
}
