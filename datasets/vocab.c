#define XXH_INLINE_ALL
#include "datasets/vocab.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"

int vocab_set(struct vocab *v, int32_t id, const char *bytes, size_t n, enum vocab_type type)
{
    if ((size_t)id < v->n && v->token[id].type != VOCAB_HOLE)
        return err("token id %d is given twice", id);
    if (n > UINT32_MAX || mem_grow(&v->token, &v->cap, (size_t)id + 1, sizeof *v->token) ||
        mem_grow(&v->bytes, &v->cap_bytes, v->n_bytes + n + 1, 1))
        return -1;
    if (v->n <= (size_t)id)
        v->n = (size_t)id + 1;
    memcpy(v->bytes + v->n_bytes, bytes, n);
    v->token[id] = (struct vocab_token){.at = v->n_bytes, .len = (uint32_t)n, .type = type};
    v->n_bytes += n;
    return 0;
}

/* The slot that holds these bytes, or the empty one where they would go. */
static int32_t *slot_of(const struct vocab *v, const char *bytes, size_t n)
{
    for (size_t i = XXH3_64bits(bytes, n) & (v->n_slots - 1);; i = (i + 1) & (v->n_slots - 1)) {
        const int32_t id = v->slot[i];
        if (id < 0 || (v->token[id].len == n && !memcmp(v->bytes + v->token[id].at, bytes, n)))
            return &v->slot[i];
    }
}

int vocab_index(struct vocab *v)
{
    v->n_slots = 64;
    while (v->n_slots < 2 * v->n)
        v->n_slots *= 2;
    free(v->slot);
    v->slot = mem_new(v->n_slots, sizeof *v->slot);
    if (!v->slot)
        return -1;
    memset(v->slot, 0xff, v->n_slots * sizeof *v->slot);
    for (size_t id = 0; id < v->n; id++) {
        const struct vocab_token *t = &v->token[id];
        int32_t *slot = slot_of(v, v->bytes + t->at, t->len);
        if (t->type == VOCAB_NORMAL && *slot < 0)
            *slot = (int32_t)id;
    }
    return 0;
}

int32_t vocab_find(const struct vocab *v, const char *bytes, size_t n)
{
    return *slot_of(v, bytes, n);
}

void vocab_free(struct vocab *v)
{
    free(v->token);
    free(v->bytes);
    free(v->slot);
    *v = (struct vocab){0};
}
