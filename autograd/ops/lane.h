/*
 * One head of one sequence in bf16, and how its rows become operands of products. Between
 * attention_bf16.c and attention_bf16_backward.c.
 */
#ifndef ATTAR_AUTOGRAD_OPS_LANE_H
#define ATTAR_AUTOGRAD_OPS_LANE_H

#include "autograd/kernels/gemm_bf16.h"
#include "autograd/ops/attention.h"

/* Rows of a block that are in work at a time: its scores stay in L1. */
enum { LANE_STRIP = PANEL };

struct lane {
    int64_t len, D, wide; /* wide: D with the zeros behind it, panel_depth(D) */
    int64_t ldq, ldkv, H; /* elements from token to token; in lse H */
    const uint16_t *q, *k, *v;
    uint16_t *y;
    float *lse, scale;
};

struct lane lane_of(const struct node *node, int seq, int64_t head);

/* Queries of the largest block of the node, which is also that of keys; a multiple of PANEL. */
int64_t lane_block(const struct attention *a);

/* Rows x [n,D], ld elements apart, as A of a product: [n, wide]. */
void lane_gather(const struct lane *a, const uint16_t *x, int64_t ld, int64_t n, uint16_t *to);

/* Rows x [n,D] as B [D,n] and as B [n,D], packed: panels_numel() of it. */
void lane_pack_columns(const struct lane *a, const uint16_t *x, int64_t ld, int64_t n,
                       uint16_t *to);
void lane_pack_rows(const struct lane *a, const uint16_t *x, int64_t ld, int64_t n, uint16_t *to);

/* c [M,N] f32 = A B (add: + c). */
void lane_product(int64_t M, int64_t N, const struct gemm_term *term, bool add, float *c,
                  int64_t ldc);

/* Hands out parts of a thread's scratch; without a base it only adds up. */
struct lane_cut {
    char *base;
    size_t at;
};
void *lane_cut(struct lane_cut *c, int64_t n, size_t size);

#endif
