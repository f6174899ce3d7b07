#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/gradcheck.h"

static bool build(struct ctx *ctx, const void *arg, struct tensor *const in[], struct tensor *out[],
                  struct loss *loss)
{
    (void)out;
    return op_mse(ctx, in[0], in[1], *(const float *)arg, loss) == 0;
}

/* The loss is not the only use of a. */
static bool shared(struct ctx *ctx, const void *arg, struct tensor *const in[],
                   struct tensor *out[], struct loss *loss)
{
    struct tensor *a = op_scale(ctx, in[0], 2);
    out[0] = op_add(ctx, a, in[1]);
    return op_mse(ctx, a, in[1], *(const float *)arg, loss) == 0;
}

/* Where a and b are close, the gradient keeps the relative precision of their difference. */
static void close_values(void)
{
    struct ctx ctx;
    struct loss loss = {0};
    assert_int_equal(ctx_init(&ctx, 1 << 20), 0);
    ctx.recording = true;
    float a[] = {1000.0001f, -3.0000002f, 5}, b[] = {1000, -3, 5};
    struct tensor x = {.dt = &dtype_f32, .nd = 1, .dim = {3}, .data = a, .needs_grad = true};
    const struct tensor y = {.dt = &dtype_f32, .nd = 1, .dim = {3}, .data = b};
    struct tensor other = y;
    assert_int_equal(op_mse(&ctx, &x, &other, 0.3f, &loss), 0);
    for (int i = 0; i < 3; i++) {
        const double want = 0.6f * ((double)a[i] - b[i]);
        assert_true(fabs(((float *)x.grad)[i] - want) <= 1e-6 * fabs(want));
    }
    assert_int_equal(loss.count, 3);
    ctx_free(&ctx);
}

void gradcheck_mse(void **state)
{
    (void)state;
    const float weight = 0.7f;
    gradcheck_run(
        &(struct gradcheck){.name = "mse", .in = {{5, 7}, {5, 7}}, .build = build, .arg = &weight});
    gradcheck_run(&(struct gradcheck){.name = "mse, shared",
                                      .in = {{3, 20}, {3, 20, .param = true}},
                                      .build = shared,
                                      .arg = &weight});
    gradcheck_refuses(
        &(struct gradcheck){.name = "mse", .in = {{5, 7}, {7, 5}}, .build = build, .arg = &weight},
        "shapes");
    close_values();
}
