#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/gradcheck.h"

/* in: x, w[0..2], b[0..2], residual */
static bool build(struct ctx *ctx, const void *arg, struct tensor *const in[], struct tensor *out[],
                  struct loss *loss)
{
    const int n = *(const int *)arg;
    (void)loss;
    return op_linear(ctx, in[0], n, in + 1, in + 4, in[7], out) == 0;
}

static bool no_bias(struct ctx *ctx, const void *arg, struct tensor *const in[],
                    struct tensor *out[], struct loss *loss)
{
    const int n = *(const int *)arg;
    (void)loss;
    return op_linear(ctx, in[0], n, in + 1, NULL, in[7], out) == 0;
}

/* x and the residual also go elsewhere. */
static bool shared(struct ctx *ctx, const void *arg, struct tensor *const in[],
                   struct tensor *out[], struct loss *loss)
{
    struct tensor *y[NODE_OUT] = {0}, *x = op_scale(ctx, in[0], 0.5f);
    struct tensor *const with[GRADCHECK_IN] = {x, in[1], in[2], in[3], in[4], in[5], in[6], in[7]};
    (void)loss;
    build(ctx, arg, with, y, loss);
    return (out[0] = op_add(ctx, op_add(ctx, y[0], in[7]), x)) != NULL;
}

/* One weight and one bias, read as two parts, the second of which comes first. */
static bool parts(struct ctx *ctx, const void *arg, struct tensor *const in[], struct tensor *out[],
                  struct loss *loss)
{
    const int64_t first = *(const int *)arg;
    struct tensor *w[2] = {0}, *b[2] = {0};
    (void)loss;
    for (int i = 0; i < 2 && in[1] && in[4]; i++) {
        const int64_t at = i ? 0 : first, n = i ? first : in[1]->dim[0] - first;
        w[i] = ctx_part(ctx, in[1], at, n);
        b[i] = ctx_part(ctx, in[4], at, n);
    }
    return op_linear(ctx, in[0], 2, w, b, NULL, out) == 0;
}

static bool same_weight(struct ctx *ctx, const void *arg, struct tensor *const in[],
                        struct tensor *out[], struct loss *loss)
{
    (void)arg;
    (void)loss;
    return op_linear(ctx, in[0], 2, (struct tensor *const[]){in[1], in[1]}, NULL, NULL, out) == 0;
}

static bool residual_is_x(struct ctx *ctx, const void *arg, struct tensor *const in[],
                          struct tensor *out[], struct loss *loss)
{
    (void)arg;
    (void)loss;
    return op_linear(ctx, in[0], 1, in + 1, NULL, in[0], out) == 0;
}

#define W   .param = true, .std = 0.4f
#define B   .param = true, .optional = true
#define RES .optional = true

