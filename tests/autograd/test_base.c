/* err, mem and buf: what everything else stands on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/buf.h"
#include "autograd/base/err.h"
#include "autograd/base/mem.h"

static void errors_travel(void **state)
{
    (void)state;
    assert_int_equal(err("line %d", 7), -1);
    assert_string_equal(err_text(), "line 7");
    assert_int_equal(err_in("%s", "file.txt"), -1);
    assert_string_equal(err_text(), "file.txt: line 7");
    assert_int_equal(err("again: %s", err_text()), -1); // the text itself as an argument
    assert_string_equal(err_text(), "again: file.txt: line 7");
    char *large = malloc(100000);
    assert_non_null(large);
    memset(large, 'x', 99999);
    large[99999] = 0;
    err("%s", large);
    const size_t n = strlen(err_text());
    err_in("%s", large); // cut, not overrun
    assert_true(n > 1000 && strlen(err_text()) <= n);
    free(large);
}

static int warned;

static void count_warning(void)
{
    warned++;
}

static void warnings_announce_themselves(void **state)
{
    (void)state;
    void (*const before)(void) = err_before_warning;
    err_before_warning = count_warning;
    err_warn("a test's warning, to be expected here");
    err_before_warning = before;
    assert_int_equal(warned, 1);
}

static void memory(void **state)
{
    (void)state;
    unsigned char *p = mem_new(100, 3);
    assert_non_null(p);
    for (int i = 0; i < 300; i++)
        assert_int_equal(p[i], 0);
    free(p);
    free(mem_new(0, 8));
    assert_null(mem_new(SIZE_MAX / 2, 3)); // the product overflows
    assert_non_null(strstr(err_text(), "out of memory"));
    assert_null(mem_new(1, SIZE_MAX));
    for (size_t n = 1; n < (5u << 20); n = n * 3 + 1) { // both sides of a huge page
        float *slab = mem_slab(n, sizeof *slab);
        assert_non_null(slab);
        assert_int_equal((uintptr_t)slab % 64, 0);
        for (size_t i = 0; i < n; i += n / 7 + 1)
            assert_true(slab[i] == 0);
        slab[n - 1] = 1;
        free(slab);
    }
    mem_fail_at(2);
    p = mem_new(1, 1);
    assert_non_null(p);
    assert_null(mem_new(1, 1));
    free(p);
    p = mem_new(1, 1);
    assert_non_null(p);
    free(p);
}

static void growth(void **state)
{
    (void)state;
    int *a = NULL;
    size_t cap = 0;
    for (size_t n = 1; n < 5000; n++) {
        assert_int_equal(mem_grow(&a, &cap, n, sizeof *a), 0);
        assert_true(cap >= n);
        assert_int_equal(a[n - 1], 0);
        a[n - 1] = (int)n;
    }
    for (int i = 0; i < 4999; i++)
        assert_int_equal(a[i], i + 1);
    int *const kept = a;
    const size_t kept_cap = cap;
    assert_int_equal(mem_grow(&a, &cap, SIZE_MAX / 2, sizeof *a), -1);
    mem_fail_at(1);
    assert_int_equal(mem_grow(&a, &cap, cap + 1, sizeof *a), -1);
    mem_fail_at(0);
    assert_true(a == kept && cap == kept_cap && a[4998] == 4999);
    free(a);
}

static void text_grows(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_text(&b, "");
    for (int i = 0; i < 1000; i++)
        buf_printf(&b, "%d,", i);
    assert_int_equal(b.n, 10 * 2 + 90 * 3 + 900 * 4);
    assert_int_equal(strlen(b.p), b.n);
    assert_memory_equal(b.p + b.n - 8, "998,999,", 8);
    buf_clear(&b);
    assert_string_equal(b.p, "");
    buf_add(&b, "a\0b", 3);
    assert_memory_equal(b.p, "a\0b", 4);
    mem_fail_at(1);
    while (!b.failed)
        buf_text(&b, "0123456789");
    const size_t n = b.n;
    buf_text(&b, "more"); // sticky
    assert_int_equal(b.n, n);
    buf_free(&b);
    assert_null(b.p);
}

static void json_strings(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        size_t n;
        const char *out;
    } cases[] = {
        {"", 0, "\"\""},
        {"plain", 5, "\"plain\""},
        {"\"\\\n\t\x01\x7f", 6, "\"\\\"\\\\\\n\\u0009\\u0001\\u007f\""},
        {"a\0b", 3, "\"a\\u0000b\""},
        {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9, "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\""},
        {"\xc3(\xff", 3, "\"\\ufffd(\\ufffd\""},
        {"\xed\xa0\x80", 3, "\"\\ufffd\\ufffd\\ufffd\""}, // a surrogate is no UTF-8
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf b = {0};
        buf_json(&b, cases[i].in, cases[i].n);
        assert_string_equal(b.p, cases[i].out);
        buf_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_travel), cmocka_unit_test(warnings_announce_themselves),
        cmocka_unit_test(memory),        cmocka_unit_test(growth),
        cmocka_unit_test(text_grows),    cmocka_unit_test(json_strings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
