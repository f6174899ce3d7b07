/* What ops say that they cost, against counting by hand; whose time is whose. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "autograd/base/clock.h"
#include "autograd/ops/ops.h"
#include "autograd/profile.h"

enum { N = 6, I = 10, O = 14, V = 20 };

static struct profile profile;
static struct ctx ctx;

/* A measuring ctx: costs need no values. */
static int setup(void **state)
{
    (void)state;
    if (ctx_init(&ctx, 0))
        return -1;
    ctx.recording = ctx.training = true;
    ctx.profile = &profile;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    ctx_free(&ctx);
    profile_free(&profile);
    return 0;
}

static struct tensor *leaf(const struct dtype *dt, int64_t n, int64_t cols)
{
    struct tensor *t = ctx_matrix(&ctx, dt, n, cols);
    assert_non_null(t);
    t->needs_grad = true;
    return t;
}

/* Backward from y alone. */
static void back(struct tensor *y)
{
    bool fresh;
    assert_non_null(y);
    ctx_grad(&ctx, y, &fresh);
    tape_backward(&ctx, NULL);
    assert_false(ctx.failed);
}

static void assert_row(const char *name, bool backward, int64_t calls, double flops, double bytes,
                       double exps, double draws)
{
    const struct profile_row *r = profile_find(&profile, name, backward);
    if (!r)
        fail_msg("%s never ran", name);
    if (r->calls != calls || r->flops != flops || r->bytes != bytes || r->exps != exps ||
        r->draws != draws)
        fail_msg("%s %s: %lld calls, %g FLOPs, %g bytes, %g exps, %g draws", name,
                 backward ? "backward" : "forward", (long long)r->calls, r->flops, r->bytes,
                 r->exps, r->draws);
}

static void linears(void **state)
{
    (void)state;
    struct tensor *x = leaf(&dtype_f32, N, I), *r = leaf(&dtype_f32, N, O), *y[3];
    struct tensor *w[3] = {leaf(&dtype_f32, O, I), leaf(&dtype_f32, 3, I), leaf(&dtype_f32, 5, I)};
    w[2]->needs_grad = false;
    assert_int_equal(op_linear(&ctx, x, 3, w, NULL, NULL, y), 0);
    back(y[0]);
    const double all = O + 3 + 5;
    assert_row("linear", false, 1, 2 * N * I * all, 0, 0, 0);
    assert_row("linear", true, 1, 2 * N * I * (all + O + 3), 0, 0, 0);
    assert_int_equal(profile.n_work, 3 + 3 + 2);

    profile_clear(&profile);
    x->needs_grad = false;
    assert_int_equal(op_linear(&ctx, x, 1, w, NULL, r, y), 0);
    back(y[0]);
    assert_row("linear", false, 1, 2 * N * I * O, 4 * N * O, 0, 0);
    assert_row("linear", true, 1, 2 * N * I * O, 0, 0, 0);
    assert_int_equal(profile.work[1].product.kind, COST_DW);
}

/* The same shape again is one product that runs twice; another dtype is another. */
static void shapes_are_counted_once(void **state)
{
    (void)state;
    struct tensor *w = leaf(&dtype_f32, O, I), *y;
    ctx.recording = false;
    for (int i = 0; i < 3; i++) {
        ctx.act = i < 2 ? &dtype_f32 : &dtype_bf16;
        assert_int_equal(op_linear(&ctx, leaf(ctx.act, N, I), 1, &w, NULL, NULL, &y), 0);
    }
    assert_int_equal(profile.n_work, 2);
    assert_true(profile.work[0].product.times == 2 && profile.work[1].product.times == 1);
    assert_ptr_equal(profile.work[1].product.dt, &dtype_bf16);
    assert_row("linear", false, 3, 3 * 2 * N * I * O, 0, 0, 0);
    ctx.act = &dtype_f32;
}

static void attention(void **state)
{
    (void)state;
    enum { D = 4, H = 6, KV = 2 };
    struct tensor *q = leaf(&dtype_f32, N, H * D), *k = leaf(&dtype_f32, N, KV * D);
    struct tensor *v = leaf(&dtype_f32, N, KV * D);
    const struct attention_seq seqs[] = {{.start = 0, .len = 2}, {.start = 2, .len = 4}};
    back(op_attention(&ctx, q, k, v, D, seqs, 2));
    const double pairs = 1 + 2 + (1 + 2 + 3 + 4); // a query sees itself and all before it
    assert_row("attention", false, 1, 2 * 2 * D * H * pairs, 0, 0, 0);
    assert_row("attention", true, 1, 5 * 2 * D * H * pairs, 0, 0, 0);
    const struct product *p = &profile.work[0].product;
    assert_true(p->M == 3 && p->N == 2 && p->K == D && p->H == H && p->Hkv == KV);
}

