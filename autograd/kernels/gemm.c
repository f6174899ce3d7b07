#include "autograd/kernels/gemm.h"

#include <stdlib.h>
#include <strings.h>

#include "autograd/base/clock.h"
#include "autograd/base/cpu.h"
#include "autograd/base/err.h"
#include "autograd/base/mem.h"

gemm_fn *gemm_tile = gemm_portable;

/* Ours for a level, and whether it is the first choice there. */
struct own {
    gemm_fn *fn;
    const char *name;
    bool first;
};

static struct own own_gemm(enum cpu_level level)
{
#if defined __x86_64__
    if (level >= CPU_AVX512)
        return (struct own){gemm_avx512, "avx512", true};
    if (level >= CPU_AVX2)
        return (struct own){gemm_avx2, "avx2", false};
#elif defined __aarch64__
    if (level >= CPU_NEON)
        return (struct own){gemm_neon, "neon", true};
#endif
    return (struct own){gemm_portable, "portable", true};
}

__attribute__((constructor)) void gemm_choose(void)
{
    const struct own own = own_gemm(cpu_level());
    const char *asked = getenv("ATTAR_GEMM");
    bool blas = !own.first && gemm_blas_shares();
    if (asked && !strcasecmp(asked, "openblas"))
        blas = true;
    else if (asked && !strcasecmp(asked, "own"))
        blas = false;
    else if (asked && *asked)
        err_warn("ATTAR_GEMM=%s is not one of own, openblas: ignored", asked);
    if (blas && !gemm_blas)
        err_warn("ATTAR_GEMM=openblas: this program was built without it");
    gemm_tile = blas && gemm_blas ? gemm_blas : own.fn;
}

const char *gemm_describe(void)
{
    return gemm_tile == gemm_blas ? gemm_blas_name() : own_gemm(cpu_level()).name;
}

/* A tile is wide enough that packing the other operand for it costs little, and there are enough of
   them for the threads to share evenly: eight, of 128 to 256 rows, or more of 256. */
enum { TILE_MIN = 128, TILE_MAX = 256, TILES = 8, TILE_STEP = 16 };

static int64_t cut(int64_t n)
{
    const int64_t even = ((n + TILES - 1) / TILES + TILE_STEP - 1) / TILE_STEP * TILE_STEP;
    const int64_t tile = even < TILE_MIN ? TILE_MIN : even > TILE_MAX ? TILE_MAX : even;
    return tile < n ? tile : n;
}

struct gemm_tiles gemm_tiles(int64_t M, int64_t N)
{
    if (M < 1 || N < 1)
        return (struct gemm_tiles){.M = M, .N = N, .m = 1, .n = 1, .across = 1};
    struct gemm_tiles t = {.M = M, .N = N, .m = M, .n = N};
    // the longer side is cut: the other operand is then read once a tile
    if (M >= 2 * TILE_MIN)
        t.m = cut(M);
    else
        t.n = cut(N);
    t.across = (N + t.n - 1) / t.n;
    t.count = (M + t.m - 1) / t.m * t.across;
    return t;
}

struct gemm_span gemm_span(const struct gemm_tiles *t, int64_t i)
{
    struct gemm_span s = {.m0 = i / t->across * t->m, .n0 = i % t->across * t->n};
    s.m = t->M - s.m0 < t->m ? t->M - s.m0 : t->m;
    s.n = t->N - s.n0 < t->n ? t->N - s.n0 : t->n;
    return s;
}

void gemm(bool ta, bool tb, int64_t M, int64_t N, int64_t K, const float *A, int64_t lda,
          const float *B, int64_t ldb, bool acc, float *C, int64_t ldc)
{
    const struct gemm_tiles t = gemm_tiles(M, N);
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t i = 0; i < t.count; i++) {
        const struct gemm_span s = gemm_span(&t, i);
        gemm_tile(ta, tb, s.m, s.n, K, ta ? A + s.m0 : A + s.m0 * lda, lda,
                  tb ? B + s.n0 * ldb : B + s.n0, ldb, acc, C + s.m0 * ldc + s.n0, ldc);
    }
}

double gemm_peak(int64_t M, int64_t N, int64_t K, double seconds)
{
    float *a = mem_slab((size_t)(M * K), sizeof *a), *b = mem_slab((size_t)(K * N), sizeof *b);
    float *c = mem_slab((size_t)(M * N), sizeof *c);
    double best = 0;
    if (a && b && c) {
        for (int64_t i = 0; i < M * K; i++)
            a[i] = (float)(i % 7);
        for (int64_t i = 0; i < K * N; i++)
            b[i] = (float)(i % 5);
        const double end = clock_seconds() + seconds;
        for (double start = clock_seconds(); start < end;) {
            gemm(false, true, M, N, K, a, K, b, K, false, c, N);
            const double stop = clock_seconds(), rate = 2e-9 * (double)M * (double)N * (double)K;
            if (rate / (stop - start) > best)
                best = rate / (stop - start);
            start = stop;
        }
    }
    free(a);
    free(b);
    free(c);
    return best;
}
