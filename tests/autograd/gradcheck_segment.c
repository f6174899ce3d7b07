#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/gradcheck.h"

static const uint64_t row_id[] = {3, 1, 4, 15, 9, 2, 6};

struct block {
    struct tensor *norm, *up, *down;
};

/* x + dropout(down swiglu(up norm(x), up norm(x) / 2)) */
static struct tensor *block(struct ctx *ctx, const void *arg, struct tensor *x)
{
    const struct block *b = arg;
    struct tensor *y = op_rmsnorm(ctx, x, b->norm, 1e-3f), *up[1], *out[1];
    op_linear(ctx, y, 1, &b->up, NULL, NULL, up);
    y = op_swiglu(ctx, up[0], op_scale(ctx, up[0], 0.5f));
    y = op_dropout(ctx, y, 0.2f, 5, row_id);
    op_linear(ctx, y, 1, &b->down, NULL, x, out);
    return out[0];
}

static bool all_stays; /* brief() makes nothing brief */

/* down swiglu(up y, up y / 2) on x, y = 2 norm(x): y and swiglu, and what they are made of, again
   in backward; y is read twice. */
static struct tensor *brief(struct ctx *ctx, const void *arg, struct tensor *x)
{
    const struct block *b = arg;
    struct tensor *gate[1], *up[1], *out[1];
    ctx->brief = !all_stays;
    struct tensor *y = op_scale(ctx, op_rmsnorm(ctx, x, b->norm, 1e-3f), 2);
    ctx->brief = false;
    op_linear(ctx, y, 1, &b->up, NULL, NULL, gate);
    op_linear(ctx, y, 1, &b->up, NULL, NULL, up);
    ctx->brief = !all_stays;
    y = op_swiglu(ctx, gate[0], op_scale(ctx, up[0], 0.5f));
    ctx->brief = false;
    op_linear(ctx, y, 1, &b->down, NULL, x, out);
    return out[0];
}

static struct loss inner_loss;

/* block(), and a loss of x or of what is made inside: of no use to backward. */
static struct tensor *loss_of_x(struct ctx *ctx, const void *arg, struct tensor *x)
{
    op_mse(ctx, x, op_scale(ctx, x, 0.5f), 1, &inner_loss);
    return block(ctx, arg, x);
}

static struct tensor *loss_inside(struct ctx *ctx, const void *arg, struct tensor *x)
{
    static const int32_t target[] = {0, 1, 2, 3, 4, 5, 6};
    const struct block *b = arg;
    struct tensor *y = block(ctx, arg, x);
    op_head_loss(ctx, y, b->up, &(struct head_loss_args){.target = target, .weight = 1},
                 &inner_loss);
    return y;
}

static struct tensor *loss_within(struct ctx *ctx, const void *arg, struct tensor *x)
{
    return ctx_segment(ctx, loss_inside, arg, sizeof(struct block), x);
}

/* Its result would be gone. */
static struct tensor *brief_end(struct ctx *ctx, const void *arg, struct tensor *x)
{
    (void)arg;
    ctx->brief = true;
    struct tensor *y = op_scale(ctx, x, 2);
    ctx->brief = false;
    return y;
}

/* Its last op does not hand the buffer of its gradient on to x. */
static struct tensor *fresh_end(struct ctx *ctx, const void *arg, struct tensor *x)
{
    return op_scale(ctx, block(ctx, arg, op_scale(ctx, x, 0.5f)), 3);
}

/* The gradient of x is made inside, in memory of its own. */
static struct tensor *no_residual(struct ctx *ctx, const void *arg, struct tensor *x)
{
    const struct block *b = arg;
    struct tensor *up[1], *out[1];
    op_linear(ctx, x, 1, &b->up, NULL, NULL, up);
    struct tensor *y = op_swiglu(ctx, up[0], op_scale(ctx, up[0], 0.5f));
    op_linear(ctx, y, 1, &b->down, NULL, NULL, out);
    return op_rmsnorm(ctx, out[0], b->norm, 1e-1f);
}

static struct tensor *nested(struct ctx *ctx, const void *arg, struct tensor *x)
{
    const struct block *b = arg;
    struct tensor *y = ctx_segment(ctx, block, b, sizeof *b, x);
    y = ctx_segment(ctx, fresh_end, b, sizeof *b, y);
    return op_add(ctx, op_scale(ctx, x, 0.3f), y);
}

