/*
 * The f32 GEMM over vf. Included once by each gemm_<isa>.c, which defines GEMM_NAME, the function.
 *
 * For every KC deep slice of K: A's part is packed (rows along k, at a distance that spreads them
 * over the cache's sets; or, stored the other way, MR columns side by side). For every NR wide
 * panel of B: the panel is packed into L1, then blocks of MR rows of A pass by it, their MR x NR
 * sums in registers.
 */
#include <stdlib.h>
#include <string.h>

#include "autograd/kernels/gemm.h"
#include "autograd/kernels/rows.h"
#include "autograd/kernels/vec.h"

#if defined __AVX512F__ || defined __aarch64__
enum { MR = 8 }; /* 16 sums, 2 columns of B, in 32 registers */
#else
enum { MR = 6 }; /* 12 of 16 registers */
#endif
enum { NR = 2 * VF_N, KC = 256, MC = 256, ROW = KC + 16 };

/* panel [kc, NR] <- B [kc, n], zero-filled to NR columns. tb: b is stored [n, kc]. */
static void pack_panel(bool tb, const float *b, int64_t ldb, int64_t kc, int64_t n, float *panel)
{
    if (!tb) {
        for (int64_t k = 0; k < kc; k++)
            for (int64_t j = 0; j < NR; j += VF_N)
                vf_store(panel + k * NR + j, n - j >= VF_N
                                                 ? vf_load(b + k * ldb + j)
                                                 : vf_load_part(b + k * ldb + j, n - j, 0));
        return;
    }
    for (int64_t k = 0; k < kc; k += VF_N) {
        for (int64_t j = 0; j < NR; j += VF_N) {
            vf r[VF_N];
            for (int i = 0; i < VF_N; i++) {
                const float *x = b + (j + i) * ldb + k;
                r[i] = j + i >= n       ? vf_set(0)
                       : kc - k >= VF_N ? vf_load(x)
                                        : vf_load_part(x, kc - k, 0);
            }
            vf_transpose(r);
            for (int i = 0; i < VF_N && k + i < kc; i++)
                vf_store(panel + (k + i) * NR + j, r[i]);
        }
    }
}

/* a, in blocks [m / MR][kc][MR] <- A stored [kc, m], the last block zero-filled. */
static void pack_columns(const float *x, int64_t lda, int64_t kc, int64_t m, float *a)
{
    int64_t i = 0;
    for (; i + MR <= m; i += MR, a += kc * MR)
        for (int64_t k = 0; k < kc; k++)
            memcpy(a + k * MR, x + k * lda + i, MR * sizeof *a);
    for (int64_t k = 0; k < kc && i < m; k++)
        for (int64_t r = 0; r < MR; r++)
            a[k * MR + r] = i + r < m ? x[k * lda + i + r] : 0;
}

/* a [m, ROW] <- A stored [m, kc], the last rows repeated up to a multiple of MR. */
static void pack_rows(const float *x, int64_t lda, int64_t kc, int64_t m, float *a)
{
    for (int64_t i = 0; i < (m + MR - 1) / MR * MR; i++)
        memcpy(a + i * ROW, x + (i < m ? i : m - 1) * lda, (size_t)kc * sizeof *a);
}

/* C [m <= MR, n <= NR] (acc: +)= A panel; A(i,k) = a[i * row + k * step]. */
static inline __attribute__((always_inline)) void block(int64_t kc, const float *a, int64_t row,
                                                        int64_t step, const float *panel, bool acc,
                                                        float *c, int64_t ldc, int64_t m, int64_t n)
{
    vf s[MR][2];
    for (int i = 0; i < MR; i++)
        s[i][0] = s[i][1] = vf_set(0);
    for (int64_t k = 0; k < kc; k++, panel += NR) {
        const vf b0 = vf_load(panel), b1 = vf_load(panel + VF_N);
        for (int i = 0; i < MR; i++) {
            const vf x = vf_set(a[i * row + k * step]);
            s[i][0] = vf_fma(x, b0, s[i][0]);
            s[i][1] = vf_fma(x, b1, s[i][1]);
        }
    }
    for (int i = 0; i < MR && i < m; i++, c += ldc) {
        for (int h = 0; h < 2; h++) {
            const int64_t left = n - h * VF_N;
            float *y = c + h * VF_N;
            vf sum = s[i][h];
            if (left >= VF_N) {
                if (acc)
                    sum = sum + vf_load(y);
                vf_store(y, sum);
            } else if (left > 0) {
                if (acc)
                    sum = sum + vf_load_part(y, left, 0);
                vf_store_part(y, left, sum);
            }
        }
    }
}

/* One slice of K and one panel of B for all rows of C; a: packed. */
static void sweep(bool ta, int64_t M, int64_t kc, const float *a, const float *panel, bool acc,
                  float *c, int64_t ldc, int64_t n)
{
    for (int64_t i = 0; i < M; i += MR) {
        const int64_t m = M - i < MR ? M - i : MR;
        if (ta)
            block(kc, a + i * kc, 1, MR, panel, acc, c + i * ldc, ldc, m, n);
        else
            block(kc, a + i * ROW, ROW, 1, panel, acc, c + i * ldc, ldc, m, n);
    }
}

/* Rows of at most MC. */
static void rows_of_c(bool ta, bool tb, int64_t M, int64_t N, int64_t K, const float *A,
                      int64_t lda, const float *B, int64_t ldb, bool acc, float *C, int64_t ldc)
{
    static _Thread_local float panel[KC * NR] __attribute__((aligned(64)));
    static _Thread_local float a[ROW * (MC + MR)] __attribute__((aligned(64)));
    for (int64_t k0 = 0; k0 < K; k0 += KC) {
        const int64_t kc = K - k0 < KC ? K - k0 : KC;
        if (ta)
            pack_columns(A + k0 * lda, lda, kc, M, a);
        else
            pack_rows(A + k0, lda, kc, M, a);
        for (int64_t j = 0; j < N; j += NR) {
            const int64_t n = N - j < NR ? N - j : NR;
            pack_panel(tb, tb ? B + j * ldb + k0 : B + k0 * ldb + j, ldb, kc, n, panel);
            sweep(ta, M, kc, a, panel, acc || k0, C + j, ldc, n);
        }
    }
}

void GEMM_NAME(bool ta, bool tb, int64_t M, int64_t N, int64_t K, const float *A, int64_t lda,
               const float *B, int64_t ldb, bool acc, float *C, int64_t ldc)
{
    if (M == 1 && tb && !ta) { // a token's row: every weight is read once, packing costs as much
        for (int64_t j = 0; j < N; j++) {
            const float y = rows->dot(K, A, B + j * ldb);
            C[j] = acc ? C[j] + y : y;
        }
        return;
    }
    if (K < 1 && !acc)
        for (int64_t i = 0; i < M; i++)
            memset(C + i * ldc, 0, (size_t)N * sizeof *C);
    for (int64_t i = 0; i < M; i += MC)
        rows_of_c(ta, tb, M - i < MC ? M - i : MC, N, K, ta ? A + i : A + i * lda, lda, B, ldb, acc,
                  C + i * ldc, ldc);
}
