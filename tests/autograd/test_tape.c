#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/autograd.h"

/* An op for these tests: y = 2 x of one float; both directions are written down. */
static char trace[256];

static void note(const char *what, const struct node *node)
{
    char text[16];
    snprintf(text, sizeof text, "%s%d ", what, *(const int *)node->saved);
    strcat(trace, text);
}

static void forward(struct ctx *ctx, struct node *node)
{
    note("f", node);
    if (!ctx->measuring)
        *(float *)node->out[0]->data = 2 * *(const float *)node->in[0]->data;
}

static void backward(struct ctx *ctx, struct node *node)
{
    bool fresh;
    note("b", node);
    float *dx = ctx_grad(ctx, node->in[0], &fresh);
    if (dx && !ctx->measuring)
        *dx = (fresh ? 0 : *dx) + 2 * *(const float *)node->out[0]->grad;
}

static const struct op op = {"twice", forward, backward, NULL};
static int ids[] = {0, 1, 2, 3, 4, 5};

static struct tensor *twice(struct ctx *ctx, int id, struct tensor *x)
{
    if (!x || ctx->failed)
        return NULL;
    struct node node = {.op = &op, .in = {x}, .out = {ctx_like(ctx, x)}, .saved = &ids[id]};
    return node.out[0] ? ctx_run(ctx, &node) : NULL;
}

static float value = 3;
static struct tensor x;

static void start(struct ctx *ctx, size_t bytes)
{
    assert_int_equal(ctx_init(ctx, bytes), 0);
    ctx->recording = true;
    *trace = 0;
    x = (struct tensor){.dt = &dtype_f32, .nd = 1, .dim = {1}, .data = &value, .needs_grad = true};
}

static void give(struct ctx *ctx, struct tensor *t, float g)
{
    float *grad = t->grad = ctx_scratch(ctx, sizeof g);
    *grad = g;
}

static float grad(const struct tensor *t)
{
    return *(const float *)t->grad;
}

static void backward_is_reverse(void **state)
{
    struct ctx ctx;
    (void)state;
    start(&ctx, 1 << 16);
    struct tensor *y = twice(&ctx, 1, &x), *z = twice(&ctx, 2, y), *w = twice(&ctx, 3, y);
    assert_true(*(float *)z->data == 12 && *(float *)w->data == 12);
    assert_true(y->needs_grad && z->needs_grad);
    give(&ctx, z, 1);
    give(&ctx, w, 10);
    tape_backward(&ctx, NULL);
    assert_string_equal(trace, "f1 f2 f3 b3 b2 b1 ");
    assert_true(grad(&x) == 44 && grad(y) == 22);
    assert_null(ctx.tape);
    ctx_free(&ctx);
}

/* A node whose outputs got no gradient is skipped; its inputs then have none either. */
static void unused_is_skipped(void **state)
{
    struct ctx ctx;
    (void)state;
    start(&ctx, 1 << 16);
    struct tensor *y = twice(&ctx, 1, &x), *z = twice(&ctx, 2, y);
    struct tensor *dead = twice(&ctx, 3, twice(&ctx, 4, &x));
    give(&ctx, z, 1);
    tape_backward(&ctx, NULL);
    assert_string_equal(trace, "f1 f2 f4 f3 b2 b1 ");
    assert_null(dead->grad);
    assert_true(grad(&x) == 4);
    ctx_free(&ctx);
}

static void down_to_a_node(void **state)
{
    struct ctx ctx;
    (void)state;
    start(&ctx, 1 << 16);
    struct tensor *y = twice(&ctx, 1, &x);
    struct node *until = ctx.tape;
    struct tensor *z = twice(&ctx, 2, twice(&ctx, 3, y));
    give(&ctx, z, 1);
    tape_backward(&ctx, until);
    assert_ptr_equal(ctx.tape, until);
    assert_true(grad(y) == 4 && !x.grad);
    tape_backward(&ctx, NULL);
    assert_true(grad(&x) == 8);
    assert_string_equal(trace, "f1 f3 f2 b2 b3 b1 ");
    ctx_free(&ctx);
}

static void nothing_to_record(void **state)
{
    struct ctx ctx;
    (void)state;
    start(&ctx, 1 << 16);
    x.needs_grad = false;
    const struct tensor *y = twice(&ctx, 1, &x);
    assert_true(!ctx.tape && !y->needs_grad); // no input needs a gradient
    x.needs_grad = true;
    ctx.recording = false;
    y = twice(&ctx, 2, &x);
    assert_true(!ctx.tape && !y->needs_grad);
    ctx_free(&ctx);
}

static void stopping(void **state)
{
    volatile sig_atomic_t stop = 0;
    struct ctx ctx;
    (void)state;
    start(&ctx, 1 << 16);
    ctx.stop = &stop;
    struct tensor *y = twice(&ctx, 1, &x), *z = twice(&ctx, 2, y);
    give(&ctx, z, 1);
    stop = 1;
    tape_backward(&ctx, NULL);
    assert_string_equal(trace, "f1 f2 ");
    assert_true(ctx.failed);
    assert_string_equal(ctx.text, "stopped");
    ctx_reset(&ctx);
    assert_null(twice(&ctx, 3, &x));
    assert_string_equal(ctx.text, "stopped");
    stop = 0;
    ctx_reset(&ctx);
    assert_non_null(twice(&ctx, 4, &x));
    assert_string_equal(trace, "f1 f2 f4 ");
    ctx_free(&ctx);
}

