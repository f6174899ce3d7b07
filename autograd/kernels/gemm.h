/*
 * f32 matrix products. The work is cut into tiles by the shape alone, each tile is computed by one
 * thread in one call: the same bits for any number of threads.
 */
#ifndef ATTAR_AUTOGRAD_KERNELS_GEMM_H
#define ATTAR_AUTOGRAD_KERNELS_GEMM_H

#include <stdbool.h>
#include <stdint.h>

/* C [M,N] (acc: +)= op(A) [M,K] op(B) [K,N] on the calling thread; ta: A is stored [K,M], tb: B is
   stored [N,K]; ld*: floats from row to row as stored. */
typedef void gemm_fn(bool ta, bool tb, int64_t M, int64_t N, int64_t K, const float *A, int64_t lda,
                     const float *B, int64_t ldb, bool acc, float *C, int64_t ldc);

/* The one in use (gemm_choose()): ours with AVX-512 and NEON, OpenBLAS with AVX2, the portable one
   without vectors; ATTAR_GEMM=own|openblas decides otherwise. (On AVX-512 ours is a third faster
   than OpenBLAS 0.3.21; with AVX2 OpenBLAS's assembler is.) */
extern gemm_fn *gemm_tile;
gemm_fn gemm_portable;
extern gemm_fn *const gemm_blas; /* NULL in a build without OpenBLAS */

/* Can threads use OpenBLAS at once? Not its serial flavour: there gemm_blas lets them take turns,
   and is used only if asked for. */
bool gemm_blas_shares(void);

#if defined __x86_64__
gemm_fn gemm_avx2, gemm_avx512;
#elif defined __aarch64__
gemm_fn gemm_neon;
#endif

/* Runs before main; again after cpu_set_level(). */
void gemm_choose(void);

/* How C [M,N] is cut: tiles of m rows and n columns, the last ones smaller. */
struct gemm_tiles {
    int64_t M, N, m, n;
    int64_t across; /* tiles side by side */
    int64_t count;
};
struct gemm_tiles gemm_tiles(int64_t M, int64_t N);

/* Rows [m0, m0 + m) and columns [n0, n0 + n) of tile i. */
struct gemm_span {
    int64_t m0, m, n0, n;
};
struct gemm_span gemm_span(const struct gemm_tiles *t, int64_t i);

/* The whole product, by the team. Not to be called inside a parallel region. */
gemm_fn gemm;

/* For main, before anything else: picks the best OpenBLAS core where OpenBLAS 0.3.21 falls back to
   the slowest one on a CPU it does not know, and the wait policy of threads; both can need one
   re-execution of the program, which ends this call. What the user set (OPENBLAS_CORETYPE,
   OMP_WAIT_POLICY, GOMP_SPINCOUNT) is left alone. spin: how often threads look for work before they
   sleep, GEMM_SPIN unless there is a reason. A wrong result of a small self-test is an error:
   -1 with err() set. A library user calls gemm_repair() at most. */
enum { GEMM_SPIN = 1000 };
int gemm_init(char **argv, int spin);

/* The core check alone, of an OpenBLAS in use or not. 1: a better core is in use now; 0: nothing to
   do; -1: it is needed but this OpenBLAS cannot be switched while it runs (*want is then the value
   for OPENBLAS_CORETYPE). */
int gemm_repair(const char **want);

/* The one in use: "avx512", "OpenBLAS Haswell (pthread)", "portable", ... */
const char *gemm_describe(void);

/* "OpenBLAS Haswell (pthread)", whether it is in use or not; "none" in a build without. */
const char *gemm_blas_name(void);

/* GFLOP/s of `gemm` on m x n x k with all threads: the best of runs in about `seconds`. */
double gemm_peak(int64_t M, int64_t N, int64_t K, double seconds);

#endif
