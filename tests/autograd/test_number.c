#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "autograd/base/number.h"

static void whole(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t value;
    } good[] = {
        {"0", 0},
        {"-0", 0},
        {"7", 7},
        {"+7", 7},
        {"-12", -12},
        {"600K", 600000},
        {"8Ki", 8192},
        {"3M", 3000000},
        {"2Mi", 2097152},
        {"1G", 1000000000},
        {"1Gi", 1073741824},
        {"2T", 2000000000000},
        {"1Ti", 1099511627776},
        {"1.5K", 1500},
        {".5K", 500},
        {"0.5Ki", 512},
        {"1.25Ki", 1280},
        {"0.001K", 1},
        {"1e3", 1000},
        {"1.5e1", 15},
        {"120e-1", 12},
        {"0e9999", 0},
        {"0.0", 0},
        {"9223372036854775807", INT64_MAX},
        {"-9223372036854775808", INT64_MIN},
        {"9.223372036854775807e18", INT64_MAX},
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        int64_t v = -77;
        if (number_int(good[i].text, strlen(good[i].text), &v) || v != good[i].value)
            fail_msg("%s -> %lld (%s)", good[i].text, (long long)v, err_text());
    }
}

static void not_whole(void **state)
{
    (void)state;
    static const struct {
        const char *text, *reason;
    } bad[] = {
        {"", "not a number"},
        {"-", "not a number"},
        {"+", "not a number"},
        {".", "not a number"},
        {"1.", "not a number"},
        {"e3", "not a number"},
        {"1e", "not a number"},
        {"1e+", "not a number"},
        {"1e3x", "not a number"},
        {"1e3.5", "not a number"},
        {"12abc", "not a number"},
        {"1 ", "not a number"},
        {" 1", "not a number"},
        {"1_000", "not a number"},
        {"1,000", "not a number"},
        {"1..2", "not a number"},
        {"1.2.3", "not a number"},
        {"--1", "not a number"},
        {"+-1", "not a number"},
        {"0x10", "not a number"},
        {"0x", "not a number"},
        {"nan", "not a number"},
        {"inf", "not a number"},
        {"-inf", "not a number"},
        {"infinity", "not a number"},
        {"1k", "not a number"},
        {"1KB", "not a number"},
        {"1KiB", "not a number"},
        {"1i", "not a number"},
        {"K", "not a number"},
        {"1Kii", "not a number"},
        {"1e3K", "both an exponent and a unit"},
        {"5%", "is a share"},
        {"5%%", "not a number"},
        {"007", "octal"},
        {"00", "octal"},
        {"-01", "octal"},
        {"1.5", "not a whole"},
        {"1e-1", "not a whole"},
        {"1.0001K", "not a whole"},
        {"1.3Ki", "not a whole"},
        {"1e-9999", "not a whole"},
        {"1e-99999999999", "not a whole"},
        {"9223372036854775808", "too large"},
        {"-9223372036854775809", "too large"},
        {"1e19", "too large"},
        {"1e9999", "too large"},
        {"1e99999999999999999", "too large"},
        {"8388608Ti", "too large"},
        {"18446744073709551616", "too large"},
        {"10000000000000000000000000000000000000000000000000000000000000000000", "too long"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int64_t v = -77;
        if (!number_int(bad[i].text, strlen(bad[i].text), &v) || v != -77 ||
            !strstr(err_text(), bad[i].reason))
            fail_msg("'%s' -> %lld (%s)", bad[i].text, (long long)v, err_text());
    }
}

static void exactly_n_bytes_are_read(void **state)
{
    (void)state;
    int64_t v;
    double x;
    const char digits[3] = {'1', '2', '3'}; // no NUL: the sanitizer sees a read too far
    assert_int_equal(number_int(digits, 2, &v), 0);
    assert_int_equal(v, 12);
    assert_int_equal(number_int(digits, 3, &v), 0);
    assert_int_equal(v, 123);
    assert_int_equal(number_float(digits, 3, &x, NULL), 0);
    assert_true(x == 123);
    assert_int_equal(number_int("5\0", 2, &v), -1);
}

static void real(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double value;
    } good[] = {
        {"3e-3", 3e-3},
        {"0.1", 0.1},
        {".5", 0.5},
        {"-2.5e2", -250},
        {"1.1K", 1100},
        {"0.3M", 300000},
        {"1.5Ki", 1536},
        {"1e308", 1e308},
        {"4.9e-324", 4.9e-324},
        {"0", 0},
        {"0e-400", 0},
        {"1E5", 1e5},
        {"2.2250738585072014e-308", DBL_MIN},
    };
    static const struct {
        const char *text, *reason;
    } bad[] = {
        {"1e309", "too large"},   {"-1e999999", "too large"}, {"1e-400", "too small"},
        {"nan", "not a number"},  {"NAN(1)", "not a number"}, {"0x1p3", "not a number"},
        {"1e3x", "not a number"}, {"1f", "not a number"},     {"5%", "share"},
        {"", "not a number"},     {"1.7e308K", "both"},       {"3,5", "not a number"},
    };
    double v;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        if (number_float(good[i].text, strlen(good[i].text), &v, NULL) || v != good[i].value)
            fail_msg("%s -> %.17g (%s)", good[i].text, v, err_text());
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (!number_float(bad[i].text, strlen(bad[i].text), &v, NULL) ||
            !strstr(err_text(), bad[i].reason))
            fail_msg("%s -> %.17g (%s)", bad[i].text, v, err_text());
}

