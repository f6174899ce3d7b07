/*
 * Backward of attention on bf16 units, by pairs of a block of queries and a block of keys. Scores
 * are made again and transposed, [key][query]: probabilities and their gradients then come out as
 * the rows that dv and dk are products of, and only dq needs them turned. Sums are f32 until the
 * last pair.
 *
 * The work is a list of tasks (sequence, kv head, part of its keys, part of its queries). Usually a
 * part is all there is. Where a few heads are most of the work a part is a block, and tasks run in
 * rounds: in round r the keys of part p meet the queries of part p + r, so that no two tasks of a
 * round add to the same sum, and every sum has one order.
 */
#include <omp.h>
#include <string.h>

#include "autograd/kernels/rows.h"
#include "autograd/ops/lane.h"

enum { BLOCK = ATTENTION_BLOCK, STRIP = LANE_STRIP };
enum { ALIGN = 16 };   /* row kernels start at a multiple of this many queries */
enum { BALANCED = 8 }; /* a kv head with less than 1 / BALANCED of the work is one task */

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Of a thread: the operands of a pair of blocks, a strip of scores and what comes of it. */
struct pair16 {
    int64_t n;                      /* queries and keys there is room for */
    int64_t i0, nq, j0, nk;         /* the block of queries and that of keys, in the sequence */
    uint16_t *q_columns, *q_rows;   /* packed */
    uint16_t *dy_columns, *dy_rows; /* packed */
    float *lse, *delta;             /* [n]; delta: sum(dy * y) of a query */
    uint16_t *k, *v, *k_rows;       /* k, v [n, wide]; packed */
    float *s, *dp;                  /* [STRIP, n] */
    uint16_t *p, *ds;               /* [STRIP, n] */
    uint16_t *turned;               /* ds of all keys: [n queries, n keys] */
    float *row[2];                  /* [D] */
};

static size_t pair_cut(const struct attention *a, char *base, struct pair16 *t)
{
    const int64_t n = lane_block(a), wide = panel_depth(a->D);
    struct lane_cut c = {.base = base};
    uint16_t **const operands[] = {&t->q_columns, &t->q_rows, &t->dy_columns, &t->dy_rows,
                                   &t->k,         &t->v,      &t->k_rows};
    t->n = n;
    for (size_t i = 0; i < sizeof operands / sizeof *operands; i++)
        *operands[i] = lane_cut(&c, n * wide, sizeof(uint16_t));
    t->lse = lane_cut(&c, n, sizeof *t->lse);
    t->delta = lane_cut(&c, n, sizeof *t->delta);
    t->s = lane_cut(&c, STRIP * n, sizeof *t->s);
    t->dp = lane_cut(&c, STRIP * n, sizeof *t->dp);
    t->p = lane_cut(&c, STRIP * n, sizeof *t->p);
    t->ds = lane_cut(&c, STRIP * n, sizeof *t->ds);
    t->turned = lane_cut(&c, n * n, sizeof *t->turned);
    for (int i = 0; i < 2; i++)
        t->row[i] = lane_cut(&c, a->D, sizeof *t->row[i]);
    return c.at;
}

static void load_queries(const struct lane *a, const uint16_t *dy, int64_t i0, struct pair16 *t)
{
    const int64_t at = i0 * a->ldq;
    t->i0 = i0;
    t->nq = least(a->len - i0, BLOCK);
    lane_pack_columns(a, a->q + at, a->ldq, t->nq, t->q_columns);
    lane_pack_rows(a, a->q + at, a->ldq, t->nq, t->q_rows);
    lane_pack_columns(a, dy + at, a->ldq, t->nq, t->dy_columns);
    lane_pack_rows(a, dy + at, a->ldq, t->nq, t->dy_rows);
    for (int64_t i = 0; i < panel_depth(t->nq); i++) { // behind the last: operands are zero
        const bool there = i < t->nq;
        t->lse[i] = there ? a->lse[(i0 + i) * a->H] : 0;
        t->delta[i] = 0;
        if (there) {
            rows->widen(a->D, dy + at + i * a->ldq, t->row[0]);
            rows->widen(a->D, a->y + at + i * a->ldq, t->row[1]);
            t->delta[i] = rows->dot(a->D, t->row[0], t->row[1]);
        }
    }
}

