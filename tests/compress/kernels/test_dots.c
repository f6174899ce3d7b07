/* Products of blocks with encoded activations: the scalar reference against sums of decoded rows,
   within the rounding that its description implies; every other variant that runs here gives the
   reference's bits, for every format, for few and many rows and activations, odd numbers of both;
   nothing is written beside y. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/cpu.h"
#include "autograd/base/half.h"
#include "autograd/base/rng.h"
#include "compress/codecs/codecs.h"
#include "compress/codecs/grid.h"
#include "compress/kernels/dots.h"

#if defined __x86_64__
extern const struct dots dots_amx_emulated; /* emulated_avx512vnni.c */
#endif

static const struct {
    const struct dots *table;
    enum cpu_level needs;
} variants[] = {
#if defined __x86_64__
    {&dots_avx2, CPU_AVX2},
    {&dots_avx512vnni, CPU_AVX512_VNNI},
    {&dots_amx_emulated, CPU_AVX512_VNNI},
    {&dots_amx, CPU_AMX},
#elif defined __aarch64__
    {&dots_neondot, CPU_NEON_DOT},
#endif
    {&dots_scalar, CPU_SCALAR},
};
enum { VARIANTS = sizeof variants / sizeof *variants };

static const struct dtype *const formats[DOTS_N] = {
#define CODEC(stem, name, id, block, bytes) [DOTS_##stem] = &codecs_##stem,
#include "compress/codecs/codecs.def"
#undef CODEC
};

static const struct dots *variant(int i)
{
    if (cpu_hardware() >= variants[i].needs)
        return variants[i].table;
    print_message("this CPU has no %s: skipped\n", variants[i].table->name);
    return NULL;
}

/* Rows of random bytes: every code and every scale code occurs; d and dmin are about 2^-6. */
static struct tensor random_rows(const struct dtype *dt, int64_t rows, int64_t cols, uint64_t key)
{
    struct tensor t = {.dt = dt, .nd = 2, .dim = {rows, cols}};
    const size_t bytes = tensor_bytes(&t);
    uint8_t *data = malloc(bytes);
    for (size_t i = 0; i < bytes; i += 4) {
        uint32_t word[4];
        rng_block(key, 2, i, word);
        memcpy(data + i, word, bytes - i < 4 ? bytes - i : 4);
    }
    t.data = data;
    const struct grid *g = codecs_grid(dt);
    for (int64_t b = 0; b < tensor_numel(&t) / dt->block; b++) {
        void *block = data + b * dt->bytes;
        struct grid_scales s;
        g->get(block, &s);
        s.d = 0x1p-6f * (1 + (float)(b % 7) / 8);
        s.dmin = 0x1p-7f * (1 + (float)(b % 5) / 8);
        g->set(block, &s);
    }
    return t;
}

/* Rows of activations as dtype.product wants them. */
static struct act8 *activations(const struct dots *d, int64_t n, int64_t cols, const float *x)
{
    const int64_t groups = act8_groups(cols);
    struct act8 *a = aligned_alloc(64, (size_t)(n * groups) * sizeof *a);
    memset(a, 0, (size_t)(n * groups) * sizeof *a);
    for (int64_t i = 0; i < n; i++)
        d->encode(cols, x + i * cols, a + i * groups);
    return a;
}

static void multiply(const struct dots *d, int f, const struct tensor *t, const void *a, int64_t n,
                     float *y, int64_t ldy)
{
    const struct dots_job job = {.format = (enum dots_format)f,
                                 .w = t->data,
                                 .stride = tensor_row_bytes(t),
                                 .rows = tensor_rows(t),
                                 .cols = tensor_cols(t),
                                 .a = a,
                                 .n = n,
                                 .y = y,
                                 .ldy = ldy};
    d->fn[f](&job);
}

/* |y - sum of decoded weights times decoded activations| stays below the rounding of f32 sums. */
static void reference_case(int f, int64_t rows, int64_t cols, int64_t n)
{
    const struct dtype *dt = formats[f];
    const struct tensor t = random_rows(dt, rows, cols, 1);
    float *x = malloc((size_t)(n * cols) * sizeof *x), *w = malloc((size_t)cols * sizeof *w);
    float *y = malloc((size_t)(n * rows) * sizeof *y);
    rng_normal(3, 1, x, (size_t)(n * cols));
    struct act8 *a = activations(&dots_scalar, n, cols, x);
    multiply(&dots_scalar, f, &t, a, n, y, rows);
    for (int64_t r = 0; r < rows; r++) {
        dt->decode(&t, r, w);
        for (int64_t i = 0; i < n; i++) {
            double sum = 0, size = 0;
            for (int64_t c = 0; c < cols; c++) {
                const struct act8 *g = a + i * act8_groups(cols) + c / ACT8;
                const double e = (double)g->d * g->q[c % ACT8];
                sum += w[c] * e;
                size += fabs(w[c] * e);
            }
            // sums and mins by themselves are larger than their difference
            const double bound = 0x1p-20 * (4 * size + 1);
            if (!(fabs(y[i * rows + r] - sum) <= bound))
                fail_msg("%s, row %d of %d columns, activation %d: %.9g, not %.9g", dt->name,
                         (int)r, (int)cols, (int)i, (double)y[i * rows + r], sum);
        }
    }
    free(x);
    free(w);
    free(y);
    free(a);
    free(t.data);
}

