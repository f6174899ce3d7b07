/*
 * Forward of attention on bf16 units: a block of queries against blocks of keys, which are packed
 * into the thread's scratch. Scores exist for LANE_STRIP queries at a time, in f32, and go on as
 * bf16 probabilities (online softmax, as in op_attention.c). Strips cut the causal diagonal.
 */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "autograd/kernels/rows.h"
#include "autograd/ops/lane.h"

enum { BLOCK = ATTENTION_BLOCK };

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Of a thread: queries [n] with their running maximum, sum and result, a block of keys. */
struct forward16 {
    int64_t n;
    uint16_t *q, *keys, *values, *p; /* p [LANE_STRIP, n] */
    float *s, *y, *top, *sum;        /* s [LANE_STRIP, n], y [n, D] */
};

static size_t forward_cut(const struct attention *a, char *base, struct forward16 *f)
{
    const int64_t n = lane_block(a), wide = panel_depth(a->D);
    struct lane_cut c = {.base = base};
    *f = (struct forward16){.n = n};
    f->q = lane_cut(&c, n * wide, sizeof *f->q);
    f->keys = lane_cut(&c, n * wide, sizeof *f->keys);
    f->values = lane_cut(&c, n * wide, sizeof *f->values);
    f->p = lane_cut(&c, LANE_STRIP * n, sizeof *f->p);
    f->s = lane_cut(&c, LANE_STRIP * n, sizeof *f->s);
    f->y = lane_cut(&c, n * a->D, sizeof *f->y);
    f->top = lane_cut(&c, n, sizeof *f->top);
    f->sum = lane_cut(&c, n, sizeof *f->sum);
    return c.at;
}

/* Scores s [n] of query i, of which `seen` count, become probabilities p relative to the running
   maximum; the query's result is rescaled. */
static void online(const struct lane *a, const struct forward16 *f, int64_t i, float *s,
                   int64_t seen, int64_t n, uint16_t *p)
{
    for (int64_t j = seen; j < n; j++)
        s[j] = -INFINITY;
    const float top = rows->max(n, s) * a->scale, old = f->top[i];
    if (top > old) {
        f->top[i] = top;
        if (f->sum[i] > 0) {
            const float fade = expf(old - top);
            rows->scale(a->D, fade, f->y + i * a->D, f->y + i * a->D);
            f->sum[i] *= fade;
        }
    }
    f->sum[i] += rows->exp_bf16(n, s, a->scale, f->top[i], p);
    memset(p + seen, 0, (size_t)(n - seen) * sizeof *p);
}

/* Queries [i, i + m) of a block against nk keys; diagonal: query i sees keys up to i alone. */
static void forward_strip(const struct lane *a, const struct forward16 *f, int64_t i, int64_t m,
                          int64_t nk, bool diagonal, bool first)
{
    const int64_t n = panel_depth(diagonal ? least(nk, i + m) : nk);
    lane_product(m, n,
                 &(struct gemm_term){.A = f->q + i * a->wide,
                                     .lda = a->wide,
                                     .panels = f->keys,
                                     .K = a->D + a->D % 2},
                 false, f->s, f->n);
    for (int64_t r = 0; r < m; r++)
        online(a, f, i + r, f->s + r * f->n, diagonal ? i + r + 1 : nk, n, f->p + r * f->n);
    const struct gemm_term pv = {
        .A = f->p, .lda = f->n, .panels = f->values, .K = n, .depth = panel_depth(nk)};
    lane_product(m, a->D, &pv, !first, f->y + i * a->D, a->D);
}

static void forward_block(const struct lane *a, const struct forward16 *f, int64_t i0)
{
    const int64_t nq = least(a->len - i0, BLOCK);
    lane_gather(a, a->q + i0 * a->ldq, a->ldq, nq, f->q);
    for (int64_t i = 0; i < nq; i++) {
        f->top[i] = -INFINITY;
        f->sum[i] = 0;
    }
    for (int64_t j0 = 0; j0 <= i0; j0 += BLOCK) {
        const int64_t nk = least(a->len - j0, BLOCK);
        lane_pack_columns(a, a->k + j0 * a->ldkv, a->ldkv, nk, f->keys);
        lane_pack_rows(a, a->v + j0 * a->ldkv, a->ldkv, nk, f->values);
        for (int64_t i = 0; i < nq; i += LANE_STRIP)
            forward_strip(a, f, i, least(nq - i, LANE_STRIP), nk, j0 == i0, j0 == 0);
    }
    for (int64_t i = 0; i < nq; i++) {
        float *y = f->y + i * a->D;
        rows->scale(a->D, 1 / f->sum[i], y, y);
        rows->narrow(a->D, y, a->y + (i0 + i) * a->ldq);
        a->lse[(i0 + i) * a->H] = f->top[i] + logf(f->sum[i]);
    }
}

void attention_bf16_forward(struct ctx *ctx, struct node *node)
{
    const struct attention *a = node->saved;
    const size_t mark = ctx_mark(ctx);
    struct forward16 f;
    size_t bytes = forward_cut(a, NULL, &f);
    char *scratch = ctx_thread_scratch(ctx, &bytes);
    if (!ctx->measuring && scratch) {
        const int64_t blocks = a->first[a->n_seqs];
#pragma omp parallel for schedule(dynamic, 1) private(f)
        for (int64_t c = blocks * a->H - 1; c >= 0; c--) { // long blocks first: they end together
            const int64_t block = c / a->H;
            int seq = 0;
            while (block >= a->first[seq + 1])
                seq++;
            const struct lane lane = lane_of(node, seq, c % a->H);
            forward_cut(a, scratch + (size_t)omp_get_thread_num() * bytes, &f);
            forward_block(&lane, &f, (block - a->first[seq]) * BLOCK);
        }
    }
    ctx_release(ctx, mark);
}
