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

const char *const tokenizer_roles[TOKENIZER_ROLES] = {
    [TOKENIZER_BOS] = "bos", [TOKENIZER_EOS] = "eos", [TOKENIZER_EOT] = "eot",
    [TOKENIZER_EOM] = "eom", [TOKENIZER_UNK] = "unk", [TOKENIZER_SEP] = "sep",
    [TOKENIZER_PAD] = "pad",
};

static const char *const document_ends[] = {"<|endoftext|>", "<|end_of_text|>", "</s>",
                                            "<|im_end|>",    "<eos>",           NULL};

struct tokenizer *tokenizer_new_empty(const struct pretok *pre)
{
    struct tokenizer *t = mem_new(1, sizeof *t);
    if (!t)
        return NULL;
    t->pre = pre;
    t->bos = t->eot = t->bpe.unk = -1;
    memset(t->role, 0xff, sizeof t->role);
    memset(t->bpe.byte_id, 0xff, sizeof t->bpe.byte_id);
    t->pool = mem_new(1, sizeof *t->pool);
    if (!t->pool) {
        free(t);
        return NULL;
    }
    pthread_mutex_init(&t->pool->lock, NULL);
    return t;
}

/* SentencePiece's: merges from scores, or scores from merges. */
static int finish_spm(struct tokenizer *t)
{
    t->merges_given = !t->score;
    if (spm_init(&t->chars, &t->vocab, t->score, &t->bpe))
        return -1;
    if (t->score)
        return 0;
    t->score = mem_new(t->vocab.n, sizeof *t->score);
    for (size_t id = 0; t->score && id < t->vocab.n; id++)
        if (t->vocab.token[id].type == VOCAB_NORMAL)
            t->score[id] = -(float)t->bpe.n_merges;
    for (size_t i = t->bpe.n_merges; t->score && i-- > 0;)
        t->score[t->bpe.merge[i].into] = -(float)t->bpe.merge[i].rank;
    return t->score ? 0 : -1;
}

/* What text [n] is behind normalization: appended to out. `run`: it is a whole run of text, or the
   first of one. 0 or -1. */
static int normalize(const struct tokenizer *t, const char *s, size_t n, bool run, struct buf *out)
{
    if (!t->spm)
        return nfc_text(s, n, out);
    if (t->space == TOKENIZER_SPACE_EACH && run)
        buf_add(out, " ", 1);
    return spm_spaces(s, n, out);
}

/* Added tokens that are found behind normalization are normalized themselves. */
static int index_behind(struct tokenizer *t)
{
    for (size_t id = 0; id < t->vocab.n; id++) {
        const struct vocab_token *token = &t->vocab.token[id];
        struct buf text = {0};
        if (!token->normalized || !token->len)
            continue;
        int rc = normalize(t, t->vocab.bytes + token->at, token->len, true, &text);
        rc = rc ? -1 : vocab_set(&t->behind, (int32_t)id, text.p, text.n, token->type);
        buf_free(&text);
        if (rc)
            return -1;
    }
    return added_index(&t->added_behind, &t->behind);
}

int tokenizer_finish(struct tokenizer *t)
{
    if (vocab_index(&t->vocab) || (t->spm && finish_spm(t)) || bpe_index(&t->bpe) ||
        added_index(&t->added, &t->vocab) || index_behind(t))
        return -1;
    t->eot = t->role[TOKENIZER_EOS];
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
    vocab_free(&t->behind);
    added_free(&t->added_behind);
    bpe_free(&t->bpe);
    added_free(&t->added);
    spm_free(&t->chars);
    free(t->score);
    free(t->chat_template);
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
    bool bytes = t->vocab.n == 257 && t->eot == 256 && !t->bpe.n_merges && !t->spm;
    for (int b = 0; b < 256; b++)
        bytes = bytes && t->bpe.byte_id[b] == b;
    return t->spm ? "spm" : bytes ? "byte" : "bpe";
}

/* Those that llama.cpp ends generation with, whatever their role (src/llama-vocab.cpp, the list of
   special_eog_ids, 2026). */
static const char *const text_ends[] = {"<|eot_id|>",
                                        "<|eom_id|>",
                                        "<|im_end|>",
                                        "<|endoftext|>",
                                        "<|end_of_text|>",
                                        "<end_of_turn>",
                                        "<end_of_utterance>",
                                        "<eos>",
                                        "</s>",
                                        "<|end|>",
                                        "<|return|>",
                                        "<|call|>",
                                        "<|calls|>",
                                        "<|flush|>",
                                        "<EOT>",
                                        "_<EOT>",
                                        "[EOT]",
                                        "[EOS]",
                                        "<turn|>",
                                        "<|tool_response>",
                                        "[e~[",
                                        "<|fim_pad|>",
                                        "<fim-pad>",
                                        "<fim_pad>",
                                        "<PAD>",
                                        "[PAD]",
                                        "<|fim_repo|>",
                                        "<|repo_name|>",
                                        "<fim-repo>",
                                        "<REPO>",
                                        "<reponame>",
                                        "<|file_sep|>"};