static struct tensor *identity(struct ctx *ctx, const void *arg, struct tensor *x)
{
    (void)ctx;
    (void)arg;
    return x;
}

static struct tensor *wrong_shape(struct ctx *ctx, const void *arg, struct tensor *x)
{
    (void)arg;
    return ctx_matrix(ctx, &dtype_f32, tensor_rows(x), tensor_cols(x) + 1);
}

/* Three segments of fn; between and around them what blocks of a model meet. arg: fn */
struct chain {
    segment_fn *fn;
    bool after; /* x and the first block's result are used again behind the last */
    bool plain; /* no segments: the functions are called */
};

static struct tensor *step(struct ctx *ctx, const struct chain *c, const struct block *b,
                           struct tensor *x)
{
    if (!x || c->plain)
        return x ? c->fn(ctx, b, x) : NULL;
    struct block copy = *b;
    struct tensor *y = ctx_segment(ctx, c->fn, &copy, sizeof copy, x);
    memset(&copy, 0, sizeof copy); // the segment has its own
    return y;
}

static bool build(struct ctx *ctx, const void *arg, struct tensor *const in[], struct tensor *out[],
                  struct loss *loss)
{
    const struct chain *c = arg;
    const struct block b = {in[1], in[2], in[3]};
    (void)loss;
    struct tensor *x = step(ctx, c, &b, in[0]);
    struct tensor *y = step(ctx, c, &b, op_scale(ctx, x, 0.7f));
    y = step(ctx, c, &b, y);
    if (c->after)
        y = op_add(ctx, op_add(ctx, y, x), in[0]);
    return (out[0] = y) != NULL;
}

#define WEIGHTS                                                                                    \
    {0, 6, .mean = 1, .param = true, .optional = true},                                            \
        {10, 6, .std = 0.4f, .param = true, .optional = true},                                     \
    {                                                                                              \
        6, 10, .std = 0.4f, .param = true, .optional = true                                        \
    }

static struct tap *counting; /* of outcome()'s ctx */

/* y and all gradients of the chain, in one array. */
static float *outcome(const struct chain *c, bool recompute, int64_t *n)
{
    enum { N = 7, C = 6, F = 10 };
    float *x = gradcheck_normal(1, 1, N * C), *dy = gradcheck_normal(2, 1, N * C);
    float *w = gradcheck_normal(3, 0.4f, C + 2 * F * C);
    *n = 2 * N * C + C + 2 * F * C;
    float *all = calloc((size_t)*n, sizeof *all), *dw = all + 2 * N * C;
    struct tensor tx = {&dtype_f32, 2, {N, C}, x, NULL, true};
    struct tensor t[] = {{&dtype_f32, 1, {C}, w, dw, true},
                         {&dtype_f32, 2, {F, C}, w + C, dw + C, true},
                         {&dtype_f32, 2, {C, F}, w + C + F * C, dw + C + F * C, true}};
    struct tensor *const in[] = {&tx, &t[0], &t[1], &t[2]}, *out[NODE_OUT];
    struct ctx ctx;
    assert_int_equal(ctx_init(&ctx, 1 << 20), 0);
    ctx.recording = ctx.training = true;
    ctx.recompute = recompute;
    ctx.tap = counting;
    assert_true(build(&ctx, c, in, out, NULL));
    memcpy(all, out[0]->data, N * C * sizeof *all);
    out[0]->grad = ctx_scratch(&ctx, N * C * sizeof *dy);
    memcpy(out[0]->grad, dy, N * C * sizeof *dy);
    ctx.recording = false; // segments that are run again record all the same
    tape_backward(&ctx, NULL);
    assert_false(ctx.failed || ctx.recording);
    memcpy(all + N * C, tx.grad, N * C * sizeof *all);
    ctx_free(&ctx);
    free(x), free(dy), free(w);
    return all;
}

