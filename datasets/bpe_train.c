#include "datasets/bpe_train.h"

#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"
#include "datasets/bytelevel.h"
#include "datasets/pairs.h"
#include "datasets/pieces.h"

enum { BYTES = 256, PIECE_MOST = 4096, LEAST_COUNT = 2 };

static const char *const end_of_text[] = {"<|endoftext|>", NULL};

struct bpe_train {
    const struct pretok *pre;
    int n_new;      /* tokens to be learned */
    char **special; /* n_specials of them */
    int n_specials;
    struct pieces pieces;
};

/* A piece as tokens. While training, bytes are numbered by their order in the byte alphabet. */
struct word {
    size_t at; /* of its tokens in `token` */
    uint32_t n;
    int64_t count;
};

struct learning {
    struct pieces text; /* of the tokens, by number */
    struct bpe merges;  /* only its list */
    struct word *word;  /* one for each piece, in that order */
    int32_t *token;
    struct pairs pairs;
    uint32_t *touched; /* the words of the pair that is merged */
    size_t cap_touched;
};

struct bpe_train *bpe_train_new(const char *pre, int vocab_size, const char *const *specials)
{
    const struct pretok *rule = pretok_find(pre);
    if (!rule)
        return NULL;
    if (!specials)
        specials = end_of_text;
    int n = 0;
    while (specials[n])
        n++;
    if (vocab_size < BYTES + n || vocab_size > 1 << 24) {
        err("vocab_size is %d; it takes %d to %d: a token for each byte, and %d special ones",
            vocab_size, BYTES + n, 1 << 24, n);
        return NULL;
    }
    struct bpe_train *b = mem_new(1, sizeof *b);
    if (!b)
        return NULL;
    b->pre = rule;
    b->n_new = vocab_size - BYTES - n;
    b->special = mem_new((size_t)n, sizeof *b->special);
    for (; b->special && b->n_specials < n; b->n_specials++)
        if (!(b->special[b->n_specials] =
                  mem_text(specials[b->n_specials], strlen(specials[b->n_specials]))))
            break;
    if (b->n_specials < n || !b->special) {
        bpe_train_free(b);
        return NULL;
    }
    return b;
}

int bpe_train_add(struct bpe_train *b, const char *text, size_t n)
{
    for (size_t len; n; text += len, n -= len) {
        len = pretok_next(b->pre, text, n);
        for (size_t at = 0; at < len; at += PIECE_MOST)
            if (pieces_add(&b->pieces, text + at, len - at < PIECE_MOST ? len - at : PIECE_MOST) <
                0)
                return -1;
    }
    return 0;
}

/* order[byte]: its place in the byte alphabet, 0..255. */
static void byte_order(int32_t order[BYTES], uint8_t byte_at[BYTES])
{
    for (int b = 0; b < BYTES; b++) {
        order[b] = 0;
        for (int other = 0; other < BYTES; other++)
            order[b] += bytelevel_code((uint8_t)other) < bytelevel_code((uint8_t)b);
        byte_at[order[b]] = (uint8_t)b;
    }
}

static int learning_init(struct learning *l, const struct pieces *p)
{
    int32_t order[BYTES];
    uint8_t byte_at[BYTES];
    byte_order(order, byte_at);
    for (int i = 0; i < BYTES; i++)
        if (pieces_add(&l->text, (const char *)&byte_at[i], 1) < 0)
            return -1;
    l->word = mem_new(p->n, sizeof *l->word);
    l->token = l->word ? mem_new(p->n_bytes, sizeof *l->token) : NULL;
    if (!l->token)
        return -1;
    for (size_t i = 0; i < p->n_bytes; i++)
        l->token[i] = order[(uint8_t)p->bytes[i]];
    for (size_t k = 0; k < p->n; k++) {
        const struct word w = {p->piece[k].at, p->piece[k].len, p->piece[k].count};
        l->word[k] = w;
        const int32_t *t = l->token + w.at;
        for (uint32_t i = 0; i + 1 < w.n; i++)
            if (pairs_change(&l->pairs, t[i], t[i + 1], (uint32_t)k, w.count))
                return -1;
    }
    return pairs_queue(&l->pairs);
}

static void learning_free(struct learning *l)
{
    free(l->word);
    free(l->token);
    free(l->touched);
    pieces_free(&l->text);
    bpe_free(&l->merges);
    pairs_free(&l->pairs);
}

/* Replaces left, right by into all through word k, and corrects the counts of its other pairs:
   after every replacement they are those of the tokens so far plus the rest of the old word. */
