#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "datasets/corpus_build.h"
#include "datasets/loader.h"
#include "tests/datasets/scratch.h"

enum { T = 32 };

/* A corpus of `n` documents as bytes; pairs if asked for. */
static void make(void *state, int n, bool pairs, struct corpus *c)
{
    const char *source = pairs ? "a.jsonl" : "a.txt";
    struct buf text = {0}, path = {0};
    for (int i = 0; i < n && !pairs; i++)
        buf_printf(&text, "%d times %d is about %d, they say.\n\n", i, i, i % 30000);
    for (int i = 0; i < n && pairs; i++)
        buf_printf(&text, "{\"prompt\": \"%d+%d=\", \"completion\": \"%d\"}\n", i, i, 2 * i);
    scratch_write(scratch_path(state, source), text.p, text.n);
    const struct corpus_spec spec = {
        .source = &source,
        .n_sources = 1,
        .valid_fraction = 0.1,
        .seed = 1,
        .base_dir = scratch_folder(state),
        .cache_dir = scratch_folder(state),
    };
    if (corpus_build(&spec, NULL, &path) || corpus_open(c, path.p))
        fail_msg("%s", err_text());
    buf_free(&text);
    buf_free(&path);
}

static struct loader *open_loader(const struct corpus *c, struct loader_spec spec)
{
    struct loader *l;
    spec.context = T;
    if (loader_open(&l, c, &spec))
        fail_msg("%s", err_text());
    return l;
}

/* All tokens of a part. */
static int32_t *all_tokens(const struct corpus *c, enum corpus_side side)
{
    int32_t *t = malloc((size_t)c->part[side].tokens * sizeof *t);
    assert_int_equal(corpus_read(c, side, 0, c->part[side].tokens, t), 0);
    return t;
}

/* In every epoch each window comes once, windows lie T apart, the orders differ. */
static void test_an_epoch(void **state)
{
    struct corpus c;
    make(*state, 700, false, &c);
    int32_t *all = all_tokens(&c, CORPUS_TRAIN);
    const int64_t n = c.part[0].tokens;
    struct loader *l = open_loader(&c, (struct loader_spec){.shuffled = true, .seed = 3});
    const int64_t W = loader_windows(l);
    assert_int_equal(W, (n - 1) / T - 1);
    int64_t *before = calloc((size_t)W, sizeof *before), *now = calloc((size_t)W, sizeof *now);
    int64_t offsets[4];
    int same = 0;
    for (int64_t epoch = 0; epoch < 4; epoch++) {
        char *seen = calloc((size_t)n, 1);
        offsets[epoch] = n;
        for (int64_t i = 0; i < W; i++) {
            int32_t tok[T], target[T];
            assert_int_equal(loader_batch(l, epoch * W + i, 1, tok, target), 0);
            assert_memory_equal(tok + 1, target, (T - 1) * sizeof *tok);
            // where it is: the documents' numbers make windows unique
            int64_t at = -1;
            for (int64_t k = 0; k + T < n; k++) {
                if (!memcmp(all + k, tok, sizeof tok) && all[k + T] == target[T - 1]) {
                    assert_int_equal(at, -1);
                    at = k;
                }
            }
            assert_true(at >= 0 && !seen[at]);
            seen[at] = 1;
            if (at < offsets[epoch])
                offsets[epoch] = at;
            now[i] = at;
        }
        for (int64_t i = 0; i < W; i++) { // windows by their number, wherever the first one is
            const int64_t window = (now[i] - offsets[epoch]) / T;
            same += epoch && window == before[i];
            before[i] = window;
        }
        for (int64_t at = 0; at < n; at++)
            assert_int_equal(seen[at], at >= offsets[epoch] && (at - offsets[epoch]) % T == 0 &&
                                           (at - offsets[epoch]) / T < W);
        free(seen);
    }
    assert_true(same < 20);
    assert_true(offsets[0] != offsets[1] || offsets[1] != offsets[2]);
    free(before);
    free(now);
    free(all);
    loader_close(l);
    corpus_close(&c);
}

/* The same samples in any order, in any batches, with and without prefetch; others for another
   seed. */
