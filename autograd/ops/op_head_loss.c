#include <math.h>
#include <string.h>

#include "autograd/kernels/gemm.h"
#include "autograd/kernels/rows.h"
#include "autograd/ops/ops.h"

/* Tokens whose logits exist at one time: enough rows for the GEMM, few enough for the cache. */
enum { CHUNK = 256 };

struct head {
    const struct head_loss_args *args;
    const float *hidden, *w; /* [N,C], [V,C] */
    float *dhidden;          /* NULL: not wanted */
    float *dw;
    bool fresh; /* dhidden is written, not added to */
    int64_t N, C, V;
    float *logits;     /* [CHUNK,V]; in place: their gradients */
    double *sum, *nll; /* [CHUNK] per token */
};

/* One token's objective and, if wanted, the gradient of weight times it, in place of its logits z:
   f = (1-e) (lse - z_t) + e (lse - mean z) + zl lse^2
   df/dz_v = p_v (1 + 2 zl lse) - (1-e) [v=t] - e/V, p = softmax(z). */
static void token_loss(const struct head *h, float *z, int32_t target, bool want_grad, double *sum,
                       double *nll)
{
    const struct head_loss_args *a = h->args;
    const int64_t V = h->V;
    const float e = a->label_smoothing, zl = a->z_loss, top = rows->max(V, z), zt = z[target];
    double mean = 0;
    for (int64_t v = 0; v < V && e > 0; v++)
        mean += z[v];
    mean /= (double)V;
    const float total = rows->exp_sum(V, z, 1, top, z);
    const double lse = (double)top + log((double)total);
    *nll = lse - zt;
    *sum = (1 - (double)e) * *nll + (double)e * (lse - mean) + (double)zl * lse * lse;
    if (!want_grad)
        return;
    const float p = (1 + 2 * zl * (float)lse) * a->weight / total;
    rows->scale(V, p, z, z);
    const float spread = a->weight * e / (float)V;
    for (int64_t v = 0; v < V && e > 0; v++)
        z[v] -= spread;
    z[target] -= a->weight * (1 - e);
}

static void chunk(const struct head *h, int64_t n0, int64_t n, struct loss *loss)
{
    const bool want_grad = h->dhidden || h->dw;
    const float *x = h->hidden + n0 * h->C;
    gemm(false, true, n, h->V, h->C, x, h->C, h->w, h->C, false, h->logits, h->V);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        const int32_t target = h->args->target[n0 + i];
        float *z = h->logits + i * h->V;
        if (target >= 0)
            token_loss(h, z, target, want_grad, &h->sum[i], &h->nll[i]);
        else
            memset(z, 0, (size_t)h->V * sizeof *z);
    }
    for (int64_t i = 0; i < n; i++) {
        if (h->args->target[n0 + i] < 0)
            continue;
        loss->sum += (double)h->args->weight * h->sum[i];
        loss->nll += h->nll[i];
        loss->count++;
    }
    if (h->dhidden)
        gemm(false, false, n, h->C, h->V, h->logits, h->V, h->w, h->C, !h->fresh,
             h->dhidden + n0 * h->C, h->C);
    if (h->dw)
        gemm(true, false, h->V, h->C, n, h->logits, h->V, x, h->C, true, h->dw, h->C);
}

static bool fits(struct ctx *ctx, const struct tensor *hidden, const struct tensor *w,
                 const struct head_loss_args *args)
{
    const int64_t V = tensor_rows(w);
    if (w->nd != 2 || tensor_cols(w) != tensor_cols(hidden) || w->dt != &dtype_f32)
        ctx_fail(ctx, "head_loss: a head [%lld,%lld] of %s on hidden states of width %lld",
                 (long long)V, (long long)tensor_cols(w), w->dt->name,
                 (long long)tensor_cols(hidden));
    for (int64_t i = 0, N = tensor_rows(hidden); i < N && !ctx->measuring && !ctx->failed; i++)
        if (args->target[i] >= V)
            ctx_fail(ctx, "head_loss: target %d is not below %lld", args->target[i], (long long)V);
    return !ctx->failed;
}

int op_head_loss(struct ctx *ctx, struct tensor *hidden, struct tensor *w,
                 const struct head_loss_args *args, struct loss *loss)
{
    if (!hidden || !w || ctx->failed || !fits(ctx, hidden, w, args))
        return -1;
    struct head h = {.args = args, .hidden = hidden->data, .w = w->data};
    h.N = tensor_rows(hidden);
    h.C = tensor_cols(hidden);
    h.V = tensor_rows(w);
    if (ctx->recording) {
        h.dhidden = ctx_grad(ctx, hidden, &h.fresh);
        h.dw = ctx_grad_sum(ctx, w);
    }
    const int64_t most = h.N < CHUNK ? h.N : CHUNK;
    const size_t mark = ctx_mark(ctx);
    h.logits = ctx_scratch(ctx, (size_t)(most * h.V) * sizeof *h.logits);
    h.sum = ctx_scratch(ctx, 2 * CHUNK * sizeof *h.sum);
    h.nll = h.sum + CHUNK;
    for (int64_t n0 = 0; n0 < h.N && !ctx->failed && !ctx->measuring; n0 += CHUNK) {
        if (ctx->stop && *ctx->stop)
            ctx_fail(ctx, "stopped");
        else
            chunk(&h, n0, h.N - n0 < CHUNK ? h.N - n0 : CHUNK, loss);
    }
    ctx_release(ctx, mark);
    return ctx->failed ? -1 : 0;
}
