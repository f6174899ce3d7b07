#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/cursor.h"

static const unsigned char bytes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

static struct cursor at(size_t n)
{
    return (struct cursor){.base = bytes, .size = n};
}

static void numbers_are_little_endian(void **state)
{
    (void)state;
    struct cursor c = at(16);
    assert_int_equal(cursor_u8(&c), 1);
    assert_int_equal(cursor_u16(&c), 0x0302);
    assert_int_equal(cursor_u32(&c), 0x07060504);
    assert_true(cursor_u64(&c) == 0x0f0e0d0c0b0a0908);
    assert_int_equal(cursor_left(&c), 1);
    assert_ptr_equal(cursor_bytes(&c, 1), bytes + 15);
    assert_non_null(cursor_bytes(&c, 0));
    assert_false(c.failed);
}

static void the_first_failure_stays(void **state)
{
    (void)state;
    struct cursor c = at(7);
    cursor_u32(&c);
    assert_int_equal(cursor_u32(&c), 0);
    assert_true(c.failed);
    assert_string_equal(err_text(), "byte 4: 4 bytes should follow, 3 do");
    assert_int_equal(cursor_u8(&c), 0); // though there is one
    assert_null(cursor_bytes(&c, 0));
    assert_int_equal(cursor_count(&c, 1, 100, "things"), 0);
    cursor_fail(&c, "something else");
    assert_string_equal(err_text(), "byte 4: 4 bytes should follow, 3 do");
    c = at(16);
    assert_null(cursor_bytes(&c, UINT64_MAX));
    assert_true(c.failed && c.at == 0);
}

static void counts_are_checked_against_what_is_left(void **state)
{
    (void)state;
    static const struct {
        unsigned char count;
        size_t each;
        uint64_t most;
        bool fits;
    } cases[] = {{8, 1, 100, true},  {9, 1, 100, false}, {4, 2, 100, true},
                 {4, 3, 100, false}, {0, 99, 0, true},   {8, 1, 8, true},
                 {8, 1, 7, false},   {1, 8, 1, true},    {1, 9, 1, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unsigned char b[16] = {cases[i].count};
        struct cursor c = {.base = b, .size = sizeof b};
        const uint64_t n = cursor_count(&c, cases[i].each, cases[i].most, "things");
        assert_int_equal(c.failed, !cases[i].fits);
        assert_int_equal(n, cases[i].fits ? cases[i].count : 0);
    }
    unsigned char wraps[24] = {[7] = 0x10}; // 2^60 things of 16 bytes
    struct cursor w = {.base = wraps, .size = sizeof wraps};
    assert_int_equal(cursor_count(&w, 16, UINT64_MAX, "things"), 0);
    assert_true(w.failed);
    unsigned char all[8];
    memset(all, 0xff, sizeof all);
    struct cursor c = {.base = all, .size = sizeof all};
    assert_int_equal(cursor_count(&c, 1, UINT64_MAX, "things"), 0);
    assert_non_null(strstr(err_text(), "18446744073709551615 things do not fit"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_little_endian),
        cmocka_unit_test(the_first_failure_stays),
        cmocka_unit_test(counts_are_checked_against_what_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
