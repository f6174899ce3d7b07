#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "experiments/html.h"
#include "tests/experiments/synthetic_run.h"
#include "tests/experiments/xml.h"

static void escaping_table(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } table[] = {
        {"", ""},
        {"plain text\n\tand more", "plain text\n\tand more"},
        {"<b>&amp;\"'</b>", "&lt;b&gt;&amp;amp;&quot;&#39;&lt;/b&gt;"},
        {"]]>", "]]&gt;"},
        {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x8c\xb9", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x8c\xb9"},
        {"a\x01\x1b[31m\x7f\r", "a\xef\xbf\xbd\xef\xbf\xbd[31m\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xff\xc3", "\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xc0\xbc", "\xef\xbf\xbd\xef\xbf\xbd"},                     // an overlong <
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},     // a surrogate
        {"\xef\xbf\xbe\xf0\x9f\xbf\xbf", "\xef\xbf\xbd\xef\xbf\xbd"}, // no characters
        {"\xc2\x85", "\xef\xbf\xbd"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct buf b = {0};
        buf_text(&b, "");
        html_string(&b, table[i].in);
        assert_string_equal(b.p, table[i].out);
        buf_free(&b);
    }
    struct buf b = {0};
    html_text(&b, "a\0b", 3);
    html_string(&b, NULL);
    assert_string_equal(b.p, "a\xef\xbf\xbd"
                             "b");
    buf_free(&b);
}

/* Any bytes, as text and as an attribute, leave well-formed XML. */
static void any_bytes_are_tamed(void **state)
{
    (void)state;
    uint64_t seed = 7;
    for (int round = 0; round < 3000; round++) {
        struct buf b = {0};
        char bytes[64];
        for (size_t i = 0; i < sizeof bytes; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            bytes[i] = (char)(seed >> 56);
        }
        const bool nasty = round == 0;
        buf_text(&b, "<a b=\"");
        html_text(&b, nasty ? synthetic_hostile : bytes,
                  nasty ? strlen(synthetic_hostile) : sizeof bytes);
        buf_text(&b, "\">");
        html_text(&b, bytes, sizeof bytes);
        buf_text(&b, "</a>");
        assert_null(xml_check(b.p, b.n));
        buf_free(&b);
    }
}

/* The checker itself: it would be no check if it let these pass. */
static void checker_finds_faults(void **state)
{
    (void)state;
    static const char *const bad[] = {"<a>",
                                      "</a>",
                                      "<a></b>",
                                      "<a><b></a></b>",
                                      "<a b=c/>",
                                      "<a b=\"<\"/>",
                                      "<a>&</a>",
                                      "<a>&nbsp;</a>",
                                      "<a b=\"\"b=\"\"/>",
                                      "<a b=\"1\" b=\"2\"/>",
                                      "<a>\x01</a>",
                                      "<a>\xff</a>",
                                      "<a/>x",
                                      "<a b=\"",
                                      "<>",
                                      "<a>]]></a>",
                                      "<a b=\"\"",
                                      "<a><script></a>"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_non_null(xml_check(bad[i], strlen(bad[i])));
    const char good[] =
        "<!DOCTYPE html>\n<a b=\"x\" c:d=\"&lt;\"><e/> t &amp; <f>\xc3\xa9</f></a>\n";
    assert_null(xml_check(good, sizeof good - 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(escaping_table),
        cmocka_unit_test(any_bytes_are_tamed),
        cmocka_unit_test(checker_finds_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
