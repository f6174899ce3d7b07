#if defined __aarch64__
#define GEMM_BF16 gemm_bf16_neon
#define GEMM_NAME "neon"
#include "autograd/kernels/gemm_bf16_vec.h"
#endif
