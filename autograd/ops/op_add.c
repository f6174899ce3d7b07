#include <string.h>

#include "autograd/kernels/rows.h"
#include "autograd/ops/ops.h"

static void forward(struct ctx *ctx, struct node *node)
{
    const struct tensor *a = node->in[0], *b = node->in[1];
    const int64_t N = tensor_rows(a), C = tensor_cols(a);
    float *y = node->out[0]->data;
    if (ctx->measuring)
        return;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < N; i++)
        rows->add(C, (const float *)a->data + i * C, (const float *)b->data + i * C, y + i * C);
}

/* Adds dy to the gradient of in; where that is new, in takes over dy's buffer or gets a copy. */
static void give(struct ctx *ctx, struct node *node, int i, bool may_take, const float *dy)
{
    struct tensor *in = node->in[i];
    bool fresh, taken = false;
    float *dx =
        may_take ? ctx_grad_take(ctx, node->out[0], in, &fresh, &taken) : ctx_grad(ctx, in, &fresh);
    if (ctx->measuring || !dx || taken)
        return;
    const int64_t N = tensor_rows(in), C = tensor_cols(in);
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < N; n++) {
        if (fresh)
            memcpy(dx + n * C, dy + n * C, (size_t)C * sizeof *dx);
        else
            rows->add(C, dx + n * C, dy + n * C, dx + n * C);
    }
}

static void backward(struct ctx *ctx, struct node *node)
{
    const float *dy = node->out[0]->grad;
    give(ctx, node, 1, false, dy); // first the copy, then the buffer itself may go on
    give(ctx, node, 0, true, dy);
}

static void cost(const struct ctx *ctx, const struct node *node, bool backward, struct cost *c)
{
    (void)ctx;
    for (int i = 0; i < 2 && !backward; i++)
        cost_rows(c, node->in[i], 1);
    cost_rows(c, node->out[0], backward ? 2 : 1); // backward copies; the other input takes over
}

static const struct op op = {"add", forward, backward, cost};

struct tensor *op_add(struct ctx *ctx, struct tensor *a, struct tensor *b)
{
    if (!a || !b || ctx->failed)
        return NULL;
    if (!tensor_same_shape(a, b))
        return ctx_fail(ctx, "add: the shapes differ");
    struct node node = {.op = &op, .in = {a, b}, .out = {ctx_like(ctx, a)}};
    return node.out[0] ? ctx_run(ctx, &node) : NULL;
}
