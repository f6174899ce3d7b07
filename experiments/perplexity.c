#include "experiments/perplexity.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"

enum {
    BATCH = 2048,     /* tokens of a forward pass: whole chunks, at least one */
    LOGITS = 4 << 20, /* floats of logits that exist at once */
    SHORTEST = 4,     /* of the chunks: one with a token to score */
};

struct scorer {
    struct transformer *m;
    const struct perplexity_args *args;
    struct ctx ctx;
    int64_t across;        /* chunks of a batch at most */
    int32_t *token, *pos;  /* [across c] */
    struct sequence *seqs; /* [across] */
    double *nll;           /* [across scored] */
};

/* Tokens of a chunk that are scored. */
static int64_t scored(const struct perplexity_args *a)
{
    return a->c - a->c / 2 - 1;
}

int64_t perplexity_chunks(const struct perplexity_args *a, const struct transformer *m, int64_t n)
{
    if (a->c > m->dims.context)
        return err("chunks of %lld tokens: the model's context is %d", (long long)a->c,
                   m->dims.context);
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

/* Fills s->nll for the chunk that starts at `row` of hidden, `some` rows of logits at a time. */
static void score(struct scorer *s, struct ctx *ctx, struct tensor *hidden, int64_t row,
                  double *nll)
{
    const int64_t V = s->m->dims.vocab, n = scored(s->args);
    const int64_t first = row + s->args->c / 2;
    const int64_t some = LOGITS / V > n ? n : LOGITS / V > 0 ? LOGITS / V : 1;
    for (int64_t i = 0; i < n && !ctx->failed; i += some) {
        const size_t lo = ctx->arena.lo;
        const int64_t rows = n - i < some ? n - i : some;
        const struct tensor *t = transformer_logits(ctx, s->m, hidden, first + i, rows);
        if (!t)
            return;
        const float *logits = t->data; // [rows,V]
        if (!ctx->measuring) {
#pragma omp parallel for schedule(static)
            for (int64_t r = 0; r < rows; r++)
                nll[i + r] = surprise(logits + r * V, V, s->token[first + i + r + 1]);
        }
        arena_pop_lo(&ctx->arena, lo);
    }
}

/* A batch of `count` chunks, whose tokens are in s->token. 0, or -1 with the ctx failed. */
static int run(struct scorer *s, struct ctx *ctx, int64_t count)
{
    const int64_t c = s->args->c;
    const struct batch batch = {
        .n = count * c, .tok = s->token, .pos = s->pos, .seqs = s->seqs, .n_seqs = (int)count};
    ctx_reset(ctx);
    struct tensor *hidden = transformer_forward(ctx, s->m, &batch);
    for (int64_t i = 0; hidden && i < count; i++)
        score(s, ctx, hidden, i * c, s->nll + i * scored(s->args));
    return hidden && !ctx->failed ? 0 : -1;
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
    free(s->token);
    free(s->pos);
    free(s->seqs);
    free(s->nll);
}

static int scorer_open(struct scorer *s, struct transformer *m, const struct perplexity_args *args,
                       int64_t chunks)
{
    const int64_t c = args->c, fit = BATCH / c > 0 ? BATCH / c : 1;
    *s = (struct scorer){.m = m, .args = args, .across = chunks < fit ? chunks : fit};
    const size_t n = (size_t)s->across;
    s->token = mem_new(n * (size_t)c, sizeof *s->token);
    s->pos = mem_new(n * (size_t)c, sizeof *s->pos);
    s->seqs = mem_new(n, sizeof *s->seqs);
    s->nll = mem_new(n * (size_t)scored(args), sizeof *s->nll);
    if (!s->token || !s->pos || !s->seqs || !s->nll)
        goto bad;
    for (int64_t i = 0; i < s->across; i++) {
        s->seqs[i] = (struct sequence){.start = i * c, .len = c};
        for (int64_t t = 0; t < c; t++)
            s->pos[i * c + t] = (int32_t)t;
    }
    if (measure(s))
        goto bad;
    s->ctx.stop = args->stop;
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
            add(p, s.nll + i * scored(args), scored(args));
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
