/*
 * The catalogue of ops. x [N,C] means a tensor whose rows are N and whose last dimension is C.
 * Every op returns NULL, with the ctx failed, for shapes that do not fit; NULL in gives NULL out.
 */
#ifndef ATTAR_AUTOGRAD_OPS_OPS_H
#define ATTAR_AUTOGRAD_OPS_OPS_H

#include "autograd/autograd.h"
#include "autograd/cost.h"
#include "autograd/kernels/kvblock.h"
#include "autograd/ops/rope.h"

enum { LINEAR_MAX = 3 };

/* out[i] [N,O_i] = x [N,I] w[i]^T + b[i], w[i] [O_i,I], b[i] [O_i] or NULL (b itself too); several
   weights on one input are one op. With residual [N,O_0] (n == 1): added to out[0], and its
   gradient costs nothing. w may be of any dtype with decode(), then it gets a gradient only as a
   parameter. Where a weight has an `input` dtype, x is rounded to that first; where it has `plus`,
   op_low_rank() follows. Saves x. 0, or -1 with the ctx failed. */
int op_linear(struct ctx *ctx, struct tensor *x, int n, struct tensor *const w[],
              struct tensor *const b[], struct tensor *residual, struct tensor *out[]);

/* y + scale (x a^T) b^T, x [N,I], a [r,I], b [O,r], y [N,O], in place: y's values are gone, the
   result shares its memory. Products are of f32, whatever the activations are. Saves x and
   x a^T [N,r]. Hu et al., "LoRA", 2022, eq. 3. */
struct tensor *op_low_rank(struct ctx *ctx, struct tensor *x, struct tensor *a, struct tensor *b,
                           float scale, struct tensor *y);

/* y [N,C] = rows tok[i] of w [V,C]. tok must stay until backward. Saves nothing. */
struct tensor *op_embedding(struct ctx *ctx, struct tensor *w, const int32_t *tok, int64_t n);

/* y = x / sqrt(mean(x^2) + eps) * w, w [C]. A shorter gain w [D] norms each run of D by itself:
   heads. Saves x, 1/rms [N]. Zhang, Sennrich, "Root Mean Square Layer Normalization", 2019,
   eq. 4. */
struct tensor *op_rmsnorm(struct ctx *ctx, struct tensor *x, struct tensor *w, float eps);

/* y = (x - mean(x)) / sqrt(variance(x) + eps) * w + b, w and b [C]. Saves x, mean and 1/deviation
   [N]. Ba, Kiros, Hinton, "Layer Normalization", 2016, eq. 4. */
struct tensor *op_layernorm(struct ctx *ctx, struct tensor *x, struct tensor *w, struct tensor *b,
                            float eps);

/* Rotates each head of x [N,H*D] by its position pos[i], in place: x's values are gone, the result
   shares its memory. Saves nothing. Su et al., "RoFormer", 2021, eq. 34. */
struct tensor *op_rope(struct ctx *ctx, struct tensor *x, const struct rope *rope,
                       const int32_t *pos);

/* Blocks of a layer's keys and values (kvblock.h): kv head h of block b is at
   base + b * stride + h * kvblock_bytes(type, D). */
struct attention_cache {
    enum kvblock_type type;
    char *base;
    size_t stride;
};

/* A sequence of an attention batch: rows [start, start + len) of q. Its keys and values are the
   same rows of k and v, or, with a cache (no gradient then), kv_len >= len tokens there: the op
   first stores those rows of k and v as its last len tokens. */
struct attention_seq {
    int64_t start, len;
    const struct attention_cache *cache; /* one for all sequences that have one; NULL: none */
    const int32_t *block;                /* [kv_len / KVBLOCK, rounded up] of it, in order */
    int64_t kv_len;
};

/* y [N,H*D] = softmax(q k^T / sqrt(D) + causal mask) v per head, q [N,H*D], k and v [N,Hkv*D]; head
   h reads kv head h / (H / Hkv). The mask is aligned lower-right. seqs is copied and covers all
   rows. Saves q, k, v, y and the log-sum-exp [N,H]:
   memory is linear in T. Vaswani et al. 2017, eq. 1; Dao, "FlashAttention-2", 2023, algorithms 1
   and 2; cached: Kwon et al., "Efficient Memory Management for Large Language Model Serving with
   PagedAttention", 2023. A cached row's bits do not depend on the other rows of the batch. */
struct tensor *op_attention(struct ctx *ctx, struct tensor *q, struct tensor *k, struct tensor *v,
                            int head_dim, const struct attention_seq *seqs, int n_seqs);

/* y = silu(gate) * up. Saves both. Shazeer, "GLU Variants Improve Transformer", 2020, eq. 6. */
struct tensor *op_swiglu(struct ctx *ctx, struct tensor *gate, struct tensor *up);

/* y = x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2. Saves x. Hendrycks, Gimpel, "Gaussian Error
   Linear Units", 2016, section 2. */
struct tensor *op_gelu(struct ctx *ctx, struct tensor *x);

struct tensor *op_add(struct ctx *ctx, struct tensor *a, struct tensor *b);
struct tensor *op_scale(struct ctx *ctx, struct tensor *x, float factor);

/* y = what x [N,C] is behind encoding to dt and decoding; the gradient of y is x's
   (straight-through). Saves nothing. */
struct tensor *op_round(struct ctx *ctx, struct tensor *x, const struct dtype *dt);

/* Zeroes elements with probability p and scales the others by 1 / (1 - p); the draw is keyed by
   (key, row_id[i], column), so no batch slot matters. Returns x itself if p is 0 or the ctx does
   not train. row_id must stay until backward. Saves nothing: the draw is repeated. */
struct tensor *op_dropout(struct ctx *ctx, struct tensor *x, float p, uint64_t key,
                          const uint64_t *row_id);

/* ---- losses: roots of the tape. They add to a sum and, while the ctx records, put the gradient
   of that sum (times weight) into their inputs at once; there is nothing left for backward. ---- */

struct loss {
    double sum;    /* of the whole objective, over counted tokens */
    double nll;    /* the plain cross-entropy part of it */
    double kl;     /* likewise of the divergence from the teacher */
    int64_t count; /* tokens that were counted */
};

/* What gives logits: hidden states [N,.] of the activations' dtype, and the head [V,.] that they
   are multiplied with. Gets no gradient. */
struct head_voice {
    const struct tensor *hidden, *w;
};

struct head_loss_args {
    const int32_t *target; /* [N]; negative: ignored */
    float weight;          /* of this loss in the objective */
    float label_smoothing; /* e: (1-e) nll + e mean_v(-log p_v); Szegedy et al. 2016, sec. 7 */
    float z_loss;          /* z: + z logsumexp^2; Chowdhery et al., "PaLM", 2022, sec. 5 */
    const struct head_voice *teacher; /* of the same vocabulary; NULL: none */
    float kl; /* weight of sum_v q_v (log q_v - log p_v), q the teacher's; Hinton et al. 2015 */
};

/* Cross-entropy of softmax(hidden [N,C] w^T), w [V,C] (with its `input`, as op_linear()), and its
   divergence from a teacher, in chunks of tokens: no [N,V] ever exists. Adds to *loss. 0, or -1
   with the ctx failed. */
int op_head_loss(struct ctx *ctx, struct tensor *hidden, struct tensor *w,
                 const struct head_loss_args *args, struct loss *loss);

/* Adds weight * sum((a - b)^2) to loss->sum and the number of elements to loss->count. */
int op_mse(struct ctx *ctx, struct tensor *a, struct tensor *b, float weight, struct loss *loss);

#endif
