#include "autograd/kernels/rows.h"
#include "autograd/ops/act.h"
#include "autograd/ops/ops.h"

static void forward(struct ctx *ctx, struct node *node)
{
    const struct tensor *a = node->in[0], *b = node->in[1], *y = node->out[0];
    const int64_t N = tensor_rows(a), C = tensor_cols(a);
    const size_t mark = ctx_mark(ctx);
    const struct act_buf buf = act_buf(ctx, a->dt != &dtype_f32 || b->dt != &dtype_f32, 3, C);
    if (!ctx->measuring && !ctx->failed) {
#pragma omp parallel for schedule(static) if (N > 1)
        for (int64_t i = 0; i < N; i++) {
            const float *ai = act_get(a->dt, a->data, i, C, act_row(&buf, 0));
            const float *bi = act_get(b->dt, b->data, i, C, act_row(&buf, 1));
            float *yi = act_at(y->dt, y->data, i, C, act_row(&buf, 2));
            rows->add(C, ai, bi, yi);
            act_put(y->dt, y->data, i, C, yi);
        }
    }
    ctx_release(ctx, mark);
}

static void backward(struct ctx *ctx, struct node *node)
{
    act_pass_on(ctx, node->out[0], node->in[1], false); // first the copy, then the buffer goes on
    act_pass_on(ctx, node->out[0], node->in[0], true);
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
    struct tensor *y = ctx_like(ctx, a->dt == &dtype_f32 ? a : b);
    struct node node = {.op = &op, .in = {a, b}, .out = {y}};
    return node.out[0] ? ctx_run(ctx, &node) : NULL;
}
