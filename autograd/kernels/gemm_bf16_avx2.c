#if defined __x86_64__
#define GEMM_BF16 gemm_bf16_avx2
#define GEMM_NAME "avx2"
#include "autograd/kernels/gemm_bf16_vec.h"
#endif
