#include "autograd/kernels/rows.h"

#include "autograd/base/cpu.h"

const struct rows *rows = &rows_scalar;

/* Runs before main, so that the table is filled before any thread exists. */
__attribute__((constructor)) void rows_init(void)
{
#if defined __x86_64__
    const enum cpu_level level = cpu_level();
    rows = level >= CPU_AVX512 ? &rows_avx512 : level >= CPU_AVX2 ? &rows_avx2 : &rows_scalar;
#elif defined __aarch64__
    rows = cpu_level() >= CPU_NEON ? &rows_neon : &rows_scalar;
#endif
}
