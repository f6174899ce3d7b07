#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "experiments/cmd.h"
#include "tests/experiments/synthetic_run.h"
#include "tests/experiments/xml.h"

static int report(int argc, ...)
{
    char *argv[8] = {"report"};
    va_list ap;
    va_start(ap, argc);
    for (int i = 1; i <= argc; i++)
        argv[i] = va_arg(ap, char *);
    va_end(ap);
    return cmd_report(argc + 1, argv);
}

static void expect_page(const char *path)
{
    struct buf b = {0};
    assert_int_equal(file_read(path, 1 << 24, &b), 0);
    assert_null(xml_check(b.p, b.n));
    assert_non_null(strstr(b.p, "01-a"));
    buf_free(&b);
}

static void page_is_written(void **state)
{
    (void)state;
    char path[256];
    synthetic_run_make("01-a");
    synthetic_run_put("01-a/metrics.jsonl", "{\"step\":1,\"loss\":5}\n");
    assert_int_equal(report(1, synthetic_run), 0);
    snprintf(path, sizeof path, "%s/report.html", synthetic_run);
    expect_page(path);
    assert_int_equal(report(1, synthetic_run), 0); // once more: the old one is replaced
    snprintf(path, sizeof path, "%s/other.html", synthetic_folder);
    assert_int_equal(report(3, synthetic_run, "-o", path), 0);
    expect_page(path);
    assert_int_equal(remove(path), 0);
    assert_int_equal(report(3, "--output", path, synthetic_run), 0);
    expect_page(path);
}

static void wrong_calls_say_so(void **state)
{
    (void)state;
    assert_int_equal(report(0), CMD_USAGE);
    assert_non_null(strstr(err_text(), "usage: attar report"));
    assert_int_equal(report(2, synthetic_run, "-o"), CMD_USAGE);
    assert_int_equal(report(2, synthetic_run, synthetic_run), CMD_USAGE);
    assert_int_equal(report(2, synthetic_run, "--pdf"), CMD_USAGE);
}

static void errors_name_the_place(void **state)
{
    (void)state;
    assert_int_equal(report(1, "/nonexistent/run"), -1);
    assert_non_null(strstr(err_text(), "/nonexistent/run"));
    assert_int_equal(report(1, synthetic_run), -1); // no stages
    synthetic_run_make("01-a");
    assert_int_equal(report(3, synthetic_run, "-o", "/nonexistent/x.html"), -1);
    assert_non_null(strstr(err_text(), "/nonexistent/x.html"));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, synthetic_run_setup, synthetic_run_teardown)
    const struct CMUnitTest tests[] = {
        TEST(page_is_written),
        TEST(wrong_calls_say_so),
        TEST(errors_name_the_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
