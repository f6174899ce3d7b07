/* Linear ops in inference on weights in blocks and halves against products of decoded weights: what
   differs is the rounding of activations, by half a step each. Several weights, biases, a residual,
   odd numbers of rows; the same bits from any number of threads, and for a row of blocks whatever
   its batch is, of halves in a steady ctx. A recorded op computes with decoded weights. */
#include <math.h>
#include <omp.h>
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
#include "compress/codecs/codecs.h"
#include "tests/gradcheck.h"

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

/* ---- against decoded weights ---- */

enum { ARENA = 64 << 20, I = 512, WEIGHTS = 3 };

static const char *const types[][WEIGHTS] = {{"q4_k", "q6_k", "f16"},
                                             {"q2_k", "q3_k", "q5_k"},
                                             {"q8_0", "q4_0", "bf16"}};
static const int64_t outs[WEIGHTS] = {70, 33, 8};

struct model {
    struct tensor w[WEIGHTS], b[WEIGHTS], x, r;
    float *decoded[WEIGHTS];
};

static void made(struct model *m, const char *const *type, int64_t N)
{
    for (int i = 0; i < WEIGHTS; i++) {
        struct tensor *w = &m->w[i];
        *w = (struct tensor){.dt = codecs_find(type[i]), .nd = 2, .dim = {outs[i], I}};
        w->data = malloc(tensor_bytes(w));
        m->decoded[i] = gradcheck_normal(10 + (uint64_t)i, 0.1f, outs[i] * I);
        for (int64_t r = 0; r < outs[i]; r++) {
            w->dt->encode(w, r, m->decoded[i] + r * I, NULL);
            w->dt->decode(w, r, m->decoded[i] + r * I);
        }
        m->b[i] = (struct tensor){.dt = &dtype_f32, .nd = 1, .dim = {outs[i]}};
        m->b[i].data = gradcheck_normal(20 + (uint64_t)i, 1, outs[i]);
    }
    m->x = (struct tensor){.dt = &dtype_f32, .nd = 2, .dim = {N, I}};
    m->x.data = gradcheck_normal(30, 1, N * I);
    m->r = (struct tensor){.dt = &dtype_f32, .nd = 2, .dim = {N, outs[0]}};
    m->r.data = gradcheck_normal(31, 1, N * outs[0]);
}

static void dropped(struct model *m)
{
    for (int i = 0; i < WEIGHTS; i++) {
        free(m->w[i].data);
        free(m->b[i].data);
        free(m->decoded[i]);
    }
    free(m->x.data);
    free(m->r.data);
}

/* Outputs of the op, one behind the other; n == 1: with the residual. */
static float *run(struct model *m, int n, int64_t row, int64_t rows, int threads)
{
    struct ctx ctx;
    const int had = omp_get_max_threads();
    struct tensor *w[WEIGHTS], *b[WEIGHTS], *out[WEIGHTS];
    assert_int_equal(ctx_init(&ctx, ARENA), 0);
    for (int i = 0; i < n; i++) {
        w[i] = &m->w[i];
        b[i] = &m->b[i];
    }
    omp_set_num_threads(threads);
    struct tensor *input = ctx_part(&ctx, &m->x, row, rows);
    struct tensor *r = n == 1 ? ctx_part(&ctx, &m->r, row, rows) : NULL;
    assert_int_equal(op_linear(&ctx, input, n, w, b, r, out), 0);
    float *all = malloc(sizeof *all * (size_t)(rows * 256)), *to = all;
    for (int i = 0; i < n; i++) {
        memcpy(to, out[i]->data, tensor_bytes(out[i]));
        to += tensor_numel(out[i]);
    }
    omp_set_num_threads(had);
    ctx_free(&ctx);
    return all;
}

/* Half the largest step of the input's row, of 8 bits: halves take finer ones. */
static double half_step(const float *input)
{
    double most = 0;
    for (int64_t k = 0; k < I; k++)
        most = fmax(most, fabs((double)input[k]));
    return 0.5 * most / 127;
}

static void check(const struct model *m, int n, int64_t N, const float *y)
{
    const float *input = m->x.data;
    for (int i = 0; i < n; y += N * outs[i++])
        for (int64_t t = 0; t < N; t++)
            for (int64_t o = 0; o < outs[i]; o++) {
                const float *w = m->decoded[i] + o * I;
                double sum = ((const float *)m->b[i].data)[o], off = 0;
                sum += n == 1 ? ((const float *)m->r.data)[t * outs[0] + o] : 0;
                for (int64_t k = 0; k < I; k++) {
                    sum += (double)w[k] * (double)input[t * I + k];
                    off += fabs((double)w[k]) * half_step(input + t * I);
                }
                if (!(fabs(y[t * outs[i] + o] - sum) <= off + 1e-4))
                    fail_msg("%s, row %d, output %d: %g, not %g within %g", m->w[i].dt->name,
                             (int)t, (int)o, (double)y[t * outs[i] + o], sum, off);
            }
}

static void test_products(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof types / sizeof *types; k++)
        for (int64_t N = 1; N < 60; N = 3 * N + 2)
            for (int n = 1; n <= WEIGHTS; n += 2) {
                struct model m;
                made(&m, types[k], N);
                float *y = run(&m, n, 0, N, 1), *z = run(&m, n, 0, N, 3);
                check(&m, n, N, y);
                size_t len = 0;
                for (int i = 0; i < n; i++)
                    len += (size_t)(N * outs[i]);
                assert_memory_equal(y, z, len * sizeof *y);
                float *last = run(&m, 1, N - 1, 1, 2), *all = run(&m, 1, 0, N, 2);
                assert_memory_equal(last, all + (N - 1) * outs[0], (size_t)outs[0] * sizeof *y);
                free(y);
                free(z);
                free(last);
                free(all);
                dropped(&m);
            }
}

static void test_recorded(void **state)
{
    (void)state;
    struct model m;
    struct ctx ctx;
    made(&m, types[0], 3);
    assert_int_equal(ctx_init(&ctx, ARENA), 0);
    ctx.recording = true;
    m.x.needs_grad = true;
    struct tensor *w = &m.w[0], *out;
    assert_int_equal(op_linear(&ctx, &m.x, 1, &w, NULL, NULL, &out), 0);
    for (int64_t t = 0; t < 3; t++)
        for (int64_t o = 0; o < outs[0]; o++) {
            double sum = 0;
            for (int64_t k = 0; k < I; k++)
                sum += (double)m.decoded[0][o * I + k] * (double)((float *)m.x.data)[t * I + k];
            assert_true(fabs(((float *)out->data)[t * outs[0] + o] - sum) < 1e-5);
        }
    ctx_free(&ctx);
    dropped(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows_do_not_meet),
                                       cmocka_unit_test(test_products),
                                       cmocka_unit_test(test_recorded)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
