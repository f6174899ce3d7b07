#if defined __aarch64__
#include <arm_neon.h>
#define GEMM_BF16            gemm_bf16_neonbf16
#define GEMM_NAME            "neon_bf16"
#define DOT_PAIRS(sum, a, b) vbfdotq_f32(sum, vreinterpretq_bf16_f32(a), vreinterpretq_bf16_f32(b))
#include "autograd/kernels/gemm_bf16_vec.h"
#endif
