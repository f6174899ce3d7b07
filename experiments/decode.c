#include "experiments/decode.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/clock.h"
#include "autograd/base/err.h"
#include "autograd/base/mem.h"

enum { TIMED = 8 }; /* single tokens, half of them with one thread */

/* One forward pass over n tokens behind the KV cache's; *logits [V] are those of the last. In a
   measuring ctx nothing is computed. 0, or -1 with the ctx failed. */
static int forward(struct decode *d, struct ctx *ctx, const int32_t *token, int64_t n)
{
    ctx_reset(ctx);
    int32_t *pos = ctx_push(ctx, (size_t)n * sizeof *pos);
    for (int64_t i = 0; pos && i < n; i++)
        pos[i] = (int32_t)(d->kv.len + i);
    const struct sequence seq = {.len = n, .kv = &d->kv};
    const struct batch batch = {.n = n, .tok = token, .pos = pos, .seqs = &seq, .n_seqs = 1};
    struct tensor *hidden = pos ? transformer_forward(ctx, d->m, &batch) : NULL;
    const struct tensor *logits = transformer_logits(ctx, d->m, hidden, n - 1, 1);
    if (!logits || ctx->failed)
        return -1;
    if (!ctx->measuring)
        memcpy(d->logits, logits->data, (size_t)d->m->dims.vocab * sizeof *d->logits);
    return 0;
}

/* Bytes of arena that any forward pass can need: a whole chunk, and a single token, each behind a
   cache that is as full as it can be. 0: failed, with err() set. */
static size_t measure(struct decode *d)
{
    const int64_t most = d->capacity < DECODE_CHUNK ? d->capacity : DECODE_CHUNK;
    int32_t token[DECODE_CHUNK] = {0};
    struct ctx ctx;
    if (ctx_init(&ctx, 0))
        return 0;
    d->kv.len = d->capacity - most;
    bool failed = forward(d, &ctx, token, most);
    d->kv.len = d->capacity - 1;
    failed = failed || forward(d, &ctx, token, 1);
    d->kv.len = 0;
    if (failed)
        err("%s", ctx.text);
    const size_t peak = ctx.arena.peak;
    ctx_free(&ctx);
    return failed ? 0 : peak;
}

int decode_open(struct decode *d, struct transformer *m, const struct tokenizer *t,
                int64_t capacity, enum kvblock_type cache, const struct sampler_args *args,
                const volatile sig_atomic_t *stop)
{
    *d = (struct decode){.m = m, .tok = t, .capacity = capacity};
    if (capacity < 1 || capacity > m->dims.context)
        return err("%lld tokens are wanted, the model's context is %d", (long long)capacity,
                   m->dims.context);
    // a model may have more logits than there are tokens
    const int vocab = tokenizer_vocab_size(t);
    if (vocab > m->dims.vocab)
        return err("%d tokens in the tokenizer, %d in the model", vocab, m->dims.vocab);
    size_t bytes = 0;
    d->logits = mem_new((size_t)m->dims.vocab, sizeof *d->logits);
    if (!d->logits || sampler_init(&d->sampler, args, vocab) ||
        kv_pool_init(&d->pool, &m->dims, cache, kv_blocks(capacity)))
        goto bad;
    kv_open(&d->kv, &d->pool);
    if (!(bytes = measure(d)) || ctx_init(&d->ctx, bytes))
        goto bad;
    d->ctx.stop = stop;
    return 0;
bad:
    decode_close(d);
    return -1;
}

void decode_close(struct decode *d)
{
    ctx_free(&d->ctx);
    kv_close(&d->kv);
    kv_pool_free(&d->pool);
    sampler_free(&d->sampler);
    tokens_free(&d->history);
    free(d->logits);
    *d = (struct decode){0};
}

int decode_prompt(const struct tokenizer *t, const char *text, size_t n, struct tokens *out)
{
    const int32_t first = tokenizer_start(t, n);
    if (first < 0 && !n)
        return err("the tokenizer has no token to start a text with: give a prompt");
    if (first >= 0 && tokens_add(out, &first, 1))
        return -1;
    return tokenizer_encode(t, text, n, true, out);
}

/* As forward(). One token of a small model is so little work that waking other threads takes
   longer than they save: the first tokens are timed with one thread and with all, in turns, and
   the faster way is kept. The bits do not depend on it. */