static void gradients(void)
{
    static const int one = 1, two = 2, three = 3, some = 32;
    const struct gradcheck cases[] = {
        {"linear", {{5, 6}, {7, 6, W}}, no_bias, &one},
        {"linear, bias", {{5, 6}, {7, 6, W}, [4] = {0, 7, B}}, build, &one},
        {"linear, residual", {{5, 6}, {7, 6, W}, [7] = {5, 7, RES}}, no_bias, &one},
        {"linear, bias, residual",
         {{5, 6}, {6, 6, W}, [4] = {0, 6, B}, [7] = {5, 6, RES}},
         build,
         &one},
        {"linear, shared", {{5, 6}, {6, 6, W}, [4] = {0, 6, B}, [7] = {5, 6}}, shared, &one},
        {"linear, two weights", {{3, 6}, {7, 6, W}, {2, 6, W}, [5] = {0, 2, B}}, build, &two},
        {"linear, three weights",
         {{4, 8}, {8, 8, W}, {2, 8, W}, {3, 8, W}, {0, 8, B}, {0, 2, B}, {0, 3, B}},
         build,
         &three},
        {"linear, two of three outputs silent",
         {{4, 8}, {8, 8, W}, {2, 8, W, .frozen = true}, {3, 8, W, .frozen = true}},
         no_bias,
         &three,
         .silent = 6},
        {"linear, weight without memory of its own",
         {{5, 6}, {7, 6, .std = 0.4f}, [4] = {0, 7, .optional = true}},
         build,
         &one},
        {"linear, f16",
         {{5, 6}, {70, 6, .frozen = true, .dt = &dtype_f16}, [4] = {0, 70, B}, [7] = {5, 70, RES}},
         build,
         &one},
        {"linear, bf16 and f32",
         {{5, 6}, {65, 6, .frozen = true, .dt = &dtype_bf16}, {4, 6, W}},
         no_bias,
         &two},
        {"linear, parts of one weight",
         {{5, 6}, {7, 6, W}, [4] = {0, 7, .param = true}},
         parts,
         &two},
        {"linear, parts of a weight without memory of its own",
         {{3, 8}, {40, 8, .std = 0.4f}, [4] = {0, 40}},
         parts,
         &some},
        {"linear, one row", {{1, 30}, {66, 30, W}}, no_bias, &one},
        {"linear, 130 rows", {{130, 5}, {3, 5, W}, [4] = {0, 3, B}}, build, &one},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        gradcheck_run(&cases[i]);
}

static void misuse(void)
{
    static const int none = 0, minus = -1, one = 1, two = 2, four = 4, seven = 7;
    const struct {
        struct gradcheck c;
        const char *part;
    } cases[] = {
        {{"width", {{5, 6}, {7, 5, W}}, no_bias, &one}, "input of width 6"},
        {{"vector", {{5, 6}, {0, 6, W}}, no_bias, &one}, "weight"},
        {{"bias", {{5, 6}, {7, 6, W}, [4] = {0, 6, B}}, build, &one}, "bias of 6 on 7"},
        {{"residual", {{5, 6}, {7, 6, W}, [7] = {5, 6, RES}}, no_bias, &one}, "residual"},
        {{"residual rows", {{5, 6}, {7, 6, W}, [7] = {4, 7, RES}}, no_bias, &one}, "residual"},
        {{"residual is x", {{5, 6}, {6, 6, W}}, residual_is_x, &one}, "residual"},
        {{"two with residual", {{5, 6}, {7, 6, W}, {7, 6, W}, [7] = {5, 7, RES}}, no_bias, &two},
         "residual"},
        {{"trained f16", {{5, 6}, {7, 6, .dt = &dtype_f16}}, no_bias, &one}, "f16"},
        {{"same weight", {{5, 6}, {7, 6, W}}, same_weight, &two}, "twice"},
        {{"nothing left", {{5, 6}, {7, 6, W}, [4] = {0, 7}}, parts, &seven}, "indices 7 to 7 of 7"},
        {{"before the first", {{5, 6}, {7, 6, W}, [4] = {0, 7}}, parts, &minus}, "-1 to 7 of 7"},
        {{"none", {{5, 6}, {7, 6, W}}, no_bias, &none}, "0 weights"},
        {{"fewer", {{5, 6}, {7, 6, W}}, no_bias, &minus}, "-1 weights"},
        {{"four", {{5, 6}, {7, 6, W}}, no_bias, &four}, "4 weights"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        gradcheck_refuses(&cases[i].c, cases[i].part);
}

/* C [M,N] = A B in f64 with element strides, compared in norm with `got`. */
static void compare(const char *what, int64_t M, int64_t N, int64_t K, const float *A, int64_t ai,
                    int64_t ak, const float *B_, int64_t bk, int64_t bj, const float *plus,
                    int64_t plus_ld, const float *got)
{
    double *c = malloc((size_t)(M * N) * sizeof *c);
    for (int64_t i = 0; i < M; i++)
        for (int64_t j = 0; j < N; j++) {
            double sum = plus ? plus[i * plus_ld + j] : 0;
            for (int64_t k = 0; k < K; k++)
                sum += (double)A[i * ai + k * ak] * B_[k * bk + j * bj];
            c[i * N + j] = sum;
            if (!(fabs(got[i * N + j] - sum) <= 1e-5 * (1 + fabs(sum)) * sqrt((double)K + 1)))
                fail_msg("linear %s: [%lld,%lld] of %lld x %lld x %lld is %g instead of %g", what,
                         (long long)i, (long long)j, (long long)M, (long long)N, (long long)K,
                         (double)got[i * N + j], sum);
        }
    assert_true(gradcheck_distance(M * N, got, c) < 1e-6);
    free(c);
}

/* All of forward and backward against plain loops, at shapes around the limits of tiles. */
static void shape(int64_t N, int64_t I, int64_t O)
{
    float *x = gradcheck_normal(1, 1, N * I), *w = gradcheck_normal(2, 1, O * I);
    float *b = gradcheck_normal(3, 1, O), *dy = gradcheck_normal(4, 1, N * O);
    float *dw = calloc((size_t)(O * I), sizeof *dw), *db = calloc((size_t)O, sizeof *db);
    float *ones = malloc((size_t)N * sizeof *ones);
    for (int64_t i = 0; i < N; i++)
        ones[i] = 1;
    struct tensor tx = {&dtype_f32, 2, {N, I}, x, NULL, true}, *out[1];
    struct tensor tw = {&dtype_f32, 2, {O, I}, w, dw, true}, *const ws[] = {&tw};
    struct tensor tb = {&dtype_f32, 1, {O}, b, db, true}, *const bs[] = {&tb};
    struct ctx ctx;
    assert_int_equal(ctx_init(&ctx, 64 << 20), 0);
    ctx.recording = true;
    assert_int_equal(op_linear(&ctx, &tx, 1, ws, bs, NULL, out), 0);
    compare("y", N, O, I, x, I, 1, w, 1, I, b, 0, out[0]->data);
    out[0]->grad = dy;
    tape_backward(&ctx, NULL);
    assert_false(ctx.failed);
    compare("dx", N, I, O, dy, O, 1, w, I, 1, NULL, 0, tx.grad);
    compare("dw", O, I, N, dy, 1, O, x, I, 1, NULL, 0, dw);
    compare("db", 1, O, N, ones, 0, 1, dy, O, 1, NULL, 0, db);
    ctx_free(&ctx);
    free(x), free(w), free(b), free(dy), free(dw), free(db), free(ones);
}

void gradcheck_linear(void **state)
{
    (void)state;
    gradients();
    misuse();
    static const int64_t limits[] = {1, 2, 63, 64, 65, 127, 128, 129, 200};
    const int n = sizeof limits / sizeof *limits;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            shape(limits[i], (i + j) & 1 ? 17 : 40, limits[j]);
    shape(130, 130, 70);
    shape(70, 300, 9);
    shape(3, 600, 1100);
}
