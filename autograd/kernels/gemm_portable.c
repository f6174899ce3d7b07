/* A GEMM in portable C: packed panels, a register block that compilers vectorize. It is what runs
   without OpenBLAS, and the reference that OpenBLAS is tested against. */
#include <string.h>

#include "autograd/kernels/gemm.h"

enum { MR = 4, NR = 16, KC = 256 };

/* panel [kc, width] <- element (i, k) at x[i * si + k * sk], i < n, the rest zero */
static void pack(const float *x, int64_t si, int64_t sk, int64_t n, int64_t kc, int width,
                 float *panel)
{
    for (int64_t k = 0; k < kc; k++)
        for (int i = 0; i < width; i++)
            panel[k * width + i] = i < n ? x[i * si + k * sk] : 0;
}

static void block(int64_t kc, const float *a, const float *b, float sum[MR][NR])
{
    memset(sum, 0, sizeof(float[MR][NR]));
    for (int64_t k = 0; k < kc; k++)
        for (int i = 0; i < MR; i++)
            for (int j = 0; j < NR; j++)
                sum[i][j] += a[k * MR + i] * b[k * NR + j];
}

void gemm_portable(bool ta, bool tb, int64_t M, int64_t N, int64_t K, const float *A, int64_t lda,
                   const float *B, int64_t ldb, bool acc, float *C, int64_t ldc)
{
    const int64_t ai = ta ? 1 : lda, ak = ta ? lda : 1, bj = tb ? ldb : 1, bk = tb ? 1 : ldb;
    float a[KC * MR], b[KC * NR], sum[MR][NR];
    for (int64_t k0 = 0; k0 < K || k0 == 0; k0 += KC) {
        const int64_t kc = K - k0 < KC ? K - k0 : KC;
        for (int64_t j0 = 0; j0 < N; j0 += NR) {
            const int64_t n = N - j0 < NR ? N - j0 : NR;
            pack(B + j0 * bj + k0 * bk, bj, bk, n, kc, NR, b);
            for (int64_t i0 = 0; i0 < M; i0 += MR) {
                const int64_t m = M - i0 < MR ? M - i0 : MR;
                pack(A + i0 * ai + k0 * ak, ai, ak, m, kc, MR, a);
                block(kc, a, b, sum);
                for (int64_t i = 0; i < m; i++) {
                    float *c = C + (i0 + i) * ldc + j0;
                    for (int64_t j = 0; j < n; j++)
                        c[j] = (acc || k0 ? c[j] : 0) + sum[i][j];
                }
            }
        }
    }
}
