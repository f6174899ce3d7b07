#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "datasets/pieces.h"
#include "tests/datasets/gibberish.h"

/* Strings of 1 to 3 letters: their counts against an array. */
static void counts(void **state)
{
    (void)state;
    enum { LETTERS = 30, N = 200000 };
    static int64_t want[LETTERS + 1][LETTERS + 1][LETTERS + 1];
    uint64_t seed = 90;
    struct pieces p = {0};
    int64_t distinct = 0;
    for (int i = 0; i < N; i++) {
        char s[3] = {0};
        const size_t n = 1 + gibberish_below(&seed, 3);
        for (size_t k = 0; k < n; k++)
            s[k] = (char)(1 + gibberish_below(&seed, LETTERS));
        distinct += !want[(int)s[0]][(int)s[1]][(int)s[2]]++;
        const int64_t at = pieces_add(&p, s, n);
        assert_in_range(at, 0, distinct - 1);
        assert_int_equal(p.piece[at].len, n);
        assert_memory_equal(p.bytes + p.piece[at].at, s, n);
    }
    assert_int_equal(p.n, distinct);
    for (size_t k = 0; k < p.n; k++) {
        char s[3] = {0};
        memcpy(s, p.bytes + p.piece[k].at, p.piece[k].len);
        assert_int_equal(p.piece[k].count, want[(int)s[0]][(int)s[1]][(int)s[2]]);
    }
    pieces_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
