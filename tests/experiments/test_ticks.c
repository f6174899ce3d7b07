#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "experiments/ticks.h"

/* All marks as one text. */
static const char *all(const struct ticks *t)
{
    static char out[TICKS_MAX * (TICKS_TEXT + 1)];
    char one[TICKS_TEXT];
    *out = 0;
    for (int i = 0; i < t->n; i++) {
        ticks_text(t, i, one);
        strcat(out, i ? " " : "");
        strcat(out, one);
    }
    return out;
}

static void linear_table(void **state)
{
    (void)state;
    static const struct {
        double lo, hi;
        int max;
        const char *want;
    } table[] = {
        {0, 10, 6, "0 2 4 6 8 10"},
        {0, 10, 5, "0 5 10"},
        {0, 10, 12, "0 1 2 3 4 5 6 7 8 9 10"},
        {1, 600, 5, "200 400 600"},
        {1, 600, 6, "100 200 300 400 500 600"},
        {2.36, 7.81, 6, "3 4 5 6 7"},
        {3.11, 3.32, 5, "3.15 3.20 3.25 3.30"},
        {-1, 1, 5, "-1.0 -0.5 0 0.5 1.0"},
        {-0.3, 0.3, 7, "-0.3 -0.2 -0.1 0 0.1 0.2 0.3"},
        {0, 3e-3, 6, "0 0.001 0.002 0.003"},
        {0, 3e-3, 8, "0 5e-4 1e-3 1.5e-3 2e-3 2.5e-3 3e-3"},
        {0, 3e-5, 5, "0 1e-5 2e-5 3e-5"},
        {0, 11200, 4, "0 5k 10k"},
        {11000, 11700, 4, "11k 11.2k 11.4k 11.6k"},
        {0, 1.2e6, 7, "0 200k 400k 600k 800k 1M 1.2M"},
        {0, 5e9, 6, "0 1G 2G 3G 4G 5G"},
        {0, 2500, 6, "0 500 1000 1500 2000 2500"},
        {1e9, 1e9 + 10, 4, "1G 1.000000005G 1.00000001G"},
        {5, 5, 6, "5"},
        {6, 5, 6, "6"},
        {NAN, 1, 6, ""},
        {0, INFINITY, 6, ""},
        {-DBL_MAX, DBL_MAX, 6, ""},
        {0, 0, 6, "0"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        const struct ticks t = ticks_linear(table[i].lo, table[i].hi, table[i].max);
        assert_string_equal(all(&t), table[i].want);
    }
}

static void log_table(void **state)
{
    (void)state;
    static const struct {
        double lo, hi;
        int max;
        const char *want;
    } table[] = {
        {0.5, 50, 8, "0.5 1 2 5 10 20 50"},    {0.9, 1100, 6, "1 10 100 1k"},
        {1e-4, 1, 6, "1e-4 0.001 0.01 0.1 1"}, {1e-12, 1e12, 6, "1e-10 1e-5 1 100k 10G"},
        {3, 4, 6, "3.0 3.2 3.4 3.6 3.8 4.0"},  {1, 1, 6, "1"},
        {1e5, 1e6, 6, "100k 200k 500k 1M"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        const struct ticks t = ticks_log(table[i].lo, table[i].hi, table[i].max);
        assert_string_equal(all(&t), table[i].want);
    }
}

/* Whatever the range: within it, ascending, not too many, at least two where it is a range, and
   no two marks with the same text. */
static void every_range_has_good_ticks(void **state)
{
    (void)state;
    uint64_t seed = 1;
    for (int round = 0; round < 20000; round++) {
        double u[3];
        for (int i = 0; i < 3; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            u[i] = (double)(seed >> 11) * 0x1p-53;
        }
        const double lo = (round % 3 - 1) * pow(10, 24 * u[0] - 12);
        const double span = pow(10, 24 * u[1] - 12), hi = lo + span;
        const int max = 3 + (int)(u[2] * 10);
        const bool is_log = round % 2 && lo > 0;
        const struct ticks t = is_log ? ticks_log(lo, hi, max) : ticks_linear(lo, hi, max);
        if (span < 1e-9 * fabs(lo))
            continue; // the texts' digits would not be enough
        assert_in_range(t.n, max >= 4 || is_log ? 1 : 0, max > TICKS_MAX ? TICKS_MAX : max);
        if (max >= 5)
            assert_true(t.n >= 2);
        for (int i = 0; i < t.n; i++) {
            char a[TICKS_TEXT], b[TICKS_TEXT];
            assert_true(t.at[i] >= lo - 1e-6 * span && t.at[i] <= hi + 1e-6 * span);
            if (!i)
                continue;
            assert_true(t.at[i] > t.at[i - 1]);
            ticks_text(&t, i - 1, a);
            ticks_text(&t, i, b);
            assert_string_not_equal(a, b);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_table),
        cmocka_unit_test(log_table),
        cmocka_unit_test(every_range_has_good_ticks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
