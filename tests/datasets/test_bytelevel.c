#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/utf8.h"
#include "datasets/bytelevel.h"

static void there_and_back(void **state)
{
    (void)state;
    struct buf text = {0};
    char all[256], back[1024];
    for (int b = 0; b < 256; b++)
        all[b] = (char)b;
    bytelevel_encode(&text, all, sizeof all);
    assert_int_equal(bytelevel_decode(text.p, text.n, back), 256);
    assert_memory_equal(back, all, sizeof all);
    // no two bytes share a character, and every one prints
    for (int b = 0; b < 256; b++) {
        const uint32_t c = bytelevel_code((uint8_t)b);
        assert_true(c > 0x20 && c != 0x7f && !(c >= 0x80 && c <= 0xa0) && c != 0xad && c < 0x144);
        for (int other = 0; other < b; other++)
            assert_int_not_equal(c, bytelevel_code((uint8_t)other));
    }
    buf_free(&text);
}

static void known_characters(void **state)
{
    (void)state;
    assert_int_equal(bytelevel_code('A'), 'A');
    assert_int_equal(bytelevel_code(' '), 0x120);
    assert_int_equal(bytelevel_code('\n'), 0x10a);
    assert_int_equal(bytelevel_code(0x7f), 0x121);
    assert_int_equal(bytelevel_code(0xa0), 0x142);
    assert_int_equal(bytelevel_code(0xad), 0x143);
    assert_int_equal(bytelevel_code(0xff), 0xff);
}

static void what_is_not_of_the_alphabet(void **state)
{
    (void)state;
    static const char *const bad[] = {"a b", "\n", "\xc5\x84", "\xe4\xb8\x80", "\x80", "\xc2\xad"};
    char out[8];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(bytelevel_decode(bad[i], strlen(bad[i]), out), -1);
    assert_int_equal(bytelevel_decode("\xc4\xa0!", 3, out), 2);
    assert_memory_equal(out, " !", 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(known_characters),
        cmocka_unit_test(what_is_not_of_the_alphabet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
