#if defined __x86_64__
#define GEMM_BF16 gemm_bf16_avx512
#define GEMM_NAME "avx512"
#include "autograd/kernels/gemm_bf16_vec.h"
#endif
