#include "autograd/kernels/kvblock.h"

#include <math.h>

#include "autograd/base/cpu.h"
#include "autograd/base/half.h"

const struct kvblock *kvblock = kvblock_scalar;

__attribute__((constructor)) void kvblock_init(void)
{
#if defined __x86_64__
    const enum cpu_level level = cpu_level();
    kvblock = level >= CPU_AVX512 ? kvblock_avx512
              : level >= CPU_AVX2 ? kvblock_avx2
                                  : kvblock_scalar;
#elif defined __aarch64__
    kvblock = cpu_level() >= CPU_NEON ? kvblock_neon : kvblock_scalar;
#endif
}

const char *const kvblock_names[] = {"f32", "f16", "q8_0", NULL};

/* Bytes of n elements of the type in groups of whole rows or columns. */
static size_t elements(enum kvblock_type type, int64_t n)
{
    const size_t bytes[] = {4, 2, 1}, scales = type == KVBLOCK_Q8_0 ? 2 : 0;
    return (size_t)n * bytes[type] + (size_t)(n / KVBLOCK_GROUP) * scales;
}

static size_t whole_lines(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

size_t kvblock_values_at(enum kvblock_type type, int64_t D)
{
    return whole_lines(elements(type, D * KVBLOCK));
}

size_t kvblock_bytes(enum kvblock_type type, int64_t D)
{
    if (type == KVBLOCK_Q8_0 && D % KVBLOCK_GROUP)
        return 0;
    return kvblock_values_at(type, D) + whole_lines(elements(type, kvblock_wide(D) * KVBLOCK));
}

void kvblock_to_q8_0(int64_t D, const float *x, int8_t *to, uint16_t *scale)
{
    for (int64_t g = 0; g < D / KVBLOCK_GROUP; g++, x += KVBLOCK_GROUP, to += KVBLOCK_GROUP) {
        float most = 0;
        for (int i = 0; i < KVBLOCK_GROUP; i++)
            most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
        const float step = most / 127, inverse = step > 0 ? 1 / step : 0;
        scale[g] = half_of(step);
        for (int i = 0; i < KVBLOCK_GROUP; i++)
            to[i] = (int8_t)rintf(x[i] * inverse);
    }
}
