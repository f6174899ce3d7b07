/* Every variant of the bf16 products that runs here against the scalar one: packing and turning bit
   for bit, products within the rounding of f32 sums; odd shapes, several terms, parts of a panel's
   depth, everything that may be added; nothing written beside C. */
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
#include "autograd/kernels/gemm_bf16.h"
#include "autograd/kernels/rows.h"

#if defined __x86_64__
extern const struct gemm_bf16 gemm_bf16_amx_emulated; /* emulated_avx512bf16.c */
#endif

static const struct {
    const struct gemm_bf16 *table;
    enum cpu_level needs;
} variants[] = {
#if defined __x86_64__
    {&gemm_bf16_avx2, CPU_AVX2},
    {&gemm_bf16_avx512, CPU_AVX512},
    {&gemm_bf16_avx512bf16, CPU_AVX512_BF16},
    {&gemm_bf16_amx_emulated, CPU_AVX512_BF16},
    {&gemm_bf16_amx, CPU_AMX},
#elif defined __aarch64__
    {&gemm_bf16_neon, CPU_NEON},
    {&gemm_bf16_neonbf16, CPU_NEON_BF16},
#endif
    {&gemm_bf16_scalar, CPU_SCALAR},
};
enum { VARIANTS = sizeof variants / sizeof *variants, GAP = 6 };

static const struct gemm_bf16 *variant(int i)
{
    if (cpu_hardware() >= variants[i].needs)
        return variants[i].table;
    print_message("this CPU has no %s: skipped\n", variants[i].table->name);
    return NULL;
}

/* n draws that bf16 holds; normal ones only, as the units flush others. */
static uint16_t *halves(uint64_t key, int64_t n)
{
    float *x = malloc((size_t)n * sizeof *x);
    uint16_t *h = malloc((size_t)n * sizeof *h);
    rng_normal(key, 1, x, (size_t)n);
    rows_scalar.narrow(n, x, h);
    free(x);
    return h;
}

static void *clone(const void *p, size_t bytes)
{
    return memcpy(malloc(bytes), p, bytes);
}

/* ---- packing ---- */

static void pack_case(const struct gemm_bf16 *g, int64_t K, int64_t N)
{
    const size_t bytes = (size_t)panels_numel(K, N) * sizeof(uint16_t);
    for (int order = 0; order < 4; order++) {
        const bool tb = order & 1, bf16 = order & 2;
        const int64_t ldb = (tb ? K : N) + GAP, n = (tb ? N : K) * ldb;
        uint16_t *h = halves(1, n);
        float *x = malloc((size_t)n * sizeof *x);
        rng_normal(2, 1, x, (size_t)n); // f32 that are to be rounded, NaN and infinity among them
        x[0] = NAN;
        x[n / 2] = -INFINITY;
        const void *B = bf16 ? (const void *)h : x;
        uint16_t *want = malloc(bytes), *got = malloc(bytes);
        memset(got, 0x55, bytes);
        gemm_bf16_scalar.pack(tb, B, bf16, ldb, K, N, 0, panel_count(N), want);
        for (int64_t p = panel_count(N) - 1; p >= 0; p--)
            g->pack(tb, B, bf16, ldb, K, N, p, p + 1, got);
        assert_memory_equal(want, got, bytes);
        free(h), free(x), free(want), free(got);
    }
}

static void turn_case(const struct gemm_bf16 *g, int64_t K, int64_t M)
{
    const int64_t ldb = M + GAP, lda = panel_depth(K) + GAP;
    const size_t bytes = (size_t)(M * lda) * sizeof(uint16_t);
    uint16_t *B = halves(3, K * ldb), *want = malloc(bytes), *got = malloc(bytes);
    memset(want, 0x55, bytes);
    memset(got, 0x55, bytes);
    gemm_bf16_scalar.turn(B, ldb, K, 0, M, want, lda);
    g->turn(B, ldb, K, M / 3, M, got, lda);
    g->turn(B, ldb, K, 0, M / 3, got, lda);
    assert_memory_equal(want, got, bytes);
    free(B), free(want), free(got);
}

