#include "experiments/perplexity.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"

enum {
    BATCH = 2048,     /* tokens of a forward pass: whole chunks, at least one, or a piece */
    LOGITS = 4 << 20, /* floats of logits that exist at once */
    SHORTEST = 4,     /* of the chunks: one with a token to score */
};

struct scorer {
    struct transformer *m;
    const struct perplexity_args *args;
    struct ctx ctx;
    struct kv_pool pool;
    int64_t across;        /* chunks of a batch at most */
    int64_t piece;         /* tokens of a chunk in one pass: all of a short one */
    int32_t *token;        /* [across c] */
    int32_t *part, *pos;   /* [across piece] of a pass */
    struct sequence *seqs; /* [across] */
    struct kv *kv;         /* [across] */
    double *nll;           /* [across scored] */
};

int64_t perplexity_scored(int64_t c)
{
    return c - c / 2 - 1;
}

int64_t perplexity_chunks(const struct perplexity_args *a, const struct transformer *m, int64_t n)
{
    if (a->c > m->dims.context)
        return err("chunks of %lld tokens: the model's context is %d, so -c %d is the most",
                   (long long)a->c, m->dims.context, m->dims.context);
    if (a->c < SHORTEST)
        return err("chunks of %lld tokens: they need at least %d", (long long)a->c, SHORTEST);
    if (n < 2 * a->c)
        return err("the text has %lld tokens, chunks of %lld need at least %lld: take a longer "
                   "text or shorter chunks",
                   (long long)n, (long long)a->c, (long long)(2 * a->c));
    return a->chunks > 0 && a->chunks < n / a->c ? a->chunks : n / a->c;
}

/* -log softmax(logits [V])[id] */
static double surprise(const float *logits, int64_t V, int32_t id)
{
    double top = logits[0], sum = 0;
    for (int64_t v = 1; v < V; v++)
        top = fmax(top, logits[v]);
    for (int64_t v = 0; v < V; v++)
        sum += exp(logits[v] - top);
    return top + log(sum) - logits[id];
}

/* Token i of chunk k, whose logits are these, scores the next. */
static void score_row(const struct scorer *s, int64_t k, int64_t i, const float *logits)
{
    const struct perplexity_args *a = s->args;
    const int64_t half = a->c / 2;
    const int32_t next = s->token[k * a->c + i + 1];
    s->nll[k * perplexity_scored(a->c) + i - half] = surprise(logits, s->m->dims.vocab, next);
    if (a->row)
        a->row(a->arg, i - half, logits, next);
}

/* Fills s->nll for what is scored of tokens [p0, p0 + len) of chunk k, whose rows of hidden start
   at `row`; some rows of logits at a time. */
static void score(struct scorer *s, struct ctx *ctx, struct tensor *hidden, int64_t k, int64_t row,
                  int64_t p0, int64_t len)
{
    const struct perplexity_args *a = s->args;
    const int64_t V = s->m->dims.vocab, some = LOGITS / V > 0 ? LOGITS / V : 1;
    const int64_t from = a->c / 2, to = a->c - 1; // what is scored
    const int64_t first = a->all || p0 > from ? p0 : from;
    const int64_t end = a->all || p0 + len < to ? p0 + len : to;
    for (int64_t i = first, n; i < end && !ctx->failed; i += n) {
        const size_t lo = ctx->arena.lo;
        n = end - i < some ? end - i : some;
        const struct tensor *t = transformer_logits(ctx, s->m, hidden, row + i - p0, n);
        if (!t)
            return;
        const float *logits = t->data; // [n,V]
        if (!ctx->measuring) {
#pragma omp parallel for schedule(static)
            for (int64_t r = 0; r < n; r++)
                if (i + r >= from && i + r < to)
                    score_row(s, k, i + r, logits + r * V);
        }
        arena_pop_lo(&ctx->arena, lo);
    }
}

/* Tokens [p0, p0 + len) of `count` chunks. */
static void run_piece(struct scorer *s, struct ctx *ctx, int64_t count, int64_t p0, int64_t len)
{
    for (int64_t k = 0; k < count; k++) {
        s->seqs[k] = (struct sequence){k * len, len, &s->kv[k]};
        if (ctx->measuring)
            s->kv[k].len = p0;
        for (int64_t i = 0; i < len; i++) {
            s->part[k * len + i] = s->token[k * s->args->c + p0 + i];
            s->pos[k * len + i] = (int32_t)(p0 + i);
        }
    }
    const struct batch batch = {
        .n = count * len, .tok = s->part, .pos = s->pos, .seqs = s->seqs, .n_seqs = (int)count};
    ctx_reset(ctx);
    struct tensor *hidden = transformer_forward(ctx, s->m, &batch);
    for (int64_t k = 0; hidden && k < count; k++)
        score(s, ctx, hidden, k, k * len, p0, len);
}

