#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "autograd/base/mem.h"
#include "datasets/charset.h"

static void symbols_are_found(void **state)
{
    (void)state;
    struct charset c;
    enum { TOKENS = 5000 };
    assert_int_equal(charset_init(&c, TOKENS), 0);
    assert_int_equal(charset_find(&c, 'a'), -1);
    assert_int_equal(charset_find(&c, 0x2581), -1);
    for (uint32_t i = 0; i < TOKENS; i++) // ASCII and far beyond, every 7th
        assert_int_equal(charset_add(&c, 7 * i, (int32_t)i), 0);
    for (uint32_t code = 0; code < 7 * TOKENS; code++)
        assert_int_equal(charset_find(&c, code), code % 7 ? -1 : (int32_t)code / 7);
    charset_free(&c);
}

static void new_symbols_lie_behind_the_tokens(void **state)
{
    (void)state;
    struct charset c;
    assert_int_equal(charset_init(&c, 10), 0);
    assert_int_equal(charset_add(&c, 'x', 3) | charset_add(&c, 'x', -1), 0);
    assert_int_equal(charset_add(&c, 0x10ffff, -1) | charset_add(&c, 'y', -1), 0);
    assert_int_equal(charset_add(&c, 0x10ffff, -1), 0); // has one
    assert_int_equal(charset_find(&c, 'x'), 3);
    assert_int_equal(charset_find(&c, 0x10ffff), 10);
    assert_int_equal(charset_find(&c, 'y'), 11);
    assert_int_equal(c.n_code, 2);
    assert_int_equal(c.code[0], 0x10ffff);
    assert_int_equal(c.code[1], 'y');
    charset_free(&c);
}

static void memory_may_be_short(void **state)
{
    (void)state;
    struct charset c;
    mem_fail_at(1);
    assert_int_equal(charset_init(&c, 10), -1);
    assert_int_equal(charset_init(&c, 10), 0);
    int failures = 0;
    for (uint32_t i = 0x100; i < 0x400; i++) {
        mem_fail_at(1);
        if (!charset_add(&c, i, -1))
            continue;
        failures++;
        assert_int_equal(charset_find(&c, i), -1);
        mem_fail_at(0);
        assert_int_equal(charset_add(&c, i, -1), 0);
    }
    mem_fail_at(0);
    assert_true(failures > 3);
    for (uint32_t i = 0x100; i < 0x400; i++)
        assert_int_equal(charset_find(&c, i), 10 + i - 0x100);
    charset_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(symbols_are_found),
        cmocka_unit_test(new_symbols_lie_behind_the_tokens),
        cmocka_unit_test(memory_may_be_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
