/* f32 GEMM through OpenBLAS: which core it uses, how many threads, and is it right. Built with
   ATTAR_NO_BLAS there is none. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "autograd/base/cpu.h"
#include "autograd/base/err.h"
#include "autograd/kernels/gemm.h"

#if defined ATTAR_NO_BLAS

gemm_fn *const gemm_blas = NULL;

bool gemm_blas_shares(void)
{
    return false;
}

int gemm_repair(const char **want)
{
    *want = NULL;
    return 0;
}

const char *gemm_blas_name(void)
{
    return "none";
}

#else

#include <cblas.h>

// not in cblas.h; present in builds that choose their kernels at run time
extern void gotoblas_dynamic_init(void) __attribute__((weak));
extern void gotoblas_dynamic_quit(void) __attribute__((weak));

bool gemm_blas_shares(void)
{
    return openblas_get_parallel() != OPENBLAS_SEQUENTIAL;
}

static void product(bool ta, bool tb, int64_t M, int64_t N, int64_t K, const float *A, int64_t lda,
                    const float *B, int64_t ldb, bool acc, float *C, int64_t ldc)
{
    const CBLAS_TRANSPOSE at = ta ? CblasTrans : CblasNoTrans, bt = tb ? CblasTrans : CblasNoTrans;
    if (M == 1 && tb) // a token's row: every weight is read once, packing it would cost as much
        cblas_sgemv(CblasRowMajor, CblasNoTrans, (blasint)N, (blasint)K, 1, B, (blasint)ldb, A,
                    ta ? (blasint)lda : 1, acc ? 1 : 0, C, 1);
    else
        cblas_sgemm(CblasRowMajor, at, bt, (blasint)M, (blasint)N, (blasint)K, 1, A, (blasint)lda,
                    B, (blasint)ldb, acc ? 1 : 0, C, (blasint)ldc);
}

/* The serial flavour is built without locks: two calls at once overwrite each other's buffers. */
static void blas(bool ta, bool tb, int64_t M, int64_t N, int64_t K, const float *A, int64_t lda,
                 const float *B, int64_t ldb, bool acc, float *C, int64_t ldc)
{
    static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
    const bool alone = !gemm_blas_shares();
    if (alone)
        pthread_mutex_lock(&turn);
    product(ta, tb, M, N, K, A, lda, B, ldb, acc, C, ldc);
    if (alone)
        pthread_mutex_unlock(&turn);
}

gemm_fn *const gemm_blas = blas;

/* A pthread OpenBLAS must not start a team of its own under ours. The openmp flavour is serial
   inside our regions by itself, and setting its threads would shrink our team as well. */
__attribute__((constructor)) static void one_thread(void)
{
    if (openblas_get_parallel() == OPENBLAS_THREAD)
        openblas_set_num_threads(1);
}

int gemm_repair(const char **want)
{
    int forbidden = 0;
    *want = NULL;
#if defined __x86_64__
    const enum cpu_level level = cpu_level();
    *want = level >= CPU_AVX512 ? "SKYLAKEX" : level >= CPU_AVX2 ? "HASWELL" : NULL;
    forbidden = level == CPU_AVX2 && cpu_hardware() > CPU_AVX2;
#endif
    const char *have = openblas_get_corename();
    // only the known bad fallback is replaced, and what ATTAR_CPU forbids
    if (!*want || getenv("OPENBLAS_CORETYPE") || !strcasecmp(have, *want) ||
        (strcasecmp(have, "Prescott") && !forbidden))
        return 0;
    if (!gotoblas_dynamic_init || !gotoblas_dynamic_quit)
        return -1;
    if (setenv("OPENBLAS_CORETYPE", *want, 1))
        return -1;
    gotoblas_dynamic_quit();
    gotoblas_dynamic_init();
    unsetenv("OPENBLAS_CORETYPE");
    one_thread();
    return strcasecmp(openblas_get_corename(), *want) ? -1 : 1;
}

const char *gemm_blas_name(void)
{
    static char text[96];
    static const char *const flavour[] = {"serial", "pthread", "openmp"};
    const int parallel = openblas_get_parallel();
    snprintf(text, sizeof text, "OpenBLAS %s (%s)", openblas_get_corename(),
             parallel >= 0 && parallel < 3 ? flavour[parallel] : "unknown threading");
    return text;
}

#endif

/* Odd shapes in all four storage orders against the portable GEMM, about a millisecond. */
static int self_test(void)
{
    enum { M = 37, N = 61, K = 93, MAX = K * N };
    static float a[MAX], b[MAX], c[M * N], d[M * N];
    for (int i = 0; i < MAX; i++) {
        a[i] = (float)((i * 37) % 101 - 50) / 64;
        b[i] = (float)((i * 53) % 97 - 48) / 64;
    }
    for (int t = 0; t < 4; t++) {
        const bool ta = t & 1, tb = t & 2;
        const int64_t lda = ta ? M : K, ldb = tb ? K : N;
        gemm_blas(ta, tb, M, N, K, a, lda, b, ldb, false, c, N);
        gemm_portable(ta, tb, M, N, K, a, lda, b, ldb, false, d, N);
        for (int i = 0; i < M * N; i++)
            if (!(fabsf(c[i] - d[i]) <= 1e-4f))
                return err("%s computes wrong products here: ATTAR_GEMM=own does without it",
                           gemm_blas_name());
    }
    return 0;
}

/* libgomp reads its environment when it is loaded, hence the re-execution. Threads that spin while
   they wait make a busy machine 5-15 times slower; those that always sleep halve the speed of
   generation, whose parallel regions are shorter than waking up. So they spin, GEMM_SPIN for some
   10 us. */
static void exec_with(const char *name, const char *value, char **argv, int spin)
{
    char count[16];
    if (getenv("ATTAR_EXECED"))
        return; // once: whatever the outcome
    snprintf(count, sizeof count, "%d", spin);
    const bool waits = getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT");
    // an environment that lacks any of this would make the new program execute itself again
    if (setenv("ATTAR_EXECED", "1", 1) || (name && setenv(name, value, 1)) ||
        (!waits && (setenv("OMP_WAIT_POLICY", "passive", 1) ||
                    setenv("GOMP_SPINCOUNT", count, 1)))) // libgomp prefers it to the policy
        return;
    execv("/proc/self/exe", argv);
}

int gemm_init(char **argv, int spin)
{
    const char *want = NULL;
    const int repaired = gemm_tile == gemm_blas ? gemm_repair(&want) : 0;
    if (repaired < 0)
        exec_with("OPENBLAS_CORETYPE", want, argv, spin);
    if (!getenv("OMP_WAIT_POLICY") && !getenv("GOMP_SPINCOUNT"))
        exec_with(NULL, NULL, argv, spin);
    if (repaired < 0)
        err_warn("%s is a slow core here; `export OPENBLAS_CORETYPE=%s` mends that",
                 gemm_blas_name(), want);
    return gemm_tile == gemm_blas ? self_test() : 0;
}
