#define XXH_INLINE_ALL
#include "datasets/pieces.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"

static uint64_t hash_of(const char *s, size_t n)
{
    return XXH3_64bits(s, n);
}

static int rehash(struct pieces *p)
{
    const size_t n_slots = p->n_slots ? 2 * p->n_slots : 1 << 12;
    uint32_t *slot = mem_new(n_slots, sizeof *slot);
    if (!slot)
        return -1;
    for (size_t k = 0; k < p->n; k++) {
        size_t i = hash_of(p->bytes + p->piece[k].at, p->piece[k].len) & (n_slots - 1);
        while (slot[i])
            i = (i + 1) & (n_slots - 1);
        slot[i] = (uint32_t)k + 1;
    }
    free(p->slot);
    p->slot = slot;
    p->n_slots = n_slots;
    return 0;
}

static int64_t append(struct pieces *p, uint32_t *slot, uint64_t hash, const char *s, size_t n)
{
    if (p->n == UINT32_MAX - 1 || n > UINT32_MAX)
        return err("more distinct pieces than can be counted: train on less text");
    if (mem_grow(&p->piece, &p->cap, p->n + 1, sizeof *p->piece) ||
        mem_grow(&p->bytes, &p->cap_bytes, p->n_bytes + n, 1))
        return -1;
    memcpy(p->bytes + p->n_bytes, s, n);
    p->piece[p->n++] = (struct piece){p->n_bytes, (uint32_t)n, (uint32_t)(hash >> 32), 1};
    p->n_bytes += n;
    *slot = (uint32_t)p->n;
    return (int64_t)p->n - 1;
}

int64_t pieces_add(struct pieces *p, const char *s, size_t n)
{
    if (2 * p->n >= p->n_slots && rehash(p))
        return -1;
    const uint64_t hash = hash_of(s, n);
    for (size_t i = hash & (p->n_slots - 1);; i = (i + 1) & (p->n_slots - 1)) {
        if (!p->slot[i])
            return append(p, &p->slot[i], hash, s, n);
        struct piece *known = &p->piece[p->slot[i] - 1];
        if (known->hash == (uint32_t)(hash >> 32) && known->len == n &&
            !memcmp(p->bytes + known->at, s, n)) {
            known->count++;
            return known - p->piece;
        }
    }
}

void pieces_free(struct pieces *p)
{
    free(p->piece);
    free(p->bytes);
    free(p->slot);
    *p = (struct pieces){0};
}
