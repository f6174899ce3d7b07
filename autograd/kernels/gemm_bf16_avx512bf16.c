#if defined __x86_64__
#include <immintrin.h>
#define GEMM_BF16            gemm_bf16_avx512bf16
#define GEMM_NAME            "avx512_bf16"
#define DOT_PAIRS(sum, a, b) _mm512_dpbf16_ps(sum, (__m512bh)(a), (__m512bh)(b))
#define NARROW(p, x)         _mm256_storeu_si256((void *)(p), (__m256i)_mm512_cvtneps_pbh(x))
#include "autograd/kernels/gemm_bf16_vec.h"
#endif
