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
    return (out[0] = op_scale(ctx, in[0], *(const float *)arg)) != NULL;
}

void gradcheck_scale(void **state)
{
    (void)state;
    const float factor = -2.5f;
    gradcheck_run(
        &(struct gradcheck){.name = "scale", .in = {{5, 7}}, .build = build, .arg = &factor});
    gradcheck_run(&(struct gradcheck){
        .name = "scale", .in = {{0, 33, .param = true}}, .build = build, .arg = &factor});
}
