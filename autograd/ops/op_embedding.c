#include <string.h>

#include "autograd/kernels/rows.h"
#include "autograd/ops/ops.h"

static void forward(struct ctx *ctx, struct node *node)
{
    const struct tensor *w = node->in[0];
    const int32_t *tok = node->saved;
    const int64_t C = tensor_cols(w), N = tensor_rows(node->out[0]);
    float *y = node->out[0]->data;
    if (ctx->measuring)
        return;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < N; i++)
        w->dt->decode(w, tok[i], y + i * C);
}

static void backward(struct ctx *ctx, struct node *node)
{
    enum { COLS = 64 }; // rows of dw repeat: threads share columns, each adds in token order
    const int32_t *tok = node->saved;
    struct tensor *w = node->in[0];
    const float *dy = node->out[0]->grad;
    const int64_t C = tensor_cols(w), N = tensor_rows(node->out[0]);
    float *sum = ctx_grad_sum(ctx, w);
    if (ctx->measuring || !sum)
        return;
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < C; c += COLS) {
        const int64_t k = C - c < COLS ? C - c : COLS;
        for (int64_t i = 0; i < N; i++) {
            float *dw = sum + tok[i] * C + c;
            rows->add(k, dw, dy + i * C + c, dw);
        }
    }
}

static void cost(const struct ctx *ctx, const struct node *node, bool backward, struct cost *c)
{
    (void)ctx;
    cost_rows(c, node->out[0], backward ? 3 : 2);
}

static const struct op op = {"embedding", forward, backward, cost};

struct tensor *op_embedding(struct ctx *ctx, struct tensor *w, const int32_t *tok, int64_t n)
{
    if (!w || !tok || ctx->failed)
        return NULL;
    if (w->nd != 2 || !w->dt->decode)
        return ctx_fail(ctx, "embedding: the weight must be [V,C], of reals");
    const int64_t V = tensor_rows(w);
    for (int64_t i = 0; i < n && !ctx->measuring; i++)
        if (tok[i] < 0 || tok[i] >= V)
            return ctx_fail(ctx, "embedding: token %d is not below %lld", tok[i], (long long)V);
    struct node node = {.op = &op,
                        .in = {w},
                        .out = {ctx_matrix(ctx, &dtype_f32, n, tensor_cols(w))}};
    node.saved = (void *)(uintptr_t)tok; // only read
    return node.out[0] ? ctx_run(ctx, &node) : NULL;
}
