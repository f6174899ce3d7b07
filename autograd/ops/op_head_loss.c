#include <math.h>
#include <omp.h>
#include <string.h>

#include "autograd/kernels/gemm.h"
#include "autograd/kernels/gemm_bf16.h"
#include "autograd/kernels/rows.h"
#include "autograd/ops/ops.h"
#include "autograd/profile.h"

/* Tokens whose logits exist at one time: enough rows for the GEMM, few enough for the cache. Under
   bf16 more: reading and writing all of dw a chunk costs more than the faster products. */
enum { CHUNK = 256, CHUNK_BF16 = 512, DEEP = 4096 };
/* bf16: vocabulary entries and rows of dhidden of a tile; a vocabulary too large for the cache */
enum { WIDE = 256, HIGH = 64, LARGE = 1 << 14 };

struct head {
    const struct head_loss_args *args;
    const void *hidden;     /* [N,C], f32 or bf16 */
    const struct tensor *w; /* [V,C] */
    void *dhidden;          /* NULL: not wanted */
    float *dw;
    bool fresh, fresh_w; /* dhidden, dw is written, not added to */
    int64_t N, C, V;
    float *logits;          /* [chunk,V]; in place: their gradients */
    double *sum, *nll, *kl; /* [chunk] per token */
    float *teacher;         /* its logits, [chunk,V]; NULL: there is none */
    /* bf16 only; logits' gradients are then bf16, at the beginning of their rows */
    bool bf16;
    const uint16_t *forward; /* panels of w */
    uint16_t *backward;      /* and the other way, for dhidden */
    const uint16_t *taught;  /* panels of the teacher's head */
    uint16_t *x_panels;      /* of hidden over the chunk's tokens */
    float *partial;          /* [chunk,C] dhidden in f32 */
    char *scratch;           /* of the threads: columns of logits, a row of bf16, of the teacher's
                                exponentials */
    size_t bytes;
};

/* The teacher's side of one token: e [V] <- exponentials of its logits t [V], *total their sum. The
   divergence without the student's log-normalizer, sum_v q_v (t_v - z_v) - lse(t), q = e / total.
 */
static double teacher_side(int64_t V, const float *z, float *t, float *e, float *total)
{
    const float top = rows->max(V, t);
    *total = rows->exp_sum(V, t, 1, top, e);
    rows->axpy(V, -1, z, t);
    return (double)(rows->dot(V, e, t) / *total) - ((double)top + log((double)*total));
}

/* One token's objective and, if wanted, the gradient of weight times it, in place of its logits z:
   f = (1-e) (lse - z_t) + e (lse - mean z) + zl lse^2
   df/dz_v = p_v (1 + 2 zl lse) - (1-e) [v=t] - e/V, p = softmax(z); and kl times the divergence
   from the teacher, whose gradient is p_v - q_v. own [V]: scratch. */
static void token_loss(const struct head *h, int64_t i, int32_t target, bool want_grad, float *own)
{
    float *z = h->logits + i * h->V;
    const struct head_loss_args *a = h->args;
    const int64_t V = h->V;
    const float e = a->label_smoothing, zl = a->z_loss, top = rows->max(V, z), zt = z[target];
    double mean = 0;
    for (int64_t v = 0; v < V && e > 0; v++)
        mean += z[v];
    mean /= (double)V;
    float q_total = 1;
    double kl = h->teacher ? teacher_side(V, z, h->teacher + i * V, own, &q_total) : 0;
    const float total = rows->exp_sum(V, z, 1, top, z), w = h->teacher ? a->kl : 0;
    const double lse = (double)top + log((double)total), nll = lse - zt;
    kl += h->teacher ? lse : 0;
    h->nll[i] = nll;
    h->kl[i] = kl;
    h->sum[i] = (double)a->weight *
                    ((1 - (double)e) * nll + (double)e * (lse - mean) + (double)zl * lse * lse) +
                (double)w * kl;
    if (!want_grad)
        return;
    const float p = ((1 + 2 * zl * (float)lse) * a->weight + w) / total;
    rows->scale(V, p, z, z);
    const float spread = a->weight * e / (float)V;
    for (int64_t v = 0; v < V && e > 0; v++)
        z[v] -= spread;
    z[target] -= a->weight * (1 - e);
    if (h->teacher)
        rows->axpy(V, -w / q_total, own, z);
}