static void rows_of_f32(void **state)
{
    (void)state;
    struct tensor *x = leaf(&dtype_f32, N, I), *w = leaf(&dtype_f32, 1, I);
    const int32_t tok[N] = {0};
    const uint64_t row_id[N] = {0};
    const double all = N * I, bytes = 4 * all;
    back(op_rmsnorm(&ctx, x, w, 1e-5f));
    assert_row("rmsnorm", false, 1, 0, 2 * bytes, 0, 0);
    assert_row("rmsnorm", true, 1, 0, 4 * bytes, 0, 0);
    back(op_swiglu(&ctx, leaf(&dtype_f32, N, I), leaf(&dtype_f32, N, I)));
    assert_row("swiglu", false, 1, 0, 3 * bytes, all, 0);
    assert_row("swiglu", true, 1, 0, 5 * bytes, all, 0);
    back(op_add(&ctx, leaf(&dtype_f32, N, I), leaf(&dtype_f32, N, I)));
    assert_row("add", false, 1, 0, 3 * bytes, 0, 0);
    assert_row("add", true, 1, 0, 2 * bytes, 0, 0);
    back(op_scale(&ctx, leaf(&dtype_f32, N, I), 2));
    assert_row("scale", false, 1, 0, 2 * bytes, 0, 0);
    back(op_dropout(&ctx, leaf(&dtype_f32, N, I), 0.5f, 1, row_id));
    assert_row("dropout", false, 1, 0, 2 * bytes, 0, all);
    assert_row("dropout", true, 1, 0, 2 * bytes, 0, all);
    back(op_embedding(&ctx, leaf(&dtype_f32, V, I), tok, N));
    assert_row("embedding", false, 1, 0, 2 * bytes, 0, 0);
    assert_row("embedding", true, 1, 0, 3 * bytes, 0, 0);
}

/* Half the bytes pass where activations are of bf16. */
static void rows_of_bf16(void **state)
{
    (void)state;
    const struct rope rope = {.head_dim = I, .n_pos = N};
    const int32_t pos[N] = {0};
    back(op_rope(&ctx, leaf(&dtype_bf16, N, I), &rope, pos));
    assert_row("rope", false, 1, 0, 2 * 2 * N * I, 0, 0);
    assert_row("rope", true, 1, 0, 2 * 2 * N * I, 0, 0);
    back(op_swiglu(&ctx, leaf(&dtype_bf16, N, I), leaf(&dtype_bf16, N, I)));
    assert_row("swiglu", false, 1, 0, 3 * 2 * N * I, N * I, 0);
}

/* Losses do their backward at once; without gradients they cost a third. */
static void losses(void **state)
{
    (void)state;
    enum { LONG = 600 };
    static const int32_t target[LONG];
    const struct head_loss_args args = {.target = target, .weight = 1};
    struct tensor *hidden = leaf(&dtype_f32, LONG, I), *w = leaf(&dtype_f32, V, I);
    struct loss loss = {0};
    assert_int_equal(op_head_loss(&ctx, hidden, w, &args, &loss), 0);
    assert_row("head_loss", false, 1, 3 * 2.0 * LONG * V * I, 5 * 4.0 * LONG * V, LONG * V, 0);
    profile_clear(&profile);
    ctx.recording = false;
    assert_int_equal(op_head_loss(&ctx, hidden, w, &args, &loss), 0);
    assert_row("head_loss", false, 1, 2.0 * LONG * V * I, 3 * 4.0 * LONG * V, LONG * V, 0);
    ctx.recording = true;
    assert_int_equal(op_mse(&ctx, hidden, leaf(&dtype_f32, LONG, I), 1, &loss), 0);
    assert_row("mse", false, 1, 0, 2 * 2 * 4.0 * LONG * I, 0, 0);
}

static struct tensor *body(struct ctx *c, const void *arg, struct tensor *x)
{
    struct tensor *w = *(struct tensor *const *)arg, *y;
    return op_linear(c, x, 1, &w, NULL, NULL, &y) ? NULL : y;
}

/* A block that is recomputed runs its ops forward twice. */
static void segments(void **state)
{
    (void)state;
    static float data[I * I], grad[I * I]; // a parameter's lie outside the arena
    struct tensor weight = {
        .dt = &dtype_f32, .nd = 2, .dim = {I, I}, .data = data, .grad = grad, .needs_grad = true};
    struct tensor *w = &weight, *x = leaf(&dtype_f32, N, I);
    const double product = 2 * N * I * I;
    for (int again = 0; again < 2; again++) {
        profile_clear(&profile);
        ctx.recompute = again;
        back(ctx_segment(&ctx, body, &w, sizeof w, x));
        assert_row("linear", false, 1 + again, (1 + again) * product, 0, 0, 0);
        assert_row("linear", true, 1, 2 * product, 0, 0, 0);
        assert_row("segment", true, 1, 0, 0, 0, 0);
        if (again)
            assert_row("segment", false, 1, 0, 2 * 4 * N * I, 0, 0); // its result is moved out
        else
            assert_null(profile_find(&profile, "segment", false));
    }
    ctx.recompute = false;
}

static void pause_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

static void time_is_exclusive(void **state)
{
    (void)state;
    const double begin = clock_seconds();
    struct profile_span outer = profile_begin(&profile);
    for (int i = 0; i < 2; i++) {
        const struct profile_span inner = profile_begin(&profile);
        pause_ms(30);
        profile_add(&profile, &inner, "inner", false, NULL);
    }
    pause_ms(5);
    profile_add(&profile, &outer, "outer", true, NULL);
    const double all = clock_seconds() - begin;
    const double in = profile_find(&profile, "inner", false)->seconds;
    const double out = profile_find(&profile, "outer", true)->seconds;
    assert_true(in >= 0.06 && out >= 0.005 && in + out <= all);
    assert_null(profile_find(&profile, "outer", false));
    // what follows starts afresh
    outer = profile_begin(&profile);
    pause_ms(5);
    profile_add(&profile, &outer, "later", false, NULL);
    assert_true(profile_find(&profile, "later", false)->seconds >= 0.005);
    // and nothing at all happens without a profile
    outer = profile_begin(NULL);
    profile_add(NULL, &outer, "never", false, NULL);
    assert_null(profile_find(&profile, "never", false));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(linears),      TEST(shapes_are_counted_once),
        TEST(attention),    TEST(rows_of_f32),
        TEST(rows_of_bf16), TEST(losses),
        TEST(segments),     TEST(time_is_exclusive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