static void test_position_is_all_there_is(void **state)
{
    struct corpus c;
    enum { N = 60 };
    static int32_t tok[N][T], target[N][T], a[N][T], b[N][T];
    make(*state, 500, false, &c);
    const struct loader_spec spec = {.shuffled = true, .seed = 3};
    struct loader_spec ahead = spec, other = spec;
    ahead.prefetch = true;
    other.seed = 4;
    struct loader *l = open_loader(&c, spec), *p = open_loader(&c, ahead);
    assert_int_equal(loader_batch(l, 1000, N, tok[0], target[0]), 0);
    for (int i = N - 1; i >= 0; i--) {
        assert_int_equal(loader_batch(l, 1000 + i, 1, a[0], b[0]), 0);
        assert_memory_equal(a[0], tok[i], sizeof a[0]);
        assert_memory_equal(b[0], target[i], sizeof b[0]);
    }
    for (int round = 0; round < 3; round++) {
        for (int i = 0, n; i < N; i += n) {
            n = round == 0 ? 4 : 1 + (i * 7 + round) % 9;
            n = i + n > N ? N - i : n;
            assert_int_equal(loader_batch(p, 1000 + i, n, a[0], b[0]), 0);
            assert_memory_equal(a[0], tok[i], (size_t)n * sizeof a[0]);
            assert_memory_equal(b[0], target[i], (size_t)n * sizeof b[0]);
        }
    }
    // what was read ahead is not what is asked for next
    for (int i = 0, at = 0; i < 20; i++, at = (at + 4 * i + 8) % (N - 4)) {
        assert_int_equal(loader_batch(p, 1000 + at, 4, a[0], b[0]), 0);
        assert_memory_equal(a[0], tok[at], 4 * sizeof a[0]);
        assert_memory_equal(b[0], target[at], 4 * sizeof b[0]);
    }
    loader_close(l);
    l = open_loader(&c, other);
    assert_int_equal(loader_batch(l, 1000, N, a[0], b[0]), 0);
    int same = 0;
    for (int i = 0; i < N; i++)
        same += !memcmp(a[i], tok[i], sizeof a[i]);
    assert_true(same < 5);
    loader_close(l);
    loader_close(p);
    // a thread that has just begun, or has not, ends cleanly
    for (int i = 0; i < 200; i++) {
        p = open_loader(&c, ahead);
        if (i % 2)
            assert_int_equal(loader_batch(p, i, 8, a[0], b[0]), 0);
        loader_close(p);
    }
    corpus_close(&c);
}

/* The start of every window of the first epoch. */
static void starts_of(const struct corpus *c, uint64_t seed, const int32_t *all, int64_t *start)
{
    struct loader *l = open_loader(c, (struct loader_spec){.shuffled = true, .seed = seed});
    for (int64_t i = 0, W = loader_windows(l); i < W; i++) {
        int32_t tok[T], target[T];
        assert_int_equal(loader_batch(l, i, 1, tok, target), 0);
        for (start[i] = 0; memcmp(all + start[i], tok, sizeof tok); start[i]++)
            assert_true(start[i] + T < c->part[0].tokens);
    }
    loader_close(l);
}

/* Another seed not only moves the windows, it also orders them differently. */
static void test_seeds_have_orders_of_their_own(void **state)
{
    struct corpus c;
    make(*state, 500, false, &c);
    int32_t *all = all_tokens(&c, CORPUS_TRAIN);
    const int64_t W = (c.part[0].tokens - 1) / T - 1;
    int64_t *a = calloc((size_t)W, sizeof *a), *b = calloc((size_t)W, sizeof *b);
    starts_of(&c, 3, all, a);
    starts_of(&c, 4, all, b);
    int same = 0;
    for (int64_t i = 1; i < W; i++)
        same += a[i] - a[i - 1] == b[i] - b[i - 1];
    assert_true(W > 300 && same < 20);
    free(a);
    free(b);
    free(all);
    corpus_close(&c);
}

