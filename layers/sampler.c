#include "layers/sampler.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"
#include "autograd/base/rng.h"

int sampler_set(struct sampler *s, const struct sampler_args *args)
{
    if (!isfinite(args->temp) || isnan(args->top_p) || isnan(args->min_p) || args->min_p > 1)
        return err("sampler: temperature %g, top-p %g, min-p %g", args->temp, args->top_p,
                   args->min_p);
    if (!(args->repeat_penalty > 0) || isinf(args->repeat_penalty) || args->repeat_last_n < -1)
        return err("sampler: repeat penalty %g over %lld tokens", args->repeat_penalty,
                   (long long)args->repeat_last_n);
    s->args = *args;
    s->key = rng_key((uint64_t)args->seed, "sampler");
    return 0;
}

int sampler_init(struct sampler *s, const struct sampler_args *args, int vocab)
{
    *s = (struct sampler){.vocab = vocab};
    if (vocab < 1)
        return err("sampler: a vocabulary of %d", vocab);
    if (sampler_set(s, args))
        return -1;
    s->candidates = mem_new((size_t)vocab, sizeof *s->candidates);
    return s->candidates ? 0 : -1;
}

void sampler_free(struct sampler *s)
{
    free(s->candidates);
    s->candidates = NULL;
}

/* ---- all filters but the first keep a prefix of the order below, so a heap yields it ---- */

static bool before(const struct sampler_token *a, const struct sampler_token *b)
{
    return a->logit > b->logit || (a->logit == b->logit && a->id < b->id);
}

static void swap(struct sampler_token *a, struct sampler_token *b)
{
    const struct sampler_token t = *a;
    *a = *b;
    *b = t;
}

/* The heap's root is the first in order, or the last. */
static void sift(struct sampler_token *c, int n, int i, bool last)
{
    for (int child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && before(&c[child + 1], &c[child]) != last)
            child++;
        if (before(&c[child], &c[i]) == last)
            return;
        swap(&c[i], &c[child]);
    }
}

/* A heap c [n - popped] with what was popped behind it, the first one last. */
struct heap {
    struct sampler_token *c;
    int n, popped;
};

/* The i-th in order, counted from 0. */
static const struct sampler_token *nth(struct heap *h, int i)
{
    for (; h->popped <= i; h->popped++) {
        const int left = h->n - h->popped;
        swap(&h->c[0], &h->c[left - 1]);
        sift(h->c, left - 1, 0, false);
    }
    return &h->c[h->n - 1 - i];
}

/* ---- filters ---- */

/* A token is penalized once, however often it occurs. */
static void penalize(struct sampler *s, const int32_t *history, int64_t n)
{
    const int64_t last = s->args.repeat_last_n;
    const double by = s->args.repeat_penalty;
    if (by == 1)
        return;
    for (int64_t i = last < 0 || last > n ? 0 : n - last; i < n; i++) {
        if (history[i] < 0 || history[i] >= s->vocab)
            continue;
        struct sampler_token *c = &s->candidates[history[i]];
        if (!c->p && c->logit != -INFINITY) {
            const double logit = c->logit > 0 ? c->logit / by : c->logit * by;
            c->logit = (float)fmin(fmax(logit, -FLT_MAX), FLT_MAX);
        }
        c->p = 1; // marks those that were penalized
    }
}

/* All tokens that can be drawn, in the order of ids. */
static int collect(struct sampler *s, const float *logits, const int32_t *history, int64_t n)
{
    struct sampler_token *c = s->candidates;
    int kept = 0;
    for (int i = 0; i < s->vocab; i++) {
        if (isnan(logits[i]) || logits[i] == INFINITY)
            return err("logit %d is %g: the model computes no probabilities", i, logits[i]);
        c[i] = (struct sampler_token){.id = i, .logit = logits[i]};
    }
    penalize(s, history, n);
    for (int i = 0; i < s->vocab; i++)
        if (c[i].logit != -INFINITY)
            c[kept++] = c[i];
    return kept ? kept : err("all logits are -infinite: there is no next token");
}

/* The k first in order come to the front, in no order; the others may be lost. */
static void pick(struct sampler_token *c, int n, int k)
{
    for (int i = k / 2 - 1; i >= 0; i--)
        sift(c, k, i, true);
    for (int i = k; i < n; i++)
        if (before(&c[i], &c[0])) {
            c[0] = c[i];
            sift(c, k, 0, true);
        }
}

/* Puts what top-k, top-p and min-p keep of the n candidates in front, likeliest first. */
static int cut(struct sampler *s, int n)
{
    const struct sampler_args *a = &s->args;
    const int most = a->temp <= 0 ? 1 : a->top_k > 0 && a->top_k < n ? (int)a->top_k : n;
    if (most == n && a->top_p >= 1 && a->min_p <= 0)
        return n;
    const bool fewer = most < n;
    if (fewer)
        pick(s->candidates, n, most);
    n = most;
    struct heap h = {s->candidates, n, 0};
    for (int i = n / 2 - 1; i >= 0; i--)
        sift(h.c, n, i, false);
    const double top = h.c[0].logit, floor = a->min_p > 0 ? top + log(a->min_p) : -INFINITY;
    double sum = 0, seen = 0;
    for (int i = 0; i < most; i++)
        sum += exp((fewer ? nth(&h, i) : &h.c[i])->logit - top);
    const double enough = a->top_p < 1 ? a->top_p * sum : INFINITY;
    int kept = 0;
    for (; kept < most; kept++) {
        const double logit = nth(&h, kept)->logit;
        if (kept && (logit < floor || seen >= enough))
            break;
        seen += exp(logit - top);
    }
    for (int i = 0; i < n / 2; i++)
        swap(&h.c[i], &h.c[n - 1 - i]);
    return kept;
}

int sampler_filter(struct sampler *s, const float *logits, const int32_t *history, int64_t n)
{
    int kept = collect(s, logits, history, n);
    if (kept < 0)
        return -1;
    kept = cut(s, kept);
    struct sampler_token *c = s->candidates;
    const double temp = s->args.temp > 0 ? s->args.temp : 1;
    double top = c[0].logit, sum = 0;
    for (int i = 1; i < kept; i++)
        top = fmax(top, c[i].logit);
    for (int i = 0; i < kept; i++)
        sum += c[i].p = exp((c[i].logit - top) / temp);
    for (int i = 0; i < kept; i++)
        c[i].p /= sum;
    return kept;
}

int32_t sampler_pick(struct sampler *s, const float *logits, const int32_t *history, int64_t n,
                     uint64_t stream)
{
    const int kept = sampler_filter(s, logits, history, n);
    if (kept < 0)
        return -1;
    uint32_t r[4];
    rng_block(s->key, stream, (uint64_t)n, r);
    double u = (double)(((uint64_t)r[1] << 32 | r[0]) >> 11) * 0x1p-53;
    const struct sampler_token *c = s->candidates, *last = c;
    for (int i = 0; i < kept; i++) {
        if (c[i].p > 0)
            last = &c[i];
        if (u < c[i].p)
            return c[i].id;
        u -= c[i].p;
    }
    return last->id; // rounding left a rest of u
}
