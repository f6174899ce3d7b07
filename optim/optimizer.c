#include "optim/optimizer.h"

#include <math.h>

#include "autograd/kernels/rows.h"

const struct optimizer optimizers[] = {
    [OPTIMIZER_ADAMW] = {"adamw", adamw_step, 2},
    [OPTIMIZER_SGD] = {"sgd", sgd_step, 1},
};

double grad_norm(const struct store *s)
{
    enum { PART = 1 << 16, PARTS = 64 }; // parts by position, so the sum's order is fixed
    double sum = 0, part[PARTS];
    const int64_t len = (int64_t)s->len;
    for (int64_t at = 0; at < len; at += (int64_t)PART * PARTS) {
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < PARTS; i++) {
            const int64_t from = at + i * PART, left = len - from;
            part[i] = left > 0 ? rows->sum_squares(left < PART ? left : PART, s->grad + from) : 0;
        }
        for (int i = 0; i < PARTS; i++)
            sum += part[i];
    }
    return sqrt(sum);
}