/* Every token but the first is a target once, in order. */
static void test_sequential(void **state)
{
    struct corpus c;
    make(*state, 1990, false, &c);
    int32_t *all = all_tokens(&c, CORPUS_VALID);
    const int64_t n = c.part[1].tokens;
    assert_true((n - 1) % T);
    for (int prefetch = 0; prefetch < 2; prefetch++) {
        struct loader *l =
            open_loader(&c, (struct loader_spec){.side = CORPUS_VALID, .prefetch = prefetch != 0});
        const int64_t W = loader_windows(l);
        int64_t at = 0;
        for (int64_t i = 0, k; i < W; i += k) {
            int32_t tok[3][T], target[3][T];
            k = W - i < 3 ? W - i : 3;
            assert_int_equal(loader_batch(l, i, (int)k, tok[0], target[0]), 0);
            for (int64_t s = 0; s < k; s++) {
                const int length = loader_length(l, i + s);
                assert_true(length == T || i + s == W - 1);
                for (int t = 0; t < T; t++) {
                    assert_int_equal(tok[s][t], t < length ? all[at] : 0);
                    assert_int_equal(target[s][t], t < length ? all[at + 1] : -1);
                    at += t < length;
                }
            }
        }
        assert_int_equal(at, n - 1);
        int32_t tok[2 * T], target[2 * T];
        assert_int_equal(loader_batch(l, W - 1, 2, tok, target), -1);
        assert_int_equal(loader_batch(l, -1, 1, tok, target), -1);
        loader_close(l);
    }
    free(all);
    corpus_close(&c);
}

static void test_prompts_are_ignored(void **state)
{
    struct corpus c;
    make(*state, 500, true, &c);
    struct loader *l = open_loader(&c, (struct loader_spec){.shuffled = true});
    for (int64_t i = 0; i < 2 * loader_windows(l); i++) {
        int32_t tok[T], target[T];
        assert_int_equal(loader_batch(l, i, 1, tok, target), 0);
        for (int t = 0; t + 1 < T; t++)
            if (target[t] != -1)
                assert_int_equal(target[t], tok[t + 1]);
        // "12+12=24|": from `=` on to the end of the document
        int in_completion = -1;
        for (int t = 0; t < T; t++) {
            if (tok[t] == '=')
                in_completion = 1;
            if (tok[t] == c.eot)
                in_completion = 0;
            if (in_completion >= 0)
                assert_int_equal(target[t] != -1, in_completion);
        }
    }
    loader_close(l);
    corpus_close(&c);
}

/* Documents start behind the end tokens, and nothing predicts their first tokens. */
static void test_documents_are_masked(void **state)
{
    struct corpus c;
    make(*state, 500, false, &c);
    for (int side = 0; side < 2; side++) {
        const struct loader_spec spec = {.side = (enum corpus_side)side,
                                         .shuffled = side == 0,
                                         .documents = LOADER_MASKED};
        struct loader_spec bare_spec = spec;
        bare_spec.documents = LOADER_JOINED;
        struct loader *l = open_loader(&c, spec), *bare = open_loader(&c, bare_spec);
        for (int64_t i = 0; i < loader_windows(l); i++) {
            int32_t tok[T], target[T], same[T], plain[T], start[T], want[T];
            assert_int_equal(loader_batch(l, i, 1, tok, target), 0);
            assert_int_equal(loader_batch(bare, i, 1, same, plain), 0);
            assert_memory_equal(tok, same, sizeof tok);
            int n = 1;
            want[0] = 0;
            for (int t = 0; t < loader_length(l, i); t++) {
                assert_int_equal(target[t], tok[t] == c.eot ? -1 : plain[t]);
                if (t && tok[t - 1] == c.eot)
                    want[n++] = t;
            }
            assert_int_equal(loader_starts(l, i, start), n);
            assert_memory_equal(start, want, (size_t)n * sizeof *start);
        }
        loader_close(l);
        loader_close(bare);
    }
    corpus_close(&c);
}

/* Pairs that are whole: in every epoch each comes once, all of its completion predicted and nothing
   else, and starts where loader_starts() says. */