/* A batch of `count` chunks, whose tokens are in s->token. 0, or -1 with the ctx failed. */
static int run(struct scorer *s, struct ctx *ctx, int64_t count)
{
    const int64_t c = s->args->c;
    for (int64_t k = 0; k < count; k++)
        kv_open(&s->kv[k], &s->pool);
    for (int64_t p0 = 0, len; p0 < c && !ctx->failed; p0 += len) {
        len = c - p0 < s->piece ? c - p0 : s->piece;
        run_piece(s, ctx, count, p0, len);
    }
    for (int64_t k = 0; k < count; k++)
        kv_close(&s->kv[k]);
    return ctx->failed ? -1 : 0;
}

static int measure(struct scorer *s)
{
    struct ctx ctx;
    if (ctx_init(&ctx, 0))
        return -1;
    const int failed = run(s, &ctx, s->across);
    const size_t peak = ctx.arena.peak;
    if (failed)
        err("%s", ctx.text);
    ctx_free(&ctx);
    return failed ? -1 : ctx_init(&s->ctx, peak);
}

static void scorer_close(struct scorer *s)
{
    ctx_free(&s->ctx);
    kv_pool_free(&s->pool);
    free(s->token);
    free(s->part);
    free(s->pos);
    free(s->seqs);
    free(s->kv);
    free(s->nll);
}

static int scorer_open(struct scorer *s, struct transformer *m, const struct perplexity_args *args,
                       int64_t chunks)
{
    const int64_t c = args->c, fit = args->row || c > BATCH ? 1 : BATCH / c;
    *s = (struct scorer){.m = m, .args = args};
    s->across = chunks < fit ? chunks : fit;
    s->piece = c < BATCH ? c : BATCH;
    const size_t n = (size_t)s->across;
    s->token = mem_new(n * (size_t)c, sizeof *s->token);
    s->part = mem_new(n * (size_t)s->piece, sizeof *s->part);
    s->pos = mem_new(n * (size_t)s->piece, sizeof *s->pos);
    s->seqs = mem_new(n, sizeof *s->seqs);
    s->kv = mem_new(n, sizeof *s->kv);
    s->nll = mem_new(n * (size_t)perplexity_scored(c), sizeof *s->nll);
    if (!s->token || !s->part || !s->pos || !s->seqs || !s->kv || !s->nll ||
        kv_pool_init(&s->pool, &m->dims, args->cache, s->across * kv_blocks(c)))
        goto bad;
    if (measure(s))
        goto bad;
    s->ctx.stop = args->stop;
    s->ctx.tap = args->tap;
    return 0;
bad:
    scorer_close(s);
    return -1;
}

static void add(struct perplexity *p, const double *nll, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        p->nll += nll[i];
        p->nll2 += nll[i] * nll[i];
    }
    p->count += n;
    p->chunks++;
}

int perplexity_run(struct perplexity *p, struct transformer *m, const int32_t *token, int64_t n,
                   const struct perplexity_args *args,
                   int (*chunk)(void *arg, const struct perplexity *so_far), void *arg)
{
    struct scorer s;
    const int64_t chunks = perplexity_chunks(args, m, n), c = args->c;
    *p = (struct perplexity){0};
    if (chunks <= 0)
        return (int)chunks;
    for (int64_t i = 0; i < chunks * c; i++)
        if (token[i] < 0 || token[i] >= m->dims.vocab)
            return err("token %lld is %d, the model has %d", (long long)i, token[i], m->dims.vocab);
    if (scorer_open(&s, m, args, chunks))
        return -1;
    int rc = 0;
    while (p->chunks < chunks && !rc) {
        const int64_t left = chunks - p->chunks, count = left < s.across ? left : s.across;
        memcpy(s.token, token + p->chunks * c, (size_t)(count * c) * sizeof *token);
        for (int64_t i = 0; i < count && args->bos >= 0; i++)
            s.token[i * c] = args->bos;
        if (run(&s, &s.ctx, count))
            rc = err("%s", s.ctx.text);
        for (int64_t i = 0; i < count && !rc; i++) {
            add(p, s.nll + i * perplexity_scored(args->c), perplexity_scored(args->c));
            rc = chunk ? chunk(arg, p) : 0;
        }
    }
    scorer_close(&s);
    return rc;
}

double perplexity_value(const struct perplexity *p, double *error)
{
    const double n = (double)p->count, mean = p->nll / n, ppl = exp(mean);
    const double variance = p->nll2 / n - mean * mean;
    *error = variance > 0 && n > 1 ? sqrt(variance / (n - 1)) * ppl : NAN;
    return ppl;
}
