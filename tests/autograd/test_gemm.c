/* Every f32 GEMM that runs here against sums in f64: all storage orders, odd shapes, rows that are
   longer than the matrix; the same bits for any number of threads; the change of OpenBLAS's core.
 */
#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <cmocka.h>

#include "autograd/base/cpu.h"
#include "autograd/base/rng.h"
#include "autograd/kernels/gemm.h"

#if defined __x86_64__ && !defined ATTAR_NO_BLAS
#include <cblas.h>
extern void gotoblas_dynamic_init(void) __attribute__((weak));
extern void gotoblas_dynamic_quit(void) __attribute__((weak));
#endif

static const struct {
    const char *name;
    gemm_fn *fn;
    enum cpu_level needs;
} kernels[] = {
    {"portable", gemm_portable, CPU_SCALAR},
#if defined __x86_64__
    {"avx2", gemm_avx2, CPU_AVX2},
    {"avx512", gemm_avx512, CPU_AVX512},
#elif defined __aarch64__
    {"neon", gemm_neon, CPU_NEON},
#endif
    {"openblas", NULL, CPU_SCALAR}, // gemm_blas: not a constant
};
enum { KERNELS = sizeof kernels / sizeof *kernels };

static gemm_fn *kernel(int i)
{
    if (cpu_hardware() < kernels[i].needs) {
        print_message("this CPU has no %s: skipped\n", kernels[i].name);
        return NULL;
    }
    if (!strcmp(kernels[i].name, "openblas") && !gemm_blas)
        print_message("built without OpenBLAS: skipped\n");
    return !strcmp(kernels[i].name, "openblas") ? gemm_blas : kernels[i].fn;
}

enum { GAP = 3 }; /* floats between rows */
static const float CANARY = -7654321;

/* A matrix of rows and columns as stored, not aligned, with a gap behind each row. */
struct matrix {
    int64_t rows, cols, ld;
    float *base, *x;
};

static struct matrix matrix_new(uint64_t key, int64_t rows, int64_t cols)
{
    struct matrix m = {rows, cols, cols + GAP, NULL, NULL};
    const size_t n = (size_t)(rows * m.ld + 1);
    m.base = malloc((n + GAP) * sizeof(float));
    m.x = m.base + 1;
    rng_normal(key, 1, m.base, n + GAP);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = cols; j < m.ld; j++)
            m.x[i * m.ld + j] = CANARY;
    return m;
}

static void matrix_free(struct matrix m)
{
    for (int64_t i = 0; i < m.rows; i++)
        for (int64_t j = m.cols; j < m.ld; j++)
            if (m.x[i * m.ld + j] != CANARY)
                fail_msg("gemm wrote behind row %d of %d", (int)i, (int)m.rows);
    free(m.base);
}

/* Element (i, j) of op(m). */
static float at(struct matrix m, bool turned, int64_t i, int64_t j)
{
    return turned ? m.x[j * m.ld + i] : m.x[i * m.ld + j];
}

static void product(const char *what, gemm_fn *fn, int order, bool acc, int64_t M, int64_t N,
                    int64_t K)
{
    const bool ta = order & 1, tb = order & 2;
    const struct matrix a = matrix_new(1, ta ? K : M, ta ? M : K);
    const struct matrix b = matrix_new(2, tb ? N : K, tb ? K : N);
    const struct matrix c = matrix_new(3, M, N), old = matrix_new(3, M, N);
    for (int64_t i = 0; i < M && !acc; i++)
        for (int64_t j = 0; j < N; j++)
            c.x[i * c.ld + j] = NAN; // must not be read
    fn(ta, tb, M, N, K, a.x, a.ld, b.x, b.ld, acc, c.x, c.ld);
    for (int64_t i = 0; i < M; i++)
        for (int64_t j = 0; j < N; j++) {
            double sum = acc ? old.x[i * old.ld + j] : 0, size = fabs(sum);
            for (int64_t k = 0; k < K; k++) {
                const double part = (double)at(a, ta, i, k) * at(b, tb, k, j);
                sum += part;
                size += fabs(part);
            }
            const double off = fabs(c.x[i * c.ld + j] - sum);
            if (!(off <= 4 * 0x1p-23 * size))
                fail_msg("%s: %d x %d x %d, order %d, acc %d: [%d,%d] is %g instead of %g", what,
                         (int)M, (int)N, (int)K, order, acc, (int)i, (int)j,
                         (double)c.x[i * c.ld + j], sum);
        }
    matrix_free(a), matrix_free(b), matrix_free(c), matrix_free(old);
}

