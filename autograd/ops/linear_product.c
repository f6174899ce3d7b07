/*
 * The linear op in inference on weights that multiply by themselves (dtype.product): blocks and
 * halves as they lie in a file. The input is encoded once, the rows of all weights are one list of
 * work.
 */
#include <omp.h>

#include "autograd/kernels/halves.h"
#include "autograd/kernels/rows.h"
#include "autograd/ops/linear.h"

/* Rows that are handed out together at least: those of a dot, and of a panel for many. */
enum { FEW_ROWS = 8, MANY_ROWS = 32, MANY = 8 };

/* The weight's other term is trained: it is then computed with as in the rest of the training. */
static bool learns(const struct tensor *w)
{
    return w->plus && (w->plus->a->needs_grad || w->plus->b->needs_grad);
}

bool linear_product_serves(const struct ctx *ctx, const struct node *node)
{
    const struct linear *l = node->saved;
    bool frozen = node->in[0]->dt == &dtype_f32, all = true;
    for (int i = 0; i < NODE_IN && ctx->recording; i++)
        frozen = frozen && !(node->in[i] && node->in[i]->needs_grad);
    for (int i = 0; i < l->n; i++)
        all = all && linear_weight(node, i)->dt->product &&
              !(ctx->recording && learns(linear_weight(node, i)));
    return frozen && all;
}

/* Rows of x as w's type wants them: x itself, or encoded into scratch. NULL: failed. */
static const void *encoded(struct ctx *ctx, const struct tensor *x, const struct tensor *w)
{
    const struct dtype *dt = w->dt->dot_with;
    if (dt == x->dt)
        return x->data;
    struct tensor a = {.dt = dt, .nd = 2, .dim = {tensor_rows(x), tensor_cols(x)}};
    a.data = ctx_scratch(ctx, tensor_bytes(&a));
    if (!a.data || ctx->measuring)
        return a.data;
#pragma omp parallel for schedule(static) if (a.dim[0] > 1)
    for (int64_t i = 0; i < a.dim[0]; i++)
        dt->encode(&a, i, (const float *)x->data + i * a.dim[1], NULL);
    return a.data;
}

/* The op: units of rows of all weights are one list of work. */
struct work {
    const struct ctx *ctx;
    const struct node *node;
    const void *a[LINEAR_MAX]; /* encoded input, for each weight */
    int64_t rows;              /* of a unit */
    int64_t first[LINEAR_MAX + 1];
    int64_t next; /* unit that nobody has taken */
    int64_t threads;
};

/* Takes a part of the units that are left, large at first: memory is read in long runs, and the
   threads end together also where one of them is held up. False: nothing is left. */
static bool take(struct work *w, int64_t end, int64_t *from, int64_t *to)
{
    int64_t at = __atomic_load_n(&w->next, __ATOMIC_RELAXED), n;
    do {
        n = (end - at + 2 * w->threads - 1) / (2 * w->threads);
        if (n <= 0)
            return false;
    } while (!__atomic_compare_exchange_n(&w->next, &at, at + n, true, __ATOMIC_RELAXED,
                                          __ATOMIC_RELAXED));
    *from = at;
    *to = at + n;
    return true;
}

/* All N activations at once; or, in a steady ctx, no more than halves multiply one way. */
static void multiply(const struct ctx *ctx, const struct tensor *w, int64_t r, int64_t k,
                     const void *a, int64_t N, float *y, int64_t O)
{
    if (!ctx->steady || w->dt->product != halves_product) {
        w->dt->product(w, r, k, a, N, y, O);
        return;
    }
    const size_t row = (size_t)act16_groups(tensor_cols(w)) * sizeof(struct act16);
    for (int64_t i = 0, n; i < N; i += n) {
        n = N - i < HALVES_MANY - 1 ? N - i : HALVES_MANY - 1;
        halves_product(w, r, k, (const char *)a + (size_t)i * row, n, y + i * O, O);
    }
}

/* Rows [r, r + k) of weight i, and what is added to them. */
static void part(const struct work *work, int i, int64_t r, int64_t k)
{
    const struct node *node = work->node;
    const struct tensor *w = linear_weight(node, i), *b = linear_bias(node, i);
    const struct tensor *plus = linear_residual(node);
    const int64_t N = tensor_rows(node->in[0]), O = tensor_rows(w);
    float *y = (float *)node->out[i]->data + r;
    multiply(work->ctx, w, r, k, work->a[i], N, y, O);
    for (int64_t n = 0; n < N && (b || plus); n++) {
        if (plus)
            rows->add(k, y + n * O, (const float *)plus->data + n * O + r, y + n * O);
        if (b)
            rows->add(k, y + n * O, (const float *)b->data + r, y + n * O);
    }
}

static void units(const struct work *w, int64_t from, int64_t to)
{
    const struct linear *l = w->node->saved;
    for (int i = 0; i < l->n; i++) {
        const int64_t O = tensor_rows(linear_weight(w->node, i));
        const int64_t f = from > w->first[i] ? from : w->first[i];
        const int64_t t = to < w->first[i + 1] ? to : w->first[i + 1];
        const int64_t r = (f - w->first[i]) * w->rows, end = (t - w->first[i]) * w->rows;
        if (f < t)
            part(w, i, r, (end < O ? end : O) - r);
    }
}

void linear_product_forward(struct ctx *ctx, struct node *node)
{
    const struct linear *l = node->saved;
    const size_t mark = ctx_mark(ctx);
    struct work w = {.ctx = ctx, .node = node, .threads = omp_get_max_threads()};
    w.rows = tensor_rows(node->in[0]) < MANY ? FEW_ROWS : MANY_ROWS;
    for (int i = 0; i < l->n; i++) {
        const struct tensor *weight = linear_weight(node, i);
        for (int j = 0; j < i && !w.a[i]; j++)
            if (linear_weight(node, j)->dt->dot_with == weight->dt->dot_with)
                w.a[i] = w.a[j];
        if (!w.a[i])
            w.a[i] = encoded(ctx, node->in[0], weight);
        w.first[i + 1] = w.first[i] + (tensor_rows(weight) + w.rows - 1) / w.rows;
    }
    const int64_t end = w.first[l->n];
    if (!ctx->measuring && !ctx->failed) {
#pragma omp parallel if (end > 1)
        for (int64_t from, to; take(&w, end, &from, &to);)
            units(&w, from, to);
    }
    ctx_release(ctx, mark);
}
