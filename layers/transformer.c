#include "layers/transformer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/mem.h"
#include "autograd/base/rng.h"

/* ---- parameters: one table of a block's, one of the rest ---- */

/* Which of the dims a side of a matrix is. */
enum side { SIDE_NONE, SIDE_C, SIDE_Q, SIDE_KV, SIDE_F, SIDE_V };

struct weight {
    const char *name; /* %d: the layer */
    size_t offset;    /* of the struct param * */
    enum side rows, cols;
    bool adds; /* its output is added to the residual stream */
};

#define IN_BLOCK(member) offsetof(struct block, member)
#define IN_MODEL(member) offsetof(struct transformer, member)

static const struct weight block_weights[] = {
    {"blk.%d.attn_norm.weight", IN_BLOCK(attn_norm), SIDE_NONE, SIDE_C, false},
    {"blk.%d.attn_q.weight", IN_BLOCK(attn_q), SIDE_Q, SIDE_C, false},
    {"blk.%d.attn_k.weight", IN_BLOCK(attn_k), SIDE_KV, SIDE_C, false},
    {"blk.%d.attn_v.weight", IN_BLOCK(attn_v), SIDE_KV, SIDE_C, false},
    {"blk.%d.attn_output.weight", IN_BLOCK(attn_output), SIDE_C, SIDE_Q, true},
    {"blk.%d.ffn_norm.weight", IN_BLOCK(ffn_norm), SIDE_NONE, SIDE_C, false},
    {"blk.%d.ffn_gate.weight", IN_BLOCK(ffn_gate), SIDE_F, SIDE_C, false},
    {"blk.%d.ffn_up.weight", IN_BLOCK(ffn_up), SIDE_F, SIDE_C, false},
    {"blk.%d.ffn_down.weight", IN_BLOCK(ffn_down), SIDE_C, SIDE_F, true},
};

static const struct weight first_weight = {"token_embd.weight", IN_MODEL(token_embd), SIDE_V,
                                           SIDE_C, false};
static const struct weight last_weights[] = {
    {"output_norm.weight", IN_MODEL(output_norm), SIDE_NONE, SIDE_C, false},
    {"output.weight", IN_MODEL(output), SIDE_V, SIDE_C, false}, // not if tied: keep it last
};

enum {
    BLOCK_WEIGHTS = sizeof block_weights / sizeof *block_weights,
    LAST_WEIGHTS = sizeof last_weights / sizeof *last_weights,
};

static int64_t side(const struct transformer_dims *d, int l, enum side s)
{
    switch (s) {
    case SIDE_C:
        return d->d_model;
    case SIDE_Q:
        return (int64_t)d->n_heads[l] * d->head_dim;
    case SIDE_KV:
        return (int64_t)d->n_kv_heads[l] * d->head_dim;
    case SIDE_F:
        return d->d_ff[l];
    case SIDE_V:
        return d->vocab;
    case SIDE_NONE:
        break;
    }
    return 1;
}

static int declare(struct transformer *m, const struct weight *w, int l)
{
    const struct transformer_dims *d = &m->dims;
    const int64_t dim[] = {side(d, l, w->rows), side(d, l, w->cols)};
    const bool gain = w->rows == SIDE_NONE;
    const double std = d->init_std > 0 ? d->init_std : 0.02;
    char name[PARAM_NAME];
    snprintf(name, sizeof name, w->name, l);
    return store_add(&m->store, name, gain ? 1 : 2, gain ? dim + 1 : dim,
                     gain ? 0 : (float)(w->adds ? std / sqrt(2.0 * d->n_layers) : std));
}

static void bind(struct transformer *m, const struct weight *w, int l, void *owner)
{
    char name[PARAM_NAME];
    snprintf(name, sizeof name, w->name, l);
    struct param **at = (struct param **)(void *)((char *)owner + w->offset);
    *at = store_find(&m->store, name);
}

static int declare_all(struct transformer *m)
{
    if (declare(m, &first_weight, 0))
        return -1;
    for (int l = 0; l < m->dims.n_layers; l++)
        for (int i = 0; i < BLOCK_WEIGHTS; i++)
            if (declare(m, &block_weights[i], l))
                return -1;
    for (int i = 0; i < LAST_WEIGHTS - m->dims.tied; i++)
        if (declare(m, &last_weights[i], 0))
            return -1;
    return 0;
}

static void bind_all(struct transformer *m)
{
    bind(m, &first_weight, 0, m);
    for (int l = 0; l < m->dims.n_layers; l++)
        for (int i = 0; i < BLOCK_WEIGHTS; i++)
            bind(m, &block_weights[i], l, &m->blocks[l]);
    for (int i = 0; i < LAST_WEIGHTS - m->dims.tied; i++)
        bind(m, &last_weights[i], 0, m);
    if (m->dims.tied)
        m->output = m->token_embd;
}

