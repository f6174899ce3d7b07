/*
 * Linear ops on bf16. Each pass is two lists of work, one after the other: packing what the
 * products read in another order than it lies in memory, then the tiles of all products.
 *
 *   y_i = x w_i^T     rows of x where they lie, w's forward panels (made once per optimizer step)
 *   dx = sum dy_i w_i rows of dy where they lie, w packed the other way from its forward panels
 *   dw_i = dy_i^T x   dy's columns packed tile by tile, x packed over tokens
 */
#include <omp.h>
#include <string.h>

#include "autograd/kernels/gemm.h"
#include "autograd/kernels/gemm_bf16.h"
#include "autograd/kernels/rows.h"
#include "autograd/ops/linear.h"

enum { ROWS = 64 };

/* ---- a weight's panels, its own or made in scratch ---- */

struct packed {
    uint16_t *panels;
    bool own;          /* nothing is to be done: they are the weight's */
    const float *rows; /* to be packed from; NULL: from the weight's own panels */
    float *decoded;    /* [O,I] where the weight is not f32 */
};

static struct packed packed_of(struct ctx *ctx, const struct tensor *w, bool backward)
{
    const int64_t O = tensor_rows(w), I = tensor_cols(w);
    if (w->panels && !backward)
        return (struct packed){.panels = w->panels->forward, .own = true};
    struct packed p = {0};
    const int64_t n = backward ? panels_numel(O, I) : panels_numel(I, O);
    p.panels = ctx_scratch(ctx, (size_t)n * sizeof *p.panels);
    if (w->panels)
        return p;
    if (w->dt != &dtype_f32)
        p.decoded = ctx_scratch(ctx, (size_t)(O * I) * sizeof *p.decoded);
    p.rows = w->dt == &dtype_f32 ? w->data : p.decoded;
    return p;
}

/* Of a weight that is no parameter in training: rare and small, so one thread decodes. */
static void decode_weight(const struct packed *p, const struct tensor *w)
{
    for (int64_t o = 0; o < tensor_rows(w) && p->decoded; o++)
        w->dt->decode(w, o, p->decoded + o * tensor_cols(w));
}

/* Panel i of a weight whose panels are not its own. */
static void pack_panel(const struct packed *p, const struct tensor *w, bool backward, int64_t i)
{
    const int64_t O = tensor_rows(w), I = tensor_cols(w);
    if (!p->rows)
        gemm_bf16->repack(w->panels->forward, O, I, i, i + 1, p->panels);
    else if (backward)
        gemm_bf16->pack(false, p->rows, false, I, O, I, i, i + 1, p->panels);
    else
        gemm_bf16->pack(true, p->rows, false, I, I, O, i, i + 1, p->panels);
}

/* ---- forward ---- */

static struct gemm_tiles tiles_of(int64_t M, int64_t N)
{
    struct gemm_tiles t = gemm_tiles(M, N);
    t.n = panel_count(t.n) * PANEL; // a tile's columns are whole panels
    t.across = (N + t.n - 1) / t.n;
    t.count = (M + t.m - 1) / t.m * t.across;
    return t;
}

static void forward_tile(const struct node *node, int i, const struct packed *p,
                         const struct gemm_tiles *t, int64_t c)
{
    const struct tensor *x = node->in[0], *b = linear_bias(node, i), *r = linear_residual(node);
    const struct gemm_span s = gemm_span(t, c);
    const int64_t I = tensor_cols(x), O = t->N;
    const bool bf16 = node->out[i]->dt == &dtype_bf16;
    const struct gemm_term term = {.A = (const uint16_t *)x->data + s.m0 * I,
                                   .lda = I,
                                   .panels = p->panels,
                                   .K = I};
    const struct gemm_out out = {.c = (char *)node->out[i]->data + s.m0 * O * (bf16 ? 2 : 4),
                                 .ldc = O,
                                 .bf16 = bf16,
                                 .add = r ? (const float *)r->data + s.m0 * O : NULL,
                                 .bias = b ? b->data : NULL};
    gemm_bf16->tile(s.m, s.n0, s.n, 1, &term, &out);
}

