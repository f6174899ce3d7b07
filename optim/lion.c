#include "autograd/kernels/rows.h"
#include "optim/optimizer.h"

int lion_step(struct store *s, const struct optimizer_args *a)
{
    enum { PART = 1 << 14 };
    float *m = store_state(s, "lion.m");
    if (!m)
        return -1;
    struct lion_args k = {.lr = a->lr,
                          .beta1 = a->beta1,
                          .beta2 = a->beta2,
                          .grad_scale = a->grad_scale};
    for (int i = 0; i < s->n; i++) {
        const struct param *p = &s->p[i];
        const int64_t n = tensor_numel(&p->used), at = p->latent - s->latent;
        k.decay = p->decay ? a->lr * a->weight_decay : 0;
#pragma omp parallel for schedule(static) if (n > 4 * PART)
        for (int64_t j = 0; j < n; j += PART)
            rows->lion(n - j < PART ? n - j : PART, &k, s->grad + at + j, m + at + j,
                       s->latent + at + j);
    }
    return 0;
}