int transformer_check(const struct transformer_dims *d)
{
    enum { MOST = 1 << 24 };
    if (d->n_layers < 1 || d->n_layers > LAYERS_MAX)
        return err("model: %d layers, 1 to %d are possible", d->n_layers, LAYERS_MAX);
    if (d->d_model < 1 || d->vocab < 1 || d->context < 1 || d->d_model > MOST || d->vocab > MOST ||
        d->context > MOST)
        return err("model: width %d, vocabulary %d, context %d: each must be 1 to %d", d->d_model,
                   d->vocab, d->context, MOST);
    if (d->head_dim < 2 || d->head_dim % 2 || d->head_dim > 1 << 16)
        return err("model: heads of %d; rotary positions need an even size", d->head_dim);
    for (int l = 0; l < d->n_layers; l++)
        if (d->n_heads[l] < 1 || d->n_heads[l] > 1 << 16 || d->n_kv_heads[l] < 1 ||
            d->n_heads[l] % d->n_kv_heads[l] || d->d_ff[l] < 1 || d->d_ff[l] > MOST)
            return err("model: layer %d has %d heads over %d kv heads and a feed-forward width of "
                       "%d",
                       l, d->n_heads[l], d->n_kv_heads[l], d->d_ff[l]);
    if (!(d->norm_eps >= 0) || !(d->rope.base > 0))
        return err("model: norm_eps %g, rope base %g", d->norm_eps, d->rope.base);
    return 0;
}

int transformer_init(struct transformer *m, const struct transformer_dims *dims, enum store_use use)
{
    *m = (struct transformer){.dims = *dims};
    if (transformer_check(dims))
        return -1;
    m->dims.rope.head_dim = dims->head_dim;
    m->dims.rope.n_pos = dims->context;
    m->blocks = mem_new((size_t)dims->n_layers, sizeof *m->blocks);
    if (!m->blocks || declare_all(m) || store_alloc(&m->store, use) ||
        rope_init(&m->rope, &m->dims.rope)) {
        transformer_free(m);
        return -1;
    }
    bind_all(m);
    return 0;
}

void transformer_free(struct transformer *m)
{
    store_free(&m->store);
    rope_free(&m->rope);
    free(m->blocks);
    *m = (struct transformer){0};
}

/* ---- forward ---- */

struct block_arg {
    struct transformer *m;
    const struct batch *batch;
    int l;
};

static struct tensor *drop(struct ctx *ctx, const struct block_arg *a, struct tensor *x, int site)
{
    const uint64_t key = a->m->dropout_key + 2 * (uint64_t)a->l + (uint64_t)site;
    return op_dropout(ctx, x, (float)a->m->dims.dropout, key, a->batch->row_id);
}

/* x + w y, in one op where nothing is dropped in between. */
static struct tensor *add_linear(struct ctx *ctx, const struct block_arg *a, struct tensor *x,
                                 struct tensor *y, struct param *w, int site)
{
    struct tensor *out;
    const bool drops = ctx->training && a->m->dims.dropout > 0;
    struct tensor *weight = &w->used;
    if (op_linear(ctx, y, 1, &weight, NULL, drops ? NULL : x, &out))
        return NULL;
    return drops ? op_add(ctx, x, drop(ctx, a, out, site)) : out;
}

/* New keys and values go into the cache; attention then reads them there. */
static struct tensor *attend(struct ctx *ctx, const struct block_arg *a, struct tensor *q,
                             struct tensor *k, struct tensor *v)
{
    const struct batch *b = a->batch;
    struct attention_seq *seqs = ctx_push(ctx, (size_t)b->n_seqs * sizeof *seqs);
    if (!seqs || !q || !k || !v)
        return NULL;
    const int64_t w = tensor_cols(k);
    for (int i = 0; i < b->n_seqs; i++) {
        const struct sequence *s = &b->seqs[i];
        seqs[i] = (struct attention_seq){.start = s->start, .len = s->len};
        if (!s->kv)
            continue;
        if (!ctx->measuring)
            kv_store(s->kv, a->l, s->len, (const float *)k->data + s->start * w,
                     (const float *)v->data + s->start * w);
        seqs[i].k = s->kv->k[a->l];
        seqs[i].v = s->kv->v[a->l];
        seqs[i].kv_len = s->kv->len + s->len;
    }
    return op_attention(ctx, q, k, v, a->m->dims.head_dim, seqs, b->n_seqs);
}

