#include "autograd/kernels/gemm_bf16.h"

#include <stdlib.h>

#include "autograd/base/clock.h"
#include "autograd/base/cpu.h"
#include "autograd/base/mem.h"
#include "autograd/kernels/gemm.h"

const struct gemm_bf16 *gemm_bf16 = &gemm_bf16_scalar;

__attribute__((constructor)) void gemm_bf16_choose(void)
{
#if defined __x86_64__
    const enum cpu_level level = cpu_level();
    gemm_bf16 = level >= CPU_AMX           ? &gemm_bf16_amx
                : level >= CPU_AVX512_BF16 ? &gemm_bf16_avx512bf16
                : level >= CPU_AVX512      ? &gemm_bf16_avx512
                : level >= CPU_AVX2        ? &gemm_bf16_avx2
                                           : &gemm_bf16_scalar;
#elif defined __aarch64__
    const enum cpu_level level = cpu_level();
    gemm_bf16 = level >= CPU_NEON_BF16 ? &gemm_bf16_neonbf16
                : level >= CPU_NEON    ? &gemm_bf16_neon
                                       : &gemm_bf16_scalar;
#endif
}

enum { GAP = 32 }; /* turned rows begin in different cache sets */

int64_t gemm_columns_numel(int64_t K, int64_t columns)
{
    return panel_count(columns) * PANEL * (panel_depth(K) + GAP);
}

struct gemm_term gemm_columns(const uint16_t *B, int64_t ldb, int64_t K, int64_t m0, int64_t m1,
                              uint16_t *A)
{
    const int64_t depth = panel_depth(K), lda = depth + GAP, m = m1 - m0;
    if (gemm_bf16->a_packed) {
        gemm_bf16->pack(false, B + m0, true, ldb, K, m, 0, panel_count(m), A);
        return (struct gemm_term){.A = A, .lda = depth, .K = depth, .a_packed = true};
    }
    gemm_bf16->turn(B + m0, ldb, K, 0, m, A, lda);
    return (struct gemm_term){.A = A, .lda = lda, .K = depth};
}

bool gemm_bf16_native(void)
{
#if defined __aarch64__
    return cpu_level() >= CPU_NEON_BF16;
#else
    return cpu_level() >= CPU_AVX512_BF16;
#endif
}

double gemm_bf16_peak(int64_t M, int64_t N, int64_t K, double seconds)
{
    const struct gemm_tiles t = gemm_tiles(M, panel_count(N) * PANEL);
    uint16_t *a = mem_slab((size_t)(M * K), sizeof *a), *c = mem_slab((size_t)(M * N), sizeof *c);
    uint16_t *b = mem_slab((size_t)panels_numel(K, N), sizeof *b);
    const struct gemm_term term = {.A = a, .lda = K, .panels = b, .K = K};
    double best = 0;
    const double end = clock_seconds() + seconds;
    for (double start = clock_seconds(); start < end && a && b && c;) {
#pragma omp parallel for schedule(dynamic, 1)
        for (int64_t m0 = 0; m0 < M; m0 += t.m) {
            struct gemm_term some = term;
            some.A += m0 * K;
            const struct gemm_out out = {.c = c + m0 * N, .ldc = N, .bf16 = true};
            gemm_bf16->tile(M - m0 < t.m ? M - m0 : t.m, 0, N, 1, &some, &out);
        }
        const double stop = clock_seconds(), rate = 2e-9 * (double)M * (double)N * (double)K;
        if (rate / (stop - start) > best)
            best = rate / (stop - start);
        start = stop;
    }
    free(a);
    free(b);
    free(c);
    return best;
}
