#include "autograd/kernels/rows.h"
#include "autograd/ops/act.h"
#include "autograd/ops/ops.h"

struct rotation {
    const struct rope *rope;
    const int32_t *pos;
};

/* Rotates every head of row i, x [width], by its angle (sign 1) or back (-1). */
static void rotate(const struct rotation *r, float sign, int64_t i, int64_t width, float *x)
{
    const int64_t D = r->rope->head_dim, half = D / 2, angle = r->pos[i] * half;
    void (*const turn)(int64_t, const float *, const float *, float, float *) =
        r->rope->style == ROPE_HALF ? rows->rope_half : rows->rope_adjacent;
    for (int64_t h = 0; h < width; h += D)
        turn(half, r->rope->cos + angle, r->rope->sin + angle, sign, x + h);
}

static void forward(struct ctx *ctx, struct node *node)
{
    struct tensor *y = node->out[0];
    const int64_t N = tensor_rows(y), C = tensor_cols(y);
    const size_t mark = ctx_mark(ctx);
    const struct act_buf buf = act_buf(ctx, y->dt != &dtype_f32, 1, C);
    if (!ctx->measuring && !ctx->failed) {
#pragma omp parallel for schedule(static) if (N > 1)
        for (int64_t i = 0; i < N; i++) {
            float *yi = act_add(y->dt, y->data, i, C, false, act_row(&buf, 0));
            rotate(node->saved, 1, i, C, yi);
            act_put(y->dt, y->data, i, C, yi);
        }
    }
    ctx_release(ctx, mark);
}

static void backward(struct ctx *ctx, struct node *node)
{
    struct tensor *x = node->in[0], *y = node->out[0];
    const int64_t N = tensor_rows(y), C = tensor_cols(y);
    bool fresh, taken;
    void *dx = ctx_grad_take(ctx, y, x, &fresh, &taken);
    const size_t mark = ctx_mark(ctx);
    const struct act_buf buf = act_buf(ctx, y->dt != &dtype_f32, 2, C);
    if (!ctx->measuring && !ctx->failed && dx) {
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < N; i++) {
            float *dy = act_add(y->dt, y->grad, i, C, false, act_row(&buf, 0)); // dead from here
            rotate(node->saved, -1, i, C, dy);
            float *to = taken ? dy : act_add(x->dt, dx, i, C, false, act_row(&buf, 1));
            if (!taken)
                rows->add(C, to, dy, to);
            act_put(x->dt, dx, i, C, to);
        }
    }
    ctx_release(ctx, mark);
}

static void cost(const struct ctx *ctx, const struct node *node, bool backward, struct cost *c)
{
    (void)ctx;
    (void)backward;
    cost_rows(c, node->out[0], 2);
}

static const struct op op = {"rope", forward, backward, cost};

struct tensor *op_rope(struct ctx *ctx, struct tensor *x, const struct rope *rope,
                       const int32_t *pos)
{
    if (!x || !pos || ctx->failed)
        return NULL;
    if (tensor_cols(x) % rope->head_dim)
        return ctx_fail(ctx, "rope: rows of %lld are no whole heads of %d",
                        (long long)tensor_cols(x), rope->head_dim);
    for (int64_t i = 0, N = tensor_rows(x); i < N && !ctx->measuring; i++)
        if (pos[i] < 0 || pos[i] >= rope->covered)
            return ctx_fail(ctx, "rope: position %d is not below the context of %lld", pos[i],
                            (long long)(pos[i] < rope->n_pos ? rope->covered : rope->n_pos));
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
