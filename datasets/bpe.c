#define XXH_INLINE_ALL
#include "datasets/bpe.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"
#include "autograd/base/utf8.h"

struct bpe_slot {
    int32_t left, right; /* left -1: empty */
    int32_t rank, into;
};

enum {
    SHORT = 48,      /* up to here a scan for the lowest rank beats a heap          */
    CACHE_TEXT = 30, /* a cache slot is one line of 64 bytes                        */
    CACHE_TOKENS = 8,
    CACHE_SLOTS = 1 << 15,
    KEPT_SYMBOLS = 1 << 18,
    NO_RANK = INT32_MAX,
};

struct cached {
    uint8_t len, n_tokens; /* len 0: empty */
    char text[CACHE_TEXT];
    int32_t id[CACHE_TOKENS];
};

struct symbol { /* of a long piece: a doubly linked list, in an array of one for each byte */
    int32_t id; /* -1: merged into its left neighbour */
    uint32_t prev, next;
};

struct candidate { /* the pair that starts at symbol `at`, while it still has this rank */
    int32_t rank;
    uint32_t at;
};

struct bpe_work {
    struct cached *cache;
    struct symbol *symbol;
    size_t cap_symbols;
    struct candidate *heap;
    size_t n_heap, cap_heap;
    int32_t *id; /* what a long piece starts as */
    size_t cap_ids;
};

static int add(struct bpe *b, struct bpe_merge m)
{
    if (b->n_merges == INT32_MAX - 1)
        return err("more than %d merges", INT32_MAX - 1);
    if (mem_grow(&b->merge, &b->cap_merges, b->n_merges + 1, sizeof *b->merge))
        return -1;
    b->merge[b->n_merges++] = m;
    return 0;
}

int bpe_add(struct bpe *b, struct bpe_merge m)
{
    m.rank = b->n_merges ? b->merge[b->n_merges - 1].rank + 1 : 0;
    return add(b, m);
}

int bpe_add_tied(struct bpe *b, struct bpe_merge m)
{
    m.rank = b->n_merges ? b->merge[b->n_merges - 1].rank : 0;
    return add(b, m);
}

static struct bpe_slot *slot_of(const struct bpe *b, int32_t left, int32_t right)
{
    const uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    const uint64_t mixed = key * 0x9e3779b97f4a7c15u;
    for (size_t i = (mixed ^ mixed >> 32) & (b->n_slots - 1);; i = (i + 1) & (b->n_slots - 1)) {
        struct bpe_slot *s = &b->slot[i];
        if (s->left < 0 || (s->left == left && s->right == right))
            return s;
    }
}

int bpe_index(struct bpe *b)
{
    b->n_slots = 64;
    while (b->n_slots < 2 * b->n_merges + 1)
        b->n_slots *= 2;
    free(b->slot);
    b->slot = mem_new(b->n_slots, sizeof *b->slot);
    if (!b->slot)
        return -1;
    for (size_t i = 0; i < b->n_slots; i++)
        b->slot[i] = (struct bpe_slot){-1, -1, NO_RANK, -1};
    for (size_t i = 0; i < b->n_merges; i++) {
        const struct bpe_merge m = b->merge[i];
        *slot_of(b, m.left, m.right) = (struct bpe_slot){m.left, m.right, m.rank, m.into};
    }
    return 0;
}

void bpe_free(struct bpe *b)
{
    free(b->merge);
    free(b->slot);
    *b = (struct bpe){0};
}

struct bpe_work *bpe_work_new(void)
{
    struct bpe_work *w = mem_new(1, sizeof *w);
    if (w && !(w->cache = mem_new(CACHE_SLOTS, sizeof *w->cache))) {
        free(w);
        return NULL;
    }
    return w;
}

void bpe_work_free(struct bpe_work *w)
{
    if (!w)
        return;
    free(w->cache);
    free(w->symbol);
    free(w->heap);
    free(w->id);
    free(w);
}

/* ---- what a piece starts as, and ends as ---- */

