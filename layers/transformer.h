/*
 * The model definition, the only one: it serves training, evaluation and decoding.
 *
 *   x = token_embd[tok]
 *   for each block:  x += attn_output(attention(rope(attn_q x'), rope(attn_k x'), attn_v x'))
 *                    x += ffn_down(silu(ffn_gate x'') * ffn_up x'')         x', x'' = norm(x)
 *   hidden = norm(x);  logits = output hidden  (token_embd, if tied)
 *
 * That is `llama`; arch.h says what is different in the other architectures. Parameters carry
 * GGUF's names and conventions: rows [out,in].
 */
#ifndef ATTAR_LAYERS_TRANSFORMER_H
#define ATTAR_LAYERS_TRANSFORMER_H

#include "autograd/ops/ops.h"
#include "layers/arch.h"
#include "layers/kv.h"
#include "layers/lora.h"

enum { LAYERS_MAX = 512 };

struct transformer_dims {
    enum arch arch;
    int n_layers;
    int d_model, vocab, head_dim, context;
    int n_heads[LAYERS_MAX], n_kv_heads[LAYERS_MAX], d_ff[LAYERS_MAX]; /* per layer */
    bool tied;                                                         /* the head is token_embd */
    double norm_eps;
    struct rope_args rope; /* style, head_dim and n_pos are filled in from the above */
    /* only for training */
    double dropout;  /* of embeddings and of what each half block adds */
    double init_std; /* outputs of half blocks: divided by sqrt(2 L), positions: half (GPT-2) */
};

struct affine {
    struct param *weight, *bias;
};

/* What the architecture does not have is NULL. */
struct block {
    struct affine attn_norm, attn_qkv, attn_q, attn_k, attn_v, attn_output;
    struct param *attn_q_norm, *attn_k_norm; /* gains [D] */
    struct affine ffn_norm, ffn_up, ffn_down;
    struct param *ffn_gate;
};

struct transformer {
    struct transformer_dims dims;
    struct store store;
    struct rope rope;                                  /* no tables with learned positions */
    struct block *blocks;                              /* [L] */
    struct param *token_embd, *position_embd, *output; /* output: token_embd if tied */
    struct affine output_norm;
    struct lora lora; /* beside the store's weights */
    uint64_t dropout_key;
};

/* Rows [start, start + len) of a batch. With kv: they follow the kv->len tokens it holds; all kvs
   of a batch are of one pool and no two the same. */
struct sequence {
    int64_t start, len;
    struct kv *kv; /* NULL: the sequence is whole */
};

struct batch {
    int64_t n;              /* tokens in all */
    const int32_t *tok;     /* [n] */
    const int32_t *pos;     /* [n] position in its sequence */
    const uint64_t *row_id; /* [n] keys dropout; NULL if there is none */
    const struct sequence *seqs;
    int n_seqs;
};

/* Do the dims fit one another, and the limits of this program? 0, or -1 with err() set. Everything
   else here relies on it. */
int transformer_check(const struct transformer_dims *dims);

/* Has every layer the same heads and the same feed-forward width? */
bool transformer_even(const struct transformer_dims *dims);

/* Checks the dims, declares and allocates the parameters; their values are store_init()'s or a
 * checkpoint's. 0, or -1 with err() set. */
int transformer_init(struct transformer *m, const struct transformer_dims *dims,
                     enum store_use use);
void transformer_free(struct transformer *m);

/* hidden [n,C], behind output_norm. Every block is a segment. Sequences with a kv are stored in it
   and its len raised; kv_reserve() is called for them. NULL with the ctx failed. */
struct tensor *transformer_forward(struct ctx *ctx, struct transformer *m, const struct batch *b);

/* logits [n,V] of rows [row, row + n) of hidden; and of any rows, row [n]. */
struct tensor *transformer_logits(struct ctx *ctx, struct transformer *m, struct tensor *hidden,
                                  int64_t row, int64_t n);
struct tensor *transformer_logits_at(struct ctx *ctx, struct transformer *m, struct tensor *hidden,
                                     const int32_t *row, int64_t n);

/* Bytes of memory that it holds by now: parameters, factors, rotary tables. */
size_t transformer_bytes(const struct transformer *m);

/* FLOPs of one token's forward pass with T tokens before it on average (T / 2 of a causal window of
   T): 2 a weight of every matrix but the embedding, and the attention. Training costs three times
   that, recomputing blocks a fourth time without the head. */
double transformer_flops(const struct transformer_dims *dims, double seen, double *head);

/* Parameters, all and without token_embd, position_embd and output. */
int64_t transformer_params(const struct transformer_dims *dims, int64_t *without_embeddings);

#endif
