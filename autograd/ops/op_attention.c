/*
 * Tiles of queries against tiles of keys. Forward keeps a running maximum and sum per query (online
 * softmax) and stores only the log-sum-exp; backward makes the probabilities again from it. Work is
 * cut by shapes alone: forward by (sequence, head, query tile), backward by (sequence, kv head),
 * which owns its slices of dq, dk and dv. Tensors in bf16 go another way (attention_bf16.c), and so
 * do sequences with a cache (attention_cached.c).
 */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "autograd/kernels/gemm.h"
#include "autograd/kernels/rows.h"
#include "autograd/ops/attention.h"

enum { BQ = 64, BK = 64 }; /* queries and keys of a tile */

/* One head of one sequence. */
struct head {
    int64_t len, D;
    int64_t ldq, ldkv; /* floats from token to token */
    const float *q, *k, *v;
    float *y, *lse; /* lse: every H-th */
    int64_t H;
    float scale;
};

static struct head head_of(const struct node *node, int seq, int64_t h)
{
    const struct attention *a = node->saved;
    const struct attention_seq *s = &a->seqs[seq];
    const int64_t ldq = a->H * a->D, ldkv = a->Hkv * a->D, g = h / (a->H / a->Hkv);
    const float *k = (const float *)node->in[1]->data + s->start * ldkv;
    const float *v = (const float *)node->in[2]->data + s->start * ldkv;
    return (struct head){
        .len = s->len,
        .D = a->D,
        .ldq = ldq,
        .ldkv = ldkv,
        .q = (const float *)node->in[0]->data + s->start * ldq + h * a->D,
        .k = k + g * a->D,
        .v = v + g * a->D,
        .y = (float *)node->out[0]->data + s->start * ldq + h * a->D,
        .lse = a->lse + s->start * a->H + h,
        .H = a->H,
        .scale = a->scale,
    };
}

static bool in_bf16(const struct tensor *q)
{
    return q->dt == &dtype_bf16;
}

static int64_t at_most(int64_t n, int64_t most)
{
    return n < most ? n : most;
}

/* Keys of tile [k0, k0 + nk) that query i sees: all up to its own. */
static int64_t visible(int64_t i, int64_t k0, int64_t nk)
{
    const int64_t n = i + 1 - k0;
    return n < 0 ? 0 : at_most(n, nk);
}

/* A score row becomes probabilities relative to the running maximum; y's row is rescaled. */
static void online_row(const struct head *a, float *s, int64_t n, int64_t nk, float *m, float *sum,
                       float *y)
{
    const float top = rows->max(n, s) * a->scale, old = *m;
    if (n && top > old)
        *m = top;
    const float fade = *sum > 0 ? expf(old - *m) : 0;
    const float part = n ? rows->exp_sum(n, s, a->scale, *m, s) : 0;
    memset(s + n, 0, (size_t)(nk - n) * sizeof *s);
    if (*sum > 0 && fade < 1)
        rows->scale(a->D, fade, y, y);
    *sum = *sum * fade + part;
}

static void forward_tile(const struct head *a, int64_t q0, float *s)
{
    const int64_t nq = at_most(a->len - q0, BQ);
    float m[BQ], sum[BQ];
    for (int64_t i = 0; i < nq; i++) {
        m[i] = -INFINITY;
        sum[i] = 0;
    }
    const int64_t last = q0 + nq; // keys that the tile's last query sees
    for (int64_t k0 = 0; k0 < last; k0 += BK) {
        const int64_t nk = at_most(last - k0, BK);
        gemm_tile(false, true, nq, nk, a->D, a->q + q0 * a->ldq, a->ldq, a->k + k0 * a->ldkv,
                  a->ldkv, false, s, BK);
        for (int64_t i = 0; i < nq; i++)
            online_row(a, s + i * BK, visible(q0 + i, k0, nk), nk, &m[i], &sum[i],
                       a->y + (q0 + i) * a->ldq);
        gemm_tile(false, false, nq, a->D, nk, s, BK, a->v + k0 * a->ldkv, a->ldkv, k0 > 0,
                  a->y + q0 * a->ldq, a->ldq);
    }
    for (int64_t i = 0; i < nq; i++) {
        float *y = a->y + (q0 + i) * a->ldq;
        rows->scale(a->D, 1 / sum[i], y, y);
        a->lse[(q0 + i) * a->H] = m[i] + logf(sum[i]);
    }
}

