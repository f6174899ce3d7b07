/* One line of a .jsonl file, as Python writes it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "datasets/jsonl.h"

static int parse(const char *line, struct buf *out, struct jsonl_line *is)
{
    return jsonl_parse(&(struct jsonl_keys){0}, line, strlen(line), out, is);
}

static void keys_that_nobody_reads_may_hold_anything(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "{\"text\": \"a\\u0000b\", \"n\": 1000000000000000019884624838656}",
        "{\"n\": [NaN, -Infinity, 1e999], \"text\": \"a\\u0000b\"}",
        "\xef\xbb\xbf{\"text\": \"a\\u0000b\", \"n\": {\"m\": 18446744073709551616}}",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct buf out = {0};
        struct jsonl_line is;
        if (parse(lines[i], &out, &is))
            fail_msg("%s: %s", lines[i], err_text());
        assert_int_equal(out.n, 3);
        assert_memory_equal(out.p, "a\0b", 3);
        assert_false(is.pair);
        buf_free(&out);
    }
}

static void those_that_are_read_may_not(void **state)
{
    (void)state;
    static const char *const lines[][2] = {
        {"{\"text\": NaN}", "`text` is not a string"},
        {"{\"text\": 1000000000000000019884624838656}", "`text` is not a string"},
        {"{\"prompt\": \"a\", \"completion\": Infinity}", "`completion` is not a string"},
        {"NaN", "column 3: "},
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct buf out = {0};
        struct jsonl_line is;
        assert_int_equal(parse(lines[i][0], &out, &is), -1);
        if (!strstr(err_text(), lines[i][1]))
            fail_msg("%s: %s", lines[i][0], err_text());
        buf_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_that_nobody_reads_may_hold_anything),
        cmocka_unit_test(those_that_are_read_may_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