/* The losses of tokens [n0, n0 + n), whose logits become their gradients; sums in order. */
static void losses(const struct head *h, int64_t n0, int64_t n, struct loss *loss)
{
    const bool want_grad = h->dhidden || h->dw;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        const int32_t target = h->args->target[n0 + i];
        float *z = h->logits + i * h->V;
        char *own = h->scratch + (size_t)omp_get_thread_num() * h->bytes;
        if (target >= 0)
            token_loss(h, i, target, want_grad, (float *)(void *)own);
        else
            memset(z, 0, (size_t)h->V * sizeof *z);
        if (h->bf16 && want_grad) {
            rows->narrow(h->V, z, (uint16_t *)(void *)own);
            memcpy(z, own, (size_t)h->V * sizeof(uint16_t));
            ((uint16_t *)z)[h->V] = 0; // products read whole pairs
        }
    }
    for (int64_t i = 0; i < n; i++) {
        if (h->args->target[n0 + i] < 0)
            continue;
        loss->sum += h->sum[i];
        loss->nll += h->nll[i];
        loss->kl += h->kl[i];
        loss->count++;
    }
}

static void chunk(const struct head *h, int64_t n0, int64_t n, struct loss *loss)
{
    const float *x = (const float *)h->hidden + n0 * h->C, *w = h->w->data;
    gemm(false, true, n, h->V, h->C, x, h->C, w, h->C, false, h->logits, h->V);
    if (h->teacher) {
        const struct head_voice *t = h->args->teacher;
        const int64_t C = tensor_cols(t->w);
        gemm(false, true, n, h->V, C, (const float *)t->hidden->data + n0 * C, C, t->w->data, C,
             false, h->teacher, h->V);
    }
    losses(h, n0, n, loss);
    if (h->dhidden)
        gemm(false, false, n, h->C, h->V, h->logits, h->V, w, h->C, !h->fresh,
             (float *)h->dhidden + n0 * h->C, h->C);
    if (h->dw)
        gemm(true, false, h->V, h->C, n, h->logits, h->V, x, h->C, !h->fresh_w || n0, h->dw, h->C);
}

/* ---- bf16 ---- */

/* dhidden of rows [m0, m0 + m) of a chunk: V is deep, so all columns are done for a part of it
   before the next, with sums in `partial`. */
static void backward_hidden(const struct head *h, int64_t n0, int64_t m0, int64_t m)
{
    const int64_t C = h->C, V = h->V;
    uint16_t *dx = (uint16_t *)h->dhidden + (n0 + m0) * C;
    float *sum = h->partial + m0 * C;
    if (!h->fresh)
        rows->widen(m * C, dx, sum);
    for (int64_t k = 0; k < V; k += DEEP) {
        const bool last = k + DEEP >= V;
        const struct gemm_term term = {.A = (const uint16_t *)(h->logits + m0 * V) + k,
                                       .lda = 2 * V,
                                       .panels = h->backward + k * PANEL,
                                       .K = last ? (V - k + 1) / 2 * 2 : DEEP,
                                       .depth = panel_depth(V)};
        const struct gemm_out out = {.c = last ? (void *)dx : sum,
                                     .ldc = C,
                                     .bf16 = last,
                                     .add = k || !h->fresh ? sum : NULL};
        gemm_bf16->tile(m, 0, C, 1, &term, &out);
    }
}

/* Rows [v, v + k) of dw. */
static void backward_head(const struct head *h, bool add, int64_t n, int64_t v, int64_t k,
                          uint16_t *columns)
{
    float *dw = h->dw + v * h->C;
    struct gemm_term term =
        gemm_columns((const uint16_t *)h->logits, 2 * h->V, n, v, v + k, columns);
    term.panels = h->x_panels;
    const struct gemm_out out = {.c = dw, .ldc = h->C, .add = add ? dw : NULL};
    gemm_bf16->tile(k, 0, h->C, 1, &term, &out);
}

/* Logits of a chunk's tokens, columns [v, v + WIDE): x [n,C], the head in panels. */
static void logits_bf16(const uint16_t *x, int64_t n, int64_t C, const uint16_t *panels, int64_t v,
                        int64_t V, float *logits)
{
    const struct gemm_term term = {.A = x, .lda = C, .panels = panels, .K = C};
    const struct gemm_out out = {.c = logits, .ldc = V};
    gemm_bf16->tile(n, v, V - v < WIDE ? V - v : WIDE, 1, &term, &out);
}

