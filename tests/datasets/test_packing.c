/* Windows of whole pairs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "datasets/corpus_build.h"
#include "datasets/packing.h"
#include "tests/datasets/scratch.h"

enum { T = 8 };

static void corpus_of(void *state, const char *jsonl, struct corpus *c)
{
    const char *source = "a.jsonl";
    struct buf path = {0};
    scratch_text(scratch_path(state, source), jsonl);
    const struct corpus_spec spec = {.source = &source,
                                     .n_sources = 1,
                                     .base_dir = scratch_folder(state),
                                     .cache_dir = scratch_folder(state)};
    if (corpus_build(&spec, NULL, &path) || corpus_open(c, path.p))
        fail_msg("%s", err_text());
    buf_free(&path);
}

/* Windows as "at:n", what is predicted, left out and cut. */
static void packed(void *state, const char *jsonl, const char *want)
{
    struct corpus c;
    struct packing p = {0};
    struct buf got = {0};
    corpus_of(state, jsonl, &c);
    int64_t *start = corpus_documents(&c, CORPUS_TRAIN);
    assert_int_equal(packing_make(&p, &c, CORPUS_TRAIN, start, T), 0);
    for (int64_t w = 0; w < p.windows; w++)
        buf_printf(&got, "%lld:%d ", (long long)p.window[w].at, p.window[w].n);
    buf_printf(&got, "targets %lld", (long long)p.targets);
    if (p.left_out)
        buf_printf(&got, " without %lld, from %lld of %lld", (long long)p.left_out,
                   (long long)p.first, (long long)p.length);
    if (p.cut)
        buf_printf(&got, " cut %lld", (long long)p.cut);
    assert_string_equal(got.p, want);
    packing_free(&p);
    buf_free(&got);
    free(start);
    corpus_close(&c);
}

#define PAIR(p, c) "{\"prompt\": \"" p "\", \"completion\": \"" c "\"}\n"
#define TEXT(t)    "{\"text\": \"" t "\"}\n"

static void pairs_stay_whole(void **state)
{
    // of 4 tokens with their end: two go into 9, of which 8 are read
    packed(*state, PAIR("ab", "c") PAIR("de", "f") PAIR("gh", "i"), "0:7 8:3 targets 6");
    packed(*state, PAIR("abc", "d") PAIR("ef", "g"), "0:8 targets 4");
    packed(*state, PAIR("abc", "d") PAIR("efg", "h"), "0:4 5:4 targets 4");
    // just whole, and one too long: the end is no longer seen
    packed(*state, PAIR("abcdef", "gh"), "0:8 targets 3");
    packed(*state, PAIR("abcdef", "ghi"), "0:8 targets 3 cut 1");
    // behind one that was cut another window starts
    packed(*state, PAIR("a", "b") PAIR("abcdef", "ghijklmn") PAIR("c", "d"),
           "0:2 3:8 18:2 targets 7 cut 1");
}

static void prompts_that_fill_a_window_are_left_out(void **state)
{
    packed(*state, PAIR("a", "b") PAIR("abcdefghi", "j") PAIR("abcdefghijk", "l") PAIR("c", "d"),
           "0:2 27:2 targets 4 without 2, from 1 of 11");
    packed(*state, PAIR("abcdefgh", "i"), "0:8 targets 1 cut 1");
    packed(*state, PAIR("abcdefghi", "j"), "targets 0 without 1, from 0 of 11");
}

/* Text among pairs is read to its end, every token of it but the first predicted once. */
static void text_goes_on(void **state)
{
    packed(*state, PAIR("a", "b") TEXT("abcdefghijklmnopqrst") PAIR("c", "d"),
           "0:2 3:8 11:8 19:7 targets 24");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(pairs_stay_whole),
        TEST(prompts_that_fill_a_window_are_left_out),
        TEST(text_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