/* From the panels of w as B [I,O] those of w as B [O,I], as if packed from w. */
static void repack_case(const struct gemm_bf16 *g, int64_t O, int64_t I)
{
    const size_t bytes = (size_t)panels_numel(O, I) * sizeof(uint16_t);
    uint16_t *w = halves(4, O * I), *want = malloc(bytes), *got = malloc(bytes);
    uint16_t *forward = malloc((size_t)panels_numel(I, O) * sizeof *forward);
    memset(got, 0x55, bytes);
    gemm_bf16_scalar.pack(true, w, true, I, I, O, 0, panel_count(O), forward);
    gemm_bf16_scalar.pack(false, w, true, I, O, I, 0, panel_count(I), want);
    for (int64_t p = panel_count(I) - 1; p >= 0; p--)
        g->repack(forward, O, I, p, p + 1, got);
    assert_memory_equal(want, got, bytes);
    free(w), free(want), free(got), free(forward);
}

static void packs(void **state)
{
    static const int64_t shapes[][2] = {{1, 1}, {2, 32}, {31, 33}, {32, 64}, {65, 31}, {100, 70}};
    (void)state;
    for (int v = 0; v < VARIANTS; v++)
        for (size_t i = 0; variant(v) && i < sizeof shapes / sizeof *shapes; i++) {
            pack_case(variant(v), shapes[i][0], shapes[i][1]);
            turn_case(variant(v), shapes[i][0], shapes[i][1]);
            repack_case(variant(v), shapes[i][0], shapes[i][1]);
        }
}

/* ---- products ---- */

struct product {
    int64_t M, N, K[GEMM_TERMS];
    int n_terms;
    int64_t n0, n;        /* columns that are asked for; n 0: all */
    int64_t part;         /* of the first term's depth, an even number: left out at its beginning */
    bool bf16, add, bias; /* of the result */
    bool a_packed;
};

static const struct product products[] = {
    {1, 1, {2}, 1, 0, 0, 0, false, false, false, false},
    {1, 32, {32}, 1, 0, 0, 0, true, false, false, false},
    {13, 33, {34}, 1, 0, 0, 0, true, false, true, false},
    {16, 64, {64, 30}, 2, 0, 0, 0, false, true, false, false},
    {20, 70, {100, 32, 64}, 3, 0, 0, 0, true, true, true, false},
    {25, 100, {128}, 1, 32, 40, 0, false, false, true, false},  // some columns
    {9, 48, {96, 64}, 2, 0, 0, 34, false, false, false, false}, // a part of the depth
    {64, 64, {96}, 1, 0, 0, 0, true, false, true, false},       // whole tiles
    {64, 64, {96}, 1, 0, 0, 0, true, false, true, false},       // whole tiles
    {300, 40, {66}, 1, 0, 0, 0, true, false, false, false},     // more rows than a pass has
    {29, 34, {5000}, 1, 0, 0, 0, true, true, false, false},     // deeper than a pass
    {40, 34, {3000, 2000, 4098, 10}, 4, 0, 0, 0, false, false, true, false},
    {7, 40, {33}, 1, 0, 0, 0, false, false, false, false}, // odd depth
    {1, 40, {32}, 1, 0, 0, 0, false, false, false, true},
    {47, 70, {96}, 1, 0, 0, 0, true, true, true, true},
    {64, 64, {64, 32}, 2, 0, 0, 0, false, true, false, true},
    {300, 40, {160}, 1, 0, 0, 0, true, false, false, true},
    {84, 34, {4992}, 1, 0, 0, 0, false, false, false, true}, // deeper than a pass
    {40, 33, {64}, 1, 0, 0, 32, false, false, false, true},  // a part of the depth
};

struct operands {
    uint16_t *A[GEMM_TERMS], *panels[GEMM_TERMS];
    struct gemm_term term[GEMM_TERMS];
    float *add, *bias;
    int64_t ldc;
};

