#include "optim/ema.h"

#include <string.h>

#include "autograd/kernels/rows.h"

const char ema_name[] = "ema";

enum { PART = 1 << 12 };

int ema_update(struct store *s, const struct ema_args *a, int64_t step)
{
    float *e = store_state(s, ema_name);
    if (!e)
        return -1;
    const double t = (double)(step - 1), soon = (1 + t) / (10 + t);
    const double keep = t == 0 ? 0 : a->warmup && soon < a->decay ? soon : a->decay;
    const float w = (float)(1 - keep);
    const int64_t len = (int64_t)s->len;
#pragma omp parallel for schedule(static)
    for (int64_t j = 0; j < len; j += PART) {
        const int64_t n = len - j < PART ? len - j : PART;
        // e += w (p - e): with a rounded `keep` beside w the average would creep
        rows->axpy(n, -w, e + j, e + j);
        rows->axpy(n, w, s->latent + j, e + j);
    }
    return 0;
}

void ema_swap(struct store *s)
{
    float *e = store_state(s, ema_name); // it exists
    const int64_t len = (int64_t)s->len;
#pragma omp parallel for schedule(static)
    for (int64_t j = 0; j < len; j += PART) {
        float old[PART];
        const size_t bytes = (size_t)(len - j < PART ? len - j : PART) * sizeof *old;
        memcpy(old, s->latent + j, bytes);
        memcpy(s->latent + j, e + j, bytes);
        memcpy(e + j, old, bytes);
    }
    store_project(s);
}
