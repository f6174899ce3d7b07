#define PCRE2_CODE_UNIT_WIDTH 8
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <pcre2.h>

#include "autograd/base/utf8.h"
#include "datasets/charclass.h"

static pcre2_code *compile(const char *pattern)
{
    int code;
    size_t at;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                   PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &code, &at, NULL);
    assert_non_null(re);
    return re;
}

/* Every code point: as PCRE2 has it, unless it is too new for PCRE2 (unassigned there). U+180E was
   a space before Unicode 6.3 and is one in PCRE2's \s to this day. */
static void agrees_with_pcre2(void **state)
{
    (void)state;
    static const char *const pattern[] = {"\\P{Cn}", "\\p{L}", "\\p{N}", "\\s", "[\\r\\n]"};
    pcre2_code *re[5];
    pcre2_match_data *match = pcre2_match_data_create(1, NULL);
    for (int i = 0; i < 5; i++)
        re[i] = compile(pattern[i]);
    int letters = 0, numbers = 0, newer = 0;
    for (uint32_t c = 0; c < 0x110000; c++) {
        if (c >= 0xd800 && c < 0xe000)
            continue;
        char s[4];
        const size_t n = utf8_encode(c, s);
        int is[5];
        for (int i = 0; i < 5; i++)
            is[i] = pcre2_match(re[i], (PCRE2_SPTR)s, n, 0, 0, match, NULL) > 0;
        const enum charclass want = is[1]                  ? CHARCLASS_LETTER
                                    : is[2]                ? CHARCLASS_NUMBER
                                    : is[4]                ? CHARCLASS_NEWLINE
                                    : is[3] && c != 0x180e ? CHARCLASS_SPACE
                                                           : CHARCLASS_OTHER;
        size_t len;
        const enum charclass got = charclass_next(s, n, &len);
        assert_int_equal(len, n);
        assert_int_equal(got, charclass_of(c));
        letters += got == CHARCLASS_LETTER;
        numbers += got == CHARCLASS_NUMBER;
        if (is[0])
            assert_int_equal(got, want);
        else
            newer += got != want;
    }
    assert_in_range(letters, 131756, 160000);
    assert_in_range(numbers, 1791, 2100);
    print_message("%d code points are newer than PCRE2's Unicode\n", newer);
    for (int i = 0; i < 5; i++)
        pcre2_code_free(re[i]);
    pcre2_match_data_free(match);
}

static void bytes_that_are_no_utf8_stand_alone(void **state)
{
    (void)state;
    static const char *const bad[] = {"\x80",     "\xc0\x80",     "\xff",
                                      "\xe2\x82", "\xed\xa0\x80", "\xf5\x80\x80\x80"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        size_t len;
        assert_int_equal(charclass_next(bad[i], strlen(bad[i]), &len), CHARCLASS_OTHER);
        assert_int_equal(len, 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_pcre2),
        cmocka_unit_test(bytes_that_are_no_utf8_stand_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
