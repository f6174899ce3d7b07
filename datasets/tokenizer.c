#include "datasets/tokenizer.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"
#include "datasets/bytelevel.h"
#include "datasets/nfc.h"

/* One bpe_work for each thread that encodes at the same time; idle ones wait here. */
struct tokenizer_pool {
    pthread_mutex_t lock;
    struct bpe_work **idle;
    size_t n, cap;
};

static const char *const document_ends[] = {"<|endoftext|>", "<|end_of_text|>", "</s>",
                                            "<|im_end|>",    "<eos>",           NULL};

struct tokenizer *tokenizer_new_empty(const struct pretok *pre)
{
    struct tokenizer *t = mem_new(1, sizeof *t);
    if (!t)
        return NULL;
    t->pre = pre;
    t->bos = t->eot = -1;
    memset(t->bpe.byte_id, 0xff, sizeof t->bpe.byte_id);
    t->pool = mem_new(1, sizeof *t->pool);
    if (!t->pool) {
        free(t);
        return NULL;
    }
    pthread_mutex_init(&t->pool->lock, NULL);
    return t;
}

int tokenizer_finish(struct tokenizer *t)
{
    if (vocab_index(&t->vocab) || bpe_index(&t->bpe) || added_index(&t->added, &t->vocab))
        return -1;
    for (const char *const *end = document_ends; *end && t->eot < 0; end++)
        t->eot = tokenizer_find(t, *end);
    return 0;
}

struct tokenizer *tokenizer_new_byte(void)
{
    struct tokenizer *t = tokenizer_new_empty(pretok_rules);
    if (!t)
        return NULL;
    int rc = 0;
    for (int32_t b = 0; b < 256 && !rc; b++) {
        const char byte = (char)b;
        rc = vocab_set(&t->vocab, b, &byte, 1, VOCAB_NORMAL);
        t->bpe.byte_id[b] = b;
    }
    const char *end = document_ends[0];
    if (rc || vocab_set(&t->vocab, 256, end, strlen(end), VOCAB_CONTROL) || tokenizer_finish(t)) {
        tokenizer_free(t);
        return NULL;
    }
    return t;
}

void tokenizer_free(struct tokenizer *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->pool->n; i++)
        bpe_work_free(t->pool->idle[i]);
    pthread_mutex_destroy(&t->pool->lock);
    free(t->pool->idle);
    free(t->pool);
    vocab_free(&t->vocab);
    bpe_free(&t->bpe);
    added_free(&t->added);
    free(t);
}

int tokenizer_vocab_size(const struct tokenizer *t)
{
    return (int)t->vocab.n;
}

int tokenizer_eot(const struct tokenizer *t)
{
    return t->eot;
}

int tokenizer_bos(const struct tokenizer *t)
{
    return t->bos;
}

const char *tokenizer_name(const struct tokenizer *t)
{
    bool bytes = t->vocab.n == 257 && t->eot == 256 && !t->bpe.n_merges;
    for (int b = 0; b < 256; b++)
        bytes = bytes && t->bpe.byte_id[b] == b;
    return bytes ? "byte" : "bpe";
}

const char *tokenizer_pre(const struct tokenizer *t)
{
    return t->pre->name;
}

int tokenizer_find(const struct tokenizer *t, const char *content)
{
    const size_t n = strlen(content);
    for (size_t k = 0; k < t->added.n; k++) {
        const struct vocab_token *token = &t->vocab.token[t->added.id[k]];
        if (token->len == n && !memcmp(t->vocab.bytes + token->at, content, n))
            return t->added.id[k];
    }
    return -1;
}

static struct bpe_work *take_work(const struct tokenizer *t)
{
    struct bpe_work *w = NULL;
    pthread_mutex_lock(&t->pool->lock);
    if (t->pool->n)
        w = t->pool->idle[--t->pool->n];
    pthread_mutex_unlock(&t->pool->lock);
    return w ? w : bpe_work_new();
}

static void return_work(const struct tokenizer *t, struct bpe_work *w)
{
    struct tokenizer_pool *p = t->pool;
    pthread_mutex_lock(&p->lock);
    const bool kept = !mem_grow(&p->idle, &p->cap, p->n + 1, sizeof *p->idle);
    if (kept)
        p->idle[p->n++] = w;
    pthread_mutex_unlock(&p->lock);
    if (!kept)
        bpe_work_free(w);
}

/* Text without added tokens. */
static int encode_plain(const struct tokenizer *t, struct bpe_work *w, const char *s, size_t n,
                        struct tokens *out)
{
    struct buf composed = {0};
    if (t->nfc && !nfc_quick(s, n)) {
        if (nfc_text(s, n, &composed))
            return -1;
        s = composed.p;
        n = composed.n;
    }
    int rc = 0;
    for (size_t len; n && !rc; s += len, n -= len) {
        // without merges every byte is a token, wherever the text is cut
        len = t->bpe.n_merges || t->bpe.whole ? pretok_next(t->pre, s, n) : n;
        rc = bpe_encode(&t->bpe, w, s, len, out);
    }
    buf_free(&composed);
    return rc;
}

int tokenizer_encode(const struct tokenizer *t, const char *text, size_t n, bool parse_special,
                     struct tokens *out)
{
    struct bpe_work *w = take_work(t);
    if (!w)
        return -1;
    const size_t before = out->n;
    int rc = 0;
    while (n && !rc) {
        size_t at;
        const int32_t id = added_next(&t->added, &t->vocab, parse_special, text, n, &at);
        rc = encode_plain(t, w, text, at, out);
        if (id >= 0 && !rc) {
            rc = tokens_add(out, &id, 1);
            at += t->vocab.token[id].len;
        }
        text += at;
        n -= at;
    }
    if (rc)
        out->n = before;
    return_work(t, w);
    return rc;
}

const char *tokenizer_bytes(const struct tokenizer *t, int32_t id, size_t *len)
{
    if (id < 0 || (size_t)id >= t->vocab.n || t->vocab.token[id].type == VOCAB_HOLE)
        return NULL;
    *len = t->vocab.token[id].len;
    return t->vocab.bytes + t->vocab.token[id].at;
}

int tokenizer_decode(const struct tokenizer *t, const int32_t *id, size_t n, struct buf *out)
{
    for (size_t i = 0; i < n; i++) {
        size_t len;
        const char *bytes = tokenizer_bytes(t, id[i], &len);
        if (!bytes)
            return err("no token has id %d; the vocabulary has %zu ids", id[i], t->vocab.n);
        buf_add(out, bytes, len);
    }
    return out->failed ? -1 : 0;
}

void tokenizer_text(const struct tokenizer *t, int32_t id, struct buf *out)
{
    size_t len;
    const char *bytes = tokenizer_bytes(t, id, &len);
    if (bytes && t->vocab.token[id].type == VOCAB_NORMAL)
        bytelevel_encode(out, bytes, len);
    else if (bytes)
        buf_add(out, bytes, len);
}
