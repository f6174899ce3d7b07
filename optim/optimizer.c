#include "optim/optimizer.h"

#include <math.h>
#include <string.h>

#include "autograd/kernels/rows.h"

const struct optimizer optimizers[] = {
    [OPTIMIZER_ADAMW] = {"adamw", adamw_step, 2, NULL, NULL},
    [OPTIMIZER_SGD] = {"sgd", sgd_step, 1, NULL, NULL},
    [OPTIMIZER_MUON] = {"muon", muon_step, 2, muon_scratch, muon_cost},
    [OPTIMIZER_LION] = {"lion", lion_step, 1, NULL, NULL},
};

bool optimizer_is_muons(const struct param *p)
{
    return p->used.nd == 2 && !strncmp(p->name, "blk.", 4);
}

double optimizer_norm(int64_t n, const float *x)
{
    enum { PART = 1 << 16, PARTS = 64 }; // parts by position, so the sum's order is fixed
    double sum = 0, part[PARTS];
    for (int64_t at = 0; at < n; at += (int64_t)PART * PARTS) {
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < PARTS; i++) {
            const int64_t from = at + i * PART, left = n - from;
            part[i] = left > 0 ? rows->sum_squares(left < PART ? left : PART, x + from) : 0;
        }
        for (int i = 0; i < PARTS; i++)
            sum += part[i];
    }
    return sqrt(sum);
}

double grad_norm(const struct store *s)
{
    return optimizer_norm((int64_t)s->len, s->grad);
}
