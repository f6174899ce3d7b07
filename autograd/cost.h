/*
 * What running an op takes, from its shapes alone: the fourth member of struct op. A plan sums it
 * up with a measuring ctx; a profile holds it against the time that a real one took.
 */
#ifndef ATTAR_AUTOGRAD_COST_H
#define ATTAR_AUTOGRAD_COST_H

#include "autograd/autograd.h"

/* The kinds of product, by what a linear y [M,N] = x [M,K] w [N,K]^T has, and attention's. */
enum cost_kind {
    COST_FORWARD,            /* y = x w^T */
    COST_DX,                 /* dx = dy w */
    COST_DW,                 /* dw += dy^T x */
    COST_ATTENTION,          /* both products of every query with the keys that it sees */
    COST_ATTENTION_BACKWARD, /* the five of backward: the scores again, dp, dv, dk, dq */
    COST_KINDS
};

/* All of one kind and shape run at the same rate. */
struct product {
    enum cost_kind kind;
    const struct dtype *dt; /* of the activations it multiplies */
    int64_t M, N, K;        /* as above; attention: tokens of a sequence, sequences, head width */
    int64_t H, Hkv;         /* attention: query heads, kv heads; else 0 */
    double flops;           /* of one; a multiplication and an addition are two */
    double times;           /* it is run */
};

enum { COST_PRODUCTS = 8 };

struct cost {
    struct product product[COST_PRODUCTS];
    int n;
    double bytes; /* that passes over rows read and write, outside of products */
    double exps;  /* exponentials: of softmax, SiLU, GELU */
    double draws; /* random numbers */
};

/* Adds a product of a linear, run so many times (none: adds nothing). */
void cost_product(struct cost *c, enum cost_kind kind, const struct dtype *dt, int64_t M, int64_t N,
                  int64_t K, int64_t times);

/* Adds a whole tensor, or its gradient, read or written `passes` times; NULL adds nothing. */
void cost_rows(struct cost *c, const struct tensor *t, double passes);

/* What all products of c multiply and add. */
double cost_flops(const struct cost *c);

#endif
