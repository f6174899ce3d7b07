#include "autograd/ops/act.h"
#include "autograd/ops/ops.h"

/* A row of the dtype in `saved`. */
static struct tensor row_of(const struct node *node)
{
    return (struct tensor){.dt = node->saved, .nd = 2, .dim = {1, tensor_cols(node->in[0])}};
}

static void forward(struct ctx *ctx, struct node *node)
{
    const struct tensor *x = node->in[0], *y = node->out[0], row = row_of(node);
    const int64_t N = tensor_rows(x), C = tensor_cols(x);
    const size_t mark = ctx_mark(ctx);
    const struct act_buf buf = act_buf(ctx, x->dt != &dtype_f32, 2, C);
    size_t bytes = tensor_bytes(&row);
    char *own = ctx_thread_scratch(ctx, &bytes);
    if (!ctx->measuring && !ctx->failed) {
#pragma omp parallel for schedule(static) if (N > 1)
        for (int64_t i = 0; i < N; i++) {
            struct tensor r = row;
            r.data = own + (size_t)omp_get_thread_num() * bytes;
            const float *xi = act_get(x->dt, x->data, i, C, act_row(&buf, 0));
            float *yi = act_at(y->dt, y->data, i, C, act_row(&buf, 1));
            r.dt->encode(&r, 0, xi, NULL);
            r.dt->decode(&r, 0, yi);
            act_put(y->dt, y->data, i, C, yi);
        }
    }
    ctx_release(ctx, mark);
}

static void backward(struct ctx *ctx, struct node *node)
{
    act_pass_on(ctx, node->out[0], node->in[0], true);
}

static void cost(const struct ctx *ctx, const struct node *node, bool backward, struct cost *c)
{
    (void)ctx;
    cost_rows(c, node->in[0], backward ? 0 : 2); // backward takes over
}

static const struct op op = {"round", forward, backward, cost};

struct tensor *op_round(struct ctx *ctx, struct tensor *x, const struct dtype *dt)
{
    if (!x || ctx->failed)
        return NULL;
    if (!dt->encode || !dt->decode)
        return ctx_fail(ctx, "round: %s cannot be encoded and decoded", dt->name);
    struct node node = {.op = &op, .in = {x}, .out = {ctx_like(ctx, x)}};
    node.saved = (void *)(uintptr_t)dt; // only read
    return node.out[0] ? ctx_run(ctx, &node) : NULL;
}
