#include "autograd/ops/act.h"

#include <string.h>

void act_pass_on(struct ctx *ctx, struct tensor *y, struct tensor *in, bool may_take)
{
    bool fresh, taken = false;
    void *dx = may_take ? ctx_grad_take(ctx, y, in, &fresh, &taken) : ctx_grad(ctx, in, &fresh);
    const int64_t N = tensor_rows(in), C = tensor_cols(in);
    const size_t mark = ctx_mark(ctx);
    const struct act_buf buf = act_buf(ctx, in->dt != &dtype_f32 || y->dt != &dtype_f32, 2, C);
    if (!ctx->measuring && !ctx->failed && dx && !taken) {
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < N; i++) {
            const float *dy = act_get(y->dt, y->grad, i, C, act_row(&buf, 0));
            float *dxi = act_add(in->dt, dx, i, C, fresh, act_row(&buf, 1));
            if (fresh)
                memcpy(dxi, dy, (size_t)C * sizeof *dxi);
            else
                rows->add(C, dxi, dy, dxi);
            act_put(in->dt, dx, i, C, dxi);
        }
    }
    ctx_release(ctx, mark);
}
