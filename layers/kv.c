#include "layers/kv.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <xxhash.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"
#include "layers/transformer.h"

size_t kv_block_bytes(const struct transformer_dims *dims, enum kvblock_type type)
{
    const size_t head = kvblock_bytes(type, dims->head_dim);
    size_t heads = 0;
    if (!head)
        err("a cache in %s holds 32 elements together, which heads of %d are no multiple of: "
            "take f16",
            kvblock_names[type], dims->head_dim);
    for (int l = 0; l < dims->n_layers; l++)
        heads += (size_t)dims->n_kv_heads[l];
    return head * heads;
}

int64_t kv_blocks(int64_t tokens)
{
    return (tokens + KVBLOCK - 1) / KVBLOCK;
}

/* ---- lists ---- */

static void push(struct kv_pool *p, struct kv_list *list, int32_t b)
{
    p->block[b].prev = list->last;
    p->block[b].next = KV_NONE;
    *(list->last == KV_NONE ? &list->first : &p->block[list->last].next) = b;
    list->last = b;
}

static void push_first(struct kv_pool *p, struct kv_list *list, int32_t b)
{
    p->block[b].prev = KV_NONE;
    p->block[b].next = list->first;
    *(list->first == KV_NONE ? &list->last : &p->block[list->first].prev) = b;
    list->first = b;
}

static void take_out(struct kv_pool *p, struct kv_list *list, int32_t b)
{
    const struct kv_block *x = &p->block[b];
    *(x->prev == KV_NONE ? &list->first : &p->block[x->prev].next) = x->next;
    *(x->next == KV_NONE ? &list->last : &p->block[x->next].prev) = x->prev;
}

/* ---- known blocks ---- */

static int32_t *bucket_of(const struct kv_pool *p, const uint64_t hash[2])
{
    return &p->bucket[hash[0] & (uint64_t)(p->buckets - 1)];
}

/* The hash of a block behind another, or, with NULL, of a first one. */
static void chain_hash(const uint64_t before[2], const int32_t token[KVBLOCK], uint64_t hash[2])
{
    struct {
        uint64_t before[2];
        int32_t token[KVBLOCK];
    } all = {.before = {0}};
    if (before)
        memcpy(all.before, before, sizeof all.before);
    memcpy(all.token, token, sizeof all.token);
    const XXH128_hash_t h = XXH3_128bits(&all, sizeof all);
    hash[0] = h.low64;
    hash[1] = h.high64;
}

static int32_t find(const struct kv_pool *p, const uint64_t hash[2], const int32_t token[KVBLOCK])
{
    int32_t b = *bucket_of(p, hash);
    while (b != KV_NONE && (memcmp(p->block[b].hash, hash, 2 * sizeof *hash) ||
                            memcmp(p->block[b].token, token, KVBLOCK * sizeof *token)))
        b = p->block[b].chain;
    return b;
}

static void forget(struct kv_pool *p, int32_t b)
{
    int32_t *at = bucket_of(p, p->block[b].hash);
    while (*at != b)
        at = &p->block[*at].chain;
    *at = p->block[b].chain;
    p->block[b].known = false;
}

/* ---- blocks and their users ---- */

/* A block with one user, from those that can be had. */
static int32_t take(struct kv_pool *p)
{
    struct kv_list *list = p->free.first != KV_NONE ? &p->free : &p->idle;
    const int32_t b = list->first;
    if (b == KV_NONE)
        BUG("no block is left");
    take_out(p, list, b);
    if (p->block[b].known)
        forget(p, b);
    p->block[b].users = 1;
    p->touched = b < p->touched ? p->touched : b + 1;
    p->used++;
    p->peak = p->used > p->peak ? p->used : p->peak;
    return b;
}

static void share(struct kv_pool *p, int32_t b)
{
    if (!p->block[b].users++) {
        take_out(p, &p->idle, b);
        p->used++;
        p->peak = p->used > p->peak ? p->used : p->peak;
    }
}

static void leave(struct kv_pool *p, int32_t b)
{
    if (--p->block[b].users)
        return;
    if (p->block[b].known)
        push(p, &p->idle, b);
    else
        push_first(p, &p->free, b); // before blocks whose memory was never touched
    p->used--;
}

int64_t kv_pool_left(const struct kv_pool *p)
{
    return p->n - p->used;
}

/* ---- the pool ---- */

