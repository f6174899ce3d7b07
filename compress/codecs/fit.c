#include "compress/codecs/fit.h"

#include "autograd/base/cpu.h"

const struct fits *fit = &fit_scalar;

/* Runs before main, so that the table is filled before any thread exists. */
__attribute__((constructor)) void fit_init(void)
{
#if defined __x86_64__
    const enum cpu_level level = cpu_level();
    fit = level >= CPU_AVX512 ? &fit_avx512 : level >= CPU_AVX2 ? &fit_avx2 : &fit_scalar;
#elif defined __aarch64__
    fit = cpu_level() >= CPU_NEON ? &fit_neon : &fit_scalar;
#endif
}
