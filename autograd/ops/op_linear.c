#include <omp.h>
#include <string.h>

#include "autograd/kernels/gemm.h"
#include "autograd/kernels/rows.h"
#include "autograd/ops/linear.h"

/* A weight that is not f32 is decoded this many rows at a time, into a thread's scratch. */
enum { DECODE_ROWS = 64 };

static bool dense(const struct tensor *w)
{
    return w->dt == &dtype_f32;
}

/* Rows [o, o + k) of w as f32: where they lie, or decoded into buf. */
static const float *rows_of(const struct tensor *w, int64_t o, int64_t k, float *buf)
{
    const int64_t I = tensor_cols(w);
    if (dense(w))
        return (const float *)w->data + o * I;
    for (int64_t i = 0; i < k; i++)
        w->dt->decode(w, o + i, buf + i * I);
    return buf;
}

/* Forward cuts the output of each weight; tiles of all weights are one list of work. */
static struct gemm_tiles forward_tiles(const struct node *node, int i)
{
    const struct tensor *w = linear_weight(node, i);
    const int64_t N = tensor_rows(node->in[0]), O = tensor_rows(w);
    struct gemm_tiles t = gemm_tiles(N, O);
    if (!dense(w)) { // every row decoded once
        t.m = N;
        t.n = DECODE_ROWS;
        t.across = t.count = (O + DECODE_ROWS - 1) / DECODE_ROWS;
    }
    return t;
}

/* Tile c of output i, started from the residual and the bias. */
static void forward_tile(const struct node *node, int i, const struct gemm_tiles *t, int64_t c,
                         float *buf)
{
    const struct tensor *x = node->in[0], *w = linear_weight(node, i), *b = linear_bias(node, i);
    const struct tensor *r = linear_residual(node);
    const struct gemm_span s = gemm_span(t, c);
    const int64_t I = tensor_cols(x), O = tensor_rows(w);
    float *y = (float *)node->out[i]->data + s.m0 * O + s.n0;
    for (int64_t m = 0; m < s.m && (r || b); m++) {
        const float *from = r ? (const float *)r->data + (s.m0 + m) * O + s.n0 : NULL;
        const float *plus = b ? (const float *)b->data + s.n0 : NULL;
        if (from && plus)
            rows->add(s.n, from, plus, y + m * O);
        else
            memcpy(y + m * O, from ? from : plus, (size_t)s.n * sizeof *y);
    }
    gemm_tile(false, true, s.m, s.n, I, (const float *)x->data + s.m0 * I, I,
              rows_of(w, s.n0, s.n, buf), I, r || b, y, O);
}

static void forward(struct ctx *ctx, struct node *node)
{
    const struct linear *l = node->saved;
    if (node->in[0]->dt == &dtype_bf16) {
        linear_bf16_forward(ctx, node);
        return;
    }
    if (linear_product_serves(ctx, node)) {
        linear_product_forward(ctx, node);
        return;
    }
    const size_t mark = ctx_mark(ctx);
    size_t bytes = l->scratch;
    char *buf = bytes ? ctx_thread_scratch(ctx, &bytes) : NULL;
    struct gemm_tiles tiles[LINEAR_MAX];
    int64_t first[LINEAR_MAX + 1] = {0};
    for (int i = 0; i < l->n; i++) {
        tiles[i] = forward_tiles(node, i);
        first[i + 1] = first[i] + tiles[i].count;
    }
    if (!ctx->measuring && !ctx->failed) {
#pragma omp parallel for schedule(dynamic, 1)
        for (int64_t c = 0; c < first[l->n]; c++) {
            int i = 0;
            while (c >= first[i + 1])
                i++;
            forward_tile(node, i, &tiles[i], c - first[i],
                         buf ? (float *)(buf + (size_t)omp_get_thread_num() * bytes) : NULL);
        }
    }
    ctx_release(ctx, mark);
}

/* Rows of dx: the sum over all outputs of dy w. */
static void backward_x(const struct node *node, const struct linear *l, int64_t m0, int64_t m,
                       bool fresh, float *buf)
{
    const int64_t I = tensor_cols(node->in[0]);
    float *dx = (float *)node->in[0]->grad + m0 * I;
    bool acc = !fresh;
    for (int i = 0; i < l->n; i++) {
        const struct tensor *w = linear_weight(node, i);
        const float *dy = node->out[i]->grad;
        const int64_t O = tensor_rows(w), step = dense(w) ? O : DECODE_ROWS;
        for (int64_t o = 0; dy && o < O; o += step, acc = true) {
            const int64_t k = O - o < step ? O - o : step;
            gemm_tile(false, false, m, I, k, dy + m0 * O + o, O, rows_of(w, o, k, buf), I, acc, dx,
                      I);
        }
    }
}