static void load_keys(const struct lane *a, int64_t j0, struct pair16 *t)
{
    const int64_t at = j0 * a->ldkv;
    t->j0 = j0;
    t->nk = least(a->len - j0, BLOCK);
    lane_gather(a, a->k + at, a->ldkv, t->nk, t->k);
    lane_gather(a, a->v + at, a->ldkv, t->nk, t->v);
    lane_pack_rows(a, a->k + at, a->ldkv, t->nk, t->k_rows);
}

/* Where sums lie: [.,D] from the sequence's first token; NULL: not wanted. */
struct sums16 {
    float *dq, *dk, *dv;
};

/* ds of keys [k, k + m) and n queries from i on as part of the A of dq's product. */
static void turn(const struct pair16 *t, int64_t i, int64_t n, int64_t k, int64_t m)
{
    if (!gemm_bf16->a_packed)
        gemm_bf16->turn(t->ds, t->n, m, 0, n, t->turned + i * t->n + k, t->n);
    else
        for (int64_t p = 0; p < n; p += PANEL)
            gemm_bf16->pack(false, t->ds + p, true, t->n, m, PANEL, 0, 1,
                            t->turned + (i + p) * t->n + k * PANEL);
}

/* Queries [i, i + m) of ds, turned, over the first K keys. */
static struct gemm_term turned(const struct pair16 *t, int64_t i, int64_t K)
{
    return (struct gemm_term){.A = t->turned + i * t->n,
                              .lda = t->n,
                              .panels = t->k_rows,
                              .K = K,
                              .depth = panel_depth(t->nk),
                              .a_packed = gemm_bf16->a_packed};
}

/* Keys [k, k + m) of the block and the queries that see them. */
static void strip(const struct lane *a, const struct pair16 *t, const struct sums16 *sum, int64_t k,
                  int64_t m)
{
    const bool diagonal = t->i0 == t->j0;
    const int64_t even = a->D + a->D % 2, depth = panel_depth(t->nq);
    const int64_t i = diagonal ? k : 0, n = depth - i; // k is a multiple of PANEL
    const int64_t across = i / PANEL * a->wide * PANEL, down = i * PANEL;
    struct gemm_term s = {.A = t->k + k * a->wide,
                          .lda = a->wide,
                          .panels = t->q_columns + across,
                          .K = even};
    lane_product(m, n, &s, false, t->s, t->n);
    s.A = t->v + k * a->wide;
    s.panels = t->dy_columns + across;
    lane_product(m, n, &s, false, t->dp, t->n);
    for (int64_t r = 0; r < m; r++) {
        const int64_t hidden = diagonal ? r : 0, from = hidden / ALIGN * ALIGN, at = r * t->n;
        rows->softmax_backward_bf16(n - from, t->s + at + from, t->dp + at + from,
                                    t->lse + i + from, t->delta + i + from, a->scale,
                                    t->p + at + from, t->ds + at + from);
        memset(t->p + at, 0, (size_t)hidden * sizeof *t->p);
        memset(t->ds + at, 0, (size_t)hidden * sizeof *t->ds);
    }
    const int64_t to = (t->j0 + k) * a->D;
    struct gemm_term of = {
        .A = t->p, .lda = t->n, .panels = t->dy_rows + down, .K = n, .depth = depth};
    if (sum->dv)
        lane_product(m, a->D, &of, true, sum->dv + to, a->D);
    of.A = t->ds;
    of.panels = t->q_rows + down;
    if (sum->dk)
        lane_product(m, a->D, &of, true, sum->dk + to, a->D);
    if (sum->dq)
        turn(t, i, n, k, m);
}

