#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "experiments/cmd.h"
#include "tests/datasets/scratch.h"
#include "tests/experiments/capture.h"
#include "tests/experiments/tiny_model.h"

static struct buf out, notes, again;
static const char *model;

static int setup(void **state)
{
    struct transformer m;
    if (scratch_setup(state))
        return -1;
    model = scratch_path(*state, "model.h5");
    tiny_model(&m, false, false);
    tiny_model_save(model, &m);
    transformer_free(&m);
    return 0;
}

static int teardown(void **state)
{
    buf_free(&out);
    buf_free(&notes);
    buf_free(&again);
    return scratch_teardown(state);
}

#define RUN(...)                                                                                   \
    capture_run(cmd_generate, (const char *[]){"generate", "-m", model, __VA_ARGS__, NULL}, &out,  \
                &notes)

static void keep(void)
{
    buf_clear(&again);
    buf_add(&again, out.p, out.n);
}

static bool same(void)
{
    return out.n == again.n && !memcmp(out.p, again.p, out.n);
}

static void a_seed_gives_one_text(void **state)
{
    (void)state;
    assert_int_equal(RUN("-p", "In the", "-n", "60", "-s", "5"), 0);
    assert_true(out.n > 40 && !memcmp(out.p, "In the", 6) && out.p[out.n - 1] == '\n');
    assert_null(strstr(notes.p, "seed"));
    assert_non_null(strstr(notes.p, "prompt: 6 tokens"));
    assert_non_null(strstr(notes.p, "generated: 60 tokens"));
    keep();
    assert_int_equal(RUN("--prompt=In the", "-n60", "--seed", "5", "-t", "1"), 0);
    assert_true(same());
    assert_int_equal(RUN("-p", "In the", "-n", "60", "-s", "6"), 0);
    assert_false(same());
}

static void without_a_seed_it_is_printed(void **state)
{
    (void)state;
    assert_int_equal(RUN("-p", "In the", "-n", "60"), 0);
    const char *seed = strstr(notes.p, "seed: ");
    assert_non_null(seed);
    char text[32] = {0};
    memcpy(text, seed + 6, strcspn(seed + 6, "\n"));
    keep();
    assert_int_equal(RUN("-p", "In the", "-n", "60", "-s", text), 0);
    assert_true(same());
}

static void every_flag_has_its_effect(void **state)
{
    (void)state;
    static const char *const flag[][2] = {{"--temp", "0"},         {"--temp", "3"},
                                          {"--top-k", "1"},        {"--top-p", "0.2"},
                                          {"--min-p", "0.9"},      {"--repeat-penalty", "5"},
                                          {"--repeat-last-n", "2"}};
    assert_int_equal(RUN("-p", "abcabcabc", "-n", "60", "-s", "5", "--repeat-penalty", "1.5"), 0);
    keep();
    for (size_t i = 0; i < sizeof flag / sizeof *flag; i++) {
        if (!strcmp(flag[i][0], "--repeat-penalty"))
            assert_int_equal(RUN("-p", "abcabcabc", "-n", "60", "-s", "5", flag[i][0], flag[i][1]),
                             0);
        else
            assert_int_equal(RUN("-p", "abcabcabc", "-n", "60", "-s", "5", "--repeat-penalty",
                                 "1.5", flag[i][0], flag[i][1]),
                             0);
        if (same())
            fail_msg("%s %s changes nothing", flag[i][0], flag[i][1]);
    }
}

static void prompts_come_from_files_too(void **state)
{
    const char *file = scratch_path(*state, "prompt.txt");
    scratch_text(file, "In the\n");
    assert_int_equal(RUN("-p", "In the", "-n", "20", "-s", "5"), 0);
    keep();
    assert_int_equal(RUN("-f", file, "-n", "20", "-s", "5"), 0);
    assert_true(same());
    assert_int_equal(RUN("-f", file, "-p", "x"), CMD_USAGE);
    assert_int_equal(RUN("-f", scratch_path(*state, "none")), -1);
    assert_int_equal(RUN("-n", "5", "-s", "1"), 0);
    assert_non_null(strstr(notes.p, "prompt: 1 tokens"));
}

static void the_context_ends_it_with_a_note(void **state)
{
    (void)state;
    char text[TINY_CONTEXT + 2];
    struct transformer m;
    const char *path = scratch_path(*state, "always.h5");
    tiny_model(&m, false, false);
    tiny_model_always(&m, 'x');
    tiny_model_save(path, &m);
    transformer_free(&m);
    model = path;
    assert_int_equal(RUN("-p", "abc", "-s", "1"), 0);
    assert_int_equal(out.n, TINY_CONTEXT + 1 + 1);
    assert_non_null(strstr(notes.p, "the context is full (320 tokens)"));
    memset(text, 'a', TINY_CONTEXT + 1);
    text[TINY_CONTEXT + 1] = 0;
    assert_int_equal(RUN("-p", text), -1);
    assert_non_null(strstr(err_text(), "321 tokens"));
}

/* The second byte of a character comes with the next token. */
static void characters_stay_whole(void **state)
{
    (void)state;
    struct transformer m;
    const char *path = scratch_path(*state, "umlaut.h5");
    tiny_model(&m, false, false);
    tiny_model_always(&m, 0xa4);
    tiny_model_save(path, &m);
    transformer_free(&m);
    model = path;
    assert_int_equal(RUN("-p", "\xc3", "-n", "1", "-s", "1"), 0);
    assert_string_equal(out.p, "\xc3\xa4\n");
    assert_int_equal(RUN("-p", "\xc3", "-n", "0", "-s", "1"), 0);
    assert_string_equal(out.p, "\xc3\n");
}

static void wrong_calls_are_told_apart(void **state)
{
    (void)state;
    assert_int_equal(RUN("--tmp", "1"), CMD_USAGE);
    assert_int_equal(RUN("--top-p", "1.5"), CMD_USAGE);
    assert_int_equal(RUN("--help"), 0);
    assert_non_null(strstr(out.p, "--repeat-last-n"));
    model = "nowhere";
    assert_int_equal(RUN("-p", "x"), -1);
    assert_int_equal(capture_run(cmd_generate, (const char *[]){"generate", NULL}, &out, &notes),
                     CMD_USAGE);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_seed_gives_one_text),           TEST(without_a_seed_it_is_printed),
        TEST(every_flag_has_its_effect),       TEST(prompts_come_from_files_too),
        TEST(the_context_ends_it_with_a_note), TEST(characters_stay_whole),
        TEST(wrong_calls_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
