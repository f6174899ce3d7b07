#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "autograd/base/mem.h"
#include "tests/gradcheck.h"

enum { N = 5, D = 6 };
static const int32_t pos[N] = {0, 1, 2, 9, 4};

/* op_rope destroys its input: it gets a copy. */
static bool build(struct ctx *ctx, const void *arg, struct tensor *const in[], struct tensor *out[],
                  struct loss *loss)
{
    (void)loss;
    return (out[0] = op_rope(ctx, op_scale(ctx, in[0], 1), arg, pos)) != NULL;
}

/* What is turned also went elsewhere before, into an op that does not save it. */
static bool shared(struct ctx *ctx, const void *arg, struct tensor *const in[],
                   struct tensor *out[], struct loss *loss)
{
    (void)loss;
    struct tensor *x = op_scale(ctx, in[0], 1), *y = op_scale(ctx, x, 0.5f);
    return (out[0] = op_add(ctx, y, op_rope(ctx, x, arg, pos))) != NULL;
}

/* A loss has given what is turned a gradient before. */
static bool after_loss(struct ctx *ctx, const void *arg, struct tensor *const in[],
                       struct tensor *out[], struct loss *loss)
{
    struct tensor *x = op_scale(ctx, in[0], 1);
    if (op_mse(ctx, x, in[1], 0.3f, loss))
        return false;
    return (out[0] = op_rope(ctx, x, arg, pos)) != NULL;
}

/* Against complex multiplication in f64; two heads. */
static void turns(const struct rope *rope, const struct rope_args *args)
{
    struct ctx ctx;
    assert_int_equal(ctx_init(&ctx, 1 << 20), 0);
    struct tensor *x = ctx_matrix(&ctx, &dtype_f32, N, 2 * D);
    float *was = gradcheck_normal(3, 1, N * 2 * D);
    for (int i = 0; i < N * 2 * D; i++)
        ((float *)x->data)[i] = was[i];
    const struct tensor *y = op_rope(&ctx, x, rope, pos);
    assert_non_null(y);
    assert_ptr_equal(y->data, x->data);
    for (int n = 0; n < N; n++)
        for (int h = 0; h < 2; h++)
            for (int i = 0; i < D / 2; i++) {
                const int64_t at = (n * 2 + h) * D;
                const int64_t a = at + (args->style == ROPE_HALF ? i : 2 * i);
                const int64_t b = at + (args->style == ROPE_HALF ? i + D / 2 : 2 * i + 1);
                const double angle = pos[n] * pow(args->base, -2.0 * i / D);
                const float *to = y->data;
                assert_true(fabs(to[a] - (was[a] * cos(angle) - was[b] * sin(angle))) < 1e-6);
                assert_true(fabs(to[b] - (was[b] * cos(angle) + was[a] * sin(angle))) < 1e-6);
            }
    free(was);
    ctx_free(&ctx);
}

static void frequencies(void)
{
    struct rope_args a = {.head_dim = 8, .n_pos = 4, .base = 500};
    const double plain = rope_frequency(&a, 1);
    assert_true(fabs(plain - pow(500, -0.25)) < 1e-15);
    a.scaling = ROPE_SCALING_LINEAR;
    a.factor = 4;
    assert_true(fabs(rope_frequency(&a, 1) - plain / 4) < 1e-15);
    a.scaling = ROPE_SCALING_LLAMA3;
    a.low_freq = 1;
    a.high_freq = 4;
    a.original_context = 32; // wavelengths 6.3, 29.7, 140, 664: kept, ramp, divided, divided
    assert_true(rope_frequency(&a, 0) == 1);
    const double turn = 32 * plain / (2 * acos(-1.0)), smooth = (turn - 1) / 3;
    assert_true(smooth > 0 && smooth < 1);
    assert_true(fabs(rope_frequency(&a, 1) - plain * (smooth + (1 - smooth) / 4)) < 1e-15);
    assert_true(fabs(rope_frequency(&a, 2) - pow(500, -0.5) / 4) < 1e-15);
    a.scaling = ROPE_SCALING_TABLE;
    a.divisor[1] = 2.5f;
    assert_true(fabs(rope_frequency(&a, 1) - plain / 2.5) < 1e-15);
}

/* A long context: the first positions at once, others when they are asked for, the same angles. */
static void grows(void)
{
    const struct rope_args a = {.head_dim = 256, .n_pos = 5000, .base = 10000};
    struct rope r;
    assert_int_equal(rope_init(&r, &a), 0);
    assert_true(r.covered > 0 && r.covered < 1000);
    const float first = r.sin[128];
    mem_fail_at(2);
    assert_int_equal(rope_cover(&r, 1500), -1);
    mem_fail_at(0);
    assert_true(r.covered < 1000 && r.sin[128] == first);
    assert_int_equal(rope_cover(&r, 1500), 0);
    assert_true(r.covered >= 1500 && r.covered < 5000 && r.sin[128] == first);
    assert_int_equal(rope_cover(&r, 5000), 0);
    assert_int_equal(r.covered, 5000);
    for (int64_t p = 0; p < 5000; p += 7)
        for (int i = 0; i < 128; i += 9) {
            const double angle = (double)p * pow(10000, -2.0 * i / 256);
            assert_true(fabs(r.cos[p * 128 + i] - cos(angle)) < 1e-6);
            assert_true(fabs(r.sin[p * 128 + i] - sin(angle)) < 1e-6);
        }
    rope_free(&r);
}

void gradcheck_rope(void **state)
{
    (void)state;
    for (int style = ROPE_ADJACENT; style <= ROPE_HALF; style++) {
        const struct rope_args args = {.style = (enum rope_style)style,
                                       .head_dim = D,
                                       .n_pos = 10,
                                       .base = 10};
        struct rope rope;
        assert_int_equal(rope_init(&rope, &args), 0);
        turns(&rope, &args);
        gradcheck_run(
            &(struct gradcheck){.name = "rope", .in = {{N, 2 * D}}, .build = build, .arg = &rope});
        gradcheck_run(&(struct gradcheck){
            .name = "rope, shared", .in = {{N, D}}, .build = shared, .arg = &rope});
        gradcheck_run(&(struct gradcheck){.name = "rope after a loss",
                                          .in = {{N, D}, {N, D}},
                                          .build = after_loss,
                                          .arg = &rope});
        gradcheck_refuses(&(struct gradcheck){.name = "rope",
                                              .in = {{N, 2 * D + 1}},
                                              .build = build,
                                              .arg = &rope},
                          "heads of 6");
        rope.n_pos = rope.covered = 9;
        gradcheck_refuses(
            &(struct gradcheck){.name = "rope", .in = {{N, D}}, .build = build, .arg = &rope},
            "position 9");
        rope_free(&rope);
    }
    frequencies();
    grows();
}