/* Adds what the loaded blocks give to all three sums. */
static void pair(const struct lane *a, const struct pair16 *t, const struct sums16 *sum)
{
    for (int64_t k = 0; k < t->nk; k += STRIP)
        strip(a, t, sum, k, least(t->nk - k, STRIP));
    const int64_t depth = panel_depth(t->nk), step = t->i0 == t->j0 ? STRIP : t->nq;
    for (int64_t i = 0; i < t->nq && sum->dq; i += step) {
        const struct gemm_term term = turned(t, i, step < t->nq ? least(i + step, depth) : depth);
        lane_product(least(t->nq - i, step), a->D, &term, true, sum->dq + (t->i0 + i) * a->D, a->D);
    }
}

/* ---- tasks ---- */

/* A gradient [N, ld] and what its memory holds. */
struct grad16 {
    uint16_t *p;
    bool fresh;
};

struct backward16 {
    const struct node *node;
    struct grad16 dq, dk, dv;
    char *scratch; /* of each thread: a pair, sums unless split */
    size_t bytes, pair_bytes;
    float *sums; /* split: of all sequences, dq [N,H,D] and dk, dv [N,Hkv,D], head by head */
};

static int64_t part_length(const struct attention *a, int seq)
{
    return a->split ? BLOCK : a->seqs[seq].len;
}

static int64_t part_count(const struct attention *a, int seq)
{
    return (a->seqs[seq].len + part_length(a, seq) - 1) / part_length(a, seq);
}

/* Sums of a kv head and of query head h (of its group). Without a split they live as long as the
   task, and the heads of a group take turns with dq. */
static struct sums16 sums_of(const struct backward16 *b, int seq, int64_t kv, int64_t h)
{
    const struct attention *a = b->node->saved;
    const int64_t len = a->seqs[seq].len, start = a->seqs[seq].start, D = a->D;
    struct sums16 s;
    if (a->split) {
        const int64_t N = tensor_rows(b->node->in[0]);
        s.dq = b->sums + (start * a->H + h * len) * D;
        s.dk = b->sums + (N * a->H + start * a->Hkv + kv * len) * D;
        s.dv = s.dk + N * a->Hkv * D;
    } else {
        char *own = b->scratch + (size_t)omp_get_thread_num() * b->bytes + b->pair_bytes;
        s.dq = (float *)(void *)own;
        s.dk = s.dq + len * D;
        s.dv = s.dk + len * D;
    }
    if (!b->dq.p)
        s.dq = NULL;
    if (!b->dk.p)
        s.dk = NULL;
    if (!b->dv.p)
        s.dv = NULL;
    return s;
}

static void zero(const struct lane *a, float *sum, int64_t from, int64_t to)
{
    if (sum)
        memset(sum + from * a->D, 0, (size_t)((to - from) * a->D) * sizeof *sum);
}

/* Rows [from, to) of a sum are complete. g: the gradient's first row and column of this head. */
static void hand_out(const struct lane *a, const float *sum, int64_t from, int64_t to,
                     const struct grad16 *g, int64_t at, int64_t ld, float *row)
{
    for (int64_t i = from; sum && i < to; i++) {
        uint16_t *y = g->p + at + i * ld;
        const float *x = sum + i * a->D;
        if (!g->fresh) {
            rows->widen(a->D, y, row);
            rows->add(a->D, row, x, row);
            x = row;
        }
        rows->narrow(a->D, x, y);
    }
}

