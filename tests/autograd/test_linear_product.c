/* A steady ctx: what a row becomes does not depend on how many are beside it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/rng.h"
#include "autograd/kernels/halves.h"
#include "autograd/ops/ops.h"

enum { ROWS = 3 * HALVES_MANY + 5, IN = 320, OUT = 70 };

static float x[ROWS][IN], bias[OUT], residual[ROWS][OUT];

/* y [n,OUT] of the rows from `row` on. */
static void product(const struct tensor *weight, bool steady, int64_t row, int64_t n, float *y)
{
    struct tensor in = {.dt = &dtype_f32, .nd = 2, .dim = {n, IN}, .data = x[row]}, w = *weight;
    struct tensor b = {.dt = &dtype_f32, .nd = 1, .dim = {OUT}, .data = bias};
    struct tensor r = {.dt = &dtype_f32, .nd = 2, .dim = {n, OUT}, .data = residual[row]}, *out;
    struct tensor *ws = &w, *bs = &b;
    struct ctx ctx;
    assert_int_equal(ctx_init(&ctx, 16 << 20), 0);
    ctx.steady = steady;
    if (op_linear(&ctx, &in, 1, &ws, &bs, &r, &out))
        fail_msg("%s", ctx.text);
    memcpy(y, out->data, (size_t)(n * OUT) * sizeof *y);
    ctx_free(&ctx);
}

static void rows_do_not_meet(void **state)
{
    static const struct dtype *const types[] = {&dtype_f16, &dtype_bf16};
    static uint16_t halves_of[OUT * IN];
    static float w[IN], all[ROWS][OUT], some[ROWS][OUT];
    (void)state;
    rng_normal(1, 1, x[0], ROWS * IN);
    rng_normal(2, 1, bias, OUT);
    rng_normal(3, 1, residual[0], ROWS * OUT);
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        struct tensor weight = {.dt = types[t], .nd = 2, .dim = {OUT, IN}, .data = halves_of};
        for (int64_t o = 0; o < OUT; o++) {
            rng_normal((uint64_t)o + 9, 1, w, IN);
            types[t]->encode(&weight, o, w, NULL);
        }
        product(&weight, true, 0, ROWS, all[0]);
        for (int64_t n = 1; n <= ROWS; n += n < 3 ? 1 : HALVES_MANY - 2)
            for (int64_t row = 0; row + n <= ROWS; row += n) {
                product(&weight, true, row, n, some[0]);
                assert_memory_equal(some, all[row], (size_t)(n * OUT) * sizeof(float));
            }
        // few rows are multiplied that way in any ctx
        product(&weight, false, 0, HALVES_MANY - 1, some[0]);
        assert_memory_equal(some, all, (size_t)((HALVES_MANY - 1) * OUT) * sizeof(float));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows_do_not_meet)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
