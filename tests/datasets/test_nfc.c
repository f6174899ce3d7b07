#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "datasets/nfc.h"
#include "tests/datasets/gibberish.h"

static void becomes(const char *s, const char *want)
{
    struct buf got = {0};
    assert_int_equal(nfc_text(s, strlen(s), &got), 0);
    assert_string_equal(got.p, want);
    buf_free(&got);
}

static void known_texts(void **state)
{
    (void)state;
    becomes("plain", "plain");
    becomes("e\xcc\x81", "\xc3\xa9");                                // e + acute
    becomes("q\xcc\x87\xcc\xa3", "q\xcc\xa3\xcc\x87");               // marks in canonical order
    becomes("\xe2\x84\xa6", "\xce\xa9");                             // ohm sign
    becomes("\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8", "\xea\xb0\x81"); // Hangul
    becomes("\xef\xac\x81", "\xef\xac\x81");                         // ligatures stay
    becomes("a\xff"
            "e\xcc\x81\xcc",
            "a\xff\xc3\xa9\xcc"); // bytes that are no UTF-8 stay
    becomes("e\xff\xcc\x81", "e\xff\xcc\x81");
}

static void quick_is_never_wrong(void **state)
{
    (void)state;
    uint64_t seed = 70;
    struct buf s = {0}, got = {0}, again = {0};
    int quick = 0;
    for (int round = 0; round < 3000; round++) {
        gibberish_text(&seed, (enum gibberish)(round % GIBBERISH_KINDS), 4, &s);
        buf_clear(&got);
        buf_clear(&again);
        assert_int_equal(nfc_text(s.p, s.n, &got), 0);
        if (nfc_quick(s.p, s.n)) {
            quick++;
            assert_int_equal(got.n, s.n);
            assert_memory_equal(got.p, s.p, s.n);
        }
        assert_int_equal(nfc_text(got.p, got.n, &again), 0);
        assert_string_equal(again.p, got.p);
    }
    assert_true(quick > 500);
    buf_free(&s);
    buf_free(&got);
    buf_free(&again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_texts),
        cmocka_unit_test(quick_is_never_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
