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

/* Where element (k, j) of panels of this depth is. */
static int64_t panel_at(int64_t depth, int64_t k, int64_t j)
{
    return j / PANEL * depth * PANEL + k / 2 * PANEL * 2 + j % PANEL * 2 + k % 2;
}

static float sum_of(const struct gemm_term *t, int64_t i, int64_t j)
{
    const int64_t depth = gemm_term_depth(t);
    const uint16_t *b = t->panels + panel_at(depth, 0, j);
    const uint16_t *a = t->A + (t->a_packed ? panel_at(t->lda, 0, i) : i * t->lda);
    float sum = 0;
    for (int64_t k = 0; k < t->K; k++)
        sum = fmaf(widen(a[t->a_packed ? panel_at(0, k, 0) : k]), widen(b[panel_at(0, k, 0)]), sum);
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
        for (int64_t k = 0; k < depth; k++)
            panels[panel_at(depth, k, j)] =
                k < K && j < N ? element(B, bf16, tb ? j * ldb + k : k * ldb + j) : 0;
    }
}

static void repack(const uint16_t *forward, int64_t O, int64_t I, int64_t p0, int64_t p1,
                   uint16_t *panels)
{
    for (int64_t i = p0 * PANEL; i < p1 * PANEL; i++)
        for (int64_t o = 0; o < panel_depth(O); o++)
            panels[panel_at(panel_depth(O), o, i)] = forward[panel_at(panel_depth(I), i, o)];
}

static void turn(const uint16_t *B, int64_t ldb, int64_t K, int64_t m0, int64_t m1, uint16_t *A,
                 int64_t lda)
{
    for (int64_t m = m0; m < m1; m++)
        for (int64_t k = 0; k < panel_depth(K); k++)
            A[m * lda + k] = k < K ? B[k * ldb + m] : 0;
}

const struct gemm_bf16 gemm_bf16_scalar = {"scalar", tile, pack, turn, repack, true};
