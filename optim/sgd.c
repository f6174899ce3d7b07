#include "autograd/kernels/rows.h"
#include "optim/optimizer.h"

/* A part of one parameter: buffer b, gradient g, values p. */
static void step_part(int64_t n, const struct optimizer_args *a, float decay, const float *g,
                      float *b, float *p)
{
    rows->scale(n, a->momentum, b, b);
    rows->axpy(n, a->grad_scale, g, b);
    rows->axpy(n, decay, p, b);
    if (a->nesterov) { // the gradient once more, decay included
        rows->scale(n, 1 - a->lr * decay, p, p);
        rows->axpy(n, -a->lr * a->grad_scale, g, p);
    }
    rows->axpy(n, -a->lr * (a->nesterov ? a->momentum : 1), b, p);
}

int sgd_step(struct store *s, const struct optimizer_args *a)
{
    enum { PART = 1 << 14 };
    float *b = store_state(s, "sgd.momentum");
    if (!b)
        return -1;
    for (int i = 0; i < s->n; i++) {
        const struct param *p = &s->p[i];
        const int64_t n = tensor_numel(&p->used), at = p->latent - s->latent;
        const float decay = p->decay ? a->weight_decay : 0;
#pragma omp parallel for schedule(static) if (n > 4 * PART)
        for (int64_t j = 0; j < n; j += PART)
            step_part(n - j < PART ? n - j : PART, a, decay, s->grad + at + j, b + at + j,
                      s->latent + at + j);
    }
    return 0;
}