static void failure_is_sticky(void **state)
{
    struct ctx ctx;
    (void)state;
    start(&ctx, 1 << 16);
    struct tensor *y = twice(&ctx, 1, &x);
    give(&ctx, y, 1);
    assert_null(ctx_fail(&ctx, "no %d", 5));
    assert_null(ctx_fail(&ctx, "no %d", 6));
    assert_string_equal(ctx.text, "no 5");
    const size_t lo = ctx.arena.lo, hi = ctx.arena.hi, peak = ctx.arena.peak;
    assert_null(ctx_push(&ctx, 8));
    assert_null(ctx_scratch(&ctx, 8));
    assert_null(ctx_matrix(&ctx, &dtype_f32, 2, 2));
    assert_null(twice(&ctx, 2, y));
    tape_backward(&ctx, NULL);
    assert_true(ctx.arena.lo == lo && ctx.arena.hi == hi);
    assert_string_equal(trace, "f1 ");
    ctx_reset(&ctx);
    assert_true(!ctx.failed && !*ctx.text && !ctx.tape && !ctx.arena.lo && !ctx.arena.hi);
    assert_int_equal(ctx.arena.peak, peak);
    // a text that is too long is cut
    char text[400];
    memset(text, 'x', sizeof text);
    text[399] = 0;
    ctx_fail(&ctx, "%s", text);
    assert_int_equal(strlen(ctx.text), sizeof ctx.text - 1);
    ctx_free(&ctx);
}

static void full_arena(void **state)
{
    struct ctx ctx;
    (void)state;
    start(&ctx, 4096);
    assert_non_null(ctx_push(&ctx, 4000));
    assert_null(ctx_matrix(&ctx, &dtype_f32, 100, 100));
    assert_non_null(strstr(ctx.text, "4096"));
    assert_non_null(strstr(ctx.text, "full"));
    ctx_free(&ctx);
}

static void gradients_of_tensors(void **state)
{
    struct ctx ctx;
    bool fresh, taken;
    (void)state;
    start(&ctx, 1 << 16);
    struct tensor *a = ctx_matrix(&ctx, &dtype_f32, 2, 3), *b = ctx_matrix(&ctx, &dtype_f32, 2, 3);
    assert_true(!a->grad && !a->needs_grad && a->nd == 2 && a->dt == &dtype_f32);
    assert_null(ctx_grad(&ctx, a, &fresh));
    assert_false(fresh);
    assert_null(ctx_grad(&ctx, NULL, &fresh));
    a->needs_grad = b->needs_grad = true;
    float *g = ctx_grad(&ctx, a, &fresh);
    assert_true(g && fresh && a->grad == g);
    assert_true(ctx_grad(&ctx, a, &fresh) == g && !fresh);
    assert_true(ctx_grad_take(&ctx, a, b, &fresh, &taken) == g && fresh && taken && b->grad == g);
    struct tensor *c = ctx_like(&ctx, a);
    c->grad = ctx_scratch(&ctx, tensor_bytes(c));
    assert_true(ctx_grad_take(&ctx, c, b, &fresh, &taken) == g && !fresh && !taken);
    assert_null(ctx_grad_take(&ctx, a, NULL, &fresh, &taken));
    assert_false(taken);
    struct tensor *d = ctx_like(&ctx, a);
    d->needs_grad = true;
    memset(ctx.arena.base + ctx.arena.lo, 0x7f, ctx.arena.size - ctx.arena.lo - ctx.arena.hi);
    g = ctx_grad_sum(&ctx, d);
    for (int i = 0; i < 6; i++)
        assert_true(g[i] == 0);
    g[3] = 5;
    assert_true(ctx_grad_sum(&ctx, d) == g && g[3] == 5);
    assert_null(ctx_grad_sum(&ctx, c));
    assert_null(ctx_grad_sum(&ctx, NULL));
    ctx_free(&ctx);
}

static void scratch(void **state)
{
    struct ctx ctx;
    (void)state;
    start(&ctx, 1 << 16);
    const size_t mark = ctx_mark(&ctx);
    char *p = ctx_scratch(&ctx, 10);
    assert_int_equal(ctx.arena.hi, 64);
    ctx_release(&ctx, mark);
    assert_int_equal(ctx.arena.hi, 0);
    const int old = omp_get_max_threads();
    omp_set_num_threads(3);
    size_t bytes = 65;
    char *team = ctx_thread_scratch(&ctx, &bytes);
    assert_int_equal(bytes, 128);
    assert_int_equal(ctx.arena.hi, 3 * 128);
    assert_true(team + 3 * 128 == p + 64); // both end where the arena ends
    omp_set_num_threads(old);
    ctx_free(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(backward_is_reverse),
        cmocka_unit_test(unused_is_skipped),
        cmocka_unit_test(down_to_a_node),
        cmocka_unit_test(nothing_to_record),
        cmocka_unit_test(stopping),
        cmocka_unit_test(failure_is_sticky),
        cmocka_unit_test(full_arena),
        cmocka_unit_test(gradients_of_tensors),
        cmocka_unit_test(scratch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