int kv_pool_init(struct kv_pool *p, const struct transformer_dims *dims, enum kvblock_type type,
                 int64_t n)
{
    *p = (struct kv_pool){.type = type,
                          .n_layers = dims->n_layers,
                          .n = n,
                          .stride = kv_block_bytes(dims, type),
                          .buckets = 16};
    if (!p->stride)
        return -1;
    if (n < 1 || n > INT32_MAX || (size_t)n > (size_t)PTRDIFF_MAX / p->stride)
        return err("a KV cache of %lld blocks of %zu bytes", (long long)n, p->stride);
    while (p->buckets < 2 * n)
        p->buckets *= 2;
    p->layer = mem_new((size_t)dims->n_layers, sizeof *p->layer);
    p->block = mem_new((size_t)n, sizeof *p->block);
    p->bucket = mem_new((size_t)p->buckets, sizeof *p->bucket);
    if (!p->layer || !p->block || !p->bucket) {
        kv_pool_free(p);
        return err_in("KV cache of %lld blocks", (long long)n);
    }
    const size_t bytes = (size_t)n * p->stride;
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        kv_pool_free(p);
        return err("no memory for a KV cache of %lld blocks, %zu bytes: take a shorter context or "
                   "fewer blocks",
                   (long long)n, bytes);
    }
    (void)madvise(memory, bytes, MADV_HUGEPAGE); // a hint
    p->memory = memory;
    p->bytes = bytes;
    char *at = p->memory;
    for (int l = 0; l < dims->n_layers; l++) {
        p->layer[l] = (struct attention_cache){type, at, p->stride};
        at += (size_t)dims->n_kv_heads[l] * kvblock_bytes(type, dims->head_dim);
    }
    p->free = p->idle = (struct kv_list){KV_NONE, KV_NONE};
    for (int64_t i = 0; i < n; i++)
        push(p, &p->free, (int32_t)i);
    for (int64_t i = 0; i < p->buckets; i++)
        p->bucket[i] = KV_NONE;
    return 0;
}

void kv_pool_free(struct kv_pool *p)
{
    if (p->memory)
        munmap(p->memory, p->bytes);
    free(p->layer);
    free(p->block);
    free(p->bucket);
    *p = (struct kv_pool){0};
}

/* ---- sequences ---- */

void kv_open(struct kv *kv, struct kv_pool *pool)
{
    *kv = (struct kv){.pool = pool};
}

void kv_close(struct kv *kv)
{
    while (kv->n) // the last first: of what stays known, beginnings are wanted most
        leave(kv->pool, kv->block[--kv->n]);
    free(kv->block);
    *kv = (struct kv){.pool = kv->pool};
}

int kv_reserve(struct kv *kv, int64_t n)
{
    struct kv_pool *p = kv->pool;
    const size_t need = (size_t)kv_blocks(kv->len + n), at = (size_t)(kv->len / KVBLOCK);
    const bool copy = n > 0 && at < kv->n && p->block[kv->block[at]].users > 1;
    const size_t more = need > kv->n ? need - kv->n : 0;
    if ((int64_t)more + copy > kv_pool_left(p))
        return KV_FULL;
    if (mem_grow(&kv->block, &kv->cap, need, sizeof *kv->block))
        return -1;
    if (copy) {
        const int32_t b = take(p);
        memcpy(p->memory + (size_t)b * p->stride, p->memory + (size_t)kv->block[at] * p->stride,
               p->stride);
        leave(p, kv->block[at]);
        kv->block[at] = b;
        p->copied++;
    }
    if (n > 0 && at < kv->n && p->block[kv->block[at]].known)
        forget(p, kv->block[at]); // its last tokens will be others
    while (kv->n < need)
        kv->block[kv->n++] = take(p);
    return 0;
}

int kv_fork(struct kv *to, const struct kv *from, int64_t len)
{
    const size_t n = (size_t)kv_blocks(len);
    if (to->n || len > from->len || to->pool != from->pool)
        BUG("a fork of %lld tokens of %lld", (long long)len, (long long)from->len);
    if (mem_grow(&to->block, &to->cap, n, sizeof *to->block))
        return -1;
    for (; to->n < n; to->n++) {
        to->block[to->n] = from->block[to->n];
        share(to->pool, to->block[to->n]);
        to->pool->adopted++;
    }
    to->len = len;
    const int64_t full = len / KVBLOCK;
    to->published = from->published < full ? from->published : full;
    return 0;
}

int kv_adopt(struct kv *kv, const int32_t *token, int64_t n)
{
    struct kv_pool *p = kv->pool;
    const uint64_t *before = NULL;
    if (kv->n)
        BUG("a sequence that has begun adopts blocks");
    for (; n - kv->len > KVBLOCK; kv->len += KVBLOCK) {
        uint64_t hash[2];
        chain_hash(before, token + kv->len, hash);
        const int32_t b = find(p, hash, token + kv->len);
        if (b == KV_NONE)
            break;
        if (mem_grow(&kv->block, &kv->cap, kv->n + 1, sizeof *kv->block))
            return -1;
        kv->block[kv->n++] = b;
        share(p, b);
        p->adopted++;
        before = p->block[b].hash;
    }
    kv->published = kv->len / KVBLOCK;
    return 0;
}

void kv_publish(struct kv *kv, const int32_t *token)
{
    struct kv_pool *p = kv->pool;
    for (; kv->published < kv->len / KVBLOCK; kv->published++) {
        const int64_t i = kv->published;
        const int32_t b = kv->block[i];
        struct kv_block *x = &p->block[b];
        chain_hash(i ? p->block[kv->block[i - 1]].hash : NULL, token + i * KVBLOCK, x->hash);
        memcpy(x->token, token + i * KVBLOCK, sizeof x->token);
        if (x->known || find(p, x->hash, x->token) != KV_NONE)
            continue;
        int32_t *bucket = bucket_of(p, x->hash);
        x->chain = *bucket;
        *bucket = b;
        x->known = true;
    }
}