/* One character of s [n], or one byte of what is no UTF-8: adds its symbols to id. Bytes eaten. */
static size_t start_char(const struct bpe *b, const char *s, size_t n, int32_t *id, size_t *n_ids)
{
    uint32_t code;
    size_t len = utf8_decode(s, n, &code), before = *n_ids;
    const int32_t symbol = len ? charset_find(b->chars, code) : -1;
    if (symbol >= 0) {
        id[(*n_ids)++] = symbol;
        return len;
    }
    len = len ? len : 1;
    for (size_t i = 0; i < len; i++) {
        if ((id[*n_ids] = b->byte_id[(uint8_t)s[i]]) < 0)
            break;
        ++*n_ids;
    }
    if (*n_ids == before + len)
        return len;
    *n_ids = before;
    if (b->unk >= 0 && (!before || id[before - 1] != b->unk))
        id[(*n_ids)++] = b->unk;
    return len;
}

/* The symbols of s [n] to id [n]; how many. */
static size_t start(const struct bpe *b, const char *s, size_t n, int32_t *id)
{
    size_t n_ids = 0;
    if (b->chars) {
        for (size_t i = 0; i < n;)
            i += start_char(b, s + i, n - i, id, &n_ids);
        return n_ids;
    }
    for (size_t i = 0; i < n; i++)
        if ((id[n_ids] = b->byte_id[(uint8_t)s[i]]) >= 0)
            n_ids++;
    return n_ids;
}

/* Appends the tokens that the merged symbols id [n] are: those that stand for a character which is
   no token become its bytes. */
static int finish(const struct bpe *b, const int32_t *id, size_t n, struct tokens *out)
{
    if (!b->chars || !b->chars->n_code)
        return tokens_add(out, id, n);
    for (size_t i = 0; i < n; i++) {
        int32_t bytes[4];
        char utf8[4];
        size_t k = 0;
        if (id[i] < b->chars->first) {
            if (tokens_add(out, id + i, 1))
                return -1;
            continue;
        }
        const size_t len = utf8_encode(b->chars->code[id[i] - b->chars->first], utf8);
        while (k < len && (bytes[k] = b->byte_id[(uint8_t)utf8[k]]) >= 0)
            k++;
        if (k == len ? tokens_add(out, bytes, k) : b->unk >= 0 && tokens_add(out, &b->unk, 1))
            return -1;
    }
    return 0;
}

/* ---- merging ---- */

/* Merges id [n] in place, n <= SHORT; how many are left. */
static size_t merge_short(const struct bpe *b, int32_t *id, size_t n)
{
    int32_t rank[SHORT];
    for (size_t i = 0; i + 1 < n; i++)
        rank[i] = slot_of(b, id[i], id[i + 1])->rank;
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best])
                best = i;
        if (rank[best] == NO_RANK)
            break;
        id[best] = slot_of(b, id[best], id[best + 1])->into;
        n--;
        memmove(id + best + 1, id + best + 2, (n - best - 1) * sizeof *id);
        if (best + 1 < n) {
            memmove(rank + best + 1, rank + best + 2, (n - best - 2) * sizeof *rank);
            rank[best] = slot_of(b, id[best], id[best + 1])->rank;
        }
        if (best)
            rank[best - 1] = slot_of(b, id[best - 1], id[best])->rank;
    }
    return n;
}

static bool before(struct candidate a, struct candidate b)
{
    return a.rank != b.rank ? a.rank < b.rank : a.at < b.at;
}