static void chunk_bf16(const struct head *h, int64_t n0, int64_t n, struct loss *loss)
{
    const uint16_t *x = (const uint16_t *)h->hidden + n0 * h->C;
    const int64_t V = h->V, tiles = (V + WIDE - 1) / WIDE, panels = h->dw ? panel_count(h->C) : 0;
    const struct head_voice *t = h->args->teacher;
    const int64_t taught = t ? tiles : 0;
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t c = 0; c < tiles + taught + panels; c++) {
        const int64_t p = c - tiles - taught, tc = t ? tensor_cols(t->w) : 0;
        if (c < tiles)
            logits_bf16(x, n, h->C, h->forward, c * WIDE, V, h->logits);
        else if (p < 0)
            logits_bf16((const uint16_t *)t->hidden->data + n0 * tc, n, tc, h->taught,
                        (c - tiles) * WIDE, V, h->teacher);
        else
            gemm_bf16->pack(false, x, true, h->C, n, h->C, p, p + 1, h->x_panels);
    }
    losses(h, n0, n, loss);
    // every tile of dhidden reads all of the head: few tiles where that is large
    const int64_t high = V > LARGE ? 4 * HIGH : HIGH;
    const int64_t highs = h->dhidden ? (n + high - 1) / high : 0, wides = h->dw ? tiles : 0;
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t c = 0; c < highs + wides; c++) {
        const int64_t m = c * high, v = (c - highs) * WIDE;
        char *own = h->scratch + (size_t)omp_get_thread_num() * h->bytes;
        if (c < highs)
            backward_hidden(h, n0, m, n - m < high ? n - m : high);
        else
            backward_head(h, !h->fresh_w || n0, n, v, V - v < WIDE ? V - v : WIDE, (uint16_t *)own);
    }
}

/* The panels that a head has, or ones made in scratch. */
static const uint16_t *panels_of(struct ctx *ctx, const struct tensor *w)
{
    const int64_t V = tensor_rows(w), C = tensor_cols(w);
    if (w->panels)
        return w->panels->forward;
    uint16_t *own = ctx_scratch(ctx, (size_t)panels_numel(C, V) * sizeof *own);
    if (!ctx->measuring && !ctx->failed)
        gemm_bf16->pack(true, w->data, false, C, C, V, 0, panel_count(V), own);
    return own;
}

/* Scratch of the bf16 chunks of at most `most` tokens. */
static void prepare_bf16(struct ctx *ctx, struct head *h, int64_t most)
{
    const int64_t C = h->C, V = h->V;
    h->forward = panels_of(ctx, h->w);
    if (h->teacher)
        h->taught = panels_of(ctx, h->args->teacher->w);
    if (h->dhidden)
        h->backward = ctx_scratch(ctx, (size_t)panels_numel(V, C) * sizeof *h->backward);
    if (!ctx->measuring && !ctx->failed) {
#pragma omp parallel for schedule(static) if (h->dhidden)
        for (int64_t p = 0; p < (h->dhidden ? panel_count(C) : 0); p++)
            gemm_bf16->repack(h->forward, V, C, p, p + 1, h->backward);
    }
    if (h->dw)
        h->x_panels = ctx_scratch(ctx, (size_t)panels_numel(most, C) * sizeof *h->x_panels);
    if (h->dhidden)
        h->partial = ctx_scratch(ctx, (size_t)(most * C) * sizeof *h->partial);
}

/* Scratch of the threads. */
static void prepare_threads(struct ctx *ctx, struct head *h, int64_t most)
{
    const int64_t columns = h->bf16 ? gemm_columns_numel(most, WIDE) : 0;
    const size_t row = h->teacher ? sizeof(float) : h->bf16 ? sizeof(uint16_t) : 0;
    h->bytes = (size_t)h->V * row;
    if (h->bytes < (size_t)columns * sizeof(uint16_t))
        h->bytes = (size_t)columns * sizeof(uint16_t);
    if (h->bytes)
        h->scratch = ctx_thread_scratch(ctx, &h->bytes);
}

/* Of f32; or of anything, where products read the panels that it has. */
static bool can_multiply(const struct tensor *hidden, const struct tensor *w)
{
    return (w->dt == &dtype_f32 || (hidden->dt == &dtype_bf16 && w->panels)) && !w->plus;
}

static bool teacher_fits(struct ctx *ctx, const struct tensor *hidden, int64_t V,
                         const struct head_voice *t)
{
    if (t->hidden->dt != hidden->dt || tensor_rows(t->hidden) != tensor_rows(hidden) ||
        !can_multiply(t->hidden, t->w) || t->w->nd != 2 || tensor_rows(t->w) != V ||
        tensor_cols(t->w) != tensor_cols(t->hidden))
        ctx_fail(ctx, "head_loss: a teacher [%lld,%lld] %s, head [%lld,%lld] %s",
                 (long long)tensor_rows(t->hidden), (long long)tensor_cols(t->hidden),
                 t->hidden->dt->name, (long long)tensor_rows(t->w), (long long)tensor_cols(t->w),
                 t->w->dt->name);
    return !ctx->failed;
}

