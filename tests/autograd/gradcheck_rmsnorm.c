#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/gradcheck.h"

static bool build(struct ctx *ctx, const void *arg, struct tensor *const in[], struct tensor *out[],
                  struct loss *loss)
{
    (void)loss;
    return (out[0] = op_rmsnorm(ctx, in[0], in[1], *(const float *)arg)) != NULL;
}

static bool shared(struct ctx *ctx, const void *arg, struct tensor *const in[],
                   struct tensor *out[], struct loss *loss)
{
    (void)loss;
    return (out[0] = op_add(ctx, op_rmsnorm(ctx, in[0], in[1], *(const float *)arg), in[0])) !=
           NULL;
}

void gradcheck_rmsnorm(void **state)
{
    (void)state;
    const float eps = 1e-5f, large = 0.5f;
    gradcheck_run(&(struct gradcheck){.name = "rmsnorm",
                                      .in = {{5, 9}, {0, 9, .mean = 1, .param = true}},
                                      .build = build,
                                      .arg = &eps});
    gradcheck_run(&(struct gradcheck){.name = "rmsnorm, large eps",
                                      .in = {{19, 16}, {0, 16, .param = true}},
                                      .build = build,
                                      .arg = &large});
    gradcheck_run(&(struct gradcheck){.name = "rmsnorm, one row, gain without memory of its own",
                                      .in = {{1, 33}, {0, 33, .mean = 1}},
                                      .build = build,
                                      .arg = &eps});
    gradcheck_run(&(struct gradcheck){.name = "rmsnorm beside a residual",
                                      .in = {{33, 5}, {0, 5, .mean = 1, .param = true}},
                                      .build = shared,
                                      .arg = &large});
    gradcheck_run(&(struct gradcheck){.name = "rmsnorm of heads",
                                      .in = {{5, 12}, {0, 4, .mean = 1, .param = true}},
                                      .build = build,
                                      .arg = &eps});
    gradcheck_refuses(&(struct gradcheck){.name = "rmsnorm",
                                          .in = {{5, 9}, {0, 8, .param = true}},
                                          .build = build,
                                          .arg = &eps},
                      "a gain of 8 on rows of 9");
}
