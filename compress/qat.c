#include "compress/qat_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/mem.h"
#include "compress/codecs/codecs.h"
#include "compress/codecs/grid.h"

void qat_init(struct qat *q, const struct qat_options *options)
{
    *q = (struct qat){.options = *options};
}

void qat_free(struct qat *q)
{
    for (int i = 0; i < q->n; i++)
        free(q->weight[i].blocks.data);
    free(q->weight);
    free(q->value);
    store_free(&q->scales);
    *q = (struct qat){0};
}

int qat_add(struct qat *q, struct param *p, const struct dtype *dt)
{
    if (p->used.nd != 2 || !dt->encode || !dt->round || tensor_cols(&p->used) % dt->block)
        return err("tensor '%s': rows of %lld cannot be trained as %s", p->name,
                   (long long)tensor_cols(&p->used), dt->name);
    if (mem_grow(&q->weight, &q->cap, (size_t)q->n + 1, sizeof *q->weight))
        return -1;
    struct qat_weight *w = &q->weight[q->n];
    *w = (struct qat_weight){.p = p, .grid = codecs_grid(dt), .of = q};
    w->blocks =
        (struct tensor){.dt = dt, .nd = 2, .dim = {tensor_rows(&p->used), tensor_cols(&p->used)}};
    w->blocks.data = q->options.shapes ? NULL : mem_slab(tensor_bytes(&w->blocks), 1);
    if (!w->blocks.data && !q->options.shapes)
        return err_in("blocks of %s", p->name);
    if (qat_scales_add(q, w)) {
        free(w->blocks.data);
        return -1;
    }
    q->n++;
    return 0;
}

int qat_ready(struct qat *q)
{
    return qat_scales_ready(q) ? err_in("learned scales") : 0;
}

static bool kept_in_f32(const struct qat_weight *w)
{
    return !w->of->options.packed || !w->grid;
}

struct qat_bytes qat_bytes(const struct qat *q, int n_states)
{
    const size_t slabs = q->scales.n ? 3 + (size_t)n_states : 0; // values, moves, gradients
    struct qat_bytes b = {.scales = slabs * q->scales.len * sizeof(float)};
    for (int i = 0; i < q->n; i++) {
        const struct qat_weight *w = &q->weight[i];
        b.blocks += tensor_bytes(&w->blocks);
        b.values += kept_in_f32(w) ? (size_t)tensor_numel(&w->blocks) * sizeof(float) : 0;
    }
    return b;
}

size_t qat_held(const struct qat *q)
{
    size_t n = store_bytes(&q->scales) + (q->value ? q->scales.len * sizeof *q->value : 0);
    for (int i = 0; i < q->n; i++)
        n += q->weight[i].blocks.data ? tensor_bytes(&q->weight[i].blocks) : 0;
    return n;
}

struct qat_weight *qat_find(const struct qat *q, const char *name)
{
    for (int i = 0; i < q->n; i++)
        if (!strcmp(q->weight[i].p->name, name))
            return &q->weight[i];
    return NULL;
}

/* ---- faults ---- */

static bool all_finite(const float *x, int64_t n)
{
    uint32_t bad = 0; // the exponent is all ones: a sum of such flags vectorizes
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bad |= (bits & 0x7f800000) == 0x7f800000;
    }
    return !bad;
}

void qat_note(struct qat *q, const struct qat_weight *w, int64_t row, enum qat_fault fault)
{
    const int i = (int)(w - q->weight);
#pragma omp critical(qat_fault)
    if (!q->fault || i < q->fault_weight || (i == q->fault_weight && row < q->fault_row)) {
        q->fault = fault;
        q->fault_weight = i;
        q->fault_row = row;
    }
}

int qat_check(const struct qat *q)
{
    static const char *const what[] = {[QAT_NOT_FINITE] = "a weight or a scale is not finite",
                                       [QAT_COLLAPSED] =
                                           "a learned scale has collapsed; lower scale_lr"};
    if (!q->fault)
        return 0;
    const struct qat_weight *w = &q->weight[q->fault_weight];
    return err("tensor '%s' (%s), row %lld: %s", w->p->name, w->blocks.dt->name,
               (long long)q->fault_row, what[q->fault]);
}

/* ---- scales ---- */

/* A row of weights that are not all zero, of which nothing is left. */
static bool vanished(const float *x, const float *y, int64_t n)
{
    bool was = false, is = false;
    for (int64_t i = 0; i < n; i++) {
        was |= x[i] < 0 || x[i] > 0;
        is |= y[i] < 0 || y[i] > 0;
    }
    return was && !is;
}

