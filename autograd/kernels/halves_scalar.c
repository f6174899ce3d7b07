#include <math.h>
#include <string.h>

#include "autograd/base/half.h"
#include "autograd/kernels/halves.h"

enum { PARTS = 32 };

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

static void encode_run(const float *x, int16_t *q, float *d)
{
    uint32_t top = 0; // the largest magnitude's bits: they are in order, what is not finite above
    for (int i = 0; i < ACT16_RUN; i++) {
        const uint32_t bits = half_bits(x[i]) & 0x7fffffff;
        top = bits > top ? bits : top;
    }
    const float most = half_from(top);
    const bool finite = top < 0x7f800000, some = finite && most >= 0x1p-100f;
    *d = !finite ? NAN : some ? most / ACT16_TOP : 0;
    const float inverse = some ? ACT16_TOP / most : 0;
    for (int i = 0; i < ACT16_RUN; i++)
        q[i] = some ? (int16_t)rintf(x[i] * inverse) : 0;
}

void halves_encode_scalar(int64_t cols, const float *x, struct act16 *a)
{
    for (int64_t i = 0; i < cols; i += ACT16, a++) {
        const int64_t n = cols - i < ACT16 ? cols - i : ACT16;
        memcpy(a->x, x + i, (size_t)n * sizeof *x);
        memset(a->x + n, 0, (size_t)(ACT16 - n) * sizeof *x);
        for (int r = 0; r < ACT16 / ACT16_RUN; r++)
            encode_run(a->x + r * ACT16_RUN, a->q + r * ACT16_RUN, &a->d[r]);
    }
}