void linear_bf16_forward(struct ctx *ctx, struct node *node)
{
    const struct linear *l = node->saved;
    const size_t mark = ctx_mark(ctx);
    struct packed p[LINEAR_MAX];
    struct gemm_tiles tiles[LINEAR_MAX];
    int64_t first[LINEAR_MAX + 1] = {0};
    for (int i = 0; i < l->n; i++) {
        const struct tensor *w = linear_weight(node, i);
        p[i] = packed_of(ctx, w, false);
        tiles[i] = tiles_of(tensor_rows(node->in[0]), tensor_rows(w));
        first[i + 1] = first[i] + tiles[i].count;
    }
    if (!ctx->measuring && !ctx->failed) {
        for (int i = 0; i < l->n; i++) {
            const struct tensor *w = linear_weight(node, i);
            decode_weight(&p[i], w);
#pragma omp parallel for schedule(static) if (!p[i].own)
            for (int64_t k = 0; k < (p[i].own ? 0 : panel_count(tensor_rows(w))); k++)
                pack_panel(&p[i], w, false, k);
        }
#pragma omp parallel for schedule(dynamic, 1)
        for (int64_t c = 0; c < first[l->n]; c++) {
            int i = 0;
            while (c >= first[i + 1])
                i++;
            forward_tile(node, i, &p[i], &tiles[i], c - first[i]);
        }
    }
    ctx_release(ctx, mark);
}

/* ---- backward ---- */

struct backward {
    const struct node *node;
    int n;
    int64_t N, I;
    struct packed p[LINEAR_MAX];
    const uint16_t *dy[LINEAR_MAX]; /* [N,O_i]; NULL: there is none */
    uint16_t *rounded;              /* dy[0], where its gradient is f32 */
    void *dx;                       /* NULL: not wanted */
    uint16_t *x_panels;             /* x over tokens; NULL: no dw is wanted */
    bool fresh_x, fresh_w[LINEAR_MAX], fresh_b[LINEAR_MAX];
    bool wanted[LINEAR_MAX]; /* dw or db of i */
    char *scratch;           /* of the threads: dy's columns; dx in f32 where it is added to */
    size_t bytes, columns;   /* `columns` of the bytes are the first */
    int64_t x_step;
};

/* dx of rows [m0, m0 + m). */
static void backward_x(const struct backward *b, int64_t m0, int64_t m, float *sum)
{
    struct gemm_term term[LINEAR_MAX];
    const int64_t I = b->I;
    uint16_t *dx = (uint16_t *)b->dx + m0 * I;
    int n = 0;
    for (int i = 0; i < b->n; i++) {
        const int64_t O = tensor_rows(linear_weight(b->node, i));
        if (b->dy[i])
            term[n++] = (struct gemm_term){.A = b->dy[i] + m0 * O,
                                           .lda = O,
                                           .panels = b->p[i].panels,
                                           .K = O};
    }
    if (!b->fresh_x)
        rows->widen(m * I, dx, sum);
    const struct gemm_out out = {.c = dx, .ldc = I, .bf16 = true, .add = b->fresh_x ? NULL : sum};
    gemm_bf16->tile(m, 0, I, n, term, &out);
}

/* db [k] (fresh: =, otherwise +=) the sum of n rows of dy, ld apart. */
static void sum_rows(int64_t n, int64_t k, const uint16_t *dy, int64_t ld, bool fresh, float *db)
{
    float row[ROWS], sum[ROWS];
    for (int64_t j = 0; j < k; j += ROWS) {
        const int64_t wide = k - j < ROWS ? k - j : ROWS;
        memset(sum, 0, sizeof sum);
        for (int64_t i = 0; i < n; i++) {
            rows->widen(wide, dy + i * ld + j, row);
            rows->add(wide, sum, row, sum);
        }
        if (fresh)
            memcpy(db + j, sum, (size_t)wide * sizeof *sum);
        else
            rows->add(wide, db + j, sum, db + j);
    }
}

/* Rows [o, o + k) of dw and db of output i. */
static void backward_w(const struct backward *b, int i, int64_t o, int64_t k, uint16_t *columns)
{
    const struct tensor *w = linear_weight(b->node, i), *bias = linear_bias(b->node, i);
    const int64_t O = tensor_rows(w);
    if (w->needs_grad) {
        float *dw = (float *)w->grad + o * b->I;
        struct gemm_term term = gemm_columns(b->dy[i], O, b->N, o, o + k, columns);
        term.panels = b->x_panels;
        const struct gemm_out out = {.c = dw, .ldc = b->I, .add = b->fresh_w[i] ? NULL : dw};
        gemm_bf16->tile(k, 0, b->I, 1, &term, &out);
    }
    if (bias && bias->needs_grad)
        sum_rows(b->N, k, b->dy[i] + o, O, b->fresh_b[i], (float *)bias->grad + o);
}

