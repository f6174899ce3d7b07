#include "autograd/ops/act.h"
#include "autograd/ops/ops.h"
#include "autograd/profile.h"

static double square_distance(int64_t n, const float *a, const float *b)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)(a[i] - b[i]) * (a[i] - b[i]);
    return sum;
}

/* Row `row` of dx += f * (a - b); the difference comes first, it is exact where a and b are
   close. */
static void add_difference(const struct dtype *dt, int64_t row, int64_t n, float f, const float *a,
                           const float *b, bool fresh, void *dx, float *buf)
{
    float *y = act_add(dt, dx, row, n, fresh, buf);
    for (int64_t i = 0; i < n; i++)
        y[i] = (fresh ? 0 : y[i]) + f * (a[i] - b[i]);
    act_put(dt, dx, row, n, y);
}

int op_mse(struct ctx *ctx, struct tensor *a, struct tensor *b, float weight, struct loss *loss)
{
    if (!a || !b || !ctx_root(ctx, "mse"))
        return -1;
    if (!tensor_same_shape(a, b)) {
        ctx_fail(ctx, "mse: the shapes differ");
        return -1;
    }
    bool fresh_a, fresh_b;
    void *da = ctx->recording ? ctx_grad(ctx, a, &fresh_a) : NULL;
    void *db = ctx->recording ? ctx_grad(ctx, b, &fresh_b) : NULL;
    const int64_t N = tensor_rows(a), C = tensor_cols(a);
    const size_t mark = ctx_mark(ctx);
    const struct act_buf buf = act_buf(ctx, a->dt != &dtype_f32 || b->dt != &dtype_f32, 3, C);
    if (ctx->failed)
        return -1;
    struct cost cost = {0};
    cost_rows(&cost, a, da ? 2 : 1);
    cost_rows(&cost, b, db ? 2 : 1);
    const struct profile_span span = profile_begin(ctx->profile);
    double sum = 0;
    for (int64_t i = 0; i < N && !ctx->measuring; i++) {
        const float *x = act_get(a->dt, a->data, i, C, act_row(&buf, 0));
        const float *y = act_get(b->dt, b->data, i, C, act_row(&buf, 1));
        sum += square_distance(C, x, y);
        if (da)
            add_difference(a->dt, i, C, 2 * weight, x, y, fresh_a, da, act_row(&buf, 2));
        if (db)
            add_difference(b->dt, i, C, 2 * weight, y, x, fresh_b, db, act_row(&buf, 2));
    }
    profile_add(ctx->profile, &span, "mse", false, &cost);
    ctx_release(ctx, mark);
    loss->count += tensor_numel(a);
    loss->sum += (double)weight * sum;
    return 0;
}