int qat_fit(struct qat *q, int i, const float *importance)
{
    struct qat_weight *w = &q->weight[i];
    const int64_t rows = tensor_rows(&w->blocks), cols = tensor_cols(&w->blocks);
    const size_t bytes = (size_t)cols * sizeof(float);
    int64_t odd = rows, lost = rows; // the first rows of that kind
    bool no_memory = false;
#pragma omp parallel
    {
        float *y = malloc(bytes);
#pragma omp for schedule(dynamic, 4) reduction(min : odd, lost) reduction(|| : no_memory)
        for (int64_t r = 0; r < rows; r++) {
            const float *x = w->p->latent + r * cols;
            no_memory = no_memory || !y;
            if (!y)
                continue;
            w->blocks.dt->encode(&w->blocks, r, x, importance);
            w->blocks.dt->decode(&w->blocks, r, y);
            if (!all_finite(x, cols) || !all_finite(y, cols))
                odd = r < odd ? r : odd;
            else if (vanished(x, y, cols))
                lost = r < lost ? r : lost;
            else if (w->s >= 0)
                qat_scales_take(w, r, true);
        }
        free(y);
    }
    if (no_memory)
        return err("out of memory: %zu bytes", bytes);
    if (odd < rows)
        return err("tensor '%s', row %lld: not finite, or too large for the scales of %s",
                   w->p->name, (long long)odd, w->blocks.dt->name);
    if (lost < rows)
        return err("tensor '%s', row %lld: too small for the scales of %s, nothing is left of it",
                   w->p->name, (long long)lost, w->blocks.dt->name);
    return 0;
}

int qat_keep(struct qat *q, int i)
{
    struct qat_weight *w = &q->weight[i];
    const struct dtype *dt = w->blocks.dt;
    const int64_t rows = tensor_rows(&w->blocks), row = (int64_t)tensor_row_bytes(&w->blocks);
    int64_t odd = rows;
#pragma omp parallel for schedule(static) reduction(min : odd)
    for (int64_t r = 0; r < rows; r++) {
        const char *block = (const char *)w->blocks.data + r * row;
        bool sound = true;
        for (int64_t at = 0; at < row && w->grid; at += dt->bytes) {
            struct grid_scales s = {0};
            w->grid->get(block + at, &s);
            sound = sound && isfinite(s.d) && isfinite(s.dmin);
        }
        if (!sound)
            odd = r < odd ? r : odd;
        else if (w->s >= 0)
            qat_scales_take(w, r, false);
    }
    return odd < rows ? err("tensor '%s', row %lld: a scale of its blocks is not finite",
                            w->p->name, (long long)odd)
                      : 0;
}

/* ---- the link ---- */

/* Rounds a row and decodes it to y; on a grid y may be NULL. False: it is not finite. */
static bool put(struct qat_weight *w, int64_t row, const float *x, float *y)
{
    if (w->grid)
        return grid_project(&w->blocks, row, x, y);
    w->blocks.dt->round(&w->blocks, row, x);
    w->blocks.dt->decode(&w->blocks, row, y);
    return all_finite(y, tensor_cols(&w->blocks));
}

static void project(const struct reparam *r, int64_t row, int64_t n, const float *x, float *y)
{
    struct qat_weight *w = r->state;
    for (int64_t i = 0; i < n; i++, x += r->cols, y = y ? y + r->cols : NULL) {
        if (w->s >= 0)
            qat_scales_move(w, row + i);
        if (!put(w, row + i, x, y))
            qat_note(w->of, w, row + i, QAT_NOT_FINITE);
    }
}

static void pullback(const struct reparam *r, int64_t row, int64_t n, const float *x, float *g)
{
    const struct qat_weight *w = r->state;
    for (int64_t i = 0; i < n && w->grid; i++, x += r->cols, g += r->cols) {
        if (w->s >= 0) // before clipping: they want all of the gradient
            qat_scales_pull(w, row + i, x, g);
        if (w->of->options.clipped)
            grid_clip(&w->blocks, row + i, x, g);
    }
}

static const struct reparam_op op = {"qat", project, pullback, NULL};

const struct dtype *qat_input(const struct dtype *weight)
{
    return codecs_grid(weight) ? weight->dot_with : NULL;
}

int qat_attach(struct qat *q)
{
    for (int i = 0; i < q->n; i++) {
        struct reparam *r = mem_new(1, sizeof *r);
        if (!r)
            return -1;
        *r = (struct reparam){.op = &op, .state = &q->weight[i]};
        r->value = kept_in_f32(&q->weight[i]) ? NULL : &q->weight[i].blocks;
        if (param_chain(q->weight[i].p, r)) {
            free(r);
            return -1;
        }
        if (q->options.acts)
            q->weight[i].p->used.input = qat_input(q->weight[i].blocks.dt);
    }
    q->attached = true;
    return 0;
}
