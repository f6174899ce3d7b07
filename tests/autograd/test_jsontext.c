/* JSON with what Python writes and jansson does not read. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "autograd/base/jsontext.h"

static json_t *parsed(const char *s)
{
    json_t *root = jsontext_parse(s, strlen(s), false);
    if (!root)
        fail_msg("%s: %s", s, err_text());
    return root;
}

static void numbers_of_any_length(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double real; /* 0: it stays a whole number */
    } each[] = {
        {"9223372036854775807", 0},
        {"-9223372036854775808", 0},
        {"9223372036854775808", 9223372036854775808.0},
        {"-9223372036854775809", -9223372036854775808.0},
        {"1000000000000000019884624838656", 1e30},
        {"18446744073709551616", 18446744073709551616.0},
        {"0", 0},
        {"-1", 0},
    };
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        char s[200];
        snprintf(s, sizeof s, "{\"a\": [%s ,%s], \"b\":%s}", each[i].text, each[i].text,
                 each[i].text);
        json_t *root = parsed(s);
        const json_t *x[] = {json_array_get(json_object_get(root, "a"), 0),
                             json_array_get(json_object_get(root, "a"), 1),
                             json_object_get(root, "b")};
        for (int k = 0; k < 3; k++) {
            assert_int_equal(json_is_integer(x[k]), each[i].real == 0);
            if (each[i].real != 0)
                assert_true(json_real_value(x[k]) == each[i].real);
            else
                assert_true(json_integer_value(x[k]) == strtoll(each[i].text, NULL, 10));
        }
        json_decref(root);
    }
}

static void what_is_no_number_is_none_for_who_reads_it(void **state)
{
    (void)state;
    static const char *const each[] = {"NaN", "Infinity", "-Infinity", "1e400", "-1e999"};
    for (size_t i = 0; i < sizeof each / sizeof *each + 1; i++) {
        char s[1000], big[700];
        memset(big, '7', sizeof big);
        big[600] = 0;
        snprintf(s, sizeof s, "\xef\xbb\xbf{\"a\":%s, \"b\": 1}",
                 i < sizeof each / sizeof *each ? each[i] : big);
        json_t *root = parsed(s);
        const json_t *a = json_object_get(root, "a");
        assert_non_null(a);
        assert_false(json_is_number(a) || json_is_string(a) || json_is_null(a) ||
                     json_is_boolean(a) || json_is_array(a));
        assert_true(json_object_size(a) > 0); // nor is it empty
        assert_int_equal(json_integer_value(json_object_get(root, "b")), 1);
        json_decref(root);
    }
}

static void texts_are_left_alone(void **state)
{
    (void)state;
    json_t *root = parsed("{\"a NaN, 99999999999999999999\": \"NaN \\\" Infinity, 1e999\", "
                          "\"b\": NaN}");
    assert_string_equal(json_string_value(json_object_get(root, "a NaN, 99999999999999999999")),
                        "NaN \" Infinity, 1e999");
    json_decref(root);
}

static void the_rest_is_as_strict_as_ever(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } each[] = {
        {"", "line 1, column 0"},
        {"{\"a\": nan}", "line 1"},
        {"{\"a\": +1}", "line 1"},
        {"{\"a\": 0123456789012345678901}", "line 1"},
        {"{\"a\": 99999999999999999999x}", "line 1"},
        {"{\"a\": -}", "line 1"},
        {"{\"a\": 1,\n \"a\": 2}", "line 2"},
        {"{\"a\": \"\\u0000\"}", "NUL"},
        {"{\"a\": \"", "line 1"},
        {"{\"a\": NaN", "line 1"},
        {"{\"a\": \"\\", "line 1"},
    };
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        assert_null(jsontext_parse(each[i].text, strlen(each[i].text), false));
        if (!strstr(err_text(), each[i].says))
            fail_msg("%s: '%s'", each[i].text, err_text());
    }
    json_t *line = jsontext_line("{\"a\": \"x\\u0000y\"}", 17);
    assert_int_equal(json_string_length(json_object_get(line, "a")), 3);
    json_decref(line);
    assert_null(jsontext_line("{", 1));
    assert_int_equal(strncmp(err_text(), "column ", 7), 0);
}

static void members_are_given_as_they_are_written(void **state)
{
    (void)state;
    static const struct {
        const char *text, *value; /* NULL: there is none */
    } each[] = {
        {"{\"id\": 123456789012345678901234567890}", "123456789012345678901234567890"},
        {"{\"a\": {\"id\": 1}, \"id\" : 1.10 }", "1.10"},
        {"{\"a\": [1, \"]}\\\"\", {\"id\": 2}], \"b\":\"id\",\"id\":\"x\\u00e9\\\"\"}",
         "\"x\\u00e9\\\"\""},
        {"{\"id\": {\"b\": [1]}, \"c\": 1}", "{\"b\": [1]}"},
        {"{\"a\": \"id\"}", NULL},
        {"{}", NULL},
        {"[1]", NULL},
        {"\xef\xbb\xbf{\"id\":7}", "7"},
    };
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        size_t n = 0;
        const char *value = jsontext_member(each[i].text, strlen(each[i].text), "id", &n);
        assert_int_equal(!value, !each[i].value);
        if (value && (n != strlen(each[i].value) || memcmp(value, each[i].value, n) != 0))
            fail_msg("%s: '%.*s'", each[i].text, (int)n, value);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_of_any_length),
        cmocka_unit_test(what_is_no_number_is_none_for_who_reads_it),
        cmocka_unit_test(texts_are_left_alone),
        cmocka_unit_test(the_rest_is_as_strict_as_ever),
        cmocka_unit_test(members_are_given_as_they_are_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
