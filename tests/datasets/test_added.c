#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "datasets/added.h"
#include "tests/datasets/gibberish.h"

/* The definition: at every place, all tokens. */
static int32_t naive(const struct vocab *v, bool control, const char *s, size_t n, size_t *at)
{
    for (*at = 0; *at < n; ++*at) {
        int32_t best = -1;
        for (size_t id = 0; id < v->n; id++) {
            const struct vocab_token *t = &v->token[id];
            const bool counts = t->type == VOCAB_USER || (control && t->type == VOCAB_CONTROL);
            if (counts && t->len && t->len <= n - *at &&
                !memcmp(v->bytes + t->at, s + *at, t->len) &&
                (best < 0 || t->len > v->token[best].len))
                best = (int32_t)id;
        }
        if (best >= 0)
            return best;
    }
    return -1;
}

static void equals_naive(void **state)
{
    (void)state;
    static const enum vocab_type types[] = {VOCAB_NORMAL, VOCAB_CONTROL, VOCAB_USER, VOCAB_UNUSED};
    uint64_t seed = 80;
    for (int round = 0; round < 300; round++) {
        struct vocab v = {0};
        struct added a = {0};
        // one first byte in every other round: found by memchr
        const char *const head = round % 2 ? "<" : "<[\xff";
        char s[40];
        for (int32_t id = 0; id < 8; id++) {
            const size_t n = 1 + gibberish_below(&seed, 4);
            s[0] = head[gibberish_below(&seed, strlen(head))];
            for (size_t i = 1; i < n; i++)
                s[i] = "<|a"[gibberish_below(&seed, 3)];
            bool taken = false;
            for (int32_t other = 0; other < id; other++)
                taken |= v.token[other].len == n && !memcmp(v.bytes + v.token[other].at, s, n);
            if (!taken || round % 5)
                assert_int_equal(vocab_set(&v, id, s, taken ? 0 : n,
                                           types[gibberish_below(&seed, 4)]),
                                 0);
            else
                assert_int_equal(vocab_set(&v, id, "", 0, VOCAB_USER), 0);
        }
        assert_int_equal(added_index(&a, &v), 0);
        for (int k = 0; k < 40; k++) {
            const size_t n = gibberish_below(&seed, sizeof s);
            for (size_t i = 0; i < n; i++)
                s[i] = "<[\xff|a"[gibberish_below(&seed, 5)];
            for (int control = 0; control < 2; control++) {
                size_t at, want_at;
                const int32_t want = naive(&v, control, s, n, &want_at);
                assert_int_equal(added_next(&a, &v, control, s, n, &at), want);
                assert_int_equal(at, want_at);
            }
        }
        added_free(&a);
        vocab_free(&v);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_naive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
