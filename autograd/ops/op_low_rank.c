/*
 * Two thin products beside a linear. They are a small part of its work and are all of f32: rows of
 * bf16 are widened in the thread's own memory. What is thin lies on its side, r rows: products fill
 * their vectors with tokens, or columns. Tokens are cut into units of ROWS; h and g have r rows of
 * a unit's tokens, unit by unit. Each pass is one list of work:
 *
 *   h = scale a x^T, y += h^T b^T            by units
 *   g = scale b^T dy^T, dx += g^T a          by units
 *   db^T += h dy, da += g x                  by columns
 */
#include <omp.h>
#include <string.h>

#include "autograd/kernels/gemm.h"
#include "autograd/ops/act.h"
#include "autograd/ops/ops.h"

enum { ROWS = 128, COLS = 128 }; // tokens of a unit; columns that a thread takes at once

struct low {
    float scale;
    float *h; /* of each unit [r,ROWS], the last one narrower */
};

struct shape {
    int64_t N, I, O, r;
};

static struct shape shape_of(const struct node *node)
{
    return (struct shape){tensor_rows(node->in[0]), tensor_cols(node->in[0]),
                          tensor_rows(node->in[2]), tensor_rows(node->in[1])};
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static bool any_narrow(const struct node *node)
{
    return node->in[0]->dt != &dtype_f32 || node->out[0]->dt != &dtype_f32;
}

/* A thread's memory for ROWS rows of x or y, where one of them is narrow. */
static struct act_buf rows_buf(struct ctx *ctx, const struct node *node)
{
    const struct shape s = shape_of(node);
    return act_buf(ctx, any_narrow(node), ROWS, s.I > s.O ? s.I : s.O);
}

static void forward(struct ctx *ctx, struct node *node)
{
    const struct low *l = node->saved;
    const struct shape s = shape_of(node);
    const struct tensor *x = node->in[0];
    const float *a = node->in[1]->data, *b = node->in[2]->data;
    struct tensor *y = node->out[0];
    const size_t mark = ctx_mark(ctx);
    const struct act_buf buf = rows_buf(ctx, node);
    if (!ctx->measuring && !ctx->failed) {
#pragma omp parallel for schedule(static) if (s.N > ROWS)
        for (int64_t n0 = 0; n0 < s.N; n0 += ROWS) {
            const int64_t n = least(ROWS, s.N - n0);
            float *own = act_row(&buf, 0), *h = l->h + n0 * s.r;
            const void *from = act_place(x->dt, x->data, n0, s.I);
            void *to = act_place(y->dt, y->data, n0, s.O);
            gemm_tile(false, true, s.r, n, s.I, a, s.I, act_get(x->dt, from, 0, n * s.I, own), s.I,
                      false, h, n);
            rows->scale(n * s.r, l->scale, h, h);
            float *sum = act_add(y->dt, to, 0, n * s.O, false, own);
            gemm_tile(true, true, n, s.O, s.r, h, n, b, s.r, true, sum, s.O);
            act_put(y->dt, to, 0, n * s.O, sum);
        }
    }
    ctx_release(ctx, mark);
}

struct backward {
    const struct node *node;
    struct shape s;
    void *dx;
    float *da, *db; /* NULL, as dx: not wanted */
    bool fresh_x, fresh_a, fresh_b;
    float *g; /* as h */
    struct act_buf buf;
    char *sides; /* of the threads: [r,COLS] */
    size_t side_bytes;
};

static void backward_rows(const struct backward *k, int64_t n0)
{
    const struct low *l = k->node->saved;
    const struct shape s = k->s;
    const struct tensor *x = k->node->in[0], *y = k->node->out[0];
    const int64_t n = least(ROWS, s.N - n0);
    float *own = act_row(&k->buf, 0), *g = k->g + n0 * s.r;
    const void *dy = act_place(y->dt, y->grad, n0, s.O);
    gemm_tile(true, true, s.r, n, s.O, k->node->in[2]->data, s.r,
              act_get(y->dt, dy, 0, n * s.O, own), s.O, false, g, n);
    rows->scale(n * s.r, l->scale, g, g);
    if (!k->dx)
        return;
    void *to = act_place(x->dt, k->dx, n0, s.I);
    float *sum = act_add(x->dt, to, 0, n * s.I, k->fresh_x, own);
    gemm_tile(true, false, n, s.I, s.r, g, n, k->node->in[1]->data, s.I, !k->fresh_x, sum, s.I);
    act_put(x->dt, to, 0, n * s.I, sum);
}

/* Columns [c, c + cols) of tokens [n0, n0 + n) of p [.,ld], as f32: where they lie, *step floats
   from row to row, or widened into own [n,cols]. */
static const float *columns_of(const struct dtype *dt, const void *p, int64_t ld, int64_t c,
                               int64_t cols, int64_t n0, int64_t n, float *own, int64_t *step)
{
    *step = dt == &dtype_f32 ? ld : cols;
    if (dt == &dtype_f32)
        return (const float *)p + n0 * ld + c;
    for (int64_t i = 0; i < n; i++)
        rows->widen(cols, (const uint16_t *)p + (n0 + i) * ld + c, own + i * cols);
    return own;
}

/* out [r,cols] (acc: +)= t, as h is, times columns [c, c + cols) of p [N,ld]. */
static void thin_columns(const struct backward *k, const float *t, const struct dtype *dt,
                         const void *p, int64_t ld, int64_t c, int64_t cols, bool acc, float *out,
                         int64_t ldo)
{
    const struct shape s = k->s;
    for (int64_t n0 = 0, step; n0 < s.N; n0 += ROWS) {
        const int64_t n = least(ROWS, s.N - n0);
        const float *x = columns_of(dt, p, ld, c, cols, n0, n, act_row(&k->buf, 0), &step);
        gemm_tile(false, false, s.r, cols, n, t + n0 * s.r, n, x, step, acc || n0, out, ldo);
    }
}

/* Rows [o, o + COLS) of db, which stands upright. */
static void backward_b(const struct backward *k, int64_t o)
{
    const struct low *l = k->node->saved;
    const struct shape s = k->s;
    const struct tensor *y = k->node->out[0];
    const int64_t cols = least(COLS, s.O - o);
    float *side = (float *)(void *)(k->sides + (size_t)omp_get_thread_num() * k->side_bytes);
    thin_columns(k, l->h, y->dt, y->grad, s.O, o, cols, false, side, cols);
    for (int64_t j = 0; j < cols; j++)
        for (int64_t i = 0; i < s.r; i++) {
            float *to = k->db + (o + j) * s.r + i;
            *to = (k->fresh_b ? 0 : *to) + side[i * cols + j];
        }
}

/* Columns [i, i + COLS) of da. */
static void backward_a(const struct backward *k, int64_t i)
{
    const struct tensor *x = k->node->in[0];
    const int64_t I = k->s.I;
    thin_columns(k, k->g, x->dt, x->data, I, i, least(COLS, I - i), !k->fresh_a, k->da + i, I);
}

/* The gradient of y, which had one already. */
static void add_rows(const struct tensor *out, struct tensor *y, const struct act_buf *buf)
{
    const int64_t C = tensor_cols(y);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < tensor_rows(y); i++) {
        float *own = act_row(buf, 0);
        float *to = act_add(y->dt, y->grad, i, C, false, own);
        rows->add(C, to, act_get(out->dt, out->grad, i, C, own + (buf->bytes ? C : 0)), to);
        act_put(y->dt, y->grad, i, C, to);
    }
}

