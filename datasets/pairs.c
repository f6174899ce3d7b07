#include "datasets/pairs.h"

#include <stdlib.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"

static size_t hash_of(int32_t left, int32_t right)
{
    const uint64_t key = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9e3779b97f4a7c15u;
    return key ^ key >> 32;
}

static int rehash(struct pairs *p)
{
    const size_t n_slots = p->n_slots ? 2 * p->n_slots : 1 << 12;
    uint32_t *slot = mem_new(n_slots, sizeof *slot);
    if (!slot)
        return -1;
    for (size_t k = 0; k < p->n; k++) {
        size_t i = hash_of(p->pair[k].left, p->pair[k].right) & (n_slots - 1);
        while (slot[i])
            i = (i + 1) & (n_slots - 1);
        slot[i] = (uint32_t)k + 1;
    }
    free(p->slot);
    p->slot = slot;
    p->n_slots = n_slots;
    return 0;
}

static struct pair *pair_of(struct pairs *p, int32_t left, int32_t right)
{
    if (2 * p->n >= p->n_slots && rehash(p))
        return NULL;
    size_t i = hash_of(left, right) & (p->n_slots - 1);
    for (; p->slot[i]; i = (i + 1) & (p->n_slots - 1)) {
        struct pair *known = &p->pair[p->slot[i] - 1];
        if (known->left == left && known->right == right)
            return known;
    }
    if (p->n == UINT32_MAX - 1) {
        err("more distinct pairs than can be counted: train on less text");
        return NULL;
    }
    if (mem_grow(&p->pair, &p->cap, p->n + 1, sizeof *p->pair))
        return NULL;
    p->pair[p->n] = (struct pair){.left = left, .right = right};
    p->slot[i] = (uint32_t)++p->n;
    return &p->pair[p->n - 1];
}

static int add_word(struct pairs *p, struct pair *pair, uint32_t word)
{
    struct pairs_chunk *c = pair->words ? &p->chunk[pair->words - 1] : NULL;
    if (c && c->word[c->n - 1] == word)
        return 0;
    if (!c || c->n == PAIRS_CHUNK) {
        uint32_t fresh = p->free_chunks;
        if (fresh) {
            p->free_chunks = p->chunk[fresh - 1].next;
        } else {
            if (p->n_chunks == UINT32_MAX - 1)
                return err("more pairs in words than can be counted: train on less text");
            if (mem_grow(&p->chunk, &p->cap_chunks, p->n_chunks + 1, sizeof *p->chunk))
                return -1;
            fresh = (uint32_t)++p->n_chunks;
        }
        c = &p->chunk[fresh - 1];
        c->n = 0;
        c->next = pair->words;
        pair->words = fresh;
    }
    c->word[c->n++] = word;
    return 0;
}

int pairs_change(struct pairs *p, int32_t left, int32_t right, uint32_t word, int64_t by)
{
    struct pair *pair = pair_of(p, left, right);
    if (!pair)
        return -1;
    pair->count += by;
    if (by <= 0)
        return 0;
    if (!pair->grown) {
        if (mem_grow(&p->grown, &p->cap_grown, p->n_grown + 1, sizeof *p->grown))
            return -1;
        p->grown[p->n_grown++] = (uint32_t)(pair - p->pair);
        pair->grown = true;
    }
    return add_word(p, pair, word);
}

void pairs_forget(struct pairs *p, int32_t left, int32_t right)
{
    struct pair *pair = pair_of(p, left, right);
    if (pair)
        pair->count = 0;
}

/* True if a comes before b. */
static bool before(const struct pairs *p, struct pairs_entry a, struct pairs_entry b)
{
    if (a.count != b.count)
        return a.count > b.count;
    const struct pair *x = &p->pair[a.pair], *y = &p->pair[b.pair];
    return x->left != y->left ? x->left < y->left : x->right < y->right;
}

static int push(struct pairs *p, struct pairs_entry e)
{
    if (mem_grow(&p->heap, &p->cap_heap, p->n_heap + 1, sizeof *p->heap))
        return -1;
    size_t i = p->n_heap++;
    for (; i && before(p, e, p->heap[(i - 1) / 2]); i = (i - 1) / 2)
        p->heap[i] = p->heap[(i - 1) / 2];
    p->heap[i] = e;
    return 0;
}

/* Puts e in place of the first entry and restores the order. */
static void sink(struct pairs *p, struct pairs_entry e)
{
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < p->n_heap; i = child) {
        if (child + 1 < p->n_heap && before(p, p->heap[child + 1], p->heap[child]))
            child++;
        if (!before(p, p->heap[child], e))
            break;
        p->heap[i] = p->heap[child];
    }
    p->heap[i] = e;
}

int pairs_queue(struct pairs *p)
{
    for (size_t k = 0; k < p->n_grown; k++) {
        struct pair *pair = &p->pair[p->grown[k]];
        pair->grown = false;
        if (pair->count > 0 && push(p, (struct pairs_entry){pair->count, p->grown[k]}))
            return -1;
    }
    p->n_grown = 0;
    return 0;
}

static int take_words(struct pairs *p, struct pair *pair, uint32_t **word, size_t *n, size_t *cap)
{
    while (pair->words) {
        const uint32_t at = pair->words;
        struct pairs_chunk *c = &p->chunk[at - 1];
        if (mem_grow(word, cap, *n + c->n, sizeof **word))
            return -1;
        for (uint32_t i = 0; i < c->n; i++)
            (*word)[(*n)++] = c->word[i];
        pair->words = c->next;
        c->next = p->free_chunks;
        p->free_chunks = at;
    }
    return 0;
}

int64_t pairs_pop(struct pairs *p, int32_t *left, int32_t *right, uint32_t **word, size_t *n,
                  size_t *cap)
{
    while (p->n_heap) {
        struct pairs_entry top = p->heap[0];
        struct pair *pair = &p->pair[top.pair];
        if (top.count == pair->count) {
            const struct pairs_entry last = p->heap[--p->n_heap];
            if (p->n_heap)
                sink(p, last);
            *left = pair->left;
            *right = pair->right;
            return take_words(p, pair, word, n, cap) ? -1 : top.count;
        }
        // it has fallen since it was queued: it takes its place again
        top.count = pair->count;
        sink(p, top);
    }
    return 0;
}

void pairs_free(struct pairs *p)
{
    free(p->pair);
    free(p->slot);
    free(p->chunk);
    free(p->grown);
    free(p->heap);
    *p = (struct pairs){0};
}
