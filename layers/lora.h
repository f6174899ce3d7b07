/*
 * Factors over frozen weights: W + alpha / rank B A, of which only A and B are trained. Hu et al.,
 * "LoRA: Low-Rank Adaptation of Large Language Models", 2022; over blocks: Dettmers et al.,
 * "QLoRA", 2023. Names are those of llama.cpp's adapters.
 */
#ifndef ATTAR_LAYERS_LORA_H
#define ATTAR_LAYERS_LORA_H

#include "autograd/autograd.h"
#include "autograd/base/field.h"

struct transformer;

struct lora {
    struct store factors; /* two a weight, one behind the other: blk.0.attn_q.weight.lora_a [r,I],
                             blk.0.attn_q.weight.lora_b [O,r]; n 0: there are none */
    struct low_rank *low; /* [factors.n / 2] */
    double alpha;         /* 0, as in llama.cpp: b a as it is */
};

/* Matrices of blocks by GGUF's names, NULL at the end: "attn_q", ... */
extern const char *const lora_targets[];

/* Declares factors of p, a matrix of m that linears multiply with. 0, or -1 with err() set. */
int lora_add(struct transformer *m, const struct param *p, int64_t rank);

struct lora_args {
    int64_t rank;
    double alpha;
    struct texts targets; /* of lora_targets; or "all" */
};

/* Declares those of all matrices of the blocks that the args name. 0, or -1 with err() set: there
   is none of a name, or the rank is above a side of one. */
int lora_add_targets(struct transformer *m, const struct lora_args *args);

/* After the last lora_add(): memory for them, and linears read them from now on; m's own weights
   get no gradients any more. Values are store_init()'s (b is zero then) or a file's. 0 or -1. */
int lora_attach(struct transformer *m, double alpha, enum store_use use);

/* Adds what the factors stand for to the latents, which m has, and frees them. 0, or -1 with err()
   set. */
int lora_merge(struct transformer *m);

void lora_free(struct transformer *m);

/* The weight that factors [2 i] and [2 i + 1] belong to. */
struct param *lora_base(const struct transformer *m, int i);

#endif
