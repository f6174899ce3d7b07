/* What op_linear.c (f32) and linear_bf16.c share: the node of a linear op. */
#ifndef ATTAR_AUTOGRAD_OPS_LINEAR_H
#define ATTAR_AUTOGRAD_OPS_LINEAR_H

#include "autograd/ops/ops.h"

struct linear {
    int n;
    size_t scratch; /* bytes of decoded rows a thread needs; 0: all weights are f32 */
};

static inline struct tensor *linear_weight(const struct node *node, int i)
{
    return node->in[1 + i];
}

static inline struct tensor *linear_bias(const struct node *node, int i)
{
    return node->in[1 + LINEAR_MAX + i];
}

static inline struct tensor *linear_residual(const struct node *node)
{
    return node->in[1 + 2 * LINEAR_MAX];
}

/* Inference on weights that have dtype.product, where nothing asks for gradients. */
bool linear_product_serves(const struct ctx *ctx, const struct node *node);
void linear_product_forward(struct ctx *ctx, struct node *node);

/* The op where x is bf16: weights from their panels (packed for the occasion if they have none),
   outputs bf16, or f32 with a residual. */
void linear_bf16_forward(struct ctx *ctx, struct node *node);
void linear_bf16_backward(struct ctx *ctx, struct node *node);

#endif
