/* The same warning is given once, others are not swallowed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "autograd/base/once.h"

static void same_texts_are_given_once(void **state)
{
    (void)state;
    char said[4096] = "";
    FILE *aside = tmpfile();
    assert_non_null(aside);
    fflush(stderr);
    const int before = dup(2);
    dup2(fileno(aside), 2);
    for (int i = 0; i < 3; i++)
        once_warn("the tokenizer lacks %d bytes", 5);
    once_warn("the tokenizer lacks %d bytes", 6);
    once_warn("the tokenizer lacks %d bytes", 5);
    err_warn("always");
    err_warn("always");
    fflush(stderr);
    dup2(before, 2);
    close(before);
    rewind(aside);
    said[fread(said, 1, sizeof said - 1, aside)] = 0;
    fclose(aside);
    assert_string_equal(said, "attar: warning: the tokenizer lacks 5 bytes\n"
                              "attar: warning: the tokenizer lacks 6 bytes\n"
                              "attar: warning: always\nattar: warning: always\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_texts_are_given_once)};
    return cmocka_run_group_tests_name("once", tests, NULL, NULL);
}
