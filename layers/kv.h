/*
 * Keys and values of sequences, all layers: what decoding does not compute again. They lie in
 * blocks of KVBLOCK tokens that sequences take from one pool and may share:
 *
 *   sequence   a table of blocks; it takes one more when its last is full
 *   sharing    a block counts its users. kv_fork() makes a sequence that shares all of another's;
 *              kv_publish() makes full blocks known by their tokens and all before them, and
 *              kv_adopt() begins a sequence with those that are known
 *   writing    a block with other users is copied before a token is added to it
 *   leaving    a known block without users stays known until its memory is needed, the one longest
 *              unused first
 *
 * The pool's memory is address space until a block is used. Kwon et al., "Efficient Memory
 * Management for Large Language Model Serving with PagedAttention", 2023, section 4.
 */
#ifndef ATTAR_LAYERS_KV_H
#define ATTAR_LAYERS_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "autograd/ops/ops.h"

struct transformer_dims;

enum { KV_NONE = -1, KV_FULL = 1 };

/* A block of the pool. Lists are of indices, KV_NONE at their ends. */
struct kv_block {
    int32_t users;
    int32_t prev, next; /* among those without users: free, or known and idle */
    int32_t chain;      /* the next known one in its bucket */
    bool known;
    uint64_t hash[2]; /* of its tokens and all before them */
    int32_t token[KVBLOCK];
};

struct kv_list {
    int32_t first, last;
};

/* Read only for others. */
struct kv_pool {
    enum kvblock_type type;
    int n_layers;
    int64_t n; /* blocks in all */
    size_t stride, bytes;
    char *memory;
    struct attention_cache *layer; /* [L] */
    struct kv_block *block;        /* [n] */
    struct kv_list free, idle;
    int32_t *bucket; /* [buckets], a power of two */
    int64_t buckets;
    int64_t used, peak;      /* blocks with users, now and at most */
    int64_t touched;         /* blocks whose memory was ever used: 0 .. touched - 1 */
    int64_t adopted, copied; /* blocks that kv_adopt() and kv_fork() shared; copied for writing */
};

struct kv {
    struct kv_pool *pool;
    int64_t len;    /* tokens held */
    int32_t *block; /* [n]: the table */
    size_t n, cap;
    int64_t published; /* full blocks that kv_publish() has seen */
};

/* Bytes of a block of all layers; 0 with err() set: the heads do not fit the type. */
size_t kv_block_bytes(const struct transformer_dims *dims, enum kvblock_type type);

/* Blocks for so many tokens of one sequence. */
int64_t kv_blocks(int64_t tokens);

/* n >= 1 blocks. The pool must stay where it is. 0, or -1 with err() set. */
int kv_pool_init(struct kv_pool *p, const struct transformer_dims *dims, enum kvblock_type type,
                 int64_t n);
void kv_pool_free(struct kv_pool *p);

/* Blocks that can be had now: free, or known and idle. */
int64_t kv_pool_left(const struct kv_pool *p);

/* An empty sequence. kv_close() gives its blocks back. */
void kv_open(struct kv *kv, struct kv_pool *pool);
void kv_close(struct kv *kv);

/* Makes the next n tokens writable: takes the blocks that they need, copies the one they begin in
   if it has other users. 0; KV_FULL, without a change, if the pool has not enough; -1 with err().
 */
int kv_reserve(struct kv *kv, int64_t n);

/* Makes `to`, an open and empty sequence, share the first len tokens of `from`. 0, or -1. */
int kv_fork(struct kv *to, const struct kv *from, int64_t len);

/* Tokens [n] are those of an open and empty sequence: shares the known blocks that they begin with,
   but leaves one token at least to be computed. kv->len is then what was found. 0, or -1. */
int kv_adopt(struct kv *kv, const int32_t *token, int64_t n);

/* Makes full blocks known; token [kv->len]. */
void kv_publish(struct kv *kv, const int32_t *token);

#endif