static struct tensor *block_forward(struct ctx *ctx, const void *arg, struct tensor *x)
{
    const struct block_arg *a = arg;
    const struct block *b = &a->m->blocks[a->l];
    const struct rope *rope = &a->m->rope;
    const float eps = (float)a->m->dims.norm_eps;
    struct tensor *h = op_rmsnorm(ctx, x, &b->attn_norm->used, eps), *qkv[3], *ff[2];
    if (op_linear(ctx, h, 3,
                  (struct tensor *[]){&b->attn_q->used, &b->attn_k->used, &b->attn_v->used}, NULL,
                  NULL, qkv))
        return NULL;
    struct tensor *q = op_rope(ctx, qkv[0], rope, a->batch->pos);
    struct tensor *k = op_rope(ctx, qkv[1], rope, a->batch->pos);
    x = add_linear(ctx, a, x, attend(ctx, a, q, k, qkv[2]), b->attn_output, 0);

    h = op_rmsnorm(ctx, x, &b->ffn_norm->used, eps);
    if (op_linear(ctx, h, 2, (struct tensor *[]){&b->ffn_gate->used, &b->ffn_up->used}, NULL, NULL,
                  ff))
        return NULL;
    return add_linear(ctx, a, x, op_swiglu(ctx, ff[0], ff[1]), b->ffn_down, 1);
}

static bool fits(struct ctx *ctx, const struct batch *b)
{
    for (int i = 0; i < b->n_seqs; i++) {
        const struct kv *kv = b->seqs[i].kv;
        if (kv && kv->len + b->seqs[i].len > kv->capacity)
            ctx_fail(ctx, "the KV cache holds %lld tokens; %lld more do not fit",
                     (long long)kv->len, (long long)b->seqs[i].len);
    }
    return !ctx->failed;
}

struct tensor *transformer_forward(struct ctx *ctx, struct transformer *m, const struct batch *b)
{
    if (!fits(ctx, b))
        return NULL;
    struct block_arg arg = {m, b, -1};
    struct tensor *x = op_embedding(ctx, &m->token_embd->used, b->tok, b->n);
    x = drop(ctx, &arg, x, 1);
    for (arg.l = 0; arg.l < m->dims.n_layers; arg.l++)
        x = ctx_segment(ctx, block_forward, &arg, sizeof arg, x);
    x = op_rmsnorm(ctx, x, &m->output_norm->used, (float)m->dims.norm_eps);
    for (int i = 0; x && i < b->n_seqs && !ctx->measuring; i++)
        if (b->seqs[i].kv)
            b->seqs[i].kv->len += b->seqs[i].len;
    return x;
}

struct tensor *transformer_logits(struct ctx *ctx, struct transformer *m, struct tensor *hidden,
                                  int64_t row, int64_t n)
{
    struct tensor *some = ctx_push(ctx, sizeof *some), *head = &m->output->used, *logits;
    if (!some || !hidden)
        return NULL;
    if (row < 0 || n < 1 || row + n > tensor_rows(hidden))
        return ctx_fail(ctx, "logits: rows %lld to %lld of %lld", (long long)row,
                        (long long)(row + n), (long long)tensor_rows(hidden));
    *some = *hidden;
    some->needs_grad = false;
    some->nd = 2;
    some->dim[0] = n;
    some->dim[1] = tensor_cols(hidden);
    some->data = (float *)hidden->data + row * tensor_cols(hidden);
    return op_linear(ctx, some, 1, &head, NULL, NULL, &logits) ? NULL : logits;
}

/* ---- counting ---- */

double transformer_flops(const struct transformer_dims *d, double seen, double *head)
{
    const double C = d->d_model;
    double sum = *head = 2 * C * d->vocab;
    for (int l = 0; l < d->n_layers; l++) {
        const double q = (double)d->n_heads[l] * d->head_dim;
        const double kv = (double)d->n_kv_heads[l] * d->head_dim;
        sum += 2 * C * (2 * q + 2 * kv + 3.0 * d->d_ff[l]) + 4 * q * seen;
    }
    return sum;
}

int64_t transformer_params(const struct transformer_dims *d, int64_t *without_embeddings)
{
    const int64_t C = d->d_model;
    int64_t n = C;
    for (int l = 0; l < d->n_layers; l++)
        for (int i = 0; i < BLOCK_WEIGHTS; i++)
            n += side(d, l, block_weights[i].rows) * side(d, l, block_weights[i].cols);
    *without_embeddings = n;
    return n + (d->tied ? 1 : 2) * C * d->vocab;
}