static void backward(struct ctx *ctx, struct node *node)
{
    struct backward k = {.node = node, .s = shape_of(node)};
    const struct shape s = k.s;
    bool other, taken;
    k.dx = ctx_grad(ctx, node->in[0], &k.fresh_x);
    k.da = ctx_grad(ctx, node->in[1], &k.fresh_a);
    k.db = ctx_grad(ctx, node->in[2], &k.fresh_b);
    const void *dy = ctx_grad_take(ctx, node->out[0], node->in[3], &other, &taken);
    const size_t mark = ctx_mark(ctx);
    const int64_t most = s.I > s.O ? s.I : s.O;
    k.g = ctx_scratch(ctx, (size_t)(s.N * s.r) * sizeof *k.g);
    k.buf = act_buf(ctx, any_narrow(node), ROWS, most > COLS ? most : COLS);
    k.side_bytes = (size_t)(s.r * COLS) * sizeof(float);
    k.sides = ctx_thread_scratch(ctx, &k.side_bytes);
    if (!ctx->measuring && !ctx->failed) {
        if (k.dx || k.da) {
#pragma omp parallel for schedule(static)
            for (int64_t n0 = 0; n0 < s.N; n0 += ROWS)
                backward_rows(&k, n0);
        }
        const int64_t tall = k.db ? (s.O + COLS - 1) / COLS : 0;
        const int64_t wide = k.da ? (s.I + COLS - 1) / COLS : 0;
#pragma omp parallel for schedule(static)
        for (int64_t c = 0; c < tall + wide; c++) {
            if (c < tall)
                backward_b(&k, c * COLS);
            else
                backward_a(&k, (c - tall) * COLS);
        }
        if (dy && !taken)
            add_rows(node->out[0], node->in[3], &k.buf);
    }
    ctx_release(ctx, mark);
}