/* What the products need in scratch, and gradients to write to. */
static void prepare(struct ctx *ctx, struct backward *b)
{
    struct tensor *x = b->node->in[0];
    bool any = false;
    b->x_step = tiles_of(b->N, b->I).m;
    for (int i = 0; i < b->n; i++) {
        struct tensor *y = b->node->out[i], *w = linear_weight(b->node, i);
        struct tensor *bias = linear_bias(b->node, i);
        if (!y->grad)
            continue;
        const void *dw = ctx_grad(ctx, w, &b->fresh_w[i]);
        const void *db = ctx_grad(ctx, bias, &b->fresh_b[i]);
        b->wanted[i] = dw || db;
        any |= dw != NULL;
        const int64_t step = gemm_tiles(tensor_rows(w), 1).m;
        const size_t columns = (size_t)gemm_columns_numel(b->N, step) * sizeof(uint16_t);
        if (b->wanted[i] && columns > b->columns)
            b->columns = columns;
    }
    b->bytes = b->columns;
    if (b->dx && !b->fresh_x)
        b->bytes += (size_t)(b->x_step * b->I) * sizeof(float);
    for (int i = 0; i < b->n; i++) {
        const struct tensor *y = b->node->out[i];
        if (!y->grad)
            continue;
        if (b->dx)
            b->p[i] = packed_of(ctx, linear_weight(b->node, i), true);
        b->dy[i] = y->grad;
        if (y->dt == &dtype_f32)
            b->dy[i] = b->rounded = ctx_scratch(ctx, (size_t)tensor_numel(y) * sizeof *b->rounded);
    }
    if (any)
        b->x_panels =
            ctx_scratch(ctx, (size_t)panels_numel(b->N, tensor_cols(x)) * sizeof *b->x_panels);
    b->scratch = b->bytes ? ctx_thread_scratch(ctx, &b->bytes) : NULL;
}

/* Panel c of all weights' that dx needs. */
static void pack_weights(const struct backward *b, int64_t c)
{
    int i = 0;
    for (const int64_t across = panel_count(b->I);; i++) {
        if (b->dy[i] && c < across)
            break;
        c -= b->dy[i] ? across : 0;
    }
    pack_panel(&b->p[i], linear_weight(b->node, i), true, c);
}

static void pack_all(const struct backward *b)
{
    const struct tensor *x = b->node->in[0], *y = b->node->out[0];
    const int64_t blocks = b->rounded ? (b->N + ROWS - 1) / ROWS : 0, O = tensor_cols(y);
    const int64_t across = panel_count(b->I), panels = b->x_panels ? across : 0;
    int64_t weights = 0;
    for (int i = 0; i < b->n; i++)
        if (b->dx && b->dy[i]) {
            decode_weight(&b->p[i], linear_weight(b->node, i));
            weights += across;
        }
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t c = 0; c < blocks + panels + weights; c++) {
        const int64_t n0 = c * ROWS, p = c - blocks;
        if (p < 0)
            rows->narrow((b->N - n0 < ROWS ? b->N - n0 : ROWS) * O, (const float *)y->grad + n0 * O,
                         b->rounded + n0 * O);
        else if (p < panels)
            gemm_bf16->pack(false, x->data, true, b->I, b->N, b->I, p, p + 1, b->x_panels);
        else
            pack_weights(b, p - panels);
    }
}

void linear_bf16_backward(struct ctx *ctx, struct node *node)
{
    const struct linear *l = node->saved;
    struct backward b = {.node = node, .n = l->n};
    struct tensor *x = node->in[0], *r = linear_residual(node);
    bool other, taken = false;
    b.N = tensor_rows(x);
    b.I = tensor_cols(x);
    b.dx = ctx_grad(ctx, x, &b.fresh_x);
    const void *dr = r ? ctx_grad_take(ctx, node->out[0], r, &other, &taken) : NULL;
    const size_t mark = ctx_mark(ctx);
    prepare(ctx, &b);
    if (ctx->measuring || ctx->failed) {
        ctx_release(ctx, mark);
        return;
    }
    pack_all(&b);
    // one list of work: the tiles of dx, then those of every dw
    struct gemm_tiles wt[LINEAR_MAX];
    int64_t first[LINEAR_MAX + 2] = {0};
    first[1] = b.dx ? (b.N + b.x_step - 1) / b.x_step : 0;
    for (int i = 0; i < l->n; i++) {
        wt[i] = gemm_tiles(tensor_rows(linear_weight(node, i)), 1);
        first[i + 2] = first[i + 1] + (b.wanted[i] ? wt[i].count : 0);
    }
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t c = 0; c < first[l->n + 1]; c++) {
        int i = 0;
        while (c >= first[i + 1])
            i++;
        char *own = b.scratch + (size_t)omp_get_thread_num() * b.bytes;
        if (i == 0) {
            const int64_t m0 = c * b.x_step, left = b.N - m0;
            backward_x(&b, m0, left < b.x_step ? left : b.x_step, (float *)(own + b.columns));
        } else {
            const struct gemm_span s = gemm_span(&wt[i - 1], c - first[i]);
            backward_w(&b, i - 1, s.m0, s.m, (uint16_t *)own);
        }
    }
    if (dr && !taken)
        rows->add(tensor_numel(r), r->grad, node->out[0]->grad, r->grad);
    ctx_release(ctx, mark);
}
