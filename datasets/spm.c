#include "datasets/spm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"
#include "autograd/base/utf8.h"

static const char mark[] = "\xe2\x96\x81"; /* U+2581 */
enum { MARK = 3 };

/* ---- characters and cuts ---- */

static void note_inside(struct spm *s, const char *t, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        const uint8_t x = (uint8_t)t[i - 1], y = (uint8_t)t[i];
        s->inside[x][y >> 6] |= (uint64_t)1 << (y & 63);
    }
}

static bool is_inside(const struct spm *s, char x, char y)
{
    return s->inside[(uint8_t)x][(uint8_t)y >> 6] >> ((uint8_t)y & 63) & 1;
}

/* Tokens of one character are what it starts as; `parts`: so are, as symbols of their own, the
   characters of longer tokens that are none. */
static int add_chars(struct spm *s, const struct vocab *v, bool parts)
{
    for (size_t id = 0; id < v->n; id++) {
        const struct vocab_token *t = &v->token[id];
        const char *text = v->bytes + t->at;
        uint32_t code;
        if (t->type != VOCAB_NORMAL || vocab_find(v, text, t->len) != (int32_t)id)
            continue;
        const size_t first = utf8_decode(text, t->len, &code);
        if (first == t->len && charset_add(&s->chars, code, (int32_t)id))
            return -1;
        if (first != t->len)
            note_inside(s, text, t->len);
    }
    for (size_t id = 0; id < v->n && parts; id++) {
        const struct vocab_token *t = &v->token[id];
        uint32_t code;
        if (t->type != VOCAB_NORMAL)
            continue;
        for (size_t i = 0; i < t->len; i += utf8_decode(v->bytes + t->at + i, t->len - i, &code)) {
            if (!utf8_decode(v->bytes + t->at + i, t->len - i, &code))
                return err("token %zu is not UTF-8", id);
            if (charset_add(&s->chars, code, -1))
                return -1;
        }
    }
    return 0;
}

/* ---- merges ---- */

struct scored {
    float score;
    int32_t id;
};

static int by_score(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    const int order = (x->score < y->score) - (x->score > y->score);
    return order ? order : (x->id > y->id) - (x->id < y->id);
}

/* The symbol of these bytes, or -1. */
static int32_t symbol_of(const struct spm *s, const struct vocab *v, const char *text, size_t n)
{
    uint32_t code;
    const int32_t id = vocab_find(v, text, n);
    return id >= 0 ? id : utf8_decode(text, n, &code) == n ? charset_find(&s->chars, code) : -1;
}

/* All pairs that make token id. *tied: a pair of the same score was there before. */
static int add_pairs(const struct spm *s, const struct vocab *v, int32_t id, struct bpe *b,
                     bool *tied)
{
    const char *text = v->bytes + v->token[id].at;
    const size_t n = v->token[id].len;
    uint32_t code;
    for (size_t i = utf8_decode(text, n, &code); i < n; i += utf8_decode(text + i, n - i, &code)) {
        const struct bpe_merge m = {.left = symbol_of(s, v, text, i),
                                    .right = symbol_of(s, v, text + i, n - i),
                                    .into = id};
        if (m.left < 0 || m.right < 0)
            continue;
        if (*tied ? bpe_add_tied(b, m) : bpe_add(b, m))
            return -1;
        *tied = true;
    }
    return 0;
}

static int add_merges(const struct spm *s, const struct vocab *v, const float *score, struct bpe *b)
{
    struct scored *order = mem_new(v->n, sizeof *order);
    size_t n = 0;
    if (!order)
        return -1;
    for (size_t id = 0; id < v->n; id++) {
        const struct vocab_token *t = &v->token[id];
        if (t->type == VOCAB_NORMAL && vocab_find(v, v->bytes + t->at, t->len) == (int32_t)id)
            order[n++] = (struct scored){score[id], (int32_t)id};
    }
    qsort(order, n, sizeof *order, by_score);
    int rc = 0;
    bool tied = false;
    for (size_t k = 0; k < n && !rc; k++) {
        if (k && order[k].score != order[k - 1].score)
            tied = false;
        rc = add_pairs(s, v, order[k].id, b, &tied);
    }
    free(order);
    return rc;
}

int spm_init(struct spm *s, const struct vocab *v, const float *score, struct bpe *b)
{
    *s = (struct spm){0};
    for (size_t id = 0; id < v->n; id++) {
        if (v->token[id].type == VOCAB_NORMAL && v->token[id].len > SPM_TOKEN)
            return err("token %zu has %u bytes, at most %d are possible", id, v->token[id].len,
                       SPM_TOKEN);
        if (score && !isfinite(score[id]))
            return err("token %zu has the score %g", id, (double)score[id]);
    }
    if (charset_init(&s->chars, (int32_t)v->n) || add_chars(s, v, score != NULL) ||
        (score && add_merges(s, v, score, b))) {
        spm_free(s);
        return -1;
    }
    b->chars = &s->chars;
    return 0;
}

void spm_free(struct spm *s)
{
    charset_free(&s->chars);
}

/* ---- text ---- */

size_t spm_next(const struct spm *s, const char *text, size_t n)
{
    size_t i = 1;
    while (i < n && (((uint8_t)text[i] & 0xc0) == 0x80 || is_inside(s, text[i - 1], text[i])))
        i++;
    return i;
}

bool spm_has_mark(const char *text, size_t n)
{
    return memmem(text, n, mark, MARK) != NULL;
}

int spm_spaces(const char *text, size_t n, struct buf *out)
{
    for (const char *p; n && (p = memmem(text, n, mark, MARK));) {
        buf_add(out, text, (size_t)(p - text));
        buf_add(out, " ", 1);
        n -= (size_t)(p - text) + MARK;
        text = p + MARK;
    }
    buf_add(out, text, n);
    return out->failed ? -1 : 0;
}

void spm_mark(const char *token, size_t n, struct buf *out)
{
    for (const char *p; n && (p = memchr(token, ' ', n));) {
        buf_add(out, token, (size_t)(p - token));
        buf_add(out, mark, MARK);
        n -= (size_t)(p - token) + 1;
        token = p + 1;
    }
    buf_add(out, token, n);
}

void spm_byte_name(uint8_t byte, char name[8])
{
    snprintf(name, 8, "<0x%02X>", byte);
}

int spm_byte(const char *text, size_t n)
{
    static const char digits[] = "0123456789ABCDEF";
    if (n != 6 || memcmp(text, "<0x", 3) || text[5] != '>')
        return -1;
    const char *high = memchr(digits, text[3], 16), *low = memchr(digits, text[4], 16);
    return high && low ? (int)(16 * (high - digits) + (low - digits)) : -1;
}