static void cost(const struct ctx *ctx, const struct node *node, bool backward, struct cost *c)
{
    (void)ctx;
    const struct shape s = shape_of(node);
    if (!backward) {
        cost_product(c, COST_FORWARD, &dtype_f32, s.N, s.r, s.I, 1);
        cost_product(c, COST_FORWARD, &dtype_f32, s.N, s.O, s.r, 1);
    } else {
        cost_product(c, COST_DX, &dtype_f32, s.N, s.O, s.r, 1);
        if (node->in[0]->needs_grad)
            cost_product(c, COST_DX, &dtype_f32, s.N, s.r, s.I, 1);
        if (node->in[1]->needs_grad)
            cost_product(c, COST_DW, &dtype_f32, s.N, s.r, s.I, 1);
        if (node->in[2]->needs_grad)
            cost_product(c, COST_DW, &dtype_f32, s.N, s.O, s.r, 1);
    }
    cost_rows(c, node->out[0], backward ? 1 : 2);
}

static const struct op op = {"low_rank", forward, backward, cost};

static bool fits(struct ctx *ctx, const struct tensor *x, const struct tensor *a,
                 const struct tensor *b, const struct tensor *y)
{
    if (a->dt != &dtype_f32 || b->dt != &dtype_f32 || a->nd != 2 || b->nd != 2 ||
        tensor_cols(a) != tensor_cols(x) || tensor_cols(b) != tensor_rows(a) ||
        tensor_rows(b) != tensor_cols(y) || tensor_rows(y) != tensor_rows(x))
        ctx_fail(ctx, "low_rank: factors [%lld,%lld] and [%lld,%lld] from width %lld to %lld",
                 (long long)tensor_rows(a), (long long)tensor_cols(a), (long long)tensor_rows(b),
                 (long long)tensor_cols(b), (long long)tensor_cols(x), (long long)tensor_cols(y));
    return !ctx->failed;
}

struct tensor *op_low_rank(struct ctx *ctx, struct tensor *x, struct tensor *a, struct tensor *b,
                           float scale, struct tensor *y)
{
    if (!x || !a || !b || !y || ctx->failed || !fits(ctx, x, a, b, y))
        return NULL;
    struct low *l = ctx_push(ctx, sizeof *l);
    struct tensor *out = ctx_push(ctx, sizeof *out);
    float *h = ctx_push(ctx, (size_t)(tensor_rows(x) * tensor_rows(a)) * sizeof *h);
    if (!h)
        return NULL;
    *l = (struct low){scale, h};
    *out = *y;
    out->grad = NULL;
    out->needs_grad = false;
    struct node node = {.op = &op, .in = {x, a, b, y}, .out = {out}, .saved = l};
    return ctx_run(ctx, &node);
}
