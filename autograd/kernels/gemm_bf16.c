#include "autograd/kernels/gemm_bf16.h"

#include "autograd/base/cpu.h"

const struct gemm_bf16 *gemm_bf16 = &gemm_bf16_scalar;

__attribute__((constructor)) void gemm_bf16_choose(void)
{
#if defined __x86_64__
    const enum cpu_level level = cpu_level();
    gemm_bf16 = level >= CPU_AMX           ? &gemm_bf16_amx
                : level >= CPU_AVX512_BF16 ? &gemm_bf16_avx512bf16
                : level >= CPU_AVX512      ? &gemm_bf16_avx512
                : level >= CPU_AVX2        ? &gemm_bf16_avx2
                                           : &gemm_bf16_scalar;
#elif defined __aarch64__
    const enum cpu_level level = cpu_level();
    gemm_bf16 = level >= CPU_NEON_BF16 ? &gemm_bf16_neonbf16
                : level >= CPU_NEON    ? &gemm_bf16_neon
                                       : &gemm_bf16_scalar;
#endif
}

bool gemm_bf16_native(void)
{
#if defined __aarch64__
    return cpu_level() >= CPU_NEON_BF16;
#else
    return cpu_level() >= CPU_AVX512_BF16;
#endif
}
