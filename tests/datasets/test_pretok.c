#define PCRE2_CODE_UNIT_WIDTH 8
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <pcre2.h>

#include "autograd/base/err.h"
#include "autograd/base/utf8.h"
#include "datasets/charclass.h"
#include "datasets/pretok.h"
#include "tests/datasets/gibberish.h"

/* The pieces of s with '|' between them. */
static void cut(const char *rule, const char *s, const char *want)
{
    const struct pretok *r = pretok_find(rule);
    struct buf got = {0};
    assert_non_null(r);
    const size_t n = strlen(s);
    for (size_t i = 0, len; i < n; i += len) {
        len = pretok_next(r, s + i, n - i);
        if (i)
            buf_text(&got, "|");
        buf_add(&got, s + i, len);
    }
    assert_string_equal(got.p, want);
    buf_free(&got);
}

static void known_cuts(void **state)
{
    (void)state;
    cut("gpt-2", "Hello world  it's I'LL 123 4x!?  ",
        "Hello| world| | it|'s| I|'|LL| 123| 4|x|!?|  ");
    cut("gpt-2", "a\n\n b\t\tc", "a|\n\n| b|\t|\t|c");
    cut("llama-bpe", "Hello world  it's I'LL 123456 4x!?  ",
        "Hello| world| | it|'s| I|'LL| |123|456| |4|x|!?|  ");
    cut("llama-bpe", "a\n\n b\t\tc!\r\n d", "a|\n\n| b|\t|\tc|!\r\n| d");
    cut("qwen2", " 12 \n  x", " |1|2| \n| | x");
    cut("smollm", "a  12  b 3", "a|  |1|2| | b| |3");
    // llama-tokenize's pieces
    cut("default", "Hello,  world it's  123 4567x $5.00!?\n\n `a` \u20ac \u300c\u00bd12\u300d",
        "Hello|,| | world| it|'|s| | |123| |456|7|x| |$|5|.|00|!?|\n\n| `|a|`| \u20ac| |\u300c|"
        "\u00bd12|\u300d");
}

static void names(void **state)
{
    (void)state;
    assert_null(pretok_find("gpt-3"));
    assert_non_null(strstr(err_text(), "smollm"));
    for (const struct pretok *r = pretok_rules; r->name; r++) {
        assert_ptr_equal(pretok_find(r->name), r);
        assert_ptr_equal(pretok_recognize(r->digits_step, r->byte_level_regex ? NULL : r->regex),
                         r);
    }
    assert_ptr_equal(pretok_recognize(false, pretok_rules[0].regex), pretok_rules);
    assert_null(pretok_recognize(false, "\\w+"));
}

/* True if PCRE2 puts the character into the class that we do. */
static bool settled(pcre2_code *class, pcre2_match_data *match, const char *s, size_t n)
{
    size_t len;
    const enum charclass ours = charclass_next(s, n, &len);
    const int rc = pcre2_match(class, (PCRE2_SPTR)s, n, 0, PCRE2_ANCHORED, match, NULL);
    const size_t *ov = pcre2_get_ovector_pointer(match);
    int theirs = 0;
    for (int i = 1; i < rc; i++)
        if (ov[2 * i] != PCRE2_UNSET)
            theirs = i;
    return theirs == (ours == CHARCLASS_NEWLINE ? CHARCLASS_SPACE : (int)ours);
}

static pcre2_code *compile(const char *pattern)
{
    int code;
    size_t at;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                   PCRE2_UTF | PCRE2_UCP, &code, &at, NULL);
    assert_non_null(re);
    return re;
}

/* The scanner cuts where the rule's regular expression does. */
static void scanner_equals_regex(void **state)
{
    (void)state;
    uint64_t seed = 20;
    struct buf raw = {0}, s = {0};
    pcre2_code *class = compile("(\\p{L})|(\\p{N})|(\\s)");
    pcre2_match_data *match = pcre2_match_data_create(8, NULL);
    for (const struct pretok *r = pretok_rules; r->name; r++) {
        pcre2_code *re = compile(r->regex);
        for (int round = 0; round < 1500; round++) {
            gibberish_text(&seed, round % 2 ? GIBBERISH_SCRIPT : GIBBERISH_WORDS, 40, &raw);
            buf_clear(&s);
            for (size_t i = 0, len; i < raw.n; i += len) {
                charclass_next(raw.p + i, raw.n - i, &len);
                if (settled(class, match, raw.p + i, len))
                    buf_add(&s, raw.p + i, len);
            }
            for (size_t i = 0, len; i < s.n; i += len) {
                assert_true(pcre2_match(re, (PCRE2_SPTR)s.p, s.n, i, PCRE2_ANCHORED, match, NULL) >
                            0);
                len = pretok_next(r, s.p + i, s.n - i);
                const size_t want = pcre2_get_ovector_pointer(match)[1] - i;
                if (len != want)
                    print_error("%s, round %d: '%.*s' not '%.*s'\n", r->name, round, (int)len,
                                s.p + i, (int)want, s.p + i);
                assert_int_equal(len, want);
            }
        }
        pcre2_code_free(re);
    }
    pcre2_code_free(class);
    pcre2_match_data_free(match);
    buf_free(&raw);
    buf_free(&s);
}

static void any_bytes_are_cut_to_the_end(void **state)
{
    (void)state;
    uint64_t seed = 21;
    struct buf s = {0};
    for (int round = 0; round < 2000; round++) {
        gibberish_text(&seed, GIBBERISH_BYTES, 30, &s);
        for (const struct pretok *r = pretok_rules; r->name; r++)
            for (size_t i = 0, len; i < s.n; i += len) {
                len = pretok_next(r, s.p + i, s.n - i);
                assert_in_range(len, 1, s.n - i);
            }
    }
    buf_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_cuts),
        cmocka_unit_test(names),
        cmocka_unit_test(scanner_equals_regex),
        cmocka_unit_test(any_bytes_are_cut_to_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
