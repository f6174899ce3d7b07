#include "layers/transformer.h"

#include <math.h>
#include <stdlib.h>

#include "autograd/base/mem.h"
#include "layers/weights.h"

int transformer_check(const struct transformer_dims *d)
{
    enum { MOST = 1 << 24 };
    if ((unsigned)d->arch >= ARCH_N)
        return err("model: architecture %d is unknown", d->arch);
    const bool rotary = !(arch_rows[d->arch].traits & ARCH_LEARNED);
    if (d->n_layers < 1 || d->n_layers > LAYERS_MAX)
        return err("model: %d layers, 1 to %d are possible", d->n_layers, LAYERS_MAX);
    if (d->d_model < 1 || d->vocab < 1 || d->context < 1 || d->d_model > MOST || d->vocab > MOST ||
        d->context > MOST)
        return err("model: width %d, vocabulary %d, context %d: each must be 1 to %d", d->d_model,
                   d->vocab, d->context, MOST);
    if (d->head_dim < 1 || d->head_dim > 1 << 16 || (rotary && d->head_dim % 2))
        return err("model: heads of %d; rotary positions need an even size", d->head_dim);
    for (int l = 0; l < d->n_layers; l++)
        if (d->n_heads[l] < 1 || d->n_heads[l] > 1 << 16 || d->n_kv_heads[l] < 1 ||
            d->n_heads[l] % d->n_kv_heads[l] || d->d_ff[l] < 1 || d->d_ff[l] > MOST)
            return err("model: layer %d has %d heads over %d kv heads and a feed-forward width of "
                       "%d",
                       l, d->n_heads[l], d->n_kv_heads[l], d->d_ff[l]);
    if (!(d->norm_eps >= 0) || (rotary && !(d->rope.base > 0)))
        return err("model: norm_eps %g, rope base %g", d->norm_eps, d->rope.base);
    if ((unsigned)d->rope.scaling > ROPE_SCALING_TABLE)
        return err("model: rope scaling %d is unknown", d->rope.scaling);
    const bool table = rotary && d->rope.scaling == ROPE_SCALING_TABLE;
    if (table && d->head_dim / 2 > ROPE_TABLE)
        return err("model: heads of %d; with a table of rotary frequencies at most %d", d->head_dim,
                   2 * ROPE_TABLE);
    for (int i = 0; table && i < d->head_dim / 2; i++)
        if (!(d->rope.divisor[i] > 0) || !isfinite(d->rope.divisor[i]))
            return err("model: rotary frequency %d is divided by %g", i, d->rope.divisor[i]);
    return 0;
}

bool transformer_even(const struct transformer_dims *d)
{
    for (int l = 1; l < d->n_layers; l++)
        if (d->n_heads[l] != d->n_heads[0] || d->n_kv_heads[l] != d->n_kv_heads[0] ||
            d->d_ff[l] != d->d_ff[0])
            return false;
    return true;
}

int transformer_init(struct transformer *m, const struct transformer_dims *dims, enum store_use use)
{
    *m = (struct transformer){.dims = *dims};
    if (transformer_check(dims))
        return -1;
    const unsigned traits = arch_rows[dims->arch].traits;
    m->dims.rope.style = traits & ARCH_ROPE_HALF ? ROPE_HALF : ROPE_ADJACENT;
    m->dims.rope.head_dim = dims->head_dim;
    m->dims.rope.n_pos = dims->context;
    m->blocks = mem_new((size_t)dims->n_layers, sizeof *m->blocks);
    if (!m->blocks || weights_declare(m) || store_alloc(&m->store, use) ||
        (!(traits & ARCH_LEARNED) && rope_init(&m->rope, &m->dims.rope))) {
        transformer_free(m);
        return -1;
    }
    weights_bind(m);
    return 0;
}