static bool fits(struct ctx *ctx, const struct tensor *hidden, const struct tensor *w,
                 const struct head_loss_args *args)
{
    const int64_t V = tensor_rows(w);
    if (w->nd != 2 || tensor_cols(w) != tensor_cols(hidden) || !can_multiply(hidden, w))
        ctx_fail(ctx, "head_loss: a head [%lld,%lld] of %s on hidden states of width %lld",
                 (long long)V, (long long)tensor_cols(w), w->dt->name,
                 (long long)tensor_cols(hidden));
    for (int64_t i = 0, N = tensor_rows(hidden); i < N && !ctx->measuring && !ctx->failed; i++)
        if (args->target[i] >= V)
            ctx_fail(ctx, "head_loss: target %d is not below %lld", args->target[i], (long long)V);
    return !ctx->failed && (!args->teacher || teacher_fits(ctx, hidden, V, args->teacher));
}

/* Chunks of `size` tokens: the product, passes for the maximum, the exponentials and, where
   gradients are wanted, their scale, and the products of both gradients. */
static struct cost cost_of(const struct head *h, int64_t size)
{
    struct cost c = {0};
    const struct dtype *dt = h->bf16 ? &dtype_bf16 : &dtype_f32;
    const int64_t whole = h->N / size, rest = h->N % size;
    for (int last = 0; last < 2; last++) {
        const int64_t n = last ? rest : size, times = last ? 1 : whole;
        cost_product(&c, COST_FORWARD, dt, n, h->V, h->C, times);
        if (h->dhidden)
            cost_product(&c, COST_DX, dt, n, h->V, h->C, times);
        if (h->dw)
            cost_product(&c, COST_DW, dt, n, h->V, h->C, times);
        if (h->args->teacher)
            cost_product(&c, COST_FORWARD, dt, n, h->V, tensor_cols(h->args->teacher->w), times);
    }
    const double logits = (double)h->N * (double)h->V;
    c.bytes = (h->dhidden || h->dw ? 5 : 3) * sizeof(float) * logits;
    if (h->args->teacher)
        c.bytes += 9 * sizeof(float) * logits;
    if (h->bf16 && h->dhidden)
        c.bytes += 2 * sizeof(uint16_t) * (double)h->V * (double)h->C;
    c.exps = h->args->teacher ? 2 * logits : logits;
    return c;
}

int op_head_loss(struct ctx *ctx, struct tensor *hidden, struct tensor *w,
                 const struct head_loss_args *args, struct loss *loss)
{
    if (!hidden || !w || !ctx_root(ctx, "head_loss") || !fits(ctx, hidden, w, args))
        return -1;
    if (w->input && !(hidden = op_round(ctx, hidden, w->input)))
        return -1;
    struct head h = {.args = args, .hidden = hidden->data, .w = w};
    h.N = tensor_rows(hidden);
    h.C = tensor_cols(hidden);
    h.V = tensor_rows(w);
    h.bf16 = hidden->dt == &dtype_bf16;
    if (ctx->recording) {
        h.dhidden = ctx_grad(ctx, hidden, &h.fresh);
        h.dw = ctx_grad(ctx, w, &h.fresh_w);
    }
    const int64_t size = h.bf16 ? CHUNK_BF16 : CHUNK, most = h.N < size ? h.N : size;
    const struct cost cost = cost_of(&h, size);
    const struct profile_span span = profile_begin(ctx->profile);
    const size_t mark = ctx_mark(ctx);
    h.logits = ctx_scratch(ctx, (size_t)(most * h.V) * sizeof *h.logits);
    if (args->teacher)
        h.teacher = ctx_scratch(ctx, (size_t)(most * h.V) * sizeof *h.teacher);
    h.sum = ctx_scratch(ctx, 3 * (size_t)most * sizeof *h.sum);
    h.nll = h.sum + most;
    h.kl = h.nll + most;
    if (h.bf16)
        prepare_bf16(ctx, &h, most);
    prepare_threads(ctx, &h, most);
    for (int64_t n0 = 0; n0 < h.N && !ctx->failed && !ctx->measuring; n0 += size) {
        const int64_t n = h.N - n0 < size ? h.N - n0 : size;
        if (ctx->stop && *ctx->stop)
            ctx_fail(ctx, "stopped");
        else if (h.bf16)
            chunk_bf16(&h, n0, n, loss);
        else
            chunk(&h, n0, n, loss);
    }
    profile_add(ctx->profile, &span, "head_loss", false, &cost);
    ctx_release(ctx, mark);
    return ctx->failed ? -1 : 0;
}
