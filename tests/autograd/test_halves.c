/* Products of f16 and bf16 rows with f32: the scalar reference against sums in f64, every variant
   that runs here against the reference. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/cpu.h"
#include "autograd/base/rng.h"
#include "autograd/kernels/halves.h"

static const struct {
    halves_fn *fn;
    const char *name;
    enum cpu_level needs;
} variants[] = {
#if defined __x86_64__
    {halves_avx512, "avx512", CPU_AVX512},
    {halves_avx512vnni, "avx512_vnni", CPU_AVX512_VNNI},
#endif
    {halves_scalar, "scalar", CPU_SCALAR},
};
enum { VARIANTS = sizeof variants / sizeof *variants, BESIDE = 3 };

struct halves_case {
    struct halves_job job;
    float *x, *w; /* w: what the halves are */
    struct act16 *a;
    size_t bytes; /* of y */
};

static struct halves_case made(bool bf16, int64_t rows, int64_t cols, int64_t n)
{
    struct halves_case c = {.job = {.bf16 = bf16, .rows = rows, .cols = cols, .n = n}};
    const struct dtype *dt = bf16 ? &dtype_bf16 : &dtype_f16;
    struct tensor t = {.dt = dt, .nd = 2, .dim = {rows, cols}};
    c.x = malloc((size_t)(n * cols) * sizeof *c.x);
    c.w = malloc((size_t)(rows * cols) * sizeof *c.w);
    rng_normal(1, 1, c.x, (size_t)(n * cols));
    rng_normal(2, 1, c.w, (size_t)(rows * cols));
    t.data = malloc(tensor_bytes(&t));
    for (int64_t r = 0; r < rows; r++) {
        dt->encode(&t, r, c.w + r * cols, NULL);
        dt->decode(&t, r, c.w + r * cols);
    }
    c.job.w = t.data;
    c.job.stride = tensor_row_bytes(&t);
    struct tensor a = {.dt = &act16_dtype, .nd = 2, .dim = {n, cols}};
    a.data = c.a = aligned_alloc(64, tensor_bytes(&a));
    for (int64_t i = 0; i < n; i++)
        act16_dtype.encode(&a, i, c.x + i * cols, NULL);
    c.job.a = c.a;
    c.job.ldy = rows + BESIDE;
    c.bytes = (size_t)(n * c.job.ldy) * sizeof(float);
    return c;
}

static void dropped(struct halves_case *c)
{
    free((void *)(uintptr_t)c->job.w);
    free(c->x);
    free(c->w);
    free(c->a);
}

/* What element k of x [n] may be off by as an integer of 14 bits. */
static double half_step(const float *x, int64_t k, int64_t n)
{
    double most = 0;
    for (int64_t i = k / ACT16_RUN * ACT16_RUN; i < n && i / ACT16_RUN == k / ACT16_RUN; i++)
        most = fmax(most, fabs((double)x[i]));
    return 0.5 * most / ACT16_TOP;
}

static void check(const char *name, const struct halves_case *c, halves_fn *fn)
{
    struct halves_job j = c->job;
    float *y = malloc(c->bytes), *z = malloc(c->bytes);
    memset(y, 0x55, c->bytes);
    memset(z, 0x55, c->bytes);
    j.y = y;
    halves_scalar(&j);
    j.y = z;
    fn(&j);
    for (int64_t i = 0; i < j.n; i++) {
        for (int64_t r = 0; r < j.rows; r++) {
            const float *w = c->w + r * j.cols, *x = c->x + i * j.cols;
            double sum = 0, size = 0, steps = 0;
            for (int64_t k = 0; k < j.cols; k++) {
                const double p = (double)w[k] * (double)x[k];
                sum += p;
                size += fabs(p);
                steps += fabs((double)w[k]) * half_step(x, k, j.cols) +
                         (fabs((double)x[k]) + half_step(x, k, j.cols)) * half_step(w, k, j.cols);
            }
            const float v = z[i * j.ldy + r];
            const double rounding = 0x1p-24 * (double)(j.cols / 16 + 6) * size;
            if (!(fabs(v - sum) <= rounding + (j.n >= HALVES_MANY ? 1.001 * steps : 0)))
                fail_msg("%s, %d rows of %d, row %d, activation %d: %.9g, not %.9g", name,
                         (int)j.rows, (int)j.cols, (int)r, (int)i, (double)v, sum);
        }
        assert_memory_equal(z + i * j.ldy + j.rows, y + i * j.ldy + j.rows, BESIDE * sizeof(float));
    }
    if (j.n < HALVES_MANY)
        assert_memory_equal(y, z, c->bytes);
    free(y);
    free(z);
}

static void test_variants(void **state)
{
    (void)state;
    static const struct {
        int64_t rows, cols, n;
    } shapes[] = {{1, 1, 1},  {4, 64, 1},    {7, 77, 2},   {9, 256, 3},
                  {5, 40, 5}, {33, 300, 33}, {40, 64, 37}, {3, 512, 515}};
    for (int v = 0; v < VARIANTS; v++) {
        if (cpu_hardware() < variants[v].needs) {
            print_message("this CPU has no %s: skipped\n", variants[v].name);
            continue;
        }
        for (size_t s = 0; s < 2 * (sizeof shapes / sizeof *shapes); s++) {
            struct halves_case c =
                made(s % 2, shapes[s / 2].rows, shapes[s / 2].cols, shapes[s / 2].n);
            check(variants[v].name, &c, variants[v].fn);
            dropped(&c);
        }
    }
}

/* Every run to the nearest of its steps; a run with what is not finite is NaN; the same bits from
   the variant in use. */
static void test_encode(void **state)
{
    (void)state;
    enum { COLS = 300, GROUPS = 2 };
    float x[COLS];
    rng_normal(5, 1, x, COLS);
    x[40] = INFINITY;
    memset(x + 64, 0, 32 * sizeof *x);
    struct act16 *a = aligned_alloc(64, GROUPS * sizeof *a);
    struct act16 *b = aligned_alloc(64, GROUPS * sizeof *b);
    halves_encode_scalar(COLS, x, a);
    halves_encode(COLS, x, b);
    for (int i = 0; i < GROUPS * ACT16; i++) {
        const struct act16 *g = &a[i / ACT16];
        const float v = i < COLS ? x[i] : 0, d = g->d[i % ACT16 / ACT16_RUN];
        assert_int_equal(isnan(d), i / ACT16_RUN == 1);
        if (!isnan(d))
            assert_true(fabsf(v - d * g->q[i % ACT16]) <= 0.501f * d);
        assert_memory_equal(&g->x[i % ACT16], &v, sizeof v);
    }
    for (int g = 0; g < GROUPS; g++)
        assert_memory_equal(&a[g], &b[g], offsetof(struct act16, unused));
    free(a);
    free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_variants),
                                       cmocka_unit_test(test_encode)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
