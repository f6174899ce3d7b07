#include "autograd/kernels/gemm_bf16.h"

#include "autograd/base/cpu.h"

const struct gemm_bf16 *gemm_bf16 = &gemm_bf16_scalar;

__attribute__((constructor)) void gemm_bf16_choose(void)
{
    gemm_bf16 = &gemm_bf16_scalar;
}

bool gemm_bf16_native(void)
{
    return false;
}
