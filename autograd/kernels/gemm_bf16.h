/*
 * Matrix products of bf16 with sums in f32: C = A B. A is rows of bf16, as activations lie in
 * memory. B is packed: panels of PANEL columns, rows in interleaved pairs, as the bf16 units of
 * AVX-512 and AMX read it. The order of a sum depends on shapes alone: the same bits for any number
 * of threads.
 *
 * Every variant takes products of pairs exactly and adds them in f32; AVX512-BF16 and AMX flush
 * subnormals to zero and round between the two additions of a pair in their own ways.
 */
#ifndef ATTAR_AUTOGRAD_KERNELS_GEMM_BF16_H
#define ATTAR_AUTOGRAD_KERNELS_GEMM_BF16_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PANEL = 32, PANEL_K = 32 };

/* B [K,N]: ceil(N / PANEL) panels, each [depth / 2][PANEL][2] with depth = K rounded up to PANEL_K;
   rows behind K and columns behind N are zero. */
static inline int64_t panel_depth(int64_t K)
{
    return (K + PANEL_K - 1) / PANEL_K * PANEL_K;
}
static inline int64_t panel_count(int64_t N)
{
    return (N + PANEL - 1) / PANEL;
}
static inline int64_t panels_numel(int64_t K, int64_t N)
{
    return panel_depth(K) * panel_count(N) * PANEL;
}

/* A weight [O,I] packed for y = x w^T (B [I,O]). For dx = dy w (B [O,I]) it is packed anew when it
   is needed, from these panels (`repack`): a second copy costs more memory than that costs time. */
struct panels {
    uint16_t *forward;
};

/* A summand of a product: A [M,K], lda elements from row to row; panels: from B's column 0. For a
   part of B's rows, from an even row k0 on: panels + k0 * PANEL, and the whole panel's depth. */
struct gemm_term {
    const uint16_t *A;
    int64_t lda;
    const uint16_t *panels;
    int64_t K;
    int64_t depth; /* 0: panel_depth(K) */
    bool a_packed; /* A's rows are columns of panels, as `pack` makes them, lda deep; of all terms
                      or none, and only where the table takes it */
};
static inline int64_t gemm_term_depth(const struct gemm_term *t)
{
    return t->depth ? t->depth : panel_depth(t->K);
}

/* Where the result goes: C [M,N] (add: + add [M,N] in f32; C itself is allowed) (bias: + bias [N]).
   ldc: elements from row to row of c and of add. */
struct gemm_out {
    void *c;
    int64_t ldc;
    bool bf16; /* c is bf16, otherwise f32 */
    const float *add, *bias;
};

enum { GEMM_TERMS = 4 };

struct gemm_bf16 {
    const char *name;
    /* Columns [n0, n0 + n) of C [M,.], the sum of the terms; n0 is a multiple of PANEL. c, add and
       bias point to column 0. A may be read up to row M, column K rounded up to 2. */
    void (*tile)(int64_t M, int64_t n0, int64_t n, int n_terms, const struct gemm_term *term,
                 const struct gemm_out *out);
    /* Panels [p0, p1) of B stored [K,N] (tb: [N,K]), ldb elements from row to row. B is f32 or
       bf16; f32 is rounded to nearest even: the same bits from every variant. */
    void (*pack)(bool tb, const void *B, bool bf16, int64_t ldb, int64_t K, int64_t N, int64_t p0,
                 int64_t p1, uint16_t *panels);
    /* Columns [m0, m1) of B [K,M] (bf16, ldb) become rows of A [M, lda] (lda >= panel_depth(K)),
       zero behind K up to its depth. */
    void (*turn)(const uint16_t *B, int64_t ldb, int64_t K, int64_t m0, int64_t m1, uint16_t *A,
                 int64_t lda);
    /* Panels [p0, p1) of w as B [O,I], from all panels of w as B [I,O]. */
    void (*repack)(const uint16_t *forward, int64_t O, int64_t I, int64_t p0, int64_t p1,
                   uint16_t *panels);
    bool a_packed; /* terms with a packed A are taken */
};

/* Columns [m0, m1) of B [K,.] (bf16, ldb) as the A of a term, K tokens deep, in the form that the
   variant in use reads fastest: made in A, which has room for gemm_columns_numel(). */
struct gemm_term gemm_columns(const uint16_t *B, int64_t ldb, int64_t K, int64_t m0, int64_t m1,
                              uint16_t *A);
int64_t gemm_columns_numel(int64_t K, int64_t columns);

/* The one in use; chosen before main by cpu_level(), again by gemm_bf16_choose(). */
extern const struct gemm_bf16 *gemm_bf16;
void gemm_bf16_choose(void);

/* Does the CPU multiply bf16 by itself? What `precision: auto` asks. */
bool gemm_bf16_native(void);

/* GFLOP/s of m x n x k with all threads: the best of runs in about `seconds`; 0 if memory is short.
 */
double gemm_bf16_peak(int64_t M, int64_t N, int64_t K, double seconds);

extern const struct gemm_bf16 gemm_bf16_scalar;
#if defined __x86_64__
extern const struct gemm_bf16 gemm_bf16_avx2, gemm_bf16_avx512, gemm_bf16_avx512bf16, gemm_bf16_amx;
#elif defined __aarch64__
extern const struct gemm_bf16 gemm_bf16_neon, gemm_bf16_neonbf16;
#endif

#endif
