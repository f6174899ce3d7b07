#include "layers/weights.h"

#include <math.h>
#include <stdio.h>

/* Which of the dims a side of a matrix is. */
enum side { SIDE_NONE, SIDE_C, SIDE_D, SIDE_Q, SIDE_KV, SIDE_QKV, SIDE_F, SIDE_T, SIDE_V };

/* How a matrix begins; ADDS: its output is added to the residual stream. */
enum init { INIT_PLAIN, INIT_ADDS, INIT_POSITIONS };

struct weight {
    const char *name;       /* without ".weight"; %d: the layer */
    size_t offset;          /* of the struct param *, or struct affine if it may have a bias */
    enum side rows, cols;   /* rows SIDE_NONE: a norm's gain */
    unsigned with, without; /* traits: the architectures that have it */
    unsigned bias;          /* those in which it has a bias: of its rows, a gain's columns */
    enum init init;
    bool looked_up; /* rows are read, nothing is multiplied with it */
};

#define IN_BLOCK(member) offsetof(struct block, member)
#define IN_MODEL(member) offsetof(struct transformer, member)

static const struct weight first_weights[] = {
    {"token_embd", IN_MODEL(token_embd), SIDE_V, SIDE_C, .looked_up = true},
    {"position_embd", IN_MODEL(position_embd), SIDE_T, SIDE_C, .with = ARCH_LEARNED,
     .init = INIT_POSITIONS, .looked_up = true},
};

static const struct weight block_weights[] = {
    {"blk.%d.attn_norm", IN_BLOCK(attn_norm), SIDE_NONE, SIDE_C, .bias = ARCH_LAYERNORM},
    {"blk.%d.attn_qkv", IN_BLOCK(attn_qkv), SIDE_QKV, SIDE_C, .with = ARCH_FUSED,
     .bias = ARCH_FUSED},
    {"blk.%d.attn_q", IN_BLOCK(attn_q), SIDE_Q, SIDE_C, .without = ARCH_FUSED,
     .bias = ARCH_QKV_BIASES},
    {"blk.%d.attn_k", IN_BLOCK(attn_k), SIDE_KV, SIDE_C, .without = ARCH_FUSED,
     .bias = ARCH_QKV_BIASES},
    {"blk.%d.attn_v", IN_BLOCK(attn_v), SIDE_KV, SIDE_C, .without = ARCH_FUSED,
     .bias = ARCH_QKV_BIASES},
    {"blk.%d.attn_q_norm", IN_BLOCK(attn_q_norm), SIDE_NONE, SIDE_D, .with = ARCH_HEAD_NORMS},
    {"blk.%d.attn_k_norm", IN_BLOCK(attn_k_norm), SIDE_NONE, SIDE_D, .with = ARCH_HEAD_NORMS},
    {"blk.%d.attn_output", IN_BLOCK(attn_output), SIDE_C, SIDE_Q, .bias = ARCH_BIASES,
     .init = INIT_ADDS},
    {"blk.%d.ffn_norm", IN_BLOCK(ffn_norm), SIDE_NONE, SIDE_C, .bias = ARCH_LAYERNORM},
    {"blk.%d.ffn_gate", IN_BLOCK(ffn_gate), SIDE_F, SIDE_C, .with = ARCH_GATED},
    {"blk.%d.ffn_up", IN_BLOCK(ffn_up), SIDE_F, SIDE_C, .bias = ARCH_BIASES},
    {"blk.%d.ffn_down", IN_BLOCK(ffn_down), SIDE_C, SIDE_F, .bias = ARCH_BIASES, .init = INIT_ADDS},
};

static const struct weight last_weights[] = {
    {"output_norm", IN_MODEL(output_norm), SIDE_NONE, SIDE_C, .bias = ARCH_LAYERNORM},
    {"output", IN_MODEL(output), SIDE_V, SIDE_C, .without = ARCH_TIED},
};

enum {
    FIRST_WEIGHTS = sizeof first_weights / sizeof *first_weights,
    BLOCK_WEIGHTS = sizeof block_weights / sizeof *block_weights,
    LAST_WEIGHTS = sizeof last_weights / sizeof *last_weights,
};

static unsigned traits_of(const struct transformer_dims *d)
{
    return (arch_rows[d->arch].traits & ~(unsigned)ARCH_TIED) | (d->tied ? ARCH_TIED : 0);
}

static bool has(const struct transformer_dims *d, const struct weight *w)
{
    const unsigned traits = traits_of(d);
    return (traits & w->with) == w->with && !(traits & w->without);
}

