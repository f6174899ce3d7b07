#include "experiments/batcher_parts.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/clock.h"
#include "autograd/base/err.h"
#include "autograd/base/mem.h"
#include "experiments/decode.h"

int64_t batcher_blocks(const struct batcher_request *r, int64_t context)
{
    const int64_t room = context - r->n;
    // the last token of a text is drawn, not read
    return kv_blocks(r->n_predict < 0 || r->n_predict > room ? context : r->n + r->n_predict);
}

/* ---- set-up ---- */

/* A pass over n rows and one for company: as many texts as can be, behind full contexts. */
static int measure_pass(struct batcher *b, struct ctx *ctx, int64_t n)
{
    const int64_t P = b->args->parallel < n ? b->args->parallel : n, most = b->args->context;
    struct kv kv = {.pool = &b->pool, .len = most - 1};
    struct batch batch = {.tok = b->token, .pos = b->pos, .seqs = b->seqs};
    ctx_reset(ctx);
    for (int64_t i = 0; i < P; i++) {
        const int64_t left = n - batch.n - (P - 1 - i), len = left < most ? left : most;
        b->seqs[batch.n_seqs++] = (struct sequence){batch.n, len, &kv};
        batch.n += len;
    }
    b->seqs[batch.n_seqs++] = (struct sequence){batch.n++, 1, NULL};
    struct tensor *hidden = transformer_forward(ctx, b->m, &batch);
    return transformer_logits_at(ctx, b->m, hidden, b->last, P > 2 ? P : 2) ? 0 : -1;
}

/* Bytes of arena that any pass can need; 0: failed, with err() set. */
static size_t measure(struct batcher *b)
{
    struct ctx ctx;
    if (ctx_init(&ctx, 0))
        return 0;
    int failed = measure_pass(b, &ctx, b->args->batch);
    for (int64_t n = 1; n < b->args->batch && !failed; n *= 2)
        failed = measure_pass(b, &ctx, n);
    if (failed)
        err("%s", ctx.text);
    const size_t peak = ctx.arena.peak;
    ctx_free(&ctx);
    return failed ? 0 : peak;
}

/* Does a row alone go another way through products than beside others? Types that multiply by
   themselves give it the same bits. */
static bool wants_company(const struct transformer *m)
{
    for (int i = 0; i < m->store.n; i++)
        if (m->store.p[i].product && !m->store.p[i].used.dt->product)
            return true;
    return false;
}

static int check(const struct batcher *b)
{
    const struct batcher_args *a = b->args;
    if (a->context < 1 || a->context > b->m->dims.context)
        return err("%lld tokens are wanted, the model's context is %d", (long long)a->context,
                   b->m->dims.context);
    if (a->parallel < 1 || a->batch < a->parallel)
        return err("passes of %lld tokens for %lld texts at once: they take one of each at least",
                   (long long)a->batch, (long long)a->parallel);
    for (size_t i = 0; i < b->n; i++) {
        const struct batcher_request *r = &b->requests[i];
        const int64_t blocks = batcher_blocks(r, a->context);
        if (r->n < 1 || r->n > a->context)
            return err("prompt %zu has %lld tokens, the context is %lld: shorten it", i + 1,
                       (long long)r->n, (long long)a->context);
        if (blocks > a->blocks)
            return err("prompt %zu has %lld tokens and may need %lld blocks of the cache with its "
                       "text; there are %lld",
                       i + 1, (long long)r->n, (long long)blocks, (long long)a->blocks);
        if (!r->n_predict)
            return err("prompt %zu wants no tokens", i + 1);
        for (int64_t t = 0; t < r->n; t++)
            if (r->prompt[t] < 0 || r->prompt[t] >= b->m->dims.vocab)
                return err("%d is no token of the model, which has %d", r->prompt[t],
                           b->m->dims.vocab);
    }
    return 0;
}

static void batcher_close(struct batcher *b)
{
    for (size_t i = 0; b->text && i < b->n; i++) {
        tokens_free(&b->text[i].tokens);
        buf_free(&b->text[i].bytes);
        if (b->text[i].kv.pool)
            kv_close(&b->text[i].kv);
    }
    for (int i = 0; b->sampler && i < b->threads; i++)
        sampler_free(&b->sampler[i]);
    ctx_free(&b->ctx);
    kv_pool_free(&b->pool);
    free(b->text);
    free(b->running);
    free(b->back);
    free(b->token);
    free(b->pos);
    free(b->seqs);
    free(b->last);
    free(b->whose);
    free(b->sampler);
}

