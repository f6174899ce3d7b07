/* The reference for bf16 products, in portable C. */
#include <math.h>
#include <string.h>

#include "autograd/kernels/gemm_bf16.h"
#include "autograd/kernels/rows.h"

static float widen(uint16_t h)
{
    float x;
    rows_scalar.widen(1, &h, &x);
    return x;
}

static float sum_of(const struct gemm_term *t, int64_t i, int64_t j)
{
    const int64_t depth = gemm_term_depth(t);
    const uint16_t *b = t->panels + j / PANEL * depth * PANEL + j % PANEL * 2;
    const uint16_t *a = t->A + i * t->lda;
    float sum = 0;
    for (int64_t k = 0; k < t->K; k++)
        sum = fmaf(widen(a[k]), widen(b[k / 2 * PANEL * 2 + k % 2]), sum);
    return sum;
}

static void tile(int64_t M, int64_t n0, int64_t n, int n_terms, const struct gemm_term *term,
                 const struct gemm_out *out)
{
    for (int64_t i = 0; i < M; i++) {
        for (int64_t j = n0; j < n0 + n; j++) {
            const int64_t at = i * out->ldc + j;
            float sum = 0;
            for (int t = 0; t < n_terms; t++)
                sum += sum_of(&term[t], i, j);
            sum += (out->add ? out->add[at] : 0) + (out->bias ? out->bias[j] : 0);
            if (out->bf16)
                rows_scalar.narrow(1, &sum, (uint16_t *)out->c + at);
            else
                ((float *)out->c)[at] = sum;
        }
    }
}

static uint16_t element(const void *B, bool bf16, int64_t at)
{
    uint16_t h;
    if (bf16)
        return ((const uint16_t *)B)[at];
    rows_scalar.narrow(1, (const float *)B + at, &h);
    return h;
}

static void pack(bool tb, const void *B, bool bf16, int64_t ldb, int64_t K, int64_t N, int64_t p0,
                 int64_t p1, uint16_t *panels)
{
    const int64_t depth = panel_depth(K);
    for (int64_t j = p0 * PANEL; j < p1 * PANEL; j++) {
        uint16_t *to = panels + j / PANEL * depth * PANEL + j % PANEL * 2;
        for (int64_t k = 0; k < depth; k++)
            to[k / 2 * PANEL * 2 + k % 2] =
                k < K && j < N ? element(B, bf16, tb ? j * ldb + k : k * ldb + j) : 0;
    }
}

static void turn(const uint16_t *B, int64_t ldb, int64_t K, int64_t m0, int64_t m1, uint16_t *A,
                 int64_t lda)
{
    for (int64_t m = m0; m < m1; m++)
        for (int64_t k = 0; k < panel_depth(K); k++)
            A[m * lda + k] = k < K ? B[k * ldb + m] : 0;
}

const struct gemm_bf16 gemm_bf16_scalar = {"scalar", tile, pack, turn};