static void forward(struct ctx *ctx, struct node *node)
{
    const struct attention *a = node->saved;
    if (in_bf16(node->in[0])) {
        attention_bf16_forward(ctx, node);
        return;
    }
    if (a->cache)
        attention_cached_forward(ctx, node);
    const size_t mark = ctx_mark(ctx);
    size_t bytes = BQ * BK * sizeof(float);
    char *scratch = ctx_thread_scratch(ctx, &bytes);
    const int64_t tiles = a->first[a->n_seqs];
    if (!ctx->measuring && scratch && tiles) {
#pragma omp parallel for schedule(dynamic, 1)
        for (int64_t c = tiles * a->H - 1; c >= 0; c--) { // long tiles first: they end together
            const int64_t tile = c / a->H;
            int seq = 0;
            while (tile >= a->first[seq + 1])
                seq++;
            const struct head h = head_of(node, seq, c % a->H);
            forward_tile(&h, (tile - a->first[seq]) * BQ,
                         (float *)(scratch + (size_t)omp_get_thread_num() * bytes));
        }
    }
    ctx_release(ctx, mark);
}

struct head_grad {
    const float *dy;
    float *dq, *dk, *dv;
    const float *delta; /* sum(dy * y) per query, every H-th */
};

/* Adds what queries [q0, +BQ) and keys [k0, +BK) give to all three gradients. */
static void backward_tile(const struct head *a, const struct head_grad *g, int64_t q0, int64_t k0,
                          float *p, float *dp)
{
    const int64_t nq = at_most(a->len - q0, BQ), nk = at_most(a->len - k0, BK);
    const float *q = a->q + q0 * a->ldq, *k = a->k + k0 * a->ldkv, *v = a->v + k0 * a->ldkv;
    const float *dy = g->dy + q0 * a->ldq;
    gemm_tile(false, true, nq, nk, a->D, q, a->ldq, k, a->ldkv, false, p, BK);
    gemm_tile(false, true, nq, nk, a->D, dy, a->ldq, v, a->ldkv, false, dp, BK);
    for (int64_t i = 0; i < nq; i++) {
        const int64_t n = visible(q0 + i, k0, nk);
        rows->exp_sum(n, p + i * BK, a->scale, a->lse[(q0 + i) * a->H], p + i * BK);
        memset(p + i * BK + n, 0, (size_t)(nk - n) * sizeof *p);
        rows->softmax_backward(nk, p + i * BK, dp + i * BK, g->delta[(q0 + i) * a->H], a->scale,
                               dp + i * BK);
    }
    if (g->dv)
        gemm_tile(true, false, nk, a->D, nq, p, BK, dy, a->ldq, true, g->dv + k0 * a->ldkv,
                  a->ldkv);
    if (g->dk)
        gemm_tile(true, false, nk, a->D, nq, dp, BK, q, a->ldq, true, g->dk + k0 * a->ldkv,
                  a->ldkv);
    if (g->dq)
        gemm_tile(false, false, nq, a->D, nk, dp, BK, k, a->ldkv, true, g->dq + q0 * a->ldq,
                  a->ldq);
}

/* Where the gradients of one node lie; a fresh one is zeroed by the part that owns the slice. */
struct grads {
    float *dq, *dk, *dv, *delta;
    bool fresh_q, fresh_k, fresh_v;
};

static float *slice(float *grad, bool fresh, int64_t start, int64_t len, int64_t ld, int64_t at,
                    int64_t width)
{
    if (!grad)
        return NULL;
    for (int64_t i = 0; i < len && fresh; i++)
        memset(grad + (start + i) * ld + at, 0, (size_t)width * sizeof *grad);
    return grad + start * ld + at;
}

