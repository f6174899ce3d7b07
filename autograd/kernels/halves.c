#include "autograd/kernels/halves.h"

#include <math.h>
#include <string.h>

#include "autograd/base/cpu.h"
#include "autograd/base/half.h"

halves_fn *halves = halves_scalar;

__attribute__((constructor)) void halves_init(void)
{
    halves = halves_scalar;
#if defined __x86_64__
    const enum cpu_level level = cpu_level();
    if (level >= CPU_AVX512)
        halves = level >= CPU_AVX512_VNNI ? halves_avx512vnni : halves_avx512;
#endif
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

static void encode(struct tensor *t, int64_t row, const float *x, const float *importance)
{
    (void)importance; // every run is scaled by its largest element
    const int64_t cols = tensor_cols(t);
    struct act16 *a = (struct act16 *)t->data + row * act16_groups(cols);
    for (int64_t i = 0; i < cols; i += ACT16, a++) {
        const int64_t n = cols - i < ACT16 ? cols - i : ACT16;
        memcpy(a->x, x + i, (size_t)n * sizeof *x);
        memset(a->x + n, 0, (size_t)(ACT16 - n) * sizeof *x);
        for (int r = 0; r < ACT16 / ACT16_RUN; r++)
            encode_run(a->x + r * ACT16_RUN, a->q + r * ACT16_RUN, &a->d[r]);
    }
}

const struct dtype act16_dtype = {
    .name = "act16",
    .gguf_id = -1,
    .block = ACT16,
    .bytes = sizeof(struct act16),
    .encode = encode,
};

void halves_product(const struct tensor *t, int64_t row, int64_t rows, const void *a, int64_t n,
                    float *y, int64_t ldy)
{
    const size_t stride = tensor_row_bytes(t);
    const struct halves_job job = {
        .bf16 = t->dt == &dtype_bf16,
        .w = (const char *)t->data + (size_t)row * stride,
        .stride = stride,
        .rows = rows,
        .cols = tensor_cols(t),
        .a = a,
        .n = n,
        .y = y,
        .ldy = ldy,
    };
    halves(&job);
}
