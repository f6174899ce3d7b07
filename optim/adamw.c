#include <math.h>

#include "autograd/kernels/rows.h"
#include "optim/optimizer.h"

int adamw_step(struct store *s, const struct optimizer_args *a)
{
    enum { PART = 1 << 14 };
    float *m = store_state(s, "adam.m"), *v = store_state(s, "adam.v");
    if (!m || !v)
        return -1;
    struct adamw_args k = {.lr = a->lr,
                           .beta1 = a->beta1,
                           .beta2 = a->beta2,
                           .eps = a->eps,
                           .inv_c1 = (float)(1 / (1 - pow(a->beta1, (double)a->step))),
                           .inv_c2 = (float)(1 / (1 - pow(a->beta2, (double)a->step))),
                           .grad_scale = a->grad_scale};
    for (int i = 0; i < s->n; i++) {
        const struct param *p = &s->p[i];
        const int64_t n = tensor_numel(&p->used), at = p->latent - s->latent;
        k.decay = p->decay ? a->lr * a->weight_decay : 0;
#pragma omp parallel for schedule(static) if (n > 4 * PART)
        for (int64_t j = 0; j < n; j += PART)
            rows->adamw(n - j < PART ? n - j : PART, &k, s->grad + at + j, m + at + j, v + at + j,
                        s->latent + at + j);
    }
    return 0;
}