/* Rows [o, o + k) of dw and db of output i. */
static void backward_w(const struct node *node, int i, bool fresh, int64_t o, int64_t k)
{
    const struct tensor *x = node->in[0], *w = linear_weight(node, i), *b = linear_bias(node, i);
    const int64_t N = tensor_rows(x), I = tensor_cols(x), O = tensor_rows(w);
    const float *dy = (const float *)node->out[i]->grad + o;
    if (w->needs_grad)
        gemm_tile(true, false, k, I, N, dy, O, x->data, I, !fresh, (float *)w->grad + o * I, I);
    float *db = b && b->needs_grad ? (float *)b->grad + o : NULL;
    for (int64_t n = 0; n < N && db; n++)
        rows->add(k, db, dy + n * O, db);
}

static void backward(struct ctx *ctx, struct node *node)
{
    const struct linear *l = node->saved;
    if (node->in[0]->dt == &dtype_bf16) {
        linear_bf16_backward(ctx, node);
        return;
    }
    bool fresh, taken, other, fresh_w[LINEAR_MAX] = {false};
    struct tensor *x = node->in[0];
    const void *dx = ctx_grad(ctx, x, &fresh);
    struct tensor *r = linear_residual(node);
    const void *dr = r ? ctx_grad_take(ctx, node->out[0], r, &other, &taken) : NULL;
    for (int i = 0; i < l->n && !ctx->failed; i++)
        if (node->out[i]->grad) {
            ctx_grad(ctx, linear_weight(node, i), &fresh_w[i]);
            ctx_grad_sum(ctx, linear_bias(node, i));
        }
    const size_t mark = ctx_mark(ctx);
    size_t bytes = l->scratch;
    char *buf = bytes ? ctx_thread_scratch(ctx, &bytes) : NULL;
    if (ctx->measuring || ctx->failed) {
        ctx_release(ctx, mark);
        return;
    }
    // one list of work: the tiles of dx, then those of every dw
    const struct gemm_tiles xt = gemm_tiles(tensor_rows(x), tensor_cols(x));
    const int64_t x_step = xt.across > 1 ? tensor_rows(x) : xt.m;
    int64_t first[LINEAR_MAX + 2] = {0};
    first[1] = dx ? (tensor_rows(x) + x_step - 1) / x_step : 0;
    struct gemm_tiles wt[LINEAR_MAX];
    for (int i = 0; i < l->n; i++) {
        const struct tensor *b = linear_bias(node, i);
        const bool wanted = linear_weight(node, i)->needs_grad || (b && b->needs_grad);
        wt[i] = gemm_tiles(tensor_rows(linear_weight(node, i)), 1);
        first[i + 2] = first[i + 1] + (wanted && node->out[i]->grad ? wt[i].count : 0);
    }
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t c = 0; c < first[l->n + 1]; c++) {
        int i = 0;
        while (c >= first[i + 1])
            i++;
        float *own = buf ? (float *)(buf + (size_t)omp_get_thread_num() * bytes) : NULL;
        if (i == 0) {
            const int64_t m0 = c * x_step, left = tensor_rows(x) - m0;
            backward_x(node, l, m0, left < x_step ? left : x_step, fresh, own);
        } else {
            const struct gemm_span s = gemm_span(&wt[i - 1], c - first[i]);
            backward_w(node, i - 1, fresh_w[i - 1], s.m0, s.m);
        }
    }
    if (dr && !taken)
        rows->add(tensor_numel(r), r->grad, node->out[0]->grad, r->grad);
    ctx_release(ctx, mark);
}

static void cost(const struct ctx *ctx, const struct node *node, bool backward, struct cost *c)
{
    (void)ctx;
    const struct linear *l = node->saved;
    const struct tensor *x = node->in[0];
    const int64_t N = tensor_rows(x), I = tensor_cols(x);
    for (int i = 0; i < l->n; i++) {
        const struct tensor *w = node->in[1 + i];
        const int64_t O = tensor_rows(w);
        if (!backward)
            cost_product(c, COST_FORWARD, x->dt, N, O, I, 1);
        if (backward && x->needs_grad) {
            cost_product(c, COST_DX, x->dt, N, O, I, 1);
            if (w->panels) // packed the other way
                c->bytes += 2 * sizeof(uint16_t) * (double)O * (double)I;
        }
        if (backward && w->needs_grad)
            cost_product(c, COST_DW, x->dt, N, O, I, 1);
    }
    if (!backward)
        cost_rows(c, node->in[1 + 2 * LINEAR_MAX], 1); // the residual
}

