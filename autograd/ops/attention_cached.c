/*
 * Attention of sequences whose keys and values lie in a cache of blocks. The rows of a sequence are
 * its queries times the heads of one kv head, so that what is read from the cache serves them all;
 * a tile has up to ROWS of them. The keys are cut into spans at fixed places. A span gives each row
 * scores, their maximum and sum, and a result; spans are put together in order (online softmax).
 * So a row's bits are a function of its own keys: whether it is a token of a long prompt or drawn
 * alone, whatever is beside it, and whether the spans of one tile are computed one after another
 * or, where tiles are too few for many threads, as work of their own.
 */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "autograd/kernels/rows.h"
#include "autograd/ops/attention.h"

enum {
    ROWS = 32,     /* of a tile: its scores of a span stay in L1 */
    SPAN = 256,    /* keys: a whole number of blocks */
    FEW_TILES = 64 /* with fewer their spans are work of their own */
};

/* Result of rows over some keys: y = sum p v, p = exp(score - top). */
struct part {
    float top[ROWS], sum[ROWS]; /* sum 0: no keys */
    float *y;                   /* [ROWS,W] */
};

/* Rows [r0, r0 + R) of one kv head of a sequence. */
struct tile {
    const struct attention *a;
    const struct attention_seq *s;
    int64_t g, r0, R, W;
    const float *q; /* [R,D], scaled */
};

int64_t attention_cached_tiles(const struct attention *a, int64_t len)
{
    return (len * (a->H / a->Hkv) + ROWS - 1) / ROWS;
}

/* Floats of a part's y, and the bytes of a tile's scratch: q, scores, the span's y and the whole.
 */
static int64_t part_floats(const struct attention *a)
{
    return ROWS * kvblock_wide(a->D);
}

static size_t tile_bytes(const struct attention *a)
{
    return (size_t)(ROWS * a->D + ROWS * SPAN + 2 * part_floats(a)) * sizeof(float);
}

/* Where row r of the tile is in q and y: [N,H*D]. */
static int64_t row_at(const struct tile *t, int64_t r)
{
    const int64_t group = t->a->H / t->a->Hkv, row = t->r0 + r;
    return ((t->s->start + row / group) * t->a->H + t->g * group + row % group) * t->a->D;
}

/* Keys before k0 + SPAN and from k0 on that row r sees: all up to its own query's. */
static int64_t visible(const struct tile *t, int64_t r, int64_t k0)
{
    const int64_t query = (t->r0 + r) / (t->a->H / t->a->Hkv);
    const int64_t n = t->s->kv_len - t->s->len + query + 1 - k0;
    return n < 0 ? 0 : n < SPAN ? n : SPAN;
}

static struct tile tile_open(const struct node *node, int64_t index, float *q)
{
    const struct attention *a = node->saved;
    struct tile t = {.a = a, .g = index % a->Hkv, .W = kvblock_wide(a->D), .q = q};
    int seq = 0;
    while (index / a->Hkv >= a->cached[seq + 1])
        seq++;
    t.s = &a->seqs[seq];
    t.r0 = (index / a->Hkv - a->cached[seq]) * ROWS;
    const int64_t left = t.s->len * (a->H / a->Hkv) - t.r0;
    t.R = left < ROWS ? left : ROWS;
    for (int64_t r = 0; r < t.R; r++)
        rows->scale(a->D, a->scale, (const float *)node->in[0]->data + row_at(&t, r), q + r * a->D);
    return t;
}

static int64_t spans(const struct tile *t)
{
    const int64_t query = (t->r0 + t->R - 1) / (t->a->H / t->a->Hkv);
    return (t->s->kv_len - t->s->len + query + SPAN) / SPAN;
}

/* The tile over the keys [k0, k0 + SPAN). s: scratch [ROWS,SPAN]. */
static void attend_span(const struct tile *t, int64_t k0, float *s, struct part *out)
{
    const struct attention *a = t->a;
    const struct kvblock *kernels = &kvblock[a->cache->type];
    const int64_t most = visible(t, t->R - 1, k0), blocks = (most + KVBLOCK - 1) / KVBLOCK;
    const void *block[SPAN / KVBLOCK];
    for (int64_t b = 0; b < blocks; b++)
        block[b] = a->cache->base + (size_t)t->s->block[k0 / KVBLOCK + b] * a->cache->stride +
                   (size_t)t->g * kvblock_bytes(a->cache->type, a->D);
    kernels->scores(a->D, t->R, t->q, blocks, block, s, SPAN);
    for (int64_t r = 0; r < t->R; r++) {
        float *p = s + r * SPAN;
        const int64_t n = visible(t, r, k0);
        out->top[r] = rows->max(n, p);
        out->sum[r] = n ? rows->exp_sum(n, p, 1, out->top[r], p) : 0;
        memset(p + n, 0, (size_t)(most - n) * sizeof *p);
    }
    memset(out->y, 0, (size_t)(t->R * t->W) * sizeof *out->y);
    kernels->values(a->D, t->R, s, SPAN, most, block, out->y);
}

