#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/utf8.h"

static void every_code_point_reads_back(void **state)
{
    (void)state;
    for (uint32_t code = 0; code < 0x110000; code++) {
        char s[4];
        uint32_t again;
        if (code >= 0xd800 && code < 0xe000)
            continue;
        const size_t n = utf8_encode(code, s);
        assert_int_equal(utf8_decode(s, n, &again), n);
        assert_int_equal(again, code);
        assert_int_equal(utf8_whole(s, n), n);
        for (size_t k = 1; k < n; k++) {
            assert_int_equal(utf8_decode(s, k, &again), 0);
            assert_int_equal(utf8_whole(s, k), 0);
        }
    }
}

static void only_what_can_go_on_is_held_back(void **state)
{
    (void)state;
    static const struct {
        const char *s;
        size_t whole;
    } cases[] = {
        {"", 0},
        {"abc", 3},
        {"ab\xc3", 2},
        {"ab\xe2\x82", 2},
        {"ab\xf0\x9f\x98", 2},
        {"\xe2\x82\xac", 3},
        {"\xc0", 1}, // overlong whatever follows
        {"\xc1", 1},
        {"\xf5", 1}, // above U+10FFFF
        {"\xff", 1},
        {"\x80", 1}, // no start
        {"a\x80\x80\x80", 4},
        {"\xe0\x80", 2}, // overlong
        {"\xe0\xa0", 0},
        {"\xed\xa0", 2}, // a surrogate
        {"\xed\x9f", 0},
        {"\xf4\x90", 2}, // above U+10FFFF
        {"\xf4\x8f\xbf", 0},
        {"\xf0\x8f", 2}, // overlong
        {"\xe2\xc3", 1}, // the first is broken off, the second may go on
        {"\xc3\xa4\xc3", 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(utf8_whole(cases[i].s, strlen(cases[i].s)), cases[i].whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_reads_back),
        cmocka_unit_test(only_what_can_go_on_is_held_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