static void backward_part(const struct node *node, const struct grads *g, int seq, int64_t kv,
                          float *scratch)
{
    const struct attention *a = node->saved;
    const struct attention_seq *s = &a->seqs[seq];
    const int64_t group = a->H / a->Hkv, ldq = a->H * a->D, ldkv = a->Hkv * a->D, D = a->D;
    struct head_grad hg = {
        .dk = slice(g->dk, g->fresh_k, s->start, s->len, ldkv, kv * D, D),
        .dv = slice(g->dv, g->fresh_v, s->start, s->len, ldkv, kv * D, D),
    };
    slice(g->dq, g->fresh_q, s->start, s->len, ldq, kv * group * D, group * D);
    for (int64_t h = kv * group; h < (kv + 1) * group; h++) {
        const struct head head = head_of(node, seq, h);
        const int64_t first = s->start * ldq + h * D;
        hg.dy = (const float *)node->out[0]->grad + first;
        hg.dq = g->dq ? g->dq + first : NULL;
        hg.delta = g->delta + s->start * a->H + h;
        for (int64_t i = 0; i < s->len; i++)
            g->delta[(s->start + i) * a->H + h] = rows->dot(D, hg.dy + i * ldq, head.y + i * ldq);
        for (int64_t k0 = 0; k0 < s->len; k0 += BK)
            for (int64_t q0 = k0 / BQ * BQ; q0 < s->len; q0 += BQ)
                backward_tile(&head, &hg, q0, k0, scratch, scratch + BQ * BK);
    }
}

static void backward(struct ctx *ctx, struct node *node)
{
    const struct attention *a = node->saved;
    struct grads g;
    if (in_bf16(node->in[0])) {
        attention_bf16_backward(ctx, node);
        return;
    }
    g.dq = ctx_grad(ctx, node->in[0], &g.fresh_q);
    g.dk = ctx_grad(ctx, node->in[1], &g.fresh_k);
    g.dv = ctx_grad(ctx, node->in[2], &g.fresh_v);
    const size_t mark = ctx_mark(ctx);
    g.delta = ctx_scratch(ctx, (size_t)(tensor_rows(node->in[0]) * a->H) * sizeof *g.delta);
    size_t bytes = 2 * BQ * BK * sizeof(float);
    char *scratch = ctx_thread_scratch(ctx, &bytes);
    if (!ctx->measuring && !ctx->failed) {
#pragma omp parallel for schedule(dynamic, 1)
        for (int64_t c = 0; c < a->n_seqs * a->Hkv; c++)
            backward_part(node, &g, (int)(c / a->Hkv), c % a->Hkv,
                          (float *)(scratch + (size_t)omp_get_thread_num() * bytes));
    }
    ctx_release(ctx, mark);
}

static void cost(const struct ctx *ctx, const struct node *node, bool backward, struct cost *c)
{
    (void)ctx;
    const struct attention *a = node->saved;
    const double per_pair = (backward ? 10.0 : 4.0) * (double)(a->D * a->H);
    double pairs = 0; // of a query and a key that it sees
    for (int i = 0; i < a->n_seqs; i++) {
        const double n = (double)a->seqs[i].len;
        pairs += n * (n + 1) / 2 + (a->seqs[i].cache ? n * ((double)a->seqs[i].kv_len - n) : 0);
    }
    // softmax is part of what its products' rate is measured with
    c->product[c->n++] = (struct product){
        .kind = backward ? COST_ATTENTION_BACKWARD : COST_ATTENTION,
        .dt = node->in[0]->dt,
        .M = tensor_rows(node->in[0]) / a->n_seqs,
        .N = a->n_seqs,
        .K = a->D,
        .H = a->H,
        .Hkv = a->Hkv,
        .flops = per_pair * pairs,
        .times = 1,
    };
}

static const struct op op = {"attention", forward, backward, cost};