/* to: what keys before those of `next` gave; becomes both. */
static void join(const struct tile *t, struct part *to, const struct part *next)
{
    for (int64_t r = 0; r < t->R; r++) {
        float *y = to->y + r * t->W;
        const float *z = next->y + r * t->W;
        if (!(next->sum[r] > 0) && !isnan(next->sum[r]))
            continue;
        const float top = fmaxf(to->top[r], next->top[r]);
        const float old = expf(to->top[r] - top), new = expf(next->top[r] - top);
        rows->scale(t->W, old, y, y);
        rows->axpy(t->W, new, z, y);
        to->sum[r] = to->sum[r] * old + next->sum[r] * new;
        to->top[r] = top;
    }
}

static void finish(const struct tile *t, const struct node *node, const struct part *p)
{
    for (int64_t r = 0; r < t->R; r++)
        rows->scale(t->a->D, 1 / p->sum[r], p->y + r * t->W,
                    (float *)node->out[0]->data + row_at(t, r));
}

/* One tile from its first key to its last. */
static void attend(const struct node *node, int64_t index, float *scratch)
{
    const struct attention *a = node->saved;
    float *s = scratch + ROWS * a->D;
    struct part all = {.y = s + ROWS * SPAN}, next = {.y = all.y + part_floats(a)};
    const struct tile t = tile_open(node, index, scratch);
    attend_span(&t, 0, s, &all);
    for (int64_t i = 1, n = spans(&t); i < n; i++) {
        attend_span(&t, i * SPAN, s, &next);
        join(&t, &all, &next);
    }
    finish(&t, node, &all);
}

/* Token i of all sequences with a cache, of one kv head, into its block. */
static void store(const struct node *node, int64_t i, int64_t g)
{
    const struct attention *a = node->saved;
    int seq = 0;
    while (i >= a->seqs[seq].start + a->seqs[seq].len)
        seq++;
    const struct attention_seq *s = &a->seqs[seq];
    if (!s->cache)
        return;
    const int64_t at = s->kv_len - s->len + i - s->start, from = (i * a->Hkv + g) * a->D;
    kvblock[a->cache->type].put(a->D,
                                a->cache->base + (size_t)s->block[at / KVBLOCK] * a->cache->stride +
                                    (size_t)g * kvblock_bytes(a->cache->type, a->D),
                                (int)(at % KVBLOCK), (const float *)node->in[1]->data + from,
                                (const float *)node->in[2]->data + from);
}

/* Parts of the spans of few tiles. */
struct parts {
    int64_t most;      /* spans of a tile */
    struct part *part; /* [tiles, most] */
    float *y;          /* of all parts */
};

static int64_t most_spans(const struct attention *a)
{
    int64_t longest = 0;
    for (int i = 0; i < a->n_seqs; i++)
        longest = a->seqs[i].kv_len > longest ? a->seqs[i].kv_len : longest;
    return (longest + SPAN - 1) / SPAN;
}

/* Room for the spans of the most tiles that are still few, so that it only grows with kv_len. */
static struct parts parts_open(struct ctx *ctx, const struct attention *a)
{
    struct parts p = {.most = most_spans(a)};
    if (p.most < 2)
        return p;
    const int64_t n = FEW_TILES * p.most;
    p.part = ctx_scratch(ctx, (size_t)n * sizeof *p.part);
    p.y = ctx_scratch(ctx, (size_t)(n * part_floats(a)) * sizeof *p.y);
    return p;
}

/* Span `item` % most of tile `item` / most, into its part. */
static void attend_part(const struct node *node, const struct parts *p, int64_t item,
                        float *scratch)
{
    const struct attention *a = node->saved;
    const struct tile t = tile_open(node, item / p->most, scratch);
    const int64_t span = item % p->most;
    p->part[item].y = p->y + item * part_floats(a);
    if (span < spans(&t))
        attend_span(&t, span * SPAN, scratch + ROWS * a->D, &p->part[item]);
}

static void join_parts(const struct node *node, const struct parts *p, int64_t index,
                       float *scratch)
{
    const struct tile t = tile_open(node, index, scratch);
    struct part *all = p->part + index * p->most;
    for (int64_t i = 1, n = spans(&t); i < n; i++)
        join(&t, all, all + i);
    finish(&t, node, all);
}

void attention_cached_forward(struct ctx *ctx, struct node *node)
{
    const struct attention *a = node->saved;
    const size_t mark = ctx_mark(ctx);
    size_t bytes = tile_bytes(a);
    char *scratch = ctx_thread_scratch(ctx, &bytes);
    const struct parts parts = parts_open(ctx, a);
    const int64_t N = tensor_rows(node->in[0]), tiles = a->cached[a->n_seqs] * a->Hkv;
    const bool split = parts.most > 1 && tiles < FEW_TILES;
    if (!ctx->measuring && !ctx->failed) {
#pragma omp parallel
        {
            float *own = (float *)(void *)(scratch + (size_t)omp_get_thread_num() * bytes);
#pragma omp for schedule(static)
            for (int64_t i = 0; i < N * a->Hkv; i++)
                store(node, i / a->Hkv, i % a->Hkv);
            if (split) {
#pragma omp for schedule(dynamic, 1)
                for (int64_t i = 0; i < tiles * parts.most; i++)
                    attend_part(node, &parts, i, own);
#pragma omp for schedule(dynamic, 1)
                for (int64_t i = 0; i < tiles; i++)
                    join_parts(node, &parts, i, own);
            } else {
#pragma omp for schedule(dynamic, 1)
                for (int64_t i = tiles - 1; i >= 0; i--) // long tiles first: they end together
                    attend(node, i, own);
            }
        }
    }
    ctx_release(ctx, mark);
}
