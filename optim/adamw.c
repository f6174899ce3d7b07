#include <math.h>

#include "autograd/kernels/rows.h"
#include "optim/optimizer.h"

void adamw_param(struct store *s, const struct param *p, const struct optimizer_args *a, float lr,
                 float *m, float *v)
{
    enum { PART = 1 << 14 };
    const int64_t n = tensor_numel(&p->used), at = p->latent - s->latent;
    const struct adamw_args k = {.lr = lr,
                                 .beta1 = a->beta1,
                                 .beta2 = a->beta2,
                                 .eps = a->eps,
                                 .decay = p->decay ? lr * a->weight_decay : 0,
                                 .inv_c1 = (float)(1 / (1 - pow(a->beta1, (double)a->step))),
                                 .inv_c2 = (float)(1 / (1 - pow(a->beta2, (double)a->step))),
                                 .grad_scale = a->grad_scale};
#pragma omp for schedule(static) nowait
    for (int64_t j = 0; j < n; j += PART)
        rows->adamw(n - j < PART ? n - j : PART, &k, s->grad + at + j, m + at + j, v + at + j,
                    s->latent + at + j);
}

int adamw_step(struct store *s, const struct optimizer_args *a)
{
    float *m = store_state(s, "adam.m"), *v = store_state(s, "adam.v");
    if (!m || !v)
        return -1;
#pragma omp parallel // one region for all: waking threads costs more than small parameters do
    for (int i = 0; i < s->n; i++)
        adamw_param(s, &s->p[i], a, a->lr, m, v);
    return 0;
}