static int merge_word(struct learning *l, uint32_t k, int32_t left, int32_t right, int32_t into)
{
    struct word *w = &l->word[k];
    struct pairs *p = &l->pairs;
    int32_t *t = l->token + w->at;
    uint32_t out = 0;
    for (uint32_t in = 0; in < w->n; out++) {
        if (in + 1 == w->n || t[in] != left || t[in + 1] != right) {
            t[out] = t[in++];
            continue;
        }
        if (out && (pairs_change(p, t[out - 1], left, k, -w->count) ||
                    pairs_change(p, t[out - 1], into, k, w->count)))
            return -1;
        if (in + 2 < w->n && (pairs_change(p, right, t[in + 2], k, -w->count) ||
                              pairs_change(p, into, t[in + 2], k, w->count)))
            return -1;
        t[out] = into;
        in += 2;
    }
    w->n = out;
    return 0;
}

/* The number of the token that left, right make; -1 with err(). It is a new one: equal texts that
   no token reaches out of have been merged alike, so that no second pair comes to the same text. */
static int32_t token_of(struct learning *l, int32_t left, int32_t right)
{
    const struct pieces *p = &l->text;
    struct buf both = {0};
    buf_add(&both, p->bytes + p->piece[left].at, p->piece[left].len);
    buf_add(&both, p->bytes + p->piece[right].at, p->piece[right].len);
    const int64_t into = both.failed ? -1 : pieces_add(&l->text, both.p, both.n);
    buf_free(&both);
    return (int32_t)into;
}

/* Merges until there are n tokens. */
static int learn(struct learning *l, size_t n)
{
    while (l->text.n < n) {
        size_t n_touched = 0;
        struct bpe_merge m;
        const int64_t count =
            pairs_pop(&l->pairs, &m.left, &m.right, &l->touched, &n_touched, &l->cap_touched);
        if (count < 0)
            return -1;
        if (count < LEAST_COUNT)
            break;
        m.into = token_of(l, m.left, m.right);
        if (m.into < 0 || bpe_add(&l->merges, m))
            return -1;
        for (size_t i = 0; i < n_touched; i++)
            if (merge_word(l, l->touched[i], m.left, m.right, m.into))
                return -1;
        pairs_forget(&l->pairs, m.left, m.right);
        if (pairs_queue(&l->pairs))
            return -1;
    }
    return 0;
}

/* Turns training's numbers into ids: bytes by value. */
static int fill(const struct bpe_train *b, const struct learning *l, struct tokenizer *t)
{
    const struct pieces *p = &l->text;
    int rc = 0;
    for (size_t k = 0; k < p->n && !rc; k++) {
        const char *text = p->bytes + p->piece[k].at;
        const int32_t id = k < BYTES ? (uint8_t)*text : (int32_t)k;
        if (k < BYTES)
            t->bpe.byte_id[id] = id;
        rc = vocab_set(&t->vocab, id, text, p->piece[k].len, VOCAB_NORMAL);
    }
    for (size_t k = 0; k < l->merges.n_merges && !rc; k++) {
        struct bpe_merge m = l->merges.merge[k];
        if (m.left < BYTES)
            m.left = (uint8_t)p->bytes[p->piece[m.left].at];
        if (m.right < BYTES)
            m.right = (uint8_t)p->bytes[p->piece[m.right].at];
        rc = bpe_add(&t->bpe, m);
    }
    for (int i = 0; i < b->n_specials && !rc; i++)
        rc = vocab_set(&t->vocab, (int32_t)p->n + i, b->special[i], strlen(b->special[i]),
                       VOCAB_CONTROL);
    return rc || tokenizer_finish(t) ? -1 : 0;
}

struct tokenizer *bpe_train_finish(struct bpe_train *b)
{
    struct learning l = {0};
    struct tokenizer *t = NULL;
    if (!learning_init(&l, &b->pieces) && !learn(&l, (size_t)(BYTES + b->n_new)))
        t = tokenizer_new_empty(b->pre);
    if (t && fill(b, &l, t)) {
        tokenizer_free(t);
        t = NULL;
    }
    learning_free(&l);
    bpe_train_free(b);
    return t;
}

void bpe_train_free(struct bpe_train *b)
{
    if (!b)
        return;
    for (int i = 0; i < b->n_specials; i++)
        free(b->special[i]);
    free(b->special);
    pieces_free(&b->pieces);
    free(b);
}