bool tokenizer_ends(const struct tokenizer *t, int32_t id)
{
    size_t n;
    const char *bytes = tokenizer_bytes(t, id, &n);
    if (!bytes || id == t->eot || id == t->role[TOKENIZER_EOS] || id == t->role[TOKENIZER_EOT] ||
        id == t->role[TOKENIZER_EOM])
        return bytes != NULL;
    if (t->vocab.token[id].type == VOCAB_NORMAL)
        return false;
    for (size_t i = 0; i < sizeof text_ends / sizeof *text_ends; i++)
        if (n == strlen(text_ends[i]) && !memcmp(bytes, text_ends[i], n))
            return true;
    return false;
}

const char *tokenizer_pre(const struct tokenizer *t)
{
    return t->spm ? "default" : t->pre_name ? t->pre_name : t->pre->name;
}

float tokenizer_score(const struct tokenizer *t, int32_t id)
{
    return t->score[id];
}

static int32_t find_in(const struct tokenizer *t, const struct added *a, const char *content)
{
    const size_t n = strlen(content);
    for (size_t k = 0; k < a->n; k++) {
        const struct vocab_token *token = &t->vocab.token[a->id[k]];
        if (token->len == n && !memcmp(t->vocab.bytes + token->at, content, n))
            return a->id[k];
    }
    return -1;
}

