#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/gradcheck.h"

static bool build(struct ctx *ctx, const void *arg, struct tensor *const in[], struct tensor *out[],
                  struct loss *loss)
{
    (void)arg;
    (void)loss;
    return (out[0] = op_swiglu(ctx, in[0], in[1])) != NULL;
}

static bool itself(struct ctx *ctx, const void *arg, struct tensor *const in[],
                   struct tensor *out[], struct loss *loss)
{
    (void)arg;
    (void)loss;
    return (out[0] = op_swiglu(ctx, in[0], in[0])) != NULL;
}

/* gate and up also go elsewhere: their gradients are added to, not written */
static bool shared(struct ctx *ctx, const void *arg, struct tensor *const in[],
                   struct tensor *out[], struct loss *loss)
{
    (void)arg;
    (void)loss;
    struct tensor *y = op_swiglu(ctx, in[0], in[1]);
    out[0] = op_add(ctx, op_add(ctx, y, in[0]), op_scale(ctx, in[1], 2));
    return out[0] != NULL;
}

void gradcheck_swiglu(void **state)
{
    (void)state;
    gradcheck_run(
        &(struct gradcheck){.name = "swiglu", .in = {{5, 7, .std = 2}, {5, 7}}, .build = build});
    gradcheck_run(
        &(struct gradcheck){.name = "swiglu, shared", .in = {{3, 37}, {3, 37}}, .build = shared});
    gradcheck_refuses(&(struct gradcheck){.name = "swiglu", .in = {{5, 7}, {5, 8}}, .build = build},
                      "shape");
    gradcheck_refuses(&(struct gradcheck){.name = "swiglu", .in = {{5, 7}}, .build = itself},
                      "two tensors");
}
