#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "datasets/shuffle.h"

enum { MOST = 70000 };

static void test_is_a_permutation(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {1,  2,  3,  4,    5,    15,    16,  17,
                                     63, 64, 65, 1000, 4097, 65536, MOST};
    char *seen = malloc(MOST);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        for (uint64_t which = 0; which < 3; which++) {
            memset(seen, 0, sizes[s]);
            for (uint64_t i = 0; i < sizes[s]; i++) {
                const uint64_t x = shuffle_at(7, which, sizes[s], i);
                assert_true(x < sizes[s] && !seen[x]);
                seen[x] = 1;
            }
        }
    }
    free(seen);
}

static void test_large_ranges(void **state)
{
    (void)state;
    const uint64_t n = (uint64_t)1 << 40 | 12345;
    for (uint64_t i = 0; i < 100; i++)
        assert_true(shuffle_at(1, 2, n, n - 1 - i) < n);
}

/* Every place is reached from every other about equally often: chi-squared over keys. */
static void test_is_even(void **state)
{
    (void)state;
    enum { N = 10, KEYS = 5000 };
    static int count[N][N], neighbours;
    for (uint64_t key = 0; key < KEYS; key++) {
        uint64_t before = N;
        for (uint64_t i = 0; i < N; i++) {
            const uint64_t x = shuffle_at(key, key / 2, N, i);
            count[i][x]++;
            neighbours += x == before + 1;
            before = x;
        }
    }
    double chi = 0;
    for (int i = 0; i < N; i++)
        for (int x = 0; x < N; x++)
            chi += (count[i][x] - KEYS / (double)N) * (count[i][x] - KEYS / (double)N);
    chi /= KEYS / (double)N;
    // 81 degrees of freedom: mean 81, standard deviation 12.7
    assert_true(chi > 81 - 5 * 12.7 && chi < 81 + 5 * 12.7);
    // successors stay together in (N-1)/N of the cases for a uniform permutation: 0.9 each
    assert_true(abs(neighbours - KEYS * (N - 1) / N) < 400);
}

static void test_keys_and_epochs_differ(void **state)
{
    (void)state;
    int same = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        same += shuffle_at(1, 0, 1000, i) == shuffle_at(1, 1, 1000, i);
        same += shuffle_at(1, 0, 1000, i) == shuffle_at(2, 0, 1000, i);
        same += shuffle_at(1, 0, 1000, i) == i;
    }
    assert_true(same < 15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_is_a_permutation),
        cmocka_unit_test(test_large_ranges),
        cmocka_unit_test(test_is_even),
        cmocka_unit_test(test_keys_and_epochs_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
