#include "experiments/contrast.h"

#include <math.h>
#include <omp.h>

#include "autograd/base/err.h"
#include "autograd/kernels/rows.h"
#include "experiments/interrupt.h"
#include "experiments/plan.h"
#include "experiments/progress.h"

enum { ROWS = 256 }; /* whose logits exist at one time */

struct pair {
    struct contrast *sum;
    struct transformer *m, *reference;
    const int32_t *target; /* [n] of the batch */
};

/* Of the first of the largest. */
static int64_t place(int64_t V, const float *z, float top)
{
    int64_t v = 0;
    while (v < V - 1 && z[v] < top)
        v++;
    return v;
}

struct contrast_at contrast_at(int64_t V, const float *logits, const float *reference,
                               int32_t target, float *own)
{
    const float top = rows->max(V, logits);
    const double lse = (double)top + log((double)rows->exp_sum(V, logits, 1, top, own));
    struct contrast_at a = {.nll = lse - (double)logits[target]};
    if (!reference)
        return a;
    // with e_v = exp(r_v - r_top): KL = sum e_v (r_v - z_v) / sum e_v - lse(r) + lse(z)
    const float top_q = rows->max(V, reference);
    const double total = (double)rows->exp_sum(V, reference, 1, top_q, own);
    double apart = 0;
    for (int64_t v = 0; v < V; v++)
        apart += (double)own[v] * ((double)reference[v] - (double)logits[v]);
    a.kl = apart / total - ((double)top_q + log(total)) + lse;
    a.same_top = place(V, logits, top) == place(V, reference, top_q);
    return a;
}

/* Rows [row, row + n) of both hidden states. */
static void score(const struct pair *p, struct ctx *ctx, struct tensor *hidden,
                  struct tensor *reference, int64_t row, int64_t n)
{
    struct contrast_at at[ROWS];
    const int64_t V = p->m->dims.vocab;
    const struct tensor *z = transformer_logits(ctx, p->m, hidden, row, n), *q = NULL;
    if (p->reference)
        q = transformer_logits(ctx, p->reference, reference, row, n);
    size_t bytes = (size_t)V * sizeof(float);
    const size_t mark = ctx_mark(ctx);
    char *scratch = ctx_thread_scratch(ctx, &bytes);
    ctx_release(ctx, mark); // nothing else is pushed while it is used
    if (!z || (p->reference && !q) || !scratch || ctx->measuring)
        return;
    const float *logits = z->data, *theirs = q ? q->data : NULL; // [n,V]
    const int32_t *target = p->target + row;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        float *own = (float *)(void *)(scratch + (size_t)omp_get_thread_num() * bytes);
        if (target[i] >= 0)
            at[i] = contrast_at(V, logits + i * V, theirs ? theirs + i * V : NULL, target[i], own);
    }
    for (int64_t i = 0; i < n; i++) { // in order
        if (target[i] < 0)
            continue;
        p->sum->count++;
        p->sum->same_top += at[i].same_top;
        p->sum->nll += at[i].nll;
        p->sum->kl += at[i].kl;
        p->sum->kl2 += at[i].kl * at[i].kl;
    }
}

static void look(struct ctx *ctx, const struct batch *b, void *arg)
{
    const struct pair *p = arg;
    struct tensor *reference = p->reference ? transformer_forward(ctx, p->reference, b) : NULL;
    struct tensor *hidden = transformer_forward(ctx, p->m, b);
    for (int64_t row = 0; row < b->n && !ctx->failed; row += ROWS) {
        const size_t lo = ctx->arena.lo;
        score(p, ctx, hidden, reference, row, b->n - row < ROWS ? b->n - row : ROWS);
        arena_pop_lo(&ctx->arena, lo);
        if (ctx->stop && *ctx->stop)
            return;
    }
}

static int run(struct pair *p, struct feed *f, struct ctx *ctx, int64_t windows, const char *label)
{
    struct progress progress;
    int rc = 0;
    progress_open(&progress, 2, label);
    for (int64_t w = 0; w < windows && !rc; w += f->most) {
        const int64_t n = windows - w < f->most ? windows - w : f->most;
        rc = feed_fill(f, w, n);
        if (rc)
            break;
        ctx_reset(ctx);
        p->target = f->target;
        look(ctx, &f->batch, p);
        if (interrupt_flag)
            rc = 1;
        else if (ctx->failed)
            rc = err("evaluation: %s", ctx->text);
        progress_update(&progress, (double)((w + n) * f->T), (double)(windows * f->T), "tokens");
    }
    progress_close(&progress);
    return rc;
}

int contrast_run(struct contrast *c, struct feed *f, struct transformer *m,
                 struct transformer *reference, int64_t windows, const char *label)
{
    struct pair p = {.sum = c, .m = m, .reference = reference};
    const struct plan_args plan = {.n_seqs = f->most, .T = f->T, .parts = f->apart ? f->T : 1};
    struct ctx ctx = {0};
    if (reference && reference->dims.vocab != m->dims.vocab)
        return err("a vocabulary of %d, the reference has one of %d", m->dims.vocab,
                   reference->dims.vocab);
    const size_t arena = plan_peak(&plan, look, &p);
    if (!arena || ctx_init(&ctx, arena))
        return -1;
    ctx.stop = &interrupt_flag;
    const int rc = run(&p, f, &ctx, windows, label);
    ctx_free(&ctx);
    return rc;
}

struct divergence_mean contrast_kl(const struct contrast *c)
{
    const double n = (double)c->count, mean = c->kl / n, variance = c->kl2 / n - mean * mean;
    return (struct divergence_mean){mean, variance > 0 && n > 1 ? sqrt(variance / (n - 1)) : 0};
}
