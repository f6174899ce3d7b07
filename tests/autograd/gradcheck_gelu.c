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
    return (out[0] = op_gelu(ctx, in[0])) != NULL;
}

/* x also goes elsewhere: its gradient is added to, not written */
static bool shared(struct ctx *ctx, const void *arg, struct tensor *const in[],
                   struct tensor *out[], struct loss *loss)
{
    (void)arg;
    (void)loss;
    return (out[0] = op_add(ctx, op_gelu(ctx, in[0]), in[0])) != NULL;
}

void gradcheck_gelu(void **state)
{
    (void)state;
    gradcheck_run(&(struct gradcheck){.name = "gelu", .in = {{5, 7, .std = 2}}, .build = build});
    gradcheck_run(&(struct gradcheck){.name = "gelu, shared", .in = {{3, 37}}, .build = shared});
}