static void percent(void **state)
{
    (void)state;
    double v;
    bool is;
    assert_int_equal(number_float("5%", 2, &v, &is), 0);
    assert_true(is && v == 0.05);
    assert_int_equal(number_float("0.1%", 4, &v, &is), 0);
    assert_true(is && v == 0.001);
    assert_int_equal(number_float("0.05", 4, &v, &is), 0);
    assert_true(!is && v == 0.05);
    assert_int_equal(number_float("5K%", 3, &v, &is), -1);
    assert_int_equal(number_float("5%x", 3, &v, &is), -1);
}

/* What is printed reads back as the same bits, for doubles of all kinds. */
static void printing(void **state)
{
    (void)state;
    static const struct {
        double x;
        const char *text;
    } shapes[] = {{0, "0"},
                  {-0.0, "0"},
                  {600000, "600000"},
                  {0.1, "0.1"},
                  {3e-3, "0.003"},
                  {1e-5, "1e-05"},
                  {0.30000000000000004, "0.30000000000000004"},
                  {-2.5, "-2.5"}};
    struct buf b = {0};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        buf_clear(&b);
        number_print(shapes[i].x, &b);
        assert_string_equal(b.p, shapes[i].text);
    }
    uint64_t bits = 88172645463325252u;
    for (int i = 0; i < 20000; i++) {
        double x, back;
        bool is;
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        memcpy(&x, &bits, sizeof x);
        if (!isfinite(x))
            continue;
        buf_clear(&b);
        number_print(x, &b);
        if (number_float(b.p, b.n, &back, NULL) || back != x)
            fail_msg("%a printed as %s", x, b.p);
        const double share = fabs(ldexp(x, -ilogb(x) - 1 - i % 60));
        buf_clear(&b);
        number_print_percent(share, &b);
        if (number_float(b.p, b.n, &back, &is) || !is || back != share)
            fail_msg("%a printed as %s", share, b.p);
    }
    buf_clear(&b);
    number_print_percent(0.07, &b);
    assert_string_equal(b.p, "7%");
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole),
        cmocka_unit_test(not_whole),
        cmocka_unit_test(exactly_n_bytes_are_read),
        cmocka_unit_test(real),
        cmocka_unit_test(percent),
        cmocka_unit_test(printing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
