#if defined __x86_64__
#define GEMM_NAME gemm_avx2
#include "autograd/kernels/gemm_vec.h"
#endif
