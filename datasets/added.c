#include "datasets/added.h"

#include <stdlib.h>
#include <string.h>

#include "autograd/base/mem.h"

static int order(const void *a, const void *b, void *vocab)
{
    const struct vocab *v = vocab;
    const struct vocab_token *x = &v->token[*(const int32_t *)a];
    const struct vocab_token *y = &v->token[*(const int32_t *)b];
    const int head = (unsigned char)v->bytes[x->at] - (unsigned char)v->bytes[y->at];
    return head ? head : (x->len < y->len) - (x->len > y->len);
}

/* Bytes that two tokens begin with both. */
static size_t shared(const struct vocab *v, int32_t a, int32_t b)
{
    const struct vocab_token *x = &v->token[a], *y = &v->token[b];
    size_t i = 0;
    while (i < x->len && i < y->len && v->bytes[x->at + i] == v->bytes[y->at + i])
        i++;
    return i;
}

int added_index(struct added *a, const struct vocab *v)
{
    for (size_t id = 0; id < v->n; id++) {
        const enum vocab_type type = v->token[id].type;
        const bool added = type == VOCAB_CONTROL || type == VOCAB_USER || type == VOCAB_UNKNOWN;
        if (!added || v->token[id].normalized || !v->token[id].len)
            continue;
        if (mem_grow(&a->id, &a->cap, a->n + 1, sizeof *a->id))
            return -1;
        a->id[a->n++] = (int32_t)id;
    }
    if (a->n)
        qsort_r(a->id, a->n, sizeof *a->id, order, (void *)v);
    size_t k = 0;
    int heads = 0;
    for (int head = 0; head < 256; head++) {
        a->first[head] = k;
        for (; k < a->n && (unsigned char)v->bytes[v->token[a->id[k]].at] == head; k++) {
            const size_t same = shared(v, a->id[a->first[head]], a->id[k]);
            if (k == a->first[head] || same < a->common[head])
                a->common[head] = same;
        }
        if (k > a->first[head]) {
            a->only_first_byte = head;
            heads++;
        }
    }
    a->first[256] = a->n;
    if (heads != 1)
        a->only_first_byte = -1;
    return 0;
}

/* The longest added token that s [n] starts with, or -1. */
static int32_t token_here(const struct added *a, const struct vocab *v, bool control, const char *s,
                          size_t n)
{
    const unsigned char head = (unsigned char)*s;
    const size_t from = a->first[head], to = a->first[head + 1];
    if (from == to || n < a->common[head] ||
        memcmp(s, v->bytes + v->token[a->id[from]].at, a->common[head]))
        return -1;
    for (size_t k = from; k < to; k++) {
        const struct vocab_token *t = &v->token[a->id[k]];
        if (t->len <= n && (control || t->type == VOCAB_USER) &&
            !memcmp(s, v->bytes + t->at, t->len))
            return a->id[k];
    }
    return -1;
}

int32_t added_next(const struct added *a, const struct vocab *v, bool control, const char *s,
                   size_t n, size_t *at)
{
    for (size_t i = 0; a->n && i < n; i++) {
        if (a->only_first_byte >= 0) {
            const char *p = memchr(s + i, a->only_first_byte, n - i);
            if (!p)
                break;
            i = (size_t)(p - s);
        }
        const int32_t id = token_here(a, v, control, s + i, n - i);
        if (id >= 0) {
            *at = i;
            return id;
        }
    }
    *at = n;
    return -1;
}

void added_free(struct added *a)
{
    free(a->id);
    *a = (struct added){0};
}