static const struct op op = {"linear", forward, backward, cost};

static bool fits(struct ctx *ctx, const struct tensor *x, const struct tensor *w,
                 const struct tensor *b, const struct tensor *r)
{
    if (w->nd != 2 || tensor_cols(w) != tensor_cols(x) || !w->dt->decode)
        ctx_fail(ctx, "linear: a weight [%lld,%lld] of %s on an input of width %lld",
                 (long long)tensor_rows(w), (long long)tensor_cols(w), w->dt->name,
                 (long long)tensor_cols(x));
    else if (w->needs_grad && !dense(w) && !w->grad_f32)
        ctx_fail(ctx, "linear: a weight of %s cannot be trained", w->dt->name);
    else if (b && tensor_numel(b) != tensor_rows(w))
        ctx_fail(ctx, "linear: a bias of %lld on %lld outputs", (long long)tensor_numel(b),
                 (long long)tensor_rows(w));
    else if (r && (r == x || r->dt != &dtype_f32 || tensor_cols(r) != tensor_rows(w) ||
                   tensor_rows(r) != tensor_rows(x)))
        ctx_fail(ctx, "linear: the residual must be another f32 tensor of the output's shape");
    return !ctx->failed;
}

/* Does the input of weight w have to be rounded here? Products in inference encode it by
   themselves. */
static bool rounds(const struct ctx *ctx, const struct tensor *x, const struct tensor *w)
{
    const bool product = x->dt == &dtype_f32 && w->dt->product && !ctx->recording;
    return w->input && !product;
}

/* Each weight by itself, as their inputs differ. */
static int one_by_one(struct ctx *ctx, struct tensor *x, int n, struct tensor *const w[],
                      struct tensor *const b[], struct tensor *out[])
{
    int rc = 0;
    for (int i = 0; i < n && !rc; i++)
        rc = op_linear(ctx, x, 1, w + i, b ? b + i : NULL, NULL, out + i);
    return rc;
}

int op_linear(struct ctx *ctx, struct tensor *x, int n, struct tensor *const w[],
              struct tensor *const b[], struct tensor *res, struct tensor *out[])
{
    if (n < 1 || n > LINEAR_MAX || (res && n > 1)) {
        ctx_fail(ctx, "linear: %d weights%s", n, res ? " with a residual" : "");
        return -1;
    }
    memset(out, 0, (size_t)n * sizeof *out);
    for (int i = 1; i < n && w[0]; i++)
        if (w[i] && w[i]->input != w[0]->input)
            return one_by_one(ctx, x, n, w, b, out);
    if (x && w[0] && rounds(ctx, x, w[0]))
        x = op_round(ctx, x, w[0]->input);
    struct linear *l = x ? ctx_push(ctx, sizeof *l) : NULL;
    if (!l)
        return -1;
    *l = (struct linear){.n = n};
    struct node node = {.op = &op, .in = {x}, .saved = l};
    for (int i = 0; i < n; i++) {
        if (!w[i] || !fits(ctx, x, w[i], b ? b[i] : NULL, res))
            return -1;
        for (int j = 0; j < i; j++)
            if (w[j] == w[i] || (b && b[i] && b[j] == b[i])) {
                ctx_fail(ctx, "linear: the same weight twice"); // their gradients share no lock
                return -1;
            }
        if (!dense(w[i]))
            l->scratch = DECODE_ROWS * (size_t)tensor_cols(x) * sizeof(float);
        node.in[1 + i] = w[i];
        node.in[1 + LINEAR_MAX + i] = b ? b[i] : NULL;
        node.out[i] = ctx_matrix(ctx, res ? res->dt : x->dt, tensor_rows(x), tensor_rows(w[i]));
        if (!node.out[i])
            return -1;
    }
    node.in[1 + 2 * LINEAR_MAX] = res;
    if (ctx->tap && !ctx->measuring)
        ctx->tap->see(ctx->tap, n, w, x);
    if (!ctx_run(ctx, &node))
        return -1;
    for (int i = 0; i < n; i++) {
        const struct low_rank *p = w[i]->plus;
        out[i] = p ? op_low_rank(ctx, x, p->a, p->b, p->scale, node.out[i]) : node.out[i];
    }
    if (ctx->failed)
        memset(out, 0, (size_t)n * sizeof *out);
    return ctx->failed ? -1 : 0;
}