/* Bit for bit the same: kept, run again, and without segments. */
static void same_bits(const struct chain *c)
{
    int64_t n;
    struct chain plain = *c;
    plain.plain = true;
    float *const want = outcome(&plain, false, &n);
    for (int recompute = 0; recompute <= 1; recompute++) {
        float *got = outcome(c, recompute, &n);
        assert_memory_equal(got, want, (size_t)n * sizeof *got);
        free(got);
    }
    free(want);
}

/* Peak bytes of `blocks` segments of fn, forward and backward. */
static size_t peak(segment_fn *fn, int blocks, bool recompute, bool recording, size_t *rest)
{
    enum { N = 7, C = 6, F = 10 };
    float *w = gradcheck_normal(3, 0.4f, N * C + C + 2 * F * C);
    float *dw = calloc(C + 2 * F * C, sizeof *dw);
    struct tensor x = {&dtype_f32, 2, {N, C}, w + C + 2 * F * C, NULL, true};
    struct tensor t[] = {{&dtype_f32, 1, {C}, w, dw, true},
                         {&dtype_f32, 2, {F, C}, w + C, dw + C, true},
                         {&dtype_f32, 2, {C, F}, w + C + F * C, dw + C + F * C, true}};
    const struct block b = {&t[0], &t[1], &t[2]};
    struct ctx ctx;
    assert_int_equal(ctx_init(&ctx, 4 << 20), 0);
    ctx.recording = recording;
    ctx.training = true;
    ctx.recompute = recompute;
    struct tensor *y = &x;
    for (int i = 0; i < blocks; i++)
        y = ctx_segment(&ctx, fn, &b, sizeof b, y);
    assert_non_null(y);
    if (recording) {
        y->grad = ctx_scratch(&ctx, N * C * sizeof *w);
        memset(y->grad, 0, N * C * sizeof *w);
        tape_backward(&ctx, NULL);
    }
    assert_false(ctx.failed);
    const size_t p = ctx.arena.peak;
    *rest = ctx.arena.lo + ctx.arena.hi;
    ctx_free(&ctx);
    free(w), free(dw);
    return p;
}

static void memory_is_released(void)
{
    size_t rest, one_rest;
    const size_t one = peak(block, 1, false, true, &one_rest);
    const size_t kept = peak(block, 12, false, true, &rest);
    assert_true(kept > 8 * one); // forward saves the same for each, gradients come and go
    assert_true(rest < 2 * one_rest);
    // run again: a block costs its result; N x C floats and a little for the segment
    const size_t again = peak(block, 12, true, true, &rest);
    const size_t first = peak(block, 1, true, true, &one_rest);
    const size_t result = 7 * 6 * sizeof(float) + 640;
    assert_true(again <= first + 11 * result);
    assert_true(3 * again < kept);
    assert_true(rest < first);
    // not recording: the same for inference
    const size_t infer = peak(block, 12, false, false, &rest);
    assert_true(infer <= peak(block, 1, false, false, &one_rest) + 11 * result);
    // each block drops two [N,C] and two [N,F]
    size_t more[2];
    for (int i = 0; i <= 1; i++) {
        all_stays = i;
        more[i] = peak(brief, 12, false, true, &rest) - peak(brief, 2, false, true, &rest);
    }
    all_stays = false;
    enum { NC = (7 * 6 * 4 + 63) / 64 * 64, NF = (7 * 10 * 4 + 63) / 64 * 64 };
    assert_int_equal(more[1] - more[0], 10 * (2 * NC + 2 * NF));
}

/* While nobody wants gradients, a loss inside is a number like others: once. */
static void losses_inside_are_counted_without_gradients(void)
{
    float v[] = {1, 2, 4};
    struct tensor x = {.dt = &dtype_f32, .nd = 1, .dim = {3}, .data = v, .needs_grad = true};
    struct ctx ctx;
    assert_int_equal(ctx_init(&ctx, 1 << 20), 0);
    ctx.recompute = true;
    inner_loss = (struct loss){0};
    assert_null(ctx_segment(&ctx, loss_of_x, &(struct block){0}, sizeof(struct block), &x)); // no w
    assert_true(inner_loss.sum == 21 * 0.25 && inner_loss.count == 3 && !x.grad);
    ctx_free(&ctx);
}

struct outsider {
    struct tensor *t;
};

