#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "datasets/pairs.h"
#include "tests/datasets/gibberish.h"

/* Random changes, then the best pair each time, against a plain table. */
static void best_pair(void **state)
{
    (void)state;
    enum { TOKENS = 12, WORDS = 50 };
    uint64_t seed = 100;
    for (int round = 0; round < 50; round++) {
        int64_t in_word[TOKENS][TOKENS][WORDS] = {{{0}}};
        struct pairs p = {0};
        uint32_t *word = NULL;
        size_t cap = 0;
        for (int step = 0; step < 60; step++) {
            for (int k = 0; k < 20; k++) {
                const int a = (int)gibberish_below(&seed, TOKENS),
                          b = (int)gibberish_below(&seed, TOKENS);
                const uint32_t w = (uint32_t)gibberish_below(&seed, WORDS);
                const bool less = in_word[a][b][w] && gibberish_below(&seed, 2);
                const int64_t by = less ? -1 : 1 + (int64_t)gibberish_below(&seed, 3);
                in_word[a][b][w] += by;
                assert_int_equal(pairs_change(&p, a, b, w, by), 0);
            }
            assert_int_equal(pairs_queue(&p), 0);
            int left = 0, right = 0;
            int64_t best = 0;
            for (int a = 0; a < TOKENS; a++)
                for (int b = 0; b < TOKENS; b++) {
                    int64_t n = 0;
                    for (int w = 0; w < WORDS; w++)
                        n += in_word[a][b][w];
                    if (n > best) {
                        best = n;
                        left = a;
                        right = b;
                    }
                }
            int32_t l, r;
            size_t n = 0;
            assert_int_equal(pairs_pop(&p, &l, &r, &word, &n, &cap), best);
            assert_int_equal(l, left);
            assert_int_equal(r, right);
            for (uint32_t w = 0; w < WORDS; w++) {
                bool listed = false;
                for (size_t i = 0; i < n; i++)
                    listed |= word[i] == w;
                assert_true(listed || !in_word[l][r][w]);
                in_word[l][r][w] = 0;
            }
            pairs_forget(&p, l, r);
        }
        free(word);
        pairs_free(&p);
    }
}

static void nothing_left(void **state)
{
    (void)state;
    struct pairs p = {0};
    uint32_t *word = NULL;
    size_t n = 0, cap = 0;
    int32_t l, r;
    assert_int_equal(pairs_pop(&p, &l, &r, &word, &n, &cap), 0);
    assert_int_equal(pairs_change(&p, 1, 2, 3, 4), 0);
    assert_int_equal(pairs_queue(&p), 0);
    assert_int_equal(pairs_change(&p, 1, 2, 3, -4), 0);
    assert_int_equal(pairs_pop(&p, &l, &r, &word, &n, &cap), 0);
    free(word);
    pairs_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(best_pair),
        cmocka_unit_test(nothing_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
