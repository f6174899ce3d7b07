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
    struct tensor *y = op_round(ctx, in[0], arg);
    return (out[0] = in[1] ? op_add(ctx, y, op_add(ctx, in[0], in[1])) : y) != NULL;
}

/* Straight-through: what it is where nothing is lost; alone, and beside another use of x. */
void gradcheck_round(void **state)
{
    (void)state;
    gradcheck_run(
        &(struct gradcheck){.name = "round", .in = {{5, 7}}, .build = build, .arg = &dtype_f32});
    gradcheck_run(&(struct gradcheck){.name = "round",
                                      .in = {{5, 7}, {5, 7, .optional = true}},
                                      .build = build,
                                      .arg = &dtype_f32});
}
