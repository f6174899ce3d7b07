#include "autograd/kernels/rows.h"
#include "autograd/ops/ops.h"

struct rotation {
    const struct rope *rope;
    const int32_t *pos;
};

/* Rotates every head of every row of x by its angle (sign 1) or back (-1). */
static void rotate(const struct rotation *r, float sign, int64_t N, int64_t width, float *x)
{
    const int64_t D = r->rope->head_dim, half = D / 2;
    void (*const turn)(int64_t, const float *, const float *, float, float *) =
        r->rope->style == ROPE_HALF ? rows->rope_half : rows->rope_adjacent;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < N; i++) {
        const int64_t angle = r->pos[i] * half;
        for (int64_t h = 0; h < width; h += D)
            turn(half, r->rope->cos + angle, r->rope->sin + angle, sign, x + i * width + h);
    }
}

static void forward(struct ctx *ctx, struct node *node)
{
    struct tensor *y = node->out[0];
    if (!ctx->measuring)
        rotate(node->saved, 1, tensor_rows(y), tensor_cols(y), y->data);
}

static void backward(struct ctx *ctx, struct node *node)
{
    struct tensor *x = node->in[0], *y = node->out[0];
    bool fresh, taken;
    float *dx = ctx_grad_take(ctx, y, x, &fresh, &taken);
    if (ctx->measuring || !dx)
        return;
    rotate(node->saved, -1, tensor_rows(y), tensor_cols(y), y->grad);
    if (!taken)
        rows->add(tensor_numel(x), dx, y->grad, dx);
}

static const struct op op = {"rope", forward, backward};

struct tensor *op_rope(struct ctx *ctx, struct tensor *x, const struct rope *rope,
                       const int32_t *pos)
{
    if (!x || !pos || ctx->failed)
        return NULL;
    if (tensor_cols(x) % rope->head_dim)
        return ctx_fail(ctx, "rope: rows of %lld are no whole heads of %d",
                        (long long)tensor_cols(x), rope->head_dim);
    for (int64_t i = 0, N = tensor_rows(x); i < N && !ctx->measuring; i++)
        if (pos[i] < 0 || pos[i] >= rope->n_pos)
            return ctx_fail(ctx, "rope: position %d is not below the context of %lld", pos[i],
                            (long long)rope->n_pos);
    struct rotation *r = ctx_push(ctx, sizeof *r);
    struct tensor *y = ctx_push(ctx, sizeof *y);
    if (!y)
        return NULL;
    *r = (struct rotation){rope, pos};
    *y = *x;
    y->grad = NULL;
    y->needs_grad = false;
    struct node node = {.op = &op, .in = {x}, .out = {y}, .saved = r};
    return ctx_run(ctx, &node);
}
