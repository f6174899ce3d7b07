/* Tokenizers from lists: GGUF's metadata, tokenizer.model. */
#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"
#include "autograd/base/once.h"
#include "autograd/base/utf8.h"
#include "datasets/bytelevel.h"
#include "datasets/tokenizer.h"

/* What a normal token holds, to `bytes`; false: no text becomes it. */
static bool token_bytes(const struct tokenizer_parts *p, const struct tokenizer_text *text,
                        struct buf *bytes)
{
    buf_clear(bytes);
    if (!p->spm) {
        char *to = mem_new(text->n + 1, 1);
        const long n = to ? bytelevel_decode(text->s, text->n, to) : -1;
        if (n > 0)
            buf_add(bytes, to, (size_t)n);
        bytes->failed |= !to;
        free(to);
        return n > 0;
    }
    // a space that is written as one, not as U+2581, is met by no text
    if (!text->n || memchr(text->s, ' ', text->n) || utf8_valid(text->s, text->n) != text->n)
        return false;
    return !spm_spaces(text->s, text->n, bytes);
}

static int add_token(struct tokenizer *t, const struct tokenizer_parts *p, int32_t id,
                     struct buf *bytes)
{
    const struct tokenizer_text *text = &p->token[id];
    int32_t type = p->type ? p->type[id] : VOCAB_NORMAL;
    if (!text->n) // some files fill up with empty ones
        return 0;
    if (p->spm && spm_byte(text->s, text->n) >= 0 && type == VOCAB_NORMAL)
        type = VOCAB_BYTE;
    if (p->spm && spm_byte(text->s, text->n) >= 0 && type != VOCAB_BYTE)
        return err("token %d, '%.*s', is of type %d, not of type byte", id, (int)text->n, text->s,
                   type);
    switch (type) {
    case VOCAB_NORMAL:
        if (!token_bytes(p, text, bytes))
            return bytes->failed ? -1 : vocab_set(&t->vocab, id, text->s, text->n, VOCAB_UNUSED);
        if (!p->spm && bytes->n == 1)
            t->bpe.byte_id[(uint8_t)*bytes->p] = id;
        return vocab_set(&t->vocab, id, bytes->p, bytes->n, VOCAB_NORMAL);
    case VOCAB_BYTE: {
        const int byte = spm_byte(text->s, text->n);
        const char c = (char)byte;
        if (byte < 0 || !p->spm)
            return err("token %d is of type byte, but %s", id,
                       p->spm ? "no <0x00> to <0xFF>" : "the tokenizer has no bytes apart");
        t->bpe.byte_id[byte] = id;
        return vocab_set(&t->vocab, id, &c, 1, VOCAB_BYTE);
    }
    case VOCAB_UNKNOWN:
    case VOCAB_CONTROL:
    case VOCAB_USER:
    case VOCAB_UNUSED:
        return vocab_set(&t->vocab, id, text->s, text->n, (enum vocab_type)type);
    case VOCAB_HOLE: // GGUF's "undefined"
        return vocab_set(&t->vocab, id, text->s, text->n, VOCAB_UNUSED);
    default:
        return err("token %d is of the unknown type %d", id, type);
    }
}

/* Files write tokens by their text: two with the same are one too many. */
static int check_unique(const struct tokenizer_parts *p)
{
    struct vocab texts = {0};
    int rc = 0;
    for (size_t id = 0; id < p->n && !rc; id++)
        if (p->token[id].n)
            rc = vocab_set(&texts, (int32_t)id, p->token[id].s, p->token[id].n, VOCAB_NORMAL);
    if (!rc)
        rc = vocab_index(&texts);
    for (size_t id = 0; id < p->n && !rc; id++) {
        const struct tokenizer_text *t = &p->token[id];
        const int32_t first = t->n ? vocab_find(&texts, t->s, t->n) : (int32_t)id;
        if (first != (int32_t)id)
            rc = err("tokens %d and %zu are the same, '%.*s'", first, id,
                     (int)(t->n < 40 ? t->n : 40), t->s);
    }
    vocab_free(&texts);
    return rc;
}

/* ---- merges ---- */

