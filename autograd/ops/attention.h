/*
 * What the parts of op_attention() share: op_attention.c has the op and its f32 path,
 * attention_bf16.c the path of bf16 tensors, attention_cached.c that of sequences with a cache.
 */
#ifndef ATTAR_AUTOGRAD_OPS_ATTENTION_H
#define ATTAR_AUTOGRAD_OPS_ATTENTION_H

#include "autograd/ops/ops.h"

/* A node's `saved`. */
struct attention {
    int64_t D, H, Hkv;
    float scale;
    float *lse; /* [N,H] log-sum-exp of each query's scores */
    int n_seqs;
    struct attention_seq *seqs;
    int64_t *first;  /* [n_seqs + 1] query tiles before each sequence; those with a cache: none */
    int64_t *cached; /* [n_seqs + 1] those of attention_cached_tiles() */
    const struct attention_cache *cache;
    bool split; /* bf16: backward cuts sequences into parts */
};

enum { ATTENTION_BLOCK = 256 }; /* queries of a tile under bf16, and keys: a multiple of PANEL */

/* `split` for this node; shared: two of q, k, v are one tensor. By shapes alone. */
bool attention_bf16_splits(const struct attention *a, bool shared);

/* forward and backward of the op for q, k, v and y in bf16; no sequence has a cache. */
void attention_bf16_forward(struct ctx *ctx, struct node *node);
void attention_bf16_backward(struct ctx *ctx, struct node *node);

/* Work of a sequence of `len` rows, in parts that are handed to threads for each kv head. */
int64_t attention_cached_tiles(const struct attention *a, int64_t len);

/* Stores and attends the sequences that have a cache; q, k, v and y are f32. */
void attention_cached_forward(struct ctx *ctx, struct node *node);

#endif