static struct operands operands_of(const struct product *p)
{
    struct operands o = {.ldc = p->N + GAP};
    for (int t = 0; t < p->n_terms; t++) {
        const int64_t K = p->K[t], lda = K + GAP, skip = t ? 0 : p->part;
        uint16_t *B = halves(10 + (uint64_t)t, K * p->N);
        o.A[t] = halves(20 + (uint64_t)t, p->M * lda);
        o.panels[t] = malloc((size_t)panels_numel(K, p->N) * sizeof *o.panels[t]);
        gemm_bf16_scalar.pack(false, B, true, p->N, K, p->N, 0, panel_count(p->N), o.panels[t]);
        o.term[t] = (struct gemm_term){.A = o.A[t] + skip,
                                       .lda = lda,
                                       .panels = o.panels[t] + skip * PANEL,
                                       .K = K - skip,
                                       .depth = skip ? panel_depth(K) : 0};
        if (p->a_packed) {
            uint16_t *rows_of_a = o.A[t];
            o.A[t] = malloc((size_t)panels_numel(K, p->M) * sizeof *o.A[t]);
            gemm_bf16_scalar.pack(true, rows_of_a, true, lda, K, p->M, 0, panel_count(p->M),
                                  o.A[t]);
            o.term[t].A = o.A[t] + skip * PANEL;
            o.term[t].lda = panel_depth(K);
            o.term[t].a_packed = true;
            free(rows_of_a);
        }
        free(B);
    }
    o.add = malloc((size_t)(p->M * o.ldc) * sizeof *o.add);
    o.bias = malloc((size_t)p->N * sizeof *o.bias);
    rng_normal(30, 1, o.add, (size_t)(p->M * o.ldc));
    rng_normal(31, 1, o.bias, (size_t)p->N);
    return o;
}

static void operands_free(struct operands *o, int n)
{
    for (int t = 0; t < n; t++)
        free(o->A[t]), free(o->panels[t]);
    free(o->add), free(o->bias);
}

static void compare(const struct gemm_bf16 *g, const struct product *p, const void *want,
                    const void *got, int64_t ldc)
{
    const int64_t n = p->n ? p->n : p->N;
    int64_t depth = 0;
    for (int t = 0; t < p->n_terms; t++)
        depth += p->K[t];
    // sums of `depth` products of about 1; in bf16 a last rounding may fall the other way
    const double bound = 4 * 0x1p-23 * (double)depth;
    for (int64_t i = 0; i < p->M; i++)
        for (int64_t j = 0; j < ldc; j++) {
            const int64_t at = i * ldc + j;
            float w, x;
            if (p->bf16) {
                rows_scalar.widen(1, (const uint16_t *)want + at, &w);
                rows_scalar.widen(1, (const uint16_t *)got + at, &x);
            } else {
                w = ((const float *)want)[at], x = ((const float *)got)[at];
            }
            const bool inside = j >= p->n0 && j < p->n0 + n;
            const double off = fabs((double)w - x);
            if (!(inside ? off <= bound + (p->bf16 ? 0x1p-7 * fabs((double)w) : 0) : off == 0))
                fail_msg("%s, %d x %d: [%d,%d] is %g instead of %g", g->name, (int)p->M, (int)p->N,
                         (int)i, (int)j, (double)x, (double)w);
        }
}

static void product_case(const struct gemm_bf16 *g, const struct product *p)
{
    struct operands o = operands_of(p);
    const size_t bytes = (size_t)(p->M * o.ldc) * (p->bf16 ? 2 : 4);
    void *want = malloc(bytes), *got;
    for (size_t i = 0; i < bytes; i += 2)
        ((uint16_t *)want)[i / 2] = 0x4049; // what lies beside C, a number
    if (p->add && !p->bf16)
        memcpy(want, o.add, bytes); // C itself is what is added
    got = clone(want, bytes);
    struct gemm_out out = {.ldc = o.ldc, .bf16 = p->bf16, .bias = p->bias ? o.bias : NULL};
    void *const c[] = {want, got};
    const struct gemm_bf16 *const by[] = {&gemm_bf16_scalar, g};
    for (int i = 0; i < 2; i++) {
        out.c = c[i];
        out.add = !p->add ? NULL : p->bf16 ? o.add : c[i];
        by[i]->tile(p->M, p->n0, p->n ? p->n : p->N, p->n_terms, o.term, &out);
    }
    compare(g, p, want, got, o.ldc);
    free(want), free(got);
    operands_free(&o, p->n_terms);
}