static const int64_t shapes[][3] = {
    {1, 1, 1},    {1, 1, 300},   {1, 67, 40},  {67, 1, 40},    {2, 3, 0},     {0, 5, 4},
    {5, 0, 4},    {5, 7, 3},     {6, 32, 16},  {7, 33, 17},    {8, 31, 256},  {9, 16, 257},
    {13, 65, 48}, {64, 64, 64},  {63, 65, 64}, {37, 61, 93},   {128, 16, 8},  {129, 30, 70},
    {16, 129, 9}, {257, 20, 33}, {20, 300, 5}, {130, 140, 20}, {259, 3, 515}, {261, 34, 260},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static void kernel_is_right(void **state)
{
    const int which = *(const int *)*state;
    gemm_fn *const fn = kernel(which);
    if (!fn)
        skip();
    for (int s = 0; s < SHAPES; s++)
        for (int k = 0; k < 8; k++)
            product(kernels[which].name, fn, k & 3, k & 4, shapes[s][0], shapes[s][1],
                    shapes[s][2]);
}

/* gemm, which shares the tiles among threads, with each kernel. */
static void team_is_right(void **state)
{
    gemm_fn *const fn = kernel(*(const int *)*state), *const old = gemm_tile;
    const int threads = omp_get_max_threads();
    if (!fn)
        skip();
    gemm_tile = fn;
    for (int s = 0; s < SHAPES; s++)
        for (int order = 0; order < 4; order++) {
            const int64_t M = shapes[s][0], N = shapes[s][1], K = shapes[s][2];
            const struct matrix a = matrix_new(1, order & 1 ? K : M, order & 1 ? M : K);
            const struct matrix b = matrix_new(2, order & 2 ? N : K, order & 2 ? K : N);
            struct matrix first = {0};
            product("gemm", gemm, order, s & 1, M, N, K);
            for (int t = 1; t <= 3; t++) {
                const struct matrix c = matrix_new(3, M, N);
                omp_set_num_threads(t);
                gemm(order & 1, order & 2, M, N, K, a.x, a.ld, b.x, b.ld, true, c.x, c.ld);
                if (t == 1) {
                    first = c;
                    continue;
                }
                assert_memory_equal(first.x, c.x, (size_t)(M * c.ld) * sizeof(float));
                matrix_free(c);
            }
            matrix_free(first), matrix_free(a), matrix_free(b);
        }
    omp_set_num_threads(threads);
    gemm_tile = old;
}

/* The spans of a product's tiles cover it once. */
static void tiles_cover(void **state)
{
    static const int64_t sizes[] = {0, 1, 2, 63, 64, 65, 127, 128, 129, 200, 1023, 1025, 3000};
    enum { N_SIZES = sizeof sizes / sizeof *sizes };
    (void)state;
    for (int i = 0; i < N_SIZES * N_SIZES; i++) {
        const int64_t M = sizes[i / N_SIZES], N = sizes[i % N_SIZES];
        const struct gemm_tiles t = gemm_tiles(M, N);
        int64_t area = 0;
        for (int64_t k = 0; k < t.count; k++) {
            const struct gemm_span s = gemm_span(&t, k);
            assert_true(s.m > 0 && s.n > 0 && s.m0 >= 0 && s.n0 >= 0);
            assert_true(s.m0 % t.m == 0 && s.n0 % t.n == 0 && s.m0 + s.m <= M && s.n0 + s.n <= N);
            area += s.m * s.n;
        }
        assert_true(area == M * N);
    }
}

/* Level and environment choose. */
static void choice(void **state)
{
    (void)state;
    const enum cpu_level level = cpu_level();
    char *const asked = getenv("ATTAR_GEMM") ? strdup(getenv("ATTAR_GEMM")) : NULL;
    for (int l = CPU_SCALAR; l < CPU_LEVELS; l++) {
        cpu_set_level((enum cpu_level)l);
        setenv("ATTAR_GEMM", "own", 1);
        gemm_choose();
        assert_ptr_not_equal(gemm_tile, gemm_blas);
#if defined __x86_64__
        const enum cpu_level now = cpu_level();
        assert_ptr_equal(gemm_tile, now >= CPU_AVX512 ? gemm_avx512
                                    : now == CPU_AVX2 ? gemm_avx2
                                                      : gemm_portable);
#elif defined __aarch64__
        assert_ptr_equal(gemm_tile, cpu_level() >= CPU_NEON ? gemm_neon : gemm_portable);
#endif
        setenv("ATTAR_GEMM", "OpenBLAS", 1);
        gemm_choose();
        if (gemm_blas) {
            assert_ptr_equal(gemm_tile, gemm_blas);
            assert_string_equal(gemm_describe(), gemm_blas_name());
        }
        unsetenv("ATTAR_GEMM");
        gemm_choose();
        if (cpu_level() == CPU_SCALAR)
            assert_ptr_equal(gemm_tile, gemm_portable);
        assert_non_null(gemm_tile);
    }
    cpu_set_level(level);
    if (asked)
        setenv("ATTAR_GEMM", asked, 1);
    free(asked);
    gemm_choose();
}

#if defined __x86_64__ && !defined ATTAR_NO_BLAS
static void core_is(const char *name)
{
    setenv("OPENBLAS_CORETYPE", name, 1);
    gotoblas_dynamic_quit();
    gotoblas_dynamic_init();
    unsetenv("OPENBLAS_CORETYPE");
}

/* OpenBLAS on the core that it falls back to on a CPU it does not know. Last: it changes OpenBLAS
   for good. */
static void repair(void **state)
{
    const char *want;
    (void)state;
    if (!gemm_blas || !gotoblas_dynamic_init || !gotoblas_dynamic_quit || cpu_level() < CPU_AVX2) {
        print_message("OpenBLAS has one core here, or the level wants none: skipped\n");
        skip();
    }
    char *const asked = getenv("OPENBLAS_CORETYPE") ? strdup(getenv("OPENBLAS_CORETYPE")) : NULL;
    core_is("Prescott");
    assert_true(!strcasecmp(openblas_get_corename(), "Prescott"));
    product("Prescott", gemm_blas, 2, false, 37, 61, 93);
    setenv("OPENBLAS_CORETYPE", "Prescott", 1); // the user's wish
    assert_int_equal(gemm_repair(&want), 0);
    assert_true(!strcasecmp(openblas_get_corename(), "Prescott"));
    unsetenv("OPENBLAS_CORETYPE");
    assert_int_equal(gemm_repair(&want), 1);
    assert_string_equal(want, cpu_level() >= CPU_AVX512 ? "SKYLAKEX" : "HASWELL");
    assert_true(!strcasecmp(openblas_get_corename(), want));
    assert_null(getenv("OPENBLAS_CORETYPE"));
    for (int s = 0; s < SHAPES; s++)
        for (int k = 0; k < 8; k++)
            product(want, gemm_blas, k & 3, k & 4, shapes[s][0], shapes[s][1], shapes[s][2]);
    assert_int_equal(gemm_repair(&want), 0); // nothing left to do
    if (asked) {
        core_is(asked);
        setenv("OPENBLAS_CORETYPE", asked, 1);
    }
    free(asked);
}
#else
static void repair(void **state)
{
    (void)state;
    print_message("built without OpenBLAS, or without cores to choose from: skipped\n");
    skip();
}
#endif

int main(void)
{
    enum { ALL = 2 * KERNELS };
    static char names[ALL][32];
    static int which[ALL];
    struct CMUnitTest tests[ALL + 3] = {[ALL] = cmocka_unit_test(tiles_cover),
                                        cmocka_unit_test(choice),
                                        cmocka_unit_test(repair)};
    for (int i = 0; i < ALL; i++) {
        which[i] = i / 2;
        snprintf(names[i], sizeof names[i], "%s %s", kernels[i / 2].name, i & 1 ? "team" : "alone");
        tests[i] = (struct CMUnitTest){names[i], i & 1 ? team_is_right : kernel_is_right, NULL,
                                       NULL, &which[i]};
    }
    return cmocka_run_group_tests_name("gemm", tests, NULL, NULL);
}