static void test_whole_pairs(void **state)
{
    struct corpus c;
    make(*state, 500, true, &c);
    for (int side = 0; side < 2; side++) {
        const int64_t D = c.part[side].documents;
        struct loader *l = open_loader(&c, (struct loader_spec){.side = (enum corpus_side)side,
                                                                .shuffled = side == 0,
                                                                .documents = LOADER_WHOLE});
        const int64_t W = loader_windows(l);
        assert_true(loader_apart(l) && loader_share(l) == 1);
        for (int64_t epoch = 0; epoch < (side ? 1 : 3); epoch++) {
            char *seen = calloc(500, 1);
            int64_t pairs = 0, targets = 0;
            for (int64_t i = epoch * W; i < (epoch + 1) * W; i++) {
                int32_t tok[T], target[T], start[T];
                assert_int_equal(loader_batch(l, i, 1, tok, target), 0);
                const int n = loader_length(l, i), starts = loader_starts(l, i, start);
                for (int k = 0; k < starts; k++) { // "12+12=24|", the last one's end a target alone
                    const int end = k + 1 < starts ? start[k + 1] : n;
                    int number = 0, t = start[k];
                    for (; tok[t] != '+'; t++)
                        number = 10 * number + tok[t] - '0';
                    assert_true(number < 500 && !seen[number]++);
                    for (t = start[k]; t < end; t++)
                        assert_int_equal(target[t] != -1,
                                         tok[t] != c.eot && t >= start[k] + (number < 10    ? 3
                                                                             : number < 100 ? 5
                                                                                            : 7));
                    pairs++;
                }
                for (int t = 0; t < T; t++)
                    targets += target[t] != -1;
                for (int t = n; t < T; t++)
                    assert_int_equal(target[t], -1);
            }
            assert_int_equal(pairs, D);
            assert_int_equal(targets, c.part[side].loss_bytes + D);
            free(seen);
        }
        loader_close(l);
    }
    corpus_close(&c);
}

static void test_nothing_to_predict(void **state)
{
    struct corpus c;
    struct loader *l;
    make(*state, 100, true, &c);
    struct loader_spec spec = {.documents = LOADER_WHOLE, .context = 2};
    assert_int_equal(loader_open(&l, &c, &spec), -1);
    assert_non_null(strstr(err_text(), "no prompt of the train part leaves room"));
    spec.context = 10000; // more than there are: whole pairs need not fill it
    assert_int_equal(loader_open(&l, &c, &spec), 0);
    assert_int_equal(loader_windows(l), 1);
    loader_close(l);
    corpus_close(&c);
}

static void test_small_parts(void **state)
{
    struct corpus c;
    struct loader *l;
    int32_t tok[2 * T], target[2 * T];
    make(*state, 3, false, &c);
    const int n = (int)c.part[0].tokens;
    struct loader_spec spec = {.shuffled = true, .context = n};
    assert_int_equal(loader_open(&l, &c, &spec), -1);
    assert_non_null(strstr(err_text(), "one context of"));
    spec.context = n - 1; // exactly one window
    assert_int_equal(loader_open(&l, &c, &spec), 0);
    assert_int_equal(loader_windows(l), 1);
    int32_t *all = all_tokens(&c, CORPUS_TRAIN);
    int32_t *a = malloc((size_t)n * sizeof *a), *b = malloc((size_t)n * sizeof *b);
    assert_int_equal(loader_batch(l, 12345, 1, a, b), 0);
    assert_memory_equal(a, all, (size_t)(n - 1) * sizeof *a);
    assert_memory_equal(b, all + 1, (size_t)(n - 1) * sizeof *a);
    loader_close(l);
    // shorter than a context: fine for validation
    spec = (struct loader_spec){.side = CORPUS_VALID, .context = 2 * T};
    c.part[1].tokens = 5;
    assert_int_equal(loader_open(&l, &c, &spec), 0);
    assert_int_equal(loader_windows(l), 1);
    assert_int_equal(loader_batch(l, 0, 1, tok, target), 0);
    assert_true(target[3] >= 0 && target[4] == -1);
    loader_close(l);
    free(a);
    free(b);
    free(all);
    corpus_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_an_epoch, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_position_is_all_there_is, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(test_seeds_have_orders_of_their_own, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(test_sequential, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_prompts_are_ignored, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_documents_are_masked, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_whole_pairs, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_nothing_to_predict, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_small_parts, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