int tokenizer_find(const struct tokenizer *t, const char *content)
{
    const int32_t id = find_in(t, &t->added, content);
    return id >= 0 ? id : find_in(t, &t->added_behind, content);
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

/* Where a piece without added tokens stands. */
enum place_in_text {
    AT_START,  /* of the whole text */
    AT_RUN,    /* behind an added token */
    INSIDE_RUN /* behind other text */
};

/* Text in which spaces are spaces, in SentencePiece's way. */
static int encode_pieces(const struct tokenizer *t, struct bpe_work *w, const char *s, size_t n,
                         struct tokens *out)
{
    const size_t first = out->n;
    int rc = 0;
    for (size_t len, before; n && !rc; s += len, n -= len) {
        before = out->n;
        len = spm_next(&t->chars, s, n);
        rc = bpe_encode(&t->bpe, w, s, len, out);
        // a run of what is unknown is one token, also where it was cut
        if (t->bpe.unk >= 0 && before > first && out->n > before && out->id[before] == t->bpe.unk &&
            out->id[before - 1] == t->bpe.unk)
            memmove(out->id + before, out->id + before + 1, (--out->n - before) * sizeof *out->id);
    }
    return rc;
}

/* Text without added tokens, in SentencePiece's way. */
static int encode_spm(const struct tokenizer *t, struct bpe_work *w, const char *s, size_t n,
                      enum place_in_text place, struct tokens *out)
{
    struct buf own = {0};
    const bool run = place != INSIDE_RUN;
    const bool space = (t->space == TOKENIZER_SPACE_EACH && run) ||
                       (t->space == TOKENIZER_SPACE_FIRST && place == AT_START && *s != ' ') ||
                       (t->space == TOKENIZER_SPACE_UNLESS && run && *s != ' ');
    int rc = 0;
    if (space || spm_has_mark(s, n)) {
        if (space)
            buf_add(&own, " ", 1);
        rc = spm_spaces(s, n, &own);
        s = own.p;
        n = own.n;
    }
    rc = rc ? rc : encode_pieces(t, w, s, n, out);
    buf_free(&own);
    return rc;
}

/* Text as the pre-tokenizer cuts it, in byte-level BPE. */
static int encode_cuts(const struct tokenizer *t, struct bpe_work *w, const char *s, size_t n,
                       struct tokens *out)
{
    int rc = 0;
    for (size_t len; n && !rc; s += len, n -= len) {
        // without merges every byte is a token, wherever the text is cut
        len = t->bpe.n_merges || t->bpe.whole ? pretok_next(t->pre, s, n) : n;
        rc = bpe_encode(&t->bpe, w, s, len, out);
    }
    return rc;
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
    const int rc = encode_cuts(t, w, s, n, out);
    buf_free(&composed);
    return rc;
}

/* Text without the added tokens that are found as they are: it is normalized, and what it then has
   of the others is found. */
static int encode_behind(const struct tokenizer *t, struct bpe_work *w, const char *text, size_t n,
                         bool control, enum place_in_text place, struct tokens *out)
{
    struct buf own = {0};
    int rc = normalize(t, text, n, place != INSIDE_RUN, &own);
    const char *s = own.p;
    for (size_t left = own.n, at; left && !rc; s += at, left -= at) {
        const int32_t id = added_next(&t->added_behind, &t->behind, control, s, left, &at);
        if (at)
            rc = t->spm ? encode_pieces(t, w, s, at, out) : encode_cuts(t, w, s, at, out);
        if (id >= 0 && !rc) {
            rc = tokens_add(out, &id, 1);
            at += t->behind.token[id].len;
        }
    }
    buf_free(&own);
    return rc;
}

static int encode(const struct tokenizer *t, const char *text, size_t n, bool parse_special,
                  enum place_in_text place, struct tokens *out)
{
    struct bpe_work *w = take_work(t);
    if (!w)
        return -1;
    const size_t before = out->n;
    int rc = 0;
    while (n && !rc) {
        size_t at;
        const int32_t id = added_next(&t->added, &t->vocab, parse_special, text, n, &at);
        if (at && t->behind.n)
            rc = encode_behind(t, w, text, at, parse_special, place, out);
        else if (at)
            rc =
                t->spm ? encode_spm(t, w, text, at, place, out) : encode_plain(t, w, text, at, out);
        if (id >= 0 && !rc) {
            rc = tokens_add(out, &id, 1);
            at += t->vocab.token[id].len;
        }
        place = AT_RUN;
        text += at;
        n -= at;
    }
    if (rc)
        out->n = before;
    return_work(t, w);
    return rc;
}

int tokenizer_encode(const struct tokenizer *t, const char *text, size_t n, bool parse_special,
                     struct tokens *out)
{
    return encode(t, text, n, parse_special, AT_START, out);
}

int tokenizer_encode_on(const struct tokenizer *t, const char *text, size_t n, bool parse_special,
                        struct tokens *out)
{
    const enum vocab_type last = out->n ? t->vocab.token[out->id[out->n - 1]].type : VOCAB_CONTROL;
    const bool run = last == VOCAB_CONTROL || last == VOCAB_USER;
    return encode(t, text, n, parse_special, run ? AT_RUN : INSIDE_RUN, out);
}

int32_t tokenizer_start(const struct tokenizer *t, size_t n)
{
    return t->bos >= 0 || n ? t->bos : t->eot;
}

static int64_t count_in(const struct added *a, const struct vocab *v, const char *text, size_t n,
                        int32_t *id)
{
    int64_t count = 0;
    for (size_t at; n; text += at, n -= at) {
        const int32_t found = added_next(a, v, true, text, n, &at);
        if (found < 0)
            break;
        const bool special = v->token[found].type != VOCAB_USER;
        *id = special && !count ? found : *id;
        count += special;
        at += v->token[found].len;
    }
    return count;
}

int64_t tokenizer_count_special(const struct tokenizer *t, const char *text, size_t n, int32_t *id)
{
    struct buf own = {0};
    int32_t other = -1;
    int64_t count = count_in(&t->added, &t->vocab, text, n, id), more = 0;
    if (t->behind.n && n && !normalize(t, text, n, true, &own))
        more = count_in(&t->added_behind, &t->behind, own.p, own.n, &other);
    *id = more && !count ? other : *id;
    buf_free(&own);
    return count + more;
}

const char *tokenizer_bytes(const struct tokenizer *t, int32_t id, size_t *len)
{
    if (id < 0 || (size_t)id >= t->vocab.n || t->vocab.token[id].type == VOCAB_HOLE)
        return NULL;
    *len = t->vocab.token[id].len;
    return t->vocab.bytes + t->vocab.token[id].at;
}

bool tokenizer_same_ids(const struct tokenizer *a, const struct tokenizer *b)
{
    const int n = tokenizer_vocab_size(a);
    if (n != tokenizer_vocab_size(b))
        return false;
    for (int i = 0; i < n; i++) {
        size_t length[2];
        const char *x = tokenizer_bytes(a, i, &length[0]), *y = tokenizer_bytes(b, i, &length[1]);
        if (!x != !y || (x && (length[0] != length[1] || memcmp(x, y, length[0]) != 0)))
            return false;
    }
    return true;
}

int tokenizer_decode(const struct tokenizer *t, const int32_t *id, size_t n, struct buf *out)
{
    bool spaced = t->space != TOKENIZER_NO_SPACE; // the next text starts with a space of ours
    for (size_t i = 0; i < n; i++) {
        size_t len;
        const char *bytes = tokenizer_bytes(t, id[i], &len);
        if (!bytes)
            return err("no token has id %d; the vocabulary has %zu ids", id[i], t->vocab.n);
        const enum vocab_type type = t->vocab.token[id[i]].type;
        const bool added = type == VOCAB_CONTROL || type == VOCAB_USER || type == VOCAB_UNKNOWN;
        if (spaced && !added && len && *bytes == ' ') {
            bytes++;
            len--;
        }
        buf_add(out, bytes, len);
        if (!added)
            spaced = false;
        else if (t->space != TOKENIZER_SPACE_FIRST)
            spaced = t->space != TOKENIZER_NO_SPACE;
        else if (type == VOCAB_USER)
            spaced = false;
    }
    return out->failed ? -1 : 0;
}

void tokenizer_text(const struct tokenizer *t, int32_t id, struct buf *out)
{
    size_t len;
    char name[8];
    const char *bytes = tokenizer_bytes(t, id, &len);
    const enum vocab_type type = bytes ? t->vocab.token[id].type : VOCAB_HOLE;
    if (type == VOCAB_NORMAL && t->spm) {
        spm_mark(bytes, len, out);
    } else if (type == VOCAB_NORMAL) {
        bytelevel_encode(out, bytes, len);
    } else if (type == VOCAB_BYTE) {
        spm_byte_name((uint8_t)*bytes, name);
        buf_text(out, name);
    } else if (bytes) {
        buf_add(out, bytes, len);
    }
}