static int read_one(struct decode *d, const int32_t *token)
{
    const int threads = omp_get_max_threads();
    const bool timing = d->timed < TIMED;
    const int all = timing ? d->timed % 2 : d->seconds[1] < d->seconds[0];
    omp_set_num_threads(all ? threads : 1);
    const double start = clock_seconds();
    const int rc = forward(d, &d->ctx, token, 1);
    const double seconds = clock_seconds() - start;
    omp_set_num_threads(threads);
    if (timing && !rc) {
        if (d->timed < 2 || seconds < d->seconds[all])
            d->seconds[all] = seconds;
        d->timed++;
    }
    return rc;
}

/* Reads what the KV cache lacks of the history; there is room for it. 0, also if stopped, or -1. */
static int catch_up(struct decode *d)
{
    d->stopped = false;
    while (d->kv.len < (int64_t)d->history.n) {
        const int64_t left = (int64_t)d->history.n - d->kv.len;
        const int64_t n = left < DECODE_CHUNK ? left : DECODE_CHUNK;
        const int32_t *token = d->history.id + d->kv.len;
        if (!(n == 1 ? read_one(d, token) : forward(d, &d->ctx, token, n)))
            continue;
        d->stopped = d->ctx.stop && *d->ctx.stop;
        return d->stopped ? 0 : err("%s", d->ctx.text);
    }
    return 0;
}

int decode_feed(struct decode *d, const int32_t *token, int64_t n)
{
    const int64_t there = (int64_t)d->history.n;
    if (n > d->capacity - there)
        return err("%lld tokens do not fit into a context of %lld", (long long)(there + n),
                   (long long)d->capacity);
    for (int64_t i = 0; i < n; i++)
        if (token[i] < 0 || token[i] >= d->m->dims.vocab)
            return err("%d is no token of the model, which has %d", token[i], d->m->dims.vocab);
    return tokens_add(&d->history, token, (size_t)n) ? -1 : catch_up(d);
}

const char *decode_shown(const struct tokenizer *t, int32_t id, size_t *n)
{
    const char *bytes = tokenizer_bytes(t, id, n);
    const enum vocab_type type = bytes ? t->vocab.token[id].type : VOCAB_CONTROL;
    if (type == VOCAB_CONTROL || type == VOCAB_UNKNOWN)
        *n = 0;
    return bytes;
}

int decode_generate(struct decode *d, int64_t n,
                    int (*emit)(void *arg, const char *bytes, size_t n), void *arg, int64_t *made,
                    enum decode_end *end)
{
    if (!d->history.n)
        BUG("generation without a prompt");
    *end = DECODE_COUNT;
    for (*made = 0; *made != n; ++*made) {
        // the logits behind a full context still give one token, which then cannot be read
        if ((int64_t)d->history.n > d->capacity) {
            *end = DECODE_FULL;
            return 0;
        }
        if (catch_up(d))
            return -1;
        if (d->stopped) {
            *end = DECODE_STOPPED;
            return 0;
        }
        const int32_t id =
            sampler_pick(&d->sampler, d->logits, d->history.id, (int64_t)d->history.n, d->stream);
        if (id < 0)
            return -1;
        if (tokenizer_ends(d->tok, id)) {
            *end = DECODE_EOT;
            return 0;
        }
        size_t bytes;
        const char *text = decode_shown(d->tok, id, &bytes);
        if (tokens_add(&d->history, &id, 1))
            return -1;
        const int rc = bytes ? emit(arg, text, bytes) : 0;
        if (rc > 0) {
            ++*made;
            *end = DECODE_CUT;
        }
        if (rc)
            return rc > 0 ? 0 : -1;
    }
    return 0;
}

static int append(void *arg, const char *bytes, size_t n)
{
    struct buf *out = arg;
    buf_add(out, bytes, n);
    return out->failed ? -1 : 0;
}

int decode_sample(struct transformer *m, const struct tokenizer *t, const char *prompt, int64_t n,
                  const struct sampler_args *args, const volatile sig_atomic_t *stop,
                  struct buf *out)
{
    struct decode d;
    struct tokens tokens = {0};
    enum decode_end end;
    int64_t made;
    int rc = decode_prompt(t, prompt, strlen(prompt), &tokens);
    const int64_t context = m->dims.context, have = (int64_t)tokens.n;
    const int64_t capacity = n < 0 || n > context - have ? context : have + n;
    if (!rc)
        rc = decode_open(&d, m, t, capacity, KVBLOCK_F16, args, stop);
    if (!rc) {
        rc = decode_feed(&d, tokens.id, have);
        if (!rc && !d.stopped)
            rc = decode_generate(&d, n, append, out, &made, &end);
        decode_close(&d);
    }
    tokens_free(&tokens);
    return rc;
}
