#include "autograd/ops/ops.h"

/* dx += f * (a - b); the difference comes first, it is exact where a and b are close. */
static void add_difference(int64_t n, float f, const float *a, const float *b, bool fresh,
                           float *dx)
{
    for (int64_t i = 0; i < n; i++)
        dx[i] = (fresh ? 0 : dx[i]) + f * (a[i] - b[i]);
}

int op_mse(struct ctx *ctx, struct tensor *a, struct tensor *b, float weight, struct loss *loss)
{
    if (!a || !b || ctx->failed)
        return -1;
    if (!tensor_same_shape(a, b)) {
        ctx_fail(ctx, "mse: the shapes differ");
        return -1;
    }
    bool fresh_a, fresh_b;
    float *da = ctx->recording ? ctx_grad(ctx, a, &fresh_a) : NULL;
    float *db = ctx->recording ? ctx_grad(ctx, b, &fresh_b) : NULL;
    if (ctx->failed)
        return -1;
    const int64_t n = tensor_numel(a);
    loss->count += n;
    if (ctx->measuring)
        return 0;
    const float *x = a->data, *y = b->data;
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)(x[i] - y[i]) * (x[i] - y[i]);
    loss->sum += (double)weight * sum;
    if (da)
        add_difference(n, 2 * weight, x, y, fresh_a, da);
    if (db)
        add_difference(n, 2 * weight, y, x, fresh_b, db);
    return 0;
}
