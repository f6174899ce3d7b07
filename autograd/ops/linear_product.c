/*
 * The linear op in inference on weights that multiply by themselves (dtype.product): blocks and
 * halves as they lie in a file. The input is encoded once, the rows of all weights are one list of
 * work.
 */
#include <omp.h>

#include "autograd/kernels/halves.h"
#include "autograd/kernels/rows.h"
#include "autograd/ops/linear.h"

/* A part of the work: enough bytes of weights to outweigh handing it out, and whole panels. */
enum { PART_BYTES = 1 << 16, PART_ROWS = 32 };

static int64_t part_rows(const struct tensor *w)
{
    const int64_t fit = PART_BYTES / (int64_t)tensor_row_bytes(w) / PART_ROWS * PART_ROWS;
    return fit > PART_ROWS ? fit : PART_ROWS;
}

bool linear_product_serves(const struct ctx *ctx, const struct node *node)
{
    const struct linear *l = node->saved;
    bool frozen = node->in[0]->dt == &dtype_f32, all = true;
    for (int i = 0; i < NODE_IN && ctx->recording; i++)
        frozen = frozen && !(node->in[i] && node->in[i]->needs_grad);
    for (int i = 0; i < l->n; i++)
        all = all && linear_weight(node, i)->dt->product;
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
static void part(const struct ctx *ctx, const struct node *node, int i, const void *a, int64_t r,
                 int64_t k)
{
    const struct tensor *w = linear_weight(node, i), *b = linear_bias(node, i);
    const struct tensor *plus = linear_residual(node);
    const int64_t N = tensor_rows(node->in[0]), O = tensor_rows(w);
    float *y = (float *)node->out[i]->data + r;
    multiply(ctx, w, r, k, a, N, y, O);
    for (int64_t n = 0; n < N && (b || plus); n++) {
        if (plus)
            rows->add(k, y + n * O, (const float *)plus->data + n * O + r, y + n * O);
        if (b)
            rows->add(k, y + n * O, (const float *)b->data + r, y + n * O);
    }
}

void linear_product_forward(struct ctx *ctx, struct node *node)
{
    const struct linear *l = node->saved;
    const size_t mark = ctx_mark(ctx);
    const void *a[LINEAR_MAX];
    int64_t rows_each[LINEAR_MAX], first[LINEAR_MAX + 1] = {0};
    for (int i = 0; i < l->n; i++) {
        const struct tensor *w = linear_weight(node, i);
        a[i] = NULL;
        for (int j = 0; j < i && !a[i]; j++)
            if (linear_weight(node, j)->dt->dot_with == w->dt->dot_with)
                a[i] = a[j];
        if (!a[i])
            a[i] = encoded(ctx, node->in[0], w);
        rows_each[i] = part_rows(w);
        first[i + 1] = first[i] + (tensor_rows(w) + rows_each[i] - 1) / rows_each[i];
    }
    if (!ctx->measuring && !ctx->failed) {
#pragma omp parallel for schedule(dynamic, 1) if (first[l->n] > 1)
        for (int64_t c = 0; c < first[l->n]; c++) {
            int i = 0;
            while (c >= first[i + 1])
                i++;
            const int64_t r = (c - first[i]) * rows_each[i];
            const int64_t left = tensor_rows(linear_weight(node, i)) - r;
            part(ctx, node, i, a[i], r, left < rows_each[i] ? left : rows_each[i]);
        }
    }
    ctx_release(ctx, mark);
}