static void test_reference(void **state)
{
    (void)state;
    for (int f = 0; f < DOTS_N; f++) {
        reference_case(f, 3, 512, 2);
        if (formats[f]->block == 32)
            reference_case(f, 2, 416, 2);
    }
}

/* Encoding is to the nearest of 127 steps of a group; sums are sums. */
static void test_encode(void **state)
{
    (void)state;
    enum { COLS = 600 };
    float x[COLS];
    struct act8 *a = aligned_alloc(64, 3 * sizeof *a), *b = aligned_alloc(64, 3 * sizeof *a);
    for (int round = 0; round < 4; round++) {
        rng_normal(7, (uint64_t)round, x, COLS);
        if (round == 1)
            memset(x, 0, sizeof x);
        if (round == 2)
            x[300] = INFINITY;
        if (round == 3)
            x[599] = 0x1p-110f, x[0] = -77;
        dots_scalar.encode(COLS, x, a);
        for (int i = 0; i < 3 * ACT8; i++) {
            const struct act8 *g = &a[i / ACT8];
            const float v = i < COLS ? x[i] : 0;
            assert_int_equal(g->u[i % ACT8], g->q[i % ACT8] + 128);
            if (round == 2 && i / ACT8 == 1)
                assert_true(isnan(g->d) && g->q[i % ACT8] == 0);
            else
                assert_true(fabsf(v - g->d * (float)g->q[i % ACT8]) <= 0.501f * g->d);
        }
        for (int k = 0; k < 3 * 16; k++) {
            int sum = 0;
            for (int i = 0; i < 16; i++)
                sum += a[k / 16].q[k % 16 * 16 + i];
            assert_int_equal(a[k / 16].sum[k % 16], sum);
        }
        for (int k = 0; k < 3 * 8; k++)
            assert_int_equal(a[k / 8].sum32[k % 8],
                             a[k / 8].sum[k % 8 * 2] + a[k / 8].sum[k % 8 * 2 + 1]);
        for (int i = 0; i < VARIANTS; i++) {
            const struct dots *d = variant(i);
            if (!d)
                continue;
            d->encode(COLS, x, b);
            for (int g = 0; g < 3; g++)
                assert_memory_equal(&a[g], &b[g], offsetof(struct act8, unused));
        }
    }
    free(a);
    free(b);
}

static void variant_case(const struct dots *d, int f, int64_t rows, int64_t cols, int64_t n)
{
    enum { BESIDE = 3 };
    const struct dtype *dt = formats[f];
    const struct tensor t = random_rows(dt, rows, cols, 5);
    const int64_t ldy = rows + BESIDE;
    const size_t bytes = (size_t)(n * ldy) * sizeof(float);
    float *x = malloc((size_t)(n * cols) * sizeof *x), *y = malloc(bytes), *z = malloc(bytes);
    rng_normal(6, 1, x, (size_t)(n * cols));
    struct act8 *a = activations(&dots_scalar, n, cols, x);
    memset(y, 0x55, bytes);
    memset(z, 0x55, bytes);
    multiply(&dots_scalar, f, &t, a, n, y, ldy);
    multiply(d, f, &t, a, n, z, ldy);
    if (memcmp(y, z, bytes))
        for (int64_t i = 0; i < n * ldy; i++)
            if (half_bits(y[i]) != half_bits(z[i]))
                fail_msg("%s, %s, %d rows of %d, %d activations: row %d, activation %d: %.9g, not "
                         "%.9g",
                         d->name, dt->name, (int)rows, (int)cols, (int)n, (int)(i % ldy),
                         (int)(i / ldy), (double)z[i], (double)y[i]);
    free(x);
    free(y);
    free(z);
    free(a);
    free(t.data);
}

static void test_variants(void **state)
{
    (void)state;
    static const struct {
        int64_t rows, n;
    } shapes[] = {{1, 1}, {4, 1}, {7, 1}, {3, 2}, {6, 3}, {5, 5}, {9, 7}, {37, 8}, {32, 45}};
    for (int v = 0; v < VARIANTS; v++) {
        const struct dots *d = variant(v);
        if (!d || d == &dots_scalar)
            continue;
        for (int f = 0; f < DOTS_N; f++) {
            for (size_t s = 0; d->fn[f] && s < sizeof shapes / sizeof *shapes; s++) {
                variant_case(d, f, shapes[s].rows, 768, shapes[s].n);
                if (formats[f]->block < 256)
                    variant_case(d, f, shapes[s].rows, 288, shapes[s].n);
            }
            if (d->fn[f] && formats[f]->block == 256)
                variant_case(d, f, 33, 256, 515);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_encode),
        cmocka_unit_test(test_variants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
