#include <math.h>

#include "autograd/base/half.h"
#include "autograd/kernels/halves.h"

enum { PARTS = 16 };

static float dot(const struct halves_job *j, const uint16_t *w, const struct act16 *a)
{
    float s[PARTS] = {0};
    for (int64_t i = 0; i < j->cols; i++) {
        const float x = j->bf16 ? half_from((uint32_t)w[i] << 16) : half_float(w[i]);
        s[i % PARTS] = fmaf(x, a[i / ACT16].x[i % ACT16], s[i % PARTS]);
    }
    for (int n = PARTS / 2; n; n /= 2) // as halves of vectors are added
        for (int i = 0; i < n; i++)
            s[i] += s[i + n];
    return s[0];
}

void halves_scalar(const struct halves_job *j)
{
    for (int64_t i = 0; i < j->n; i++)
        for (int64_t r = 0; r < j->rows; r++)
            j->y[i * j->ldy + r] = dot(j, (const void *)(j->w + (size_t)r * j->stride),
                                       j->a + i * act16_groups(j->cols));
}