static void multiplies(void **state)
{
    (void)state;
    for (int v = 0; v < VARIANTS; v++)
        for (size_t i = 0; variant(v) && i < sizeof products / sizeof *products; i++)
            if (variant(v)->a_packed || !products[i].a_packed)
                product_case(variant(v), &products[i]);
}

/* Columns as A, in the form of the variant in use: the product is that of their transpose. */
static void columns(void **state)
{
    enum { K = 70, WIDE = 50, M0 = 6, M = 39, N = 20 };
    (void)state;
    uint16_t *B = halves(1, K * WIDE), *X = halves(2, K * N);
    uint16_t *panels = malloc((size_t)panels_numel(K, N) * sizeof *panels);
    uint16_t *A = malloc((size_t)gemm_columns_numel(K, M) * sizeof *A);
    float b[K * WIDE], x[K * N], c[M * N];
    rows_scalar.widen(K * WIDE, B, b);
    rows_scalar.widen(K * N, X, x);
    gemm_bf16->pack(false, X, true, N, K, N, 0, panel_count(N), panels);
    struct gemm_term term = gemm_columns(B, WIDE, K, M0, M0 + M, A);
    term.panels = panels;
    gemm_bf16->tile(M, 0, N, 1, &term, &(struct gemm_out){.c = c, .ldc = N});
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            double sum = 0;
            for (int k = 0; k < K; k++)
                sum += (double)b[k * WIDE + M0 + i] * x[k * N + j];
            assert_true(fabs(c[i * N + j] - sum) < 1e-4);
        }
    free(B), free(X), free(panels), free(A);
}

/* `columns` for every variant that the CPU has. */
static void columns_everywhere(void **state)
{
    const enum cpu_level level = cpu_level();
    for (int l = CPU_SCALAR; l <= (int)cpu_hardware(); l++) {
        cpu_set_level((enum cpu_level)l);
        gemm_bf16_choose();
        columns(state);
    }
    cpu_set_level(level);
    gemm_bf16_choose();
}

/* The scalar one against sums in f64 of the matrix as it was before packing. */
static void reference_is_right(void **state)
{
    enum { M = 5, N = 37, K = 50 };
    (void)state;
    uint16_t *A = halves(1, M * K), *B = halves(2, K * N);
    uint16_t *panels = malloc((size_t)panels_numel(K, N) * sizeof *panels);
    float a[M * K], b[K * N], c[M * N];
    rows_scalar.widen(M * K, A, a);
    rows_scalar.widen(K * N, B, b);
    gemm_bf16_scalar.pack(false, B, true, N, K, N, 0, panel_count(N), panels);
    const struct gemm_term term = {.A = A, .lda = K, .panels = panels, .K = K};
    const struct gemm_out out = {.c = c, .ldc = N};
    gemm_bf16_scalar.tile(M, 0, N, 1, &term, &out);
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            double sum = 0;
            for (int k = 0; k < K; k++)
                sum += (double)a[i * K + k] * b[k * N + j];
            assert_true(fabs(c[i * N + j] - sum) < 1e-4);
        }
    free(A), free(B), free(panels);
}

/* The table follows the CPU's level. */
static void chooses(void **state)
{
    (void)state;
    const enum cpu_level level = cpu_level();
    for (int l = CPU_SCALAR; l <= (int)cpu_hardware(); l++) {
        cpu_set_level((enum cpu_level)l);
        gemm_bf16_choose();
        if (l == CPU_SCALAR)
            assert_ptr_equal(gemm_bf16, &gemm_bf16_scalar);
        else
            assert_ptr_not_equal(gemm_bf16, &gemm_bf16_scalar);
        const bool unit = strstr(gemm_bf16->name, "bf16") || strstr(gemm_bf16->name, "amx");
        assert_int_equal(gemm_bf16_native(), unit);
    }
    cpu_set_level(level);
    gemm_bf16_choose();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_is_right),
        cmocka_unit_test(packs),
        cmocka_unit_test(multiplies),
        cmocka_unit_test(columns_everywhere),
        cmocka_unit_test(chooses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