static int heap_push(struct bpe_work *w, struct candidate c)
{
    if (mem_grow(&w->heap, &w->cap_heap, w->n_heap + 1, sizeof *w->heap))
        return -1;
    size_t i = w->n_heap++;
    for (; i && before(c, w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = c;
    return 0;
}

static struct candidate heap_pop(struct bpe_work *w)
{
    const struct candidate top = w->heap[0], last = w->heap[--w->n_heap];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < w->n_heap; i = child) {
        if (child + 1 < w->n_heap && before(w->heap[child + 1], w->heap[child]))
            child++;
        if (!before(w->heap[child], last))
            break;
        w->heap[i] = w->heap[child];
    }
    w->heap[i] = last;
    return top;
}

/* The slot of the pair that starts at a symbol; one without a pair: NULL. */
static const struct bpe_slot *pair_at(const struct bpe *b, const struct symbol *s, uint32_t at,
                                      size_t n)
{
    return s[at].id < 0 || s[at].next >= n ? NULL : slot_of(b, s[at].id, s[s[at].next].id);
}

static int push_pair(const struct bpe *b, struct bpe_work *w, uint32_t at, size_t n)
{
    const struct bpe_slot *pair = pair_at(b, w->symbol, at, n);
    return !pair || pair->rank == NO_RANK ? 0 : heap_push(w, (struct candidate){pair->rank, at});
}

/* The same for any n: a heap of candidates, those that have changed since being dropped as they
   come up. Appends to out. */
static int encode_long(const struct bpe *b, struct bpe_work *w, const char *s, size_t bytes,
                       struct tokens *out)
{
    if (bytes >= UINT32_MAX)
        return err("a piece of %zu bytes without a place to cut", bytes);
    if (mem_grow(&w->symbol, &w->cap_symbols, bytes, sizeof *w->symbol) ||
        mem_grow(&w->id, &w->cap_ids, bytes, sizeof *w->id))
        return -1;
    const size_t n = start(b, s, bytes, w->id);
    for (size_t i = 0; i < n; i++)
        w->symbol[i] = (struct symbol){w->id[i], (uint32_t)i - 1, (uint32_t)i + 1};
    w->n_heap = 0;
    for (uint32_t i = 0; i < n; i++)
        if (push_pair(b, w, i, n))
            return -1;
    struct symbol *sym = w->symbol;
    while (w->n_heap) {
        const struct candidate c = heap_pop(w);
        const struct bpe_slot *pair = pair_at(b, sym, c.at, n);
        if (!pair || pair->rank != c.rank)
            continue;
        const uint32_t right = sym[c.at].next, next = sym[right].next;
        sym[c.at].id = pair->into;
        sym[c.at].next = next;
        sym[right].id = -1;
        if (next < n)
            sym[next].prev = c.at;
        if ((c.at && push_pair(b, w, sym[c.at].prev, n)) || push_pair(b, w, c.at, n))
            return -1;
    }
    size_t left = 0;
    for (uint32_t i = 0; i < n; i = sym[i].next)
        w->id[left++] = sym[i].id;
    if (finish(b, w->id, left, out))
        return -1;
    if (w->cap_symbols > KEPT_SYMBOLS) { // one huge piece is no reason to hold on to its memory
        free(w->symbol);
        free(w->heap);
        free(w->id);
        w->symbol = NULL;
        w->heap = NULL;
        w->id = NULL;
        w->cap_symbols = w->cap_heap = w->cap_ids = 0;
    }
    return 0;
}

static int encode_bytes(const struct bpe *b, const char *s, size_t n, struct tokens *out)
{
    int32_t id[256];
    for (size_t i = 0; i < n;) {
        size_t k = 0;
        for (; i < n && k < 256; i++)
            if ((id[k] = b->byte_id[(uint8_t)s[i]]) >= 0)
                k++;
        if (tokens_add(out, id, k))
            return -1;
    }
    return 0;
}

int bpe_encode(const struct bpe *b, struct bpe_work *w, const char *s, size_t n, struct tokens *out)
{
    if (!b->n_merges && !b->whole && !b->chars)
        return encode_bytes(b, s, n, out);
    struct cached *slot = NULL;
    if (n <= CACHE_TEXT) {
        slot = &w->cache[XXH3_64bits(s, n) % CACHE_SLOTS];
        if (slot->len == n && !memcmp(slot->text, s, n))
            return tokens_add(out, slot->id, slot->n_tokens);
    }
    int32_t id[SHORT];
    size_t n_ids = 0;
    if (b->whole && (id[0] = vocab_find(b->whole, s, n)) >= 0) {
        n_ids = 1;
    } else if (n > SHORT) {
        return encode_long(b, w, s, n, out);
    } else {
        n_ids = merge_short(b, id, start(b, s, n, id));
    }
    const size_t before = out->n;
    if (finish(b, id, n_ids, out))
        return -1;
    n_ids = out->n - before;
    if (slot && n_ids <= CACHE_TOKENS) {
        slot->len = (uint8_t)n;
        slot->n_tokens = (uint8_t)n_ids;
        memcpy(slot->text, s, n);
        if (n_ids) // nothing may be there yet, not even memory
            memcpy(slot->id, out->id + before, n_ids * sizeof *id);
    }
    return 0;
}
