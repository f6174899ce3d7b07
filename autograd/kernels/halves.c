#include "autograd/kernels/halves.h"

#include "autograd/base/cpu.h"

halves_fn *halves = halves_scalar;
halves_encode_fn *halves_encode = halves_encode_scalar;

__attribute__((constructor)) void halves_init(void)
{
    halves = halves_scalar;
    halves_encode = halves_encode_scalar;
#if defined __x86_64__
    const enum cpu_level level = cpu_level();
    if (level >= CPU_AVX512) {
        halves = level >= CPU_AVX512_VNNI ? halves_avx512vnni : halves_avx512;
        halves_encode = halves_encode_avx512;
    }
#endif
}

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