static struct tensor *with_outsider(struct ctx *ctx, const void *arg, struct tensor *x)
{
    const struct outsider *o = arg;
    return op_add(ctx, op_scale(ctx, x, 2), op_scale(ctx, o->t, 3));
}

/* x + 3 y, y = 5 x from outside: its gradient would lie in memory that the segment gives back. */
static void gradients_do_not_leave_through_arg(void)
{
    for (int k = 0; k < 4; k++) {
        const bool recompute = k & 1, has_one = k & 2; // y's gradient is there before: it stays
        float v[] = {1, 2, 4}, g[] = {1, 1, 1};
        struct tensor x = {.dt = &dtype_f32, .nd = 1, .dim = {3}, .data = v, .needs_grad = true};
        struct ctx ctx;
        assert_int_equal(ctx_init(&ctx, 1 << 20), 0);
        ctx.recording = true;
        ctx.recompute = recompute;
        const struct outsider o = {op_scale(&ctx, &x, 5)};
        struct tensor *y = ctx_segment(&ctx, with_outsider, &o, sizeof o, op_scale(&ctx, &x, 7));
        assert_non_null(y);
        if (has_one)
            ctx_grad_sum(&ctx, o.t);
        y->grad = g;
        tape_backward(&ctx, NULL);
        assert_int_equal(ctx.failed, !has_one);
        if (has_one)
            assert_true(*(float *)x.grad == 2 * 7 + 3 * 5);
        else
            assert_non_null(strstr(ctx.text, "a tensor from outside"));
        ctx_free(&ctx);
    }
}

static int seen;

static void see(struct tap *tap, int n, struct tensor *const w[], const struct tensor *x)
{
    (void)tap, (void)n, (void)w, (void)x;
    seen++;
}

/* Run again in backward, a block's linears have been seen already. */
static void linears_are_seen_once(void)
{
    const struct chain c = {block, false, false};
    struct tap tap = {see};
    int64_t n;
    counting = &tap;
    for (int recompute = 0; recompute <= 1; recompute++) {
        seen = 0;
        free(outcome(&c, recompute, &n));
        assert_int_equal(seen, 3 * 2);
    }
    counting = NULL;
}

static void misuse(void)
{
    const struct chain wrong = {wrong_shape, false, false};
    for (int recompute = 0; recompute <= 1; recompute++)
        gradcheck_refuses(&(struct gradcheck){.name = "segment",
                                              .in = {{7, 6}, WEIGHTS},
                                              .build = build,
                                              .arg = &wrong,
                                              .recompute = recompute},
                          "the shape of its input");
    segment_fn *const losses[] = {loss_of_x, loss_inside, loss_within};
    for (int i = 0; i < 6; i++) {
        const struct chain c = {losses[i / 2], false, false};
        gradcheck_refuses(&(struct gradcheck){.name = "segment",
                                              .in = {{7, 6}, WEIGHTS},
                                              .build = build,
                                              .arg = &c,
                                              .recompute = i % 2},
                          "a loss inside a segment");
    }
    const struct chain gone = {brief_end, false, false};
    gradcheck_refuses(&(struct gradcheck){.name = "segment",
                                          .in = {{7, 6}, WEIGHTS},
                                          .build = build,
                                          .arg = &gone},
                      "must stay");
}

void gradcheck_segment(void **state)
{
    (void)state;
    segment_fn *const fns[] = {block, fresh_end, no_residual, nested, brief, identity};
    for (size_t i = 0; i < sizeof fns / sizeof *fns; i++)
        for (int k = 0; k < 4; k++) {
            const struct chain c = {fns[i], k & 1, false};
            struct gradcheck g = {.name = k & 2 ? "segment, recompute" : "segment",
                                  .in = {{7, 6}, WEIGHTS},
                                  .build = build,
                                  .arg = &c,
                                  .step = 0.01f,
                                  .training = true,
                                  .recompute = k & 2};
            if (fns[i] == identity)
                g.in[1].cols = g.in[2].cols = g.in[3].cols = 0;
            gradcheck_run(&g);
            if (fns[i] != identity)
                same_bits(&c);
        }
    memory_is_released();
    misuse();
    losses_inside_are_counted_without_gradients();
    gradients_do_not_leave_through_arg();
    linears_are_seen_once();
}