void transformer_free(struct transformer *m)
{
    lora_free(m);
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

static struct tensor *used(struct param *p)
{
    return p ? &p->used : NULL;
}

static struct tensor *norm(struct ctx *ctx, const struct transformer *m, struct tensor *x,
                           const struct affine *w)
{
    const float eps = (float)m->dims.norm_eps;
    return w->bias ? op_layernorm(ctx, x, &w->weight->used, &w->bias->used, eps)
                   : op_rmsnorm(ctx, x, &w->weight->used, eps);
}

/* norm() of a block: made again in backward. */
static struct tensor *brief_norm(struct ctx *ctx, const struct transformer *m, struct tensor *x,
                                 const struct affine *w)
{
    ctx->brief = true;
    struct tensor *h = norm(ctx, m, x, w);
    ctx->brief = false;
    return h;
}

/* x + w y, in one op where nothing is dropped in between. */
static struct tensor *add_linear(struct ctx *ctx, const struct block_arg *a, struct tensor *x,
                                 struct tensor *y, const struct affine *w, int site)
{
    struct tensor *out, *weight = used(w->weight), *bias = used(w->bias);
    const bool drops = ctx->training && a->m->dims.dropout > 0;
    if (op_linear(ctx, y, 1, &weight, &bias, drops ? NULL : x, &out))
        return NULL;
    return drops ? op_add(ctx, x, drop(ctx, a, out, site)) : out;
}

/* The heads of x, q or k, normed and turned as the architecture wants it. */
static struct tensor *heads(struct ctx *ctx, const struct block_arg *a, struct tensor *x,
                            struct param *gain)
{
    const struct transformer *m = a->m;
    if (gain)
        x = op_rmsnorm(ctx, x, &gain->used, (float)m->dims.norm_eps);
    return m->rope.cos ? op_rope(ctx, x, &m->rope, a->batch->pos) : x;
}

/* q, k and v of h, from matrices of their own or from the rows of one. */
static bool project(struct ctx *ctx, const struct block_arg *a, struct tensor *h,
                    struct tensor *qkv[3])
{
    const struct transformer_dims *d = &a->m->dims;
    const struct block *b = &a->m->blocks[a->l];
    const struct affine *const own[] = {&b->attn_q, &b->attn_k, &b->attn_v};
    struct tensor *w[3], *bias[3];
    for (int64_t i = 0, at = 0, n; i < 3; i++, at += n) {
        n = (int64_t)(i ? d->n_kv_heads : d->n_heads)[a->l] * d->head_dim;
        w[i] = b->attn_qkv.weight ? ctx_part(ctx, &b->attn_qkv.weight->used, at, n)
                                  : used(own[i]->weight);
        bias[i] =
            b->attn_qkv.bias ? ctx_part(ctx, &b->attn_qkv.bias->used, at, n) : used(own[i]->bias);
    }
    return !op_linear(ctx, h, 3, w, bias, NULL, qkv);
}

static struct tensor *attend(struct ctx *ctx, const struct block_arg *a, struct tensor *q,
                             struct tensor *k, struct tensor *v)
{
    const struct batch *b = a->batch;
    struct attention_seq *seqs = ctx_push(ctx, (size_t)b->n_seqs * sizeof *seqs);
    if (!seqs || !q || !k || !v)
        return NULL;
    for (int i = 0; i < b->n_seqs; i++) {
        const struct sequence *s = &b->seqs[i];
        seqs[i] = (struct attention_seq){.start = s->start, .len = s->len};
        if (!s->kv)
            continue;
        seqs[i].cache = &s->kv->pool->layer[a->l];
        seqs[i].block = s->kv->block;
        seqs[i].kv_len = s->kv->len + s->len;
    }
    return op_attention(ctx, q, k, v, a->m->dims.head_dim, seqs, b->n_seqs);
}

/* What is inside the feed-forward half, of h: silu(ffn_gate h) * ffn_up h, or gelu(ffn_up h); made
   again in backward. */
static struct tensor *widen_out(struct ctx *ctx, const struct block *b, struct tensor *h)
{
    struct tensor *w[] = {used(b->ffn_gate), used(b->ffn_up.weight)}, *y[2];
    struct tensor *bias[] = {NULL, used(b->ffn_up.bias)};
    const int first = b->ffn_gate ? 0 : 1;
    if (op_linear(ctx, h, 2 - first, w + first, bias + first, NULL, y + first))
        return NULL;
    ctx->brief = true;
    struct tensor *wide = b->ffn_gate ? op_swiglu(ctx, y[0], y[1]) : op_gelu(ctx, y[1]);
    ctx->brief = false;
    return wide;
}

static struct tensor *block_forward(struct ctx *ctx, const void *arg, struct tensor *x)
{
    const struct block_arg *a = arg;
    const struct block *b = &a->m->blocks[a->l];
    struct tensor *qkv[3];
    if (!project(ctx, a, brief_norm(ctx, a->m, x, &b->attn_norm), qkv))
        return NULL;
    struct tensor *q = heads(ctx, a, qkv[0], b->attn_q_norm);
    struct tensor *k = heads(ctx, a, qkv[1], b->attn_k_norm);
    x = add_linear(ctx, a, x, attend(ctx, a, q, k, qkv[2]), &b->attn_output, 0);
    struct tensor *h = brief_norm(ctx, a->m, x, &b->ffn_norm);
    return add_linear(ctx, a, x, widen_out(ctx, b, h), &b->ffn_down, 1);
}

/* Blocks for the new tokens, where the caller has not reserved them. */
static bool fits(struct ctx *ctx, const struct batch *b)
{
    for (int i = 0; i < b->n_seqs && !ctx->measuring && !ctx->failed; i++) {
        struct kv *kv = b->seqs[i].kv;
        const int rc = kv ? kv_reserve(kv, b->seqs[i].len) : 0;
        if (rc == KV_FULL)
            ctx_fail(ctx,
                     "the KV cache has %lld blocks, and %lld left: %lld tokens behind %lld do "
                     "not fit",
                     (long long)kv->pool->n, (long long)kv_pool_left(kv->pool),
                     (long long)b->seqs[i].len, (long long)kv->len);
        else if (rc)
            ctx_fail(ctx, "%s", err_text());
    }
    return !ctx->failed;
}

/* The rotary table, up to the last position of the batch. */
static bool covered(struct ctx *ctx, struct transformer *m, const struct batch *b)
{
    int64_t n = 0;
    for (int64_t i = 0; m->rope.cos && !ctx->measuring && i < b->n; i++)
        n = b->pos[i] >= n && b->pos[i] < m->rope.n_pos ? b->pos[i] + 1 : n;
    if (n > m->rope.covered && rope_cover(&m->rope, n))
        ctx_fail(ctx, "%s", err_text());
    return !ctx->failed;
}

struct tensor *transformer_forward(struct ctx *ctx, struct transformer *m, const struct batch *b)
{
    if (!fits(ctx, b) || !covered(ctx, m, b))
        return NULL;
    struct block_arg arg = {m, b, -1};
    struct tensor *x = op_embedding(ctx, &m->token_embd->used, b->tok, b->n);
    if (m->position_embd)
        x = op_add(ctx, x, op_embedding(ctx, &m->position_embd->used, b->pos, b->n));
    x = drop(ctx, &arg, x, 1);
    for (arg.l = 0; arg.l < m->dims.n_layers; arg.l++)
        x = ctx_segment(ctx, block_forward, &arg, sizeof arg, x);
    x = norm(ctx, m, x, &m->output_norm);
    for (int i = 0; x && i < b->n_seqs && !ctx->measuring; i++)
        if (b->seqs[i].kv)
            b->seqs[i].kv->len += b->seqs[i].len;
    return x;
}

struct tensor *transformer_logits(struct ctx *ctx, struct transformer *m, struct tensor *hidden,
                                  int64_t row, int64_t n)
{
    struct tensor *some = ctx_part(ctx, hidden, row, n), *head = &m->output->used, *logits;
    if (!some)
        return NULL;
    some->needs_grad = false;
    return op_linear(ctx, some, 1, &head, NULL, NULL, &logits) ? NULL : logits;
}

struct tensor *transformer_logits_at(struct ctx *ctx, struct transformer *m, struct tensor *hidden,
                                     const int32_t *row, int64_t n)
{
    struct tensor *some =
        op_embedding(ctx, hidden, row, n); // which rows of a matrix is all it does
    return some ? transformer_logits(ctx, m, some, 0, n) : NULL;
}

/* ---- counting ---- */

size_t transformer_bytes(const struct transformer *m)
{
    const size_t rows = m->rope.cos ? (size_t)m->rope.covered : 0;
    return store_bytes(&m->store) + store_bytes(&m->lora.factors) +
           rows * (size_t)m->dims.head_dim * sizeof(float);
}

double transformer_flops(const struct transformer_dims *d, double seen, double *head)
{
    double sum = 2 * (double)weights_count(d).block_matrices;
    for (int l = 0; l < d->n_layers; l++)
        sum += 4 * (double)d->n_heads[l] * d->head_dim * seen;
    *head = 2.0 * d->d_model * d->vocab;
    return sum + *head;
}

int64_t transformer_params(const struct transformer_dims *d, int64_t *without_embeddings)
{
    const struct weights_count n = weights_count(d);
    *without_embeddings = n.all - n.embeddings;
    return n.all;
}
