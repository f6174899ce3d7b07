#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/mem.h"
#include "datasets/bpe.h"
#include "tests/datasets/gibberish.h"

/* Merges of random pairs, of which the tokens of earlier merges are part. */
static void random_merges(uint64_t *seed, struct bpe *b, int letters, int n)
{
    for (int i = 0; i < 256; i++)
        b->byte_id[i] = i;
    for (int k = 0; k < n; k++) {
        const int known = letters + k;
        int32_t side[2];
        for (int i = 0; i < 2; i++) {
            const int32_t id = (int32_t)gibberish_below(seed, (uint64_t)known);
            side[i] = id < letters ? 'a' + id : 256 + id - letters;
        }
        assert_int_equal(
            bpe_add(b, (struct bpe_merge){.left = side[0], .right = side[1], .into = 256 + k}), 0);
    }
    assert_int_equal(bpe_index(b), 0);
}

/* What the definition says, word for word. */
static size_t naive(const struct bpe *b, const char *s, size_t n, int32_t *id)
{
    for (size_t i = 0; i < n; i++)
        id[i] = (uint8_t)s[i];
    for (;;) {
        size_t at = n, best = b->n_merges;
        for (size_t i = 0; i + 1 < n; i++)
            for (size_t k = 0; k < best; k++) // of equal pairs the last counts
                if (b->merge[k].left == id[i] && b->merge[k].right == id[i + 1]) {
                    size_t rank = k;
                    for (size_t j = k; j < b->n_merges; j++)
                        if (b->merge[j].left == id[i] && b->merge[j].right == id[i + 1])
                            rank = j;
                    if (rank < best) {
                        best = rank;
                        at = i;
                    }
                }
        if (at == n)
            return n;
        id[at] = b->merge[best].into;
        memmove(id + at + 1, id + at + 2, (n - at - 2) * sizeof *id);
        n--;
    }
}

static void equals_naive(void **state)
{
    (void)state;
    enum { MOST = 300 };
    uint64_t seed = 30;
    char s[MOST];
    int32_t want[MOST];
    struct tokens got = {0};
    for (int round = 0; round < 60; round++) {
        struct bpe b = {0};
        const int letters = 2 + round % 3;
        random_merges(&seed, &b, letters, 20 + round % 50);
        struct bpe_work *w = bpe_work_new();
        for (int k = 0; k < 60; k++) {
            // around the lengths where the cache and the short way end, and far beyond
            const size_t n = 1 + gibberish_below(&seed, k % 6 ? 60 : MOST - 1);
            for (size_t i = 0; i < n; i++)
                s[i] = (char)('a' + gibberish_below(&seed, (uint64_t)letters));
            const size_t n_want = naive(&b, s, n, want);
            for (int again = 0; again < 2; again++) { // the second time from the cache
                got.n = 0;
                assert_int_equal(bpe_encode(&b, w, s, n, &got), 0);
                assert_int_equal(got.n, n_want);
                assert_memory_equal(got.id, want, n_want * sizeof *want);
            }
        }
        bpe_work_free(w);
        bpe_free(&b);
    }
    tokens_free(&got);
}

/* Many more pieces than the cache has places, of one length, and beginnings of them. */
static void pieces_share_places(void **state)
{
    (void)state;
    uint64_t seed = 31;
    struct bpe b = {0};
    random_merges(&seed, &b, 2, 30);
    struct bpe_work *w = bpe_work_new();
    struct tokens got = {0};
    int32_t want[16];
    char s[16];
    for (int round = 0; round < 300000; round++) {
        const size_t n = round % 2 ? 1 + gibberish_below(&seed, 3) : sizeof s;
        for (size_t i = 0; i < n; i++)
            s[i] = (char)('a' + gibberish_below(&seed, 2));
        got.n = 0;
        assert_int_equal(bpe_encode(&b, w, s, n, &got), 0);
        if (n > 3 && round % 20)
            continue;
        assert_int_equal(got.n, naive(&b, s, n, want));
        assert_memory_equal(got.id, want, got.n * sizeof *want);
    }
    bpe_work_free(w);
    bpe_free(&b);
    tokens_free(&got);
}

static void bytes_without_token(void **state)
{
    (void)state;
    struct bpe b = {0};
    struct tokens got = {0};
    for (int i = 0; i < 256; i++)
        b.byte_id[i] = i == 'x' ? -1 : i;
    assert_int_equal(bpe_add(&b, (struct bpe_merge){.left = 'a', .right = 'b', .into = 256}), 0);
    assert_int_equal(bpe_index(&b), 0);
    struct bpe_work *w = bpe_work_new();
    char s[100];
    for (size_t n = 3; n < sizeof s; n += 3) {
        for (size_t i = 0; i < n; i++)
            s[i] = "axb"[i % 3];
        got.n = 0;
        assert_int_equal(bpe_encode(&b, w, s, n, &got), 0);
        assert_int_equal(got.n, n / 3);
        assert_int_equal(got.id[n / 3 - 1], 256);
    }
    bpe_work_free(w);
    bpe_free(&b);
    tokens_free(&got);
}

static void whole_pieces_first(void **state)
{
    (void)state;
    struct vocab v = {0};
    struct bpe b = {.whole = &v};
    for (int i = 0; i < 256; i++)
        b.byte_id[i] = i;
    struct tokens got = {0};
    assert_int_equal(vocab_set(&v, 300, "abc", 3, VOCAB_NORMAL), 0);
    assert_int_equal(vocab_set(&v, 301, "abd", 3, VOCAB_CONTROL), 0);
    assert_int_equal(vocab_index(&v) | bpe_index(&b), 0);
    struct bpe_work *w = bpe_work_new();
    assert_int_equal(bpe_encode(&b, w, "abc", 3, &got), 0);
    assert_int_equal(got.n, 1);
    assert_int_equal(got.id[0], 300);
    assert_int_equal(bpe_encode(&b, w, "abd", 3, &got), 0);
    assert_int_equal(got.n, 4);
    bpe_work_free(w);
    bpe_free(&b);
    vocab_free(&v);
    tokens_free(&got);
}

/* A piece of a million equal characters takes n log n steps. */
static void long_piece(void **state)
{
    (void)state;
    enum { N = 1 << 20 };
    struct bpe b = {0};
    for (int i = 0; i < 256; i++)
        b.byte_id[i] = i;
    for (int k = 0; k < 10; k++) {
        const int32_t side = k ? 255 + k : 'a';
        assert_int_equal(bpe_add(&b,
                                 (struct bpe_merge){.left = side, .right = side, .into = 256 + k}),
                         0);
    }
    assert_int_equal(bpe_index(&b), 0);
    char *s = malloc(N);
    memset(s, 'a', N);
    struct tokens got = {0};
    struct bpe_work *w = bpe_work_new();
    assert_int_equal(bpe_encode(&b, w, s, N, &got), 0);
    assert_int_equal(got.n, N >> 10);
    for (size_t i = 0; i < got.n; i++)
        assert_int_equal(got.id[i], 265);
    bpe_work_free(w);
    bpe_free(&b);
    tokens_free(&got);
    free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_naive),        cmocka_unit_test(pieces_share_places),
        cmocka_unit_test(bytes_without_token), cmocka_unit_test(whole_pieces_first),
        cmocka_unit_test(long_piece),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
