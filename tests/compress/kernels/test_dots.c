/* Products of blocks with encoded activations: the scalar reference against sums of decoded rows,
   within the rounding that its description implies; every other variant that runs here gives the
   reference's bits, for every format, for few and many rows and activations, odd numbers of both;
   nothing is written beside y. An outlier among activations costs no more than the format's blocks
   allow. Every format has a product on every instruction set. */
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

/* Rows of activations as the product of format f wants them. */
static struct act8 *activations(const struct dots *d, int f, int64_t n, int64_t cols,
                                const float *x)
{
    const int64_t groups = act8_groups(cols);
    struct act8 *a = aligned_alloc(64, (size_t)(n * groups) * sizeof *a);
    memset(a, 0, (size_t)(n * groups) * sizeof *a);
    for (int64_t i = 0; i < n; i++)
        (formats[f]->block == 32 ? d->encode_32 : d->encode)(cols, x + i * cols, a + i * groups);
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
    float *e = malloc((size_t)cols * sizeof *e);
    float *y = malloc((size_t)(n * rows) * sizeof *y);
    rng_normal(3, 1, x, (size_t)(n * cols));
    struct act8 *a = activations(&dots_scalar, f, n, cols, x);
    const struct tensor acts = {.dt = dt->dot_with, .nd = 2, .dim = {n, cols}, .data = a};
    multiply(&dots_scalar, f, &t, a, n, y, rows);
    for (int64_t r = 0; r < rows; r++) {
        dt->decode(&t, r, w);
        for (int64_t i = 0; i < n; i++) {
            double sum = 0, size = 0;
            dt->dot_with->decode(&acts, i, e);
            for (int64_t c = 0; c < cols; c++) {
                sum += (double)w[c] * e[c];
                size += fabs((double)w[c] * e[c]);
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
    free(e);
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

/* Element i of three groups that were encoded from x: to the nearest of 127 steps of its scale; an
   infinite x spoils the n elements that share it. */
static void check_element(const struct act8 *a, int i, bool by_32, float v, int infinite)
{
    const struct act8 *g = &a[i / ACT8];
    const float d = by_32 ? g->d32[i % ACT8 / ACT8_RUN] : g->d;
    const int n = by_32 ? ACT8_RUN : ACT8;
    assert_int_equal(g->u[i % ACT8], g->q[i % ACT8] + 128);
    if (infinite >= 0 && i / n == infinite / n)
        assert_true(isnan(d) && g->q[i % ACT8] == 0);
    else
        assert_true(fabsf(v - d * (float)g->q[i % ACT8]) <= 0.501f * d);
}

/* Sums are sums; what every variant makes of x is `a` to the bit. */
static void check_groups(const struct act8 *a, struct act8 *b, bool by_32, int64_t cols,
                         const float *x)
{
    for (int k = 0; k < 3 * 16; k++) {
        int sum = 0, both = 0;
        for (int i = 0; i < 32; i++) {
            both += a[k / 16].q[k % 16 / 2 * 32 + i];
            sum += i < 16 ? a[k / 16].q[k % 16 * 16 + i] : 0;
        }
        if (!by_32)
            assert_int_equal(a[k / 16].sum[k % 16], sum);
        assert_int_equal(a[k / 16].sum32[k % 16 / 2], both);
    }
    for (int i = 0; i < VARIANTS; i++) {
        const struct dots *d = variant(i);
        if (!d)
            continue;
        (by_32 ? d->encode_32 : d->encode)(cols, x, b);
        for (int g = 0; g < 3; g++)
            assert_memory_equal(&a[g], &b[g], offsetof(struct act8, unused));
    }
}

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
        for (int by_32 = 0; by_32 < 2; by_32++) {
            (by_32 ? dots_scalar.encode_32 : dots_scalar.encode)(COLS, x, a);
            for (int i = 0; i < 3 * ACT8; i++)
                check_element(a, i, by_32, i < COLS ? x[i] : 0, round == 2 ? 300 : -1);
            check_groups(a, b, by_32, COLS, x);
        }
    }
    free(a);
    free(b);
}

/* One activation in 256 is 1,000 times the others, as in real models: what y is off by, by the
   dtypes' own encoding, is at most half a step of each run that shares a scale, times its weights:
   of 32 elements in formats whose blocks are of 32. */
static void test_outlier(void **state)
{
    (void)state;
    enum { COLS = 512 };
    float x[COLS], w[COLS];
    rng_normal(8, 1, x, COLS);
    x[70] = 1000, x[300] = -1000;
    for (int f = 0; f < DOTS_N; f++) {
        const struct dtype *dt = formats[f];
        const struct tensor t = random_rows(dt, 1, COLS, 9);
        struct tensor a = {.dt = dt->dot_with, .nd = 2, .dim = {1, COLS}};
        a.data = aligned_alloc(64, tensor_bytes(&a));
        a.dt->encode(&a, 0, x, NULL);
        float y;
        dt->product(&t, 0, 1, a.data, 1, &y, 1);
        dt->decode(&t, 0, w);
        double sum = 0, bound = 0, size = 0;
        for (int r = 0; r < COLS; r += dt->block) {
            double most = 0, weights = 0;
            for (int i = r; i < r + dt->block; i++) {
                sum += (double)w[i] * x[i];
                size += fabs((double)w[i] * x[i]);
                weights += fabs(w[i]);
                most = fmax(most, fabs(x[i]));
            }
            bound += most / 127 / 2 * weights;
        }
        if (!(fabs(y - sum) <= 1.001 * bound + 0x1p-20 * size))
            fail_msg("%s: %.9g, not %.9g: off by more than %.3g", dt->name, (double)y, sum, bound);
        free(a.data);
        free(t.data);
    }
}

/* Every format is multiplied, wherever a variant leaves it to the ones below: by the scalar
   reference, which has all. */
static void test_formats(void **state)
{
    (void)state;
    for (int f = 0; f < DOTS_N; f++) {
        assert_non_null(dots_scalar.fn[f]);
        assert_ptr_equal(formats[f]->product, dots_product);
    }
    for (int v = 0; v < VARIANTS; v++) {
        const struct dots *d = variants[v].table;
        while (d->below)
            d = d->below;
        assert_ptr_equal(d, &dots_scalar);
    }
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
    struct act8 *a = activations(&dots_scalar, f, n, cols, x);
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
            if (d->fn[f])
                variant_case(d, f, 33, 256, 515);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference), cmocka_unit_test(test_encode),
        cmocka_unit_test(test_outlier),   cmocka_unit_test(test_formats),
        cmocka_unit_test(test_variants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
