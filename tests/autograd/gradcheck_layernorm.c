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
    return (out[0] = op_layernorm(ctx, in[0], in[1], in[2], *(const float *)arg)) != NULL;
}

static bool shared(struct ctx *ctx, const void *arg, struct tensor *const in[],
                   struct tensor *out[], struct loss *loss)
{
    struct tensor *y = NULL;
    build(ctx, arg, in, &y, loss);
    return (out[0] = op_add(ctx, y, in[0])) != NULL;
}

void gradcheck_layernorm(void **state)
{
    (void)state;
    static const float eps = 1e-5f, large = 0.5f;
    const struct gradcheck cases[] = {
        {"layernorm",
         {{5, 9, .mean = 3}, {0, 9, .mean = 1, .param = true}, {0, 9, .param = true}},
         build,
         &eps},
        {"layernorm, large eps",
         {{19, 16}, {0, 16, .param = true}, {0, 16, .param = true}},
         build,
         &large},
        {"layernorm, one row, parameters without memory of their own",
         {{1, 33}, {0, 33, .mean = 1}, {0, 33}},
         build,
         &eps},
        {"layernorm, gain frozen",
         {{4, 6}, {0, 6, .mean = 1, .frozen = true}, {0, 6}},
         build,
         &eps},
        {"layernorm, bias frozen",
         {{4, 6}, {0, 6, .mean = 1}, {0, 6, .frozen = true}},
         build,
         &eps},
        {"layernorm beside a residual",
         {{33, 5}, {0, 5, .mean = 1, .param = true}, {0, 5, .param = true}},
         shared,
         &large},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        gradcheck_run(&cases[i]);
    gradcheck_refuses(&(struct gradcheck){.name = "layernorm",
                                          .in = {{5, 9}, {0, 8}, {0, 9}},
                                          .build = build,
                                          .arg = &eps},
                      "a gain of 8 and a bias of 9 on rows of 9");
    gradcheck_refuses(&(struct gradcheck){.name = "layernorm",
                                          .in = {{5, 9}, {0, 9}, {0, 8}},
                                          .build = build,
                                          .arg = &eps},
                      "a gain of 9 and a bias of 8 on rows of 9");
}