static bool fits(struct ctx *ctx, const struct tensor *q, const struct tensor *k,
                 const struct tensor *v, int64_t D, const struct attention_seq *seqs, int n)
{
    const int64_t wide = tensor_cols(q), narrow = tensor_cols(k);
    int64_t at = 0;
    bool covered = true, others = false;
    const struct attention_cache *cache = NULL;
    for (int i = 0; i < n; at += seqs[i++].len) {
        covered &= seqs[i].start == at && seqs[i].len > 0;
        covered &= !seqs[i].cache || seqs[i].kv_len >= seqs[i].len;
        if (seqs[i].cache && seqs[i].cache != cache) {
            others |= cache != NULL;
            cache = seqs[i].cache;
        }
    }
    if (D < 1 || wide % D || narrow % D || narrow < D || (wide / D) % (narrow / D) ||
        !tensor_same_shape(k, v) || tensor_rows(k) != tensor_rows(q))
        ctx_fail(ctx, "attention: queries of %lld and keys of %lld with heads of %lld",
                 (long long)wide, (long long)narrow, (long long)D);
    else if (q->dt != k->dt || q->dt != v->dt || (cache && in_bf16(q)))
        ctx_fail(ctx, "attention: queries in %s, keys in %s, values in %s%s", q->dt->name,
                 k->dt->name, v->dt->name, cache ? ", a cache" : "");
    else if (!covered || at != tensor_rows(q))
        ctx_fail(ctx, "attention: the sequences do not cover %lld rows in order",
                 (long long)tensor_rows(q));
    else if (others || (cache && !kvblock_bytes(cache->type, D)))
        ctx_fail(ctx, "attention: %s in %s for heads of %lld", others ? "two caches" : "no cache",
                 kvblock_names[cache->type], (long long)D);
    else if (cache && ctx->recording && (q->needs_grad || k->needs_grad || v->needs_grad))
        ctx_fail(ctx, "attention: no gradient passes through a cache");
    return !ctx->failed;
}

/* Tiles before each sequence, of either kind. */
static void cut(struct attention *a, int64_t tile)
{
    a->first[0] = a->cached[0] = 0;
    for (int i = 0; i < a->n_seqs; i++) {
        const bool kept = a->seqs[i].cache != NULL;
        a->cache = kept ? a->seqs[i].cache : a->cache;
        a->first[i + 1] = a->first[i] + (kept ? 0 : (a->seqs[i].len + tile - 1) / tile);
        a->cached[i + 1] = a->cached[i] + (kept ? attention_cached_tiles(a, a->seqs[i].len) : 0);
    }
}

struct tensor *op_attention(struct ctx *ctx, struct tensor *q, struct tensor *k, struct tensor *v,
                            int head_dim, const struct attention_seq *seqs, int n_seqs)
{
    if (!q || !k || !v || ctx->failed || !fits(ctx, q, k, v, head_dim, seqs, n_seqs))
        return NULL;
    const int64_t H = tensor_cols(q) / head_dim;
    struct attention *a = ctx_push(ctx, sizeof *a);
    struct attention_seq *own = ctx_push(ctx, (size_t)n_seqs * sizeof *own);
    int64_t *first = ctx_push(ctx, ((size_t)n_seqs + 1) * sizeof *first);
    int64_t *cached = ctx_push(ctx, ((size_t)n_seqs + 1) * sizeof *cached);
    float *lse = ctx_push(ctx, (size_t)(tensor_rows(q) * H) * sizeof *lse);
    struct tensor *y = ctx_like(ctx, q);
    if (!y)
        return NULL;
    memcpy(own, seqs, (size_t)n_seqs * sizeof *own);
    *a = (struct attention){.D = head_dim,
                            .H = H,
                            .Hkv = tensor_cols(k) / head_dim,
                            .scale = 1 / sqrtf((float)head_dim),
                            .lse = lse,
                            .n_seqs = n_seqs,
                            .seqs = own,
                            .first = first,
                            .cached = cached};
    cut(a, in_bf16(q) ? ATTENTION_BLOCK : BQ);
    a->split = attention_bf16_splits(a, q == k || q == v || k == v);
    struct node node = {.op = &op, .in = {q, k, v}, .out = {y}, .saved = a};
    return ctx_run(ctx, &node);
}
