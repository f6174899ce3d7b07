#include <math.h>

#include "autograd/kernels/gemm.h"
#include "autograd/kernels/rows.h"
#include "optim/optimizer.h"

enum { PART = 1 << 14, STEPS = 5 };

/* The memory of one matrix: x and y [rows,cols], gram and poly [n,n] with n the shorter side. */
struct newton_schulz {
    int64_t rows, cols, n;
    float *x, *y, *gram, *poly;
};

static size_t floats(const struct tensor *t)
{
    const int64_t n = t->dim[t->dim[0] > t->dim[1]];
    return (size_t)(2 * tensor_numel(t) + 2 * n * n);
}

size_t muon_scratch(const struct store *s)
{
    size_t most = 0;
    for (int i = 0; i < s->n; i++) {
        const size_t need = optimizer_is_muons(&s->p[i]) ? floats(&s->p[i].used) : 0;
        most = need > most ? need : most;
    }
    return most;
}

/* gram = x x^T or x^T x, whichever is smaller; poly = b gram + c gram^2 + a I; y = poly x or x
   poly: the singular values s of x become a s + b s^3 + c s^5. */
static void iterate(const struct newton_schulz *z)
{
    static const float a = 3.4445f, b = -4.7750f, c = 2.0315f; // Jordan et al.: steepest at 0
    const int64_t n = z->n, cols = z->cols;
    const bool tall = z->rows > cols;
    gemm(tall, !tall, n, n, tall ? z->rows : cols, z->x, cols, z->x, cols, false, z->gram, n);
    gemm(false, true, n, n, n, z->gram, n, z->gram, n, false, z->poly, n);
    for (int64_t i = 0; i < n; i++) {
        rows->scale(n, c, z->poly + i * n, z->poly + i * n);
        rows->axpy(n, b, z->gram + i * n, z->poly + i * n);
        z->poly[i * n + i] += a;
    }
    if (tall)
        gemm(false, false, z->rows, n, n, z->x, cols, z->poly, n, false, z->y, cols);
    else
        gemm(false, false, n, cols, n, z->poly, n, z->x, cols, false, z->y, cols);
}

/* Adds the gradient g to the momentum m; x is what follows from both. */
static void accumulate(int64_t size, const struct optimizer_args *a, const float *g, float *m,
                       float *x)
{
    const float mu = a->momentum, fresh = (1 - mu) * a->grad_scale;
#pragma omp parallel for schedule(static) if (size > 4 * PART)
    for (int64_t j = 0; j < size; j += PART) {
        const int64_t n = size - j < PART ? size - j : PART;
        rows->scale(n, mu, m + j, m + j);
        rows->axpy(n, fresh, g + j, m + j);
        rows->scale(n, a->nesterov ? mu : 1, m + j, x + j);
        if (a->nesterov)
            rows->axpy(n, fresh, g + j, x + j);
    }
}

static float scale_of(int kind, double m, double n)
{
    return (float)(kind == MUON_ORIGINAL ? sqrt(fmax(1, m / n)) : 0.2 * sqrt(fmax(m, n)));
}

static void step_matrix(struct store *s, const struct param *p, const struct optimizer_args *a,
                        float *m)
{
    const int64_t at = p->latent - s->latent, size = tensor_numel(&p->used);
    struct newton_schulz z = {.rows = p->used.dim[0], .cols = p->used.dim[1], .x = s->scratch};
    z.n = z.rows < z.cols ? z.rows : z.cols;
    z.y = z.x + size;
    z.gram = z.y + size;
    z.poly = z.gram + z.n * z.n;
    accumulate(size, a, s->grad + at, m + at, z.x);
    const float to_one = (float)(1 / fmax(optimizer_norm(size, z.x), 1e-7));
    rows->scale(size, to_one, z.x, z.x);
    for (int i = 0; i < STEPS; i++) {
        iterate(&z);
        float *other = z.x;
        z.x = z.y;
        z.y = other;
    }
    const float keep = 1 - (p->decay ? a->lr * a->weight_decay : 0);
    const float lr = a->lr * scale_of(a->muon_scale, (double)z.rows, (double)z.cols);
#pragma omp parallel for schedule(static) if (size > 4 * PART)
    for (int64_t j = 0; j < size; j += PART) {
        const int64_t n = size - j < PART ? size - j : PART;
        rows->scale(n, keep, p->latent + j, p->latent + j);
        rows->axpy(n, -lr, z.x + j, p->latent + j);
    }
}

void muon_cost(const struct store *s, struct cost *cost)
{
    struct product most = {.kind = COST_FORWARD, .dt = &dtype_f32};
    double flops = 0;
    for (int i = 0; i < s->n; i++) {
        const int64_t *dim = s->p[i].used.dim;
        if (!optimizer_is_muons(&s->p[i]))
            continue;
        const int64_t n = dim[dim[0] > dim[1]], long_side = dim[dim[0] <= dim[1]];
        const double outer = 2 * (double)n * (double)n * (double)long_side;
        flops += STEPS * (2 * outer + 2 * (double)n * (double)n * (double)n);
        if (outer > most.flops)
            most = (struct product){COST_FORWARD, &dtype_f32, n, n, long_side, 0, 0, outer, 1};
    }
    most.times = flops > 0 ? flops / most.flops : 0;
    if (flops > 0)
        cost->product[cost->n++] = most;
}

int muon_step(struct store *s, const struct optimizer_args *a)
{
    float *m = store_state(s, "muon.m"), *v = store_state(s, "muon.v");
    if (!m || !v || store_scratch(s, muon_scratch(s)))
        return -1;
    for (int i = 0; i < s->n; i++)
        if (optimizer_is_muons(&s->p[i]))
            step_matrix(s, &s->p[i], a, m);
#pragma omp parallel
    for (int i = 0; i < s->n; i++)
        if (!optimizer_is_muons(&s->p[i]))
            adamw_param(s, &s->p[i], a, a->adam_lr, m, v);
    return 0;
}
