#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autograd/base/rng.h"
#include "tests/gradcheck.h"

struct args {
    float p;
    uint64_t key;
};

static const uint64_t row_id[] = {5, 3, 1000000007, 4, (uint64_t)1 << 40, 6, 7};

static bool build(struct ctx *ctx, const void *arg, struct tensor *const in[], struct tensor *out[],
                  struct loss *loss)
{
    const struct args *a = arg;
    (void)loss;
    return (out[0] = op_dropout(ctx, in[0], a->p, a->key, row_id)) != NULL;
}

static bool shared(struct ctx *ctx, const void *arg, struct tensor *const in[],
                   struct tensor *out[], struct loss *loss)
{
    const struct args *a = arg;
    (void)loss;
    return (out[0] = op_add(ctx, op_dropout(ctx, in[0], a->p, a->key, row_id), in[0])) != NULL;
}

enum { N = 128, C = 203 };

/* y [N,C] of ones under dropout */
static void draw(float p, uint64_t key, const uint64_t *ids, float *y)
{
    struct ctx ctx;
    assert_int_equal(ctx_init(&ctx, 1 << 20), 0);
    ctx.training = true;
    struct tensor *x = ctx_matrix(&ctx, &dtype_f32, N, C);
    for (int i = 0; i < N * C; i++)
        ((float *)x->data)[i] = 1;
    const struct tensor *t = op_dropout(&ctx, x, p, key, ids);
    for (int i = 0; i < N * C; i++)
        y[i] = ((const float *)t->data)[i];
    ctx_free(&ctx);
}

static void statistics(void)
{
    static float a[N * C], b[N * C];
    uint64_t ids[N], turned[N];
    for (uint64_t i = 0; i < N; i++) {
        ids[i] = 77 + i;
        turned[i] = 77 + N - 1 - i;
    }
    const float ps[] = {0.1f, 0.5f, 0.9f};
    for (int k = 0; k < 3; k++) {
        const double p = ps[k], sigma = sqrt(p * (1 - p) / (N * C));
        double zeros = 0;
        draw(ps[k], 9, ids, a);
        for (int i = 0; i < N * C; i++) {
            assert_true(a[i] == 0 || fabs(a[i] - 1 / (1 - p)) < 1e-5);
            zeros += a[i] == 0;
        }
        assert_true(fabs(zeros / (N * C) - p) < 5 * sigma);
    }
    // the slot of a row in the batch does not matter
    draw(0.5f, 9, ids, a);
    draw(0.5f, 9, turned, b);
    for (int i = 0; i < N; i++)
        assert_memory_equal(a + i * C, b + (N - 1 - i) * C, C * sizeof(float));
    // neighbours, rows and keys are independent: about half of the elements agree
    draw(0.5f, 10, ids, b);
    int same[3] = {0};
    for (int i = 0; i < (N - 1) * C; i++) {
        same[0] += a[i] == a[i + 1];
        same[1] += a[i] == a[i + C];
        same[2] += a[i] == b[i];
    }
    for (int k = 0; k < 3; k++)
        assert_true(fabs((double)same[k] / ((N - 1) * C) - 0.5) < 5 * 0.5 / sqrt((N - 1) * C));
}

/* Out of training, and for p = 0, it is not there at all. */
static void absent(void)
{
    struct ctx ctx;
    assert_int_equal(ctx_init(&ctx, 1 << 20), 0);
    struct tensor *x = ctx_matrix(&ctx, &dtype_f32, 3, 4);
    assert_ptr_equal(op_dropout(&ctx, x, 0.5f, 1, row_id), x);
    ctx.training = true;
    assert_ptr_equal(op_dropout(&ctx, x, 0, 1, row_id), x);
    assert_ptr_not_equal(op_dropout(&ctx, x, 0.5f, 1, row_id), x);
    ctx_free(&ctx);
}

void gradcheck_dropout(void **state)
{
    (void)state;
    const struct args half = {0.5f, 4}, little = {0.1f, 5}, one = {1, 5}, nan = {NAN, 5};
    gradcheck_run(&(struct gradcheck){
        .name = "dropout", .in = {{7, 9}}, .build = build, .arg = &half, .training = true});
    gradcheck_run(&(struct gradcheck){.name = "dropout, shared",
                                      .in = {{5, 8}},
                                      .build = shared,
                                      .arg = &little,
                                      .training = true});
    gradcheck_refuses(&(struct gradcheck){.name = "dropout",
                                          .in = {{5, 8}},
                                          .build = build,
                                          .arg = &one,
                                          .training = true},
                      "probability 1");
    gradcheck_refuses(&(struct gradcheck){.name = "dropout",
                                          .in = {{5, 8}},
                                          .build = build,
                                          .arg = &nan,
                                          .training = true},
                      "probability");
    statistics();
    absent();
}