static int batcher_open(struct batcher *b)
{
    const size_t P = (size_t)b->args->parallel, N = (size_t)b->args->batch + 1;
    const int vocab = tokenizer_vocab_size(b->tok);
    const struct sampler_args any = {.top_p = 1, .repeat_penalty = 1};
    size_t bytes = 0;
    if (check(b))
        return -1;
    if (vocab > b->m->dims.vocab)
        return err("%d tokens in the tokenizer, %d in the model", vocab, b->m->dims.vocab);
    b->threads = omp_get_max_threads();
    b->company = wants_company(b->m);
    b->text = mem_new(b->n, sizeof *b->text);
    b->running = mem_new(P, sizeof *b->running);
    b->back = mem_new(P, sizeof *b->back);
    b->token = mem_new(N, sizeof *b->token);
    b->pos = mem_new(N, sizeof *b->pos);
    b->seqs = mem_new(P + 1, sizeof *b->seqs);
    b->last = mem_new(P + 1, sizeof *b->last);
    b->whose = mem_new(P, sizeof *b->whose);
    b->sampler = mem_new((size_t)b->threads, sizeof *b->sampler);
    if (!b->text || !b->running || !b->back || !b->token || !b->pos || !b->seqs || !b->last ||
        !b->whose || !b->sampler)
        return -1;
    for (int i = 0; i < b->threads; i++)
        if (sampler_init(&b->sampler[i], &any, vocab))
            return -1;
    if (kv_pool_init(&b->pool, &b->m->dims, b->args->cache, b->args->blocks) ||
        !(bytes = measure(b)) || ctx_init(&b->ctx, bytes))
        return -1;
    b->ctx.stop = b->args->stop;
    b->ctx.steady = true;
    return 0;
}

/* ---- a pass ---- */

static void add_company(struct batcher *b, struct batch *batch)
{
    b->token[1] = b->token[0];
    b->pos[1] = 0;
    b->seqs[batch->n_seqs++] = (struct sequence){1, 1, NULL};
    batch->n = 2;
}

/* Rows of all texts, one behind the other; *wanted: those whose next token is to be drawn. */
static struct batch gather(struct batcher *b, int64_t *wanted)
{
    struct batch batch = {.tok = b->token, .pos = b->pos, .seqs = b->seqs};
    *wanted = 0;
    for (int64_t i = 0; i < b->n_running; i++) {
        struct text *t = &b->text[b->running[i]];
        if (!t->take)
            continue;
        b->seqs[batch.n_seqs++] = (struct sequence){batch.n, t->take, &t->kv};
        for (int64_t k = 0; k < t->take; k++, batch.n++) {
            b->token[batch.n] = t->tokens.id[t->kv.len + k];
            b->pos[batch.n] = (int32_t)(t->kv.len + k);
        }
        if (t->kv.len + t->take == (int64_t)t->tokens.n) {
            b->whose[*wanted] = t;
            b->last[(*wanted)++] = (int32_t)(batch.n - 1);
        }
    }
    b->stats->rows += batch.n;
    if (batch.n == 1 && b->company)
        add_company(b, &batch);
    return batch;
}

static int draw(struct batcher *b, const struct tensor *logits, int64_t n)
{
    const int64_t V = b->m->dims.vocab;
    bool failed = false;
#pragma omp parallel for schedule(dynamic, 1) reduction(|| : failed)
    for (int64_t i = 0; i < n; i++) {
        struct text *t = b->whose[i];
        struct sampler *s = &b->sampler[omp_get_thread_num()];
        t->drawn = -1;
        if (!sampler_set(s, &t->r->sampler))
            t->drawn = sampler_pick(s, (const float *)logits->data + i * V, t->tokens.id,
                                    (int64_t)t->tokens.n, t->r->stream);
        failed = failed || t->drawn < 0;
    }
    for (int64_t i = 0; i < n && failed; i++) { // once more: the reason is the thread's own
        struct text *t = b->whose[i];
        if (sampler_set(b->sampler, &t->r->sampler) ||
            sampler_pick(b->sampler, (const float *)logits->data + i * V, t->tokens.id,
                         (int64_t)t->tokens.n, t->r->stream) < 0)
            return -1;
    }
    return 0;
}

/* Cuts the text off where one to stop at begins, if it has come with the last `fresh` bytes. */
static bool stops(struct text *t, size_t fresh)
{
    size_t end = t->bytes.n;
    for (int i = 0; t->r->stop && i < t->r->stop->n; i++) {
        const char *word = t->r->stop->value[i];
        const size_t n = strlen(word), back = fresh + n - 1;
        const size_t from = back < t->bytes.n ? t->bytes.n - back : 0;
        const char *at =
            t->bytes.p && n ? memmem(t->bytes.p + from, t->bytes.n - from, word, n) : NULL;
        if (at && (size_t)(at - t->bytes.p) < end)
            end = (size_t)(at - t->bytes.p);
    }
    const bool found = end < t->bytes.n;
    t->bytes.n = end;
    return found;
}

