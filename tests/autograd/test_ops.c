/* Every op of ops.def has a gradcheck_<name>() in a file of its own, or this does not link. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/gradcheck.h"

int main(void)
{
    const struct CMUnitTest tests[] = {
#define OP(name) cmocka_unit_test(gradcheck_##name),
#include "autograd/ops/ops.def"
#undef OP
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
