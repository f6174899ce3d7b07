#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/names.h"

static void a_handful_is_named_the_rest_counted(void **state)
{
    (void)state;
    static const char *const want[] = {"",
                                       "'a'",
                                       "'a', 'b'",
                                       "'a', 'b', 'c'",
                                       "'a', 'b', 'c', 'd'",
                                       "'a', 'b', 'c', 'd', 'e'",
                                       "'a', 'b', 'c', 'd', 'e', 'f'",
                                       "'a', 'b', 'c', 'd', 'e', 'f' and 1 more",
                                       "'a', 'b', 'c', 'd', 'e', 'f' and 2 more"};
    for (int n = 0; n < 9; n++) {
        struct names l = {0};
        for (int i = 0; i < n; i++)
            names_add(&l, &"abcdefghi"[i], 1);
        assert_string_equal(names_text(&l), want[n]);
        assert_int_equal(l.n, n);
        names_free(&l);
    }
    char longer[2 * NAMES_LENGTH];
    struct names l = {0};
    memset(longer, 'x', sizeof longer);
    names_add(&l, longer, sizeof longer);
    assert_int_equal(strlen(names_text(&l)), NAMES_LENGTH + 2);
    names_free(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_handful_is_named_the_rest_counted)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
