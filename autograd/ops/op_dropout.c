#include "autograd/base/rng.h"
#include "autograd/ops/ops.h"

struct dropout {
    float p;
    uint64_t key;
    const uint64_t *row_id;
};

/* y [N,C] (acc: +)= x masked and scaled: forward and backward alike. */
static void mask(const struct dropout *d, int64_t N, int64_t C, const float *x, bool acc, float *y)
{
    const uint32_t threshold = (uint32_t)((double)d->p * 0x1p32);
    const float keep = 1 / (1 - d->p);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < N; i++) {
        for (int64_t c = 0; c < C; c += 4) {
            uint32_t r[4];
            rng_block(d->key, d->row_id[i], (uint64_t)c, r);
            for (int64_t j = 0; j < 4 && c + j < C; j++) {
                const int64_t at = i * C + c + j;
                const float v = r[j] < threshold ? 0 : x[at] * keep;
                y[at] = acc ? y[at] + v : v;
            }
        }
    }
}

static void forward(struct ctx *ctx, struct node *node)
{
    const struct tensor *x = node->in[0];
    if (!ctx->measuring)
        mask(node->saved, tensor_rows(x), tensor_cols(x), x->data, false, node->out[0]->data);
}

static void backward(struct ctx *ctx, struct node *node)
{
    struct tensor *x = node->in[0];
    const float *dy = node->out[0]->grad;
    bool fresh, taken;
    float *dx = ctx_grad_take(ctx, node->out[0], x, &fresh, &taken);
    if (!ctx->measuring && dx)
        mask(node->saved, tensor_rows(x), tensor_cols(x), dy, !fresh, dx);
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