/* Adds what was drawn. 1: the text is done, *end says why. 0, or -1. */
static int settle(struct batcher *b, struct text *t, enum batcher_end *end)
{
    size_t n;
    if (tokenizer_ends(b->tok, t->drawn)) {
        *end = BATCHER_EOS;
        return 1;
    }
    const char *bytes = decode_shown(b->tok, t->drawn, &n);
    buf_add(&t->bytes, bytes ? bytes : "", n);
    if (t->bytes.failed || tokens_add(&t->tokens, &t->drawn, 1))
        return -1;
    t->made++;
    b->stats->made++;
    *end = stops(t, n)                               ? BATCHER_STOP
           : t->made == t->r->n_predict              ? BATCHER_LENGTH
           : (int64_t)t->tokens.n > b->args->context ? BATCHER_CONTEXT
                                                     : BATCHER_EOS;
    return *end != BATCHER_EOS;
}

static int finish(struct batcher *b, struct text *t, enum batcher_end end)
{
    const struct batcher_result r = {.index = (size_t)(t - b->text),
                                     .text = t->bytes.p ? t->bytes.p : "",
                                     .n_text = t->bytes.n,
                                     .made = t->made,
                                     .end = end,
                                     .shared = t->shared,
                                     .preempted = t->preempted};
    b->stats->done++;
    const int rc = b->done(b->arg, &r);
    batcher_give_back(t);
    tokens_free(&t->tokens);
    buf_free(&t->bytes);
    t->tokens = (struct tokens){0};
    return rc;
}

/* Texts that are done leave, the order of the others stays. */
static int settle_all(struct batcher *b, int64_t n)
{
    int rc = 0;
    for (int64_t i = 0; i < b->n_running; i++)
        kv_publish(&b->text[b->running[i]].kv, b->text[b->running[i]].tokens.id);
    for (int64_t i = 0; i < n && rc >= 0; i++) {
        enum batcher_end end;
        rc = settle(b, b->whose[i], &end);
        if (rc > 0)
            rc = finish(b, b->whose[i], end);
    }
    int64_t kept = 0;
    for (int64_t i = 0; i < b->n_running; i++)
        if (b->text[b->running[i]].kv.pool)
            b->running[kept++] = b->running[i];
    b->n_running = kept;
    return rc;
}

/* 0, 1 if it was stopped, or -1. */
static int pass(struct batcher *b)
{
    int64_t wanted;
    if (batcher_admit(b) || batcher_share_out(b))
        return -1;
    const struct batch batch = gather(b, &wanted);
    ctx_reset(&b->ctx);
    struct tensor *hidden = transformer_forward(&b->ctx, b->m, &batch), *logits = NULL;
    const int64_t rows = wanted == 1 && b->company ? 2 : wanted;
    b->last[1] = rows > wanted ? b->last[0] : b->last[1];
    if (hidden && wanted)
        logits = transformer_logits_at(&b->ctx, b->m, hidden, b->last, rows);
    b->stats->passes++;
    if (b->ctx.failed)
        return b->args->stop && *b->args->stop ? 1 : err("%s", b->ctx.text);
    return wanted && draw(b, logits, wanted) ? -1 : settle_all(b, wanted);
}

int batcher_run(struct transformer *m, const struct tokenizer *t, const struct batcher_args *args,
                const struct batcher_request *requests, size_t n,
                int (*done)(void *arg, const struct batcher_result *result),
                int (*seen)(void *arg, const struct batcher_stats *stats), void *arg,
                struct batcher_stats *stats)
{
    struct batcher b = {.m = m,
                        .tok = t,
                        .args = args,
                        .requests = requests,
                        .n = n,
                        .stats = stats,
                        .done = done,
                        .arg = arg};
    *stats = (struct batcher_stats){0};
    int rc = batcher_open(&b);
    const double start = clock_seconds();
    while (!rc && (batcher_waiting(&b) || b.n_running)) {
        rc = pass(&b);
        stats->peak = b.pool.peak;
        stats->copied = b.pool.copied;
        stats->touched = b.pool.touched;
        stats->seconds = clock_seconds() - start;
        if (!rc && seen)
            rc = seen(arg, stats);
    }
    batcher_close(&b);
    return rc < 0 ? -1 : 0;
}
