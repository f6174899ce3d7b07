#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/gradcheck.h"

static bool two(struct ctx *ctx, const void *arg, struct tensor *const in[], struct tensor *out[],
                struct loss *loss)
{
    (void)arg;
    (void)loss;
    return (out[0] = op_add(ctx, in[0], in[1])) != NULL;
}

static bool itself(struct ctx *ctx, const void *arg, struct tensor *const in[],
                   struct tensor *out[], struct loss *loss)
{
    (void)arg;
    (void)loss;
    return (out[0] = op_add(ctx, in[0], in[0])) != NULL;
}

/* Buffers of gradients wander: out to a, from there on to what a was made of. */
static bool chain(struct ctx *ctx, const void *arg, struct tensor *const in[], struct tensor *out[],
                  struct loss *loss)
{
    (void)arg;
    (void)loss;
    struct tensor *x = op_add(ctx, in[0], in[1]);
    struct tensor *y = op_add(ctx, x, in[0]);
    struct tensor *z = op_add(ctx, op_scale(ctx, y, 3), x);
    return (out[0] = op_add(ctx, y, z)) != NULL;
}

void gradcheck_add(void **state)
{
    (void)state;
    gradcheck_run(&(struct gradcheck){.name = "add", .in = {{5, 7}, {5, 7}}, .build = two});
    gradcheck_run(&(struct gradcheck){.name = "add to itself", .in = {{4, 9}}, .build = itself});
    gradcheck_run(&(struct gradcheck){.name = "chain of adds",
                                      .in = {{3, 20}, {3, 20, .param = true}},
                                      .build = chain});
    gradcheck_refuses(&(struct gradcheck){.name = "add", .in = {{5, 7}, {7, 5}}, .build = two},
                      "shapes");
    gradcheck_refuses(&(struct gradcheck){.name = "add", .in = {{5, 7}, {0, 35}}, .build = two},
                      "shapes");
}
