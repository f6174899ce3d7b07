#if defined __aarch64__
#define GEMM_NAME gemm_neon
#include "autograd/kernels/gemm_vec.h"
#endif