static int64_t side(const struct transformer_dims *d, int l, enum side s)
{
    const int64_t D = d->head_dim;
    switch (s) {
    case SIDE_C:
        return d->d_model;
    case SIDE_D:
        return D;
    case SIDE_Q:
        return d->n_heads[l] * D;
    case SIDE_KV:
        return d->n_kv_heads[l] * D;
    case SIDE_QKV:
        return (d->n_heads[l] + 2 * d->n_kv_heads[l]) * D;
    case SIDE_F:
        return d->d_ff[l];
    case SIDE_T:
        return d->context;
    case SIDE_V:
        return d->vocab;
    case SIDE_NONE:
        break;
    }
    return 1;
}

static void name_of(char name[PARAM_NAME], const struct weight *w, int l, const char *what)
{
    const int n = snprintf(name, PARAM_NAME, w->name, l);
    snprintf(name + n, (size_t)(PARAM_NAME - n), ".%s", what);
}

/* Of dims that were checked; what fails is memory. */
static int declare(struct transformer *m, const struct weight *w, int l)
{
    const struct transformer_dims *d = &m->dims;
    const int64_t dim[] = {side(d, l, w->rows), side(d, l, w->cols)};
    const bool gain = w->rows == SIDE_NONE;
    const double std = d->init_std > 0 ? d->init_std : 0.02;
    const double part[] = {
        [INIT_PLAIN] = 1, [INIT_ADDS] = 1 / sqrt(2.0 * d->n_layers), [INIT_POSITIONS] = 0.5};
    char name[PARAM_NAME];
    if (!has(d, w))
        return 0;
    name_of(name, w, l, "weight");
    if (store_add(&m->store, name, gain ? 1 : 2, gain ? dim + 1 : dim,
                  gain ? 0 : (float)(std * part[w->init])))
        return -1;
    m->store.p[m->store.n - 1].product = !gain && !w->looked_up;
    if (!(traits_of(d) & w->bias))
        return 0;
    name_of(name, w, l, "bias");
    if (store_add(&m->store, name, 1, gain ? dim + 1 : dim, 0))
        return -1;
    m->store.p[m->store.n - 1].init_mean = 0;
    return 0;
}

static void bind(struct transformer *m, const struct weight *w, int l, void *owner)
{
    char name[PARAM_NAME];
    if (!has(&m->dims, w))
        return;
    struct param **at = (struct param **)(void *)((char *)owner + w->offset);
    name_of(name, w, l, "weight");
    at[0] = store_find(&m->store, name);
    if (!(traits_of(&m->dims) & w->bias))
        return;
    name_of(name, w, l, "bias");
    at[1] = store_find(&m->store, name); // struct affine
}

int weights_declare(struct transformer *m)
{
    for (int i = 0; i < FIRST_WEIGHTS; i++)
        if (declare(m, &first_weights[i], 0))
            return -1;
    for (int l = 0; l < m->dims.n_layers; l++)
        for (int i = 0; i < BLOCK_WEIGHTS; i++)
            if (declare(m, &block_weights[i], l))
                return -1;
    for (int i = 0; i < LAST_WEIGHTS; i++)
        if (declare(m, &last_weights[i], 0))
            return -1;
    return 0;
}

void weights_bind(struct transformer *m)
{
    for (int i = 0; i < FIRST_WEIGHTS; i++)
        bind(m, &first_weights[i], 0, m);
    for (int l = 0; l < m->dims.n_layers; l++)
        for (int i = 0; i < BLOCK_WEIGHTS; i++)
            bind(m, &block_weights[i], l, &m->blocks[l]);
    for (int i = 0; i < LAST_WEIGHTS; i++)
        bind(m, &last_weights[i], 0, m);
    if (!m->dims.tied)
        return;
    m->output = m->token_embd;
    m->output->product = true;
}

static int64_t add_matrix(const struct transformer_dims *d, int l, const struct weight *w,
                          int64_t *all)
{
    const int64_t rows = side(d, l, w->rows), cols = side(d, l, w->cols);
    const bool gain = w->rows == SIDE_NONE;
    if (!has(d, w))
        return 0;
    *all += rows * cols + (traits_of(d) & w->bias ? (gain ? cols : rows) : 0);
    return gain ? 0 : rows * cols;
}

struct weights_count weights_count(const struct transformer_dims *d)
{
    struct weights_count n = {0};
    for (int i = 0; i < FIRST_WEIGHTS; i++)
        n.embeddings += add_matrix(d, 0, &first_weights[i], &n.all);
    for (int l = 0; l < d->n_layers; l++)
        for (int i = 0; i < BLOCK_WEIGHTS; i++)
            n.block_matrices += add_matrix(d, l, &block_weights[i], &n.all);
    for (int i = 0; i < LAST_WEIGHTS; i++)
        n.embeddings += add_matrix(d, 0, &last_weights[i], &n.all);
    return n;
}