/* The normal token that text [n] is, in the byte alphabet; or -1. Its bytes go behind `both`. */
static int32_t side(const struct tokenizer *t, const char *text, size_t n, struct buf *both)
{
    const size_t at = both->n;
    char *bytes = mem_new(n + 1, 1);
    const long len = bytes ? bytelevel_decode(text, n, bytes) : -1;
    if (len > 0)
        buf_add(both, bytes, (size_t)len);
    both->failed |= !bytes;
    free(bytes);
    return len > 0 && !both->failed ? vocab_find(&t->vocab, both->p + at, (size_t)len) : -1;
}

static int add_merge(struct tokenizer *t, const struct tokenizer_text *m, struct buf *both)
{
    const char *space = m->n ? memchr(m->s, ' ', m->n) : NULL;
    const size_t n = space ? (size_t)(space - m->s) : 0;
    buf_clear(both);
    if (!space)
        return err("has no space");
    const int32_t left = side(t, m->s, n, both), right = side(t, space + 1, m->n - n - 1, both);
    if (both->failed)
        return -1;
    const int32_t into = left < 0 || right < 0 ? -1 : vocab_find(&t->vocab, both->p, both->n);
    if (into < 0)
        return err("not all of the two sides and what they make are tokens");
    return bpe_add(&t->bpe, (struct bpe_merge){.left = left, .right = right, .into = into});
}

static int add_merges(struct tokenizer *t, const struct tokenizer_parts *p, struct buf *both)
{
    if (vocab_index(&t->vocab))
        return -1;
    for (size_t i = 0; i < p->n_merges; i++)
        if (add_merge(t, &p->merge[i], both))
            return err_in("merge %zu", i);
    return 0;
}

/* ---- the rest ---- */

static int add_roles(struct tokenizer *t, const struct tokenizer_parts *p)
{
    for (int i = 0; i < TOKENIZER_ROLES; i++) {
        if (p->role[i] >= 0 &&
            ((size_t)p->role[i] >= t->vocab.n || t->vocab.token[p->role[i]].type == VOCAB_HOLE))
            return err("the special token %s has the id %d, which no token has", tokenizer_roles[i],
                       p->role[i]);
        t->role[i] = p->role[i] < 0 ? -1 : p->role[i];
    }
    t->bos = p->add_bos ? t->role[TOKENIZER_BOS] : -1;
    t->add_eos = p->add_eos;
    t->space = p->space;
    if (p->chat_template.s)
        t->chat_template = mem_text(p->chat_template.s, p->chat_template.n);
    return p->chat_template.s && !t->chat_template ? -1 : 0;
}

static void settle_bytes(struct tokenizer *t)
{
    int missing = 0;
    for (int b = 0; b < 256; b++)
        missing += t->bpe.byte_id[b] < 0 && b != 0xc0 && b != 0xc1 && b < 0xf5;
    if (t->spm)
        t->bpe.unk = t->role[TOKENIZER_UNK];
    if (missing)
        once_warn("the tokenizer lacks %d of the 256 bytes: where text has them, they are lost",
                  missing);
}

static int make(struct tokenizer *t, const struct tokenizer_parts *p)
{
    struct buf scratch = {0};
    int rc = p->n && p->n <= INT32_MAX / 2 ? check_unique(p) : err("%zu tokens", p->n);
    t->spm = p->spm;
    t->pre_name = p->spm ? NULL : p->pre->name;
    for (size_t id = 0; id < p->n && !rc; id++)
        rc = add_token(t, p, (int32_t)id, &scratch);
    if (!rc && p->spm && p->score) {
        t->score = mem_new(p->n, sizeof *t->score);
        rc = t->score ? 0 : -1;
        if (t->score)
            memcpy(t->score, p->score, p->n * sizeof *t->score);
    }
    if (!rc && !p->spm)
        rc = add_merges(t, p, &scratch);
    if (!rc && !p->spm && p->pre->whole)
        t->bpe.whole = &t->vocab;
    buf_free(&scratch);
    if (!rc && !t->vocab.n)
        rc = err("no tokens");
    if (rc || add_roles(t, p))
        return -1;
    settle_bytes(t);
    return tokenizer_finish(t);
}

struct tokenizer *tokenizer_make(const struct tokenizer_parts *p)
{
    struct tokenizer *t = tokenizer_new_empty(p->spm ? NULL : p->pre->rule);
    if (t && make(t, p)) {
        tokenizer_free(t);
        t = NULL;
    }
    return t;
}