/* The keys of part p and the queries of part p + r. */
static void task(const struct backward16 *b, int seq, int64_t kv, int64_t p, int64_t r)
{
    const struct attention *a = b->node->saved;
    const int64_t len = a->seqs[seq].len, start = a->seqs[seq].start, group = a->H / a->Hkv;
    const int64_t long_ = part_length(a, seq), j0 = p * long_, j1 = least(len, j0 + long_);
    const int64_t i0 = (p + r) * long_, i1 = least(len, i0 + long_);
    struct pair16 t;
    pair_cut(a, b->scratch + (size_t)omp_get_thread_num() * b->bytes, &t);
    for (int64_t h = kv * group; h < (kv + 1) * group; h++) {
        const struct lane lane = lane_of(b->node, seq, h);
        const struct sums16 sum = sums_of(b, seq, kv, h);
        const int64_t first = start * lane.ldq + h * a->D, at = start * lane.ldkv + kv * a->D;
        if (r == 0)
            zero(&lane, sum.dq, i0, i1);
        if (r == 0 && h == kv * group) {
            zero(&lane, sum.dk, j0, j1);
            zero(&lane, sum.dv, j0, j1);
        }
        for (int64_t i = i0; i < i1; i += BLOCK) {
            load_queries(&lane, (const uint16_t *)b->node->out[0]->grad + first, i, &t);
            for (int64_t j = j0; j < j1 && j <= i; j += BLOCK) {
                load_keys(&lane, j, &t);
                pair(&lane, &t, &sum);
            }
        }
        if (p == 0)
            hand_out(&lane, sum.dq, i0, i1, &b->dq, first, lane.ldq, t.row[0]);
        if (i1 == len && h == (kv + 1) * group - 1) {
            hand_out(&lane, sum.dk, j0, j1, &b->dk, at, lane.ldkv, t.row[0]);
            hand_out(&lane, sum.dv, j0, j1, &b->dv, at, lane.ldkv, t.row[0]);
        }
    }
}

static void tasks_of_round(const struct backward16 *b, int64_t r)
{
    const struct attention *a = b->node->saved;
    int64_t count = 0;
    for (int i = 0; i < a->n_seqs; i++)
        count += a->Hkv * (part_count(a, i) > r ? part_count(a, i) - r : 0);
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t c = 0; c < count; c++) {
        int64_t left = c, parts = 0;
        int seq = -1;
        do {
            left -= a->Hkv * parts;
            parts = part_count(a, ++seq) - r;
            parts = parts > 0 ? parts : 0;
        } while (left >= a->Hkv * parts);
        task(b, seq, left / parts, left % parts, r);
    }
}

bool attention_bf16_splits(const struct attention *a, bool shared)
{
    double most = 0, all = 0;
    for (int i = 0; i < a->n_seqs; i++) {
        const double work = (double)a->seqs[i].len * (double)a->seqs[i].len;
        most = work > most ? work : most;
        all += work * (double)a->Hkv;
    }
    return !shared && most * BALANCED > all;
}

static struct grad16 grad_of(struct ctx *ctx, struct tensor *t)
{
    struct grad16 g;
    g.p = ctx_grad(ctx, t, &g.fresh);
    return g;
}

void attention_bf16_backward(struct ctx *ctx, struct node *node)
{
    const struct attention *a = node->saved;
    struct backward16 b = {.node = node,
                           .dq = grad_of(ctx, node->in[0]),
                           .dk = grad_of(ctx, node->in[1]),
                           .dv = grad_of(ctx, node->in[2])};
    int64_t longest = 0, rounds = 1;
    for (int i = 0; i < a->n_seqs; i++) {
        longest = a->seqs[i].len > longest ? a->seqs[i].len : longest;
        rounds = part_count(a, i) > rounds ? part_count(a, i) : rounds;
    }
    const size_t mark = ctx_mark(ctx), size = (size_t)a->D * sizeof(float);
    if (a->split)
        b.sums = ctx_scratch(ctx, (size_t)(tensor_rows(node->in[0]) * (a->H + 2 * a->Hkv)) * size);
    struct pair16 t;
    b.pair_bytes = pair_cut(a, NULL, &t);
    b.bytes = b.pair_bytes + (a->split ? 0 : 3 * (size_t)longest * size);
    b.scratch = ctx_thread_scratch(ctx, &b.bytes);
    if (!ctx->measuring && !ctx->failed)
        for (int64_t r = 0; r < rounds; r++)
            tasks_of_round(&b, r);
    ctx_release(ctx, mark);
}
