#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "autograd/base/err.h"
#include "autograd/base/utf8.h"
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

/* A text to stop at is cut off, also where it comes in pieces or was only about to come. */
static void texts_to_stop_at_end_it(void **state)
{
    (void)state;
    assert_int_equal(RUN("-p", "In the", "-n", "60", "-s", "5"), 0);
    keep();
    char word[4] = {0};
    memcpy(word, again.p + 30, 3);
    const char *at = strstr(again.p + 6, word);
    assert_int_equal(RUN("-p", "In the", "-n", "60", "-s", "5", "-r", "no such text", "-r", word),
                     0);
    assert_int_equal(out.n, at - again.p + 1);
    assert_memory_equal(out.p, again.p, out.n - 1);
    assert_non_null(strstr(notes.p, "stopped"));
    word[2] ^= 1; // begins as what comes
    assert_int_equal(RUN("-p", "In the", "-n", "60", "-s", "5", "-r", word), 0);
    if (!strstr(again.p + 6, word))
        assert_true(same());
}

/* The line of the results that holds `start`, as JSON; to be freed. */
static json_t *result(const char *start)
{
    const char *at = strstr(out.p, start);
    if (!at)
        fail_msg("no %s in %s", start, out.p);
    json_t *line = json_loadb(at, strcspn(at, "\n"), 0, NULL);
    assert_non_null(line);
    return line;
}

static void assert_result(const char *start, const char *text, const char *finish, int tokens)
{
    json_t *line = result(start);
    assert_string_equal(json_string_value(json_object_get(line, "finish")), finish);
    assert_int_equal(json_integer_value(json_object_get(line, "tokens")), tokens);
    if (text)
        assert_string_equal(json_string_value(json_object_get(line, "text")), text);
    json_decref(line);
}

/* Lines of prompts become lines of results: the first has what -p gives, each its own options. */
static void many_prompts_at_once(void **state)
{
    const char *file = scratch_path(*state, "prompts.jsonl");
    char one[200] = "", *end;
    scratch_text(file, "{\"prompt\": \"In the\", \"id\": \"first\"}\n\n"
                       "{\"prompt\": \"abc\", \"temp\": 0, \"n_predict\": 9, \"id\": 12}\n"
                       "{\"prompt\": \"abc\", \"seed\": 7, \"samples\": 2}\n"
                       "{\"prompt\": \"In the\", \"stop\": [\"zz\"]}");
    assert_int_equal(RUN("-p", "In the", "-n", "20", "--temp", "0.01", "-s", "5"), 0);
    memcpy(one, out.p + 6, out.n - 7);
    assert_int_equal(RUN("--prompts", file, "-n", "20", "--temp", "0.01", "-s", "5"), 0);
    const size_t whole = utf8_valid(one, strlen(one));
    json_t *first = result("{\"index\": 0, \"sample\": 0, \"id\": \"first\"");
    assert_memory_equal(json_string_value(json_object_get(first, "text")), one, whole);
    json_decref(first);
    assert_result("{\"index\": 1, \"sample\": 0, \"id\": 12", NULL, "length", 9);
    assert_result("{\"index\": 2, \"sample\": 0, \"text", NULL, "length", 20);
    assert_result("{\"index\": 2, \"sample\": 1, \"text", NULL, "length", 20);
    assert_non_null(strstr(notes.p, "5 of 5 texts, at most 5 at once"));
    assert_non_null(strstr(notes.p, "0 preemptions"));
    // as few blocks as one text needs, one after another: the same lines in their order
    keep();
    assert_int_equal(RUN("--prompts", file, "-n", "20", "--temp", "0.01", "-s", "5", "--parallel",
                         "1", "--cache-blocks", "2", "-c", "32", "-b", "3"),
                     0);
    assert_non_null(strstr(notes.p, "at most 1 at once"));
    end = strchr(again.p, '\n');
    assert_non_null(end);
    assert_int_equal(strncmp(out.p, "{\"index\": 0", 11), 0);
    assert_int_equal(out.n, again.n);
}

/* Ids are only passed on; a byte order mark in front and \\u0000 inside are text like any other. */
static void ids_come_back_as_they_were_given(void **state)
{
    const char *file = scratch_path(*state, "prompts.jsonl");
    scratch_text(file,
                 "\xef\xbb\xbf{\"prompt\": \"a\\u0000b\", \"id\": 123456789012345678901234567890}\n"
                 "{\"prompt\": \"a\", \"id\":1.10}\n"
                 "{\"id\" : \"\\u00e9\\/\", \"prompt\": \"a\"}\n");
    assert_int_equal(RUN("--prompts", file, "-n", "2", "-s", "1"), 0);
    assert_non_null(
        strstr(out.p, "\"index\": 0, \"sample\": 0, \"id\": 123456789012345678901234567890, "));
    assert_non_null(strstr(out.p, "\"index\": 1, \"sample\": 0, \"id\": 1.10, "));
    assert_non_null(strstr(out.p, "\"index\": 2, \"sample\": 0, \"id\": \"\\u00e9\\/\", "));
}

static void prompts_are_checked_before_work(void **state)
{
    const char *file = scratch_path(*state, "prompts.jsonl");
    static const char *const bad[][2] = {
        {"{\"prompt\": \"a\", \"tmp\": 1}", "did you mean `temp`"},
        {"{\"prompt\": \"a\", \"temp\": \"1\"}", "not a number"},
        {"{\"prompt\": \"a\", \"top_p\": 1.5}", "top_p"},
        {"{\"prompt\": \"a\", \"samples\": 0}", "samples"},
        {"{\"prompt\": \"a\", \"n_predict\": 0}", "n_predict"},
        {"{\"prompt\": \"a\", \"stop\": [\"\"]}", "stop"},
        {"{\"prompt\": \"a\", \"stop\": \"x\"}", "stop"},
        {"{\"prompt\": \"a\", \"id\": []}", "id"},
        {"{\"prompt\": \"a\", \"id\": NaN}", "id"},
        {"{\"prompt\": \"a\", \"seed\": 123456789012345678901234567890}", "seed"},
        {"{\"prompt\": \"a\", \"temp\": NaN}", "not a number"},
        {"{\"prompt\": \"a\", \"stop\": [\"a\\u0000b\"]}", "stop"},
        {"{\"prompt\": [1]}", "not a text"},
        {"{\"id\": 3}", "no key `prompt`"},
        {"[]", "no JSON object"},
        {"{\"prompt\": \"a", "column"},
        {"{\"prompt\": \"twelve tokens\"}", "shorten"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct buf text = {0};
        buf_printf(&text, "{\"prompt\": \"a\"}\n%s\n", bad[i][0]);
        scratch_write(file, text.p, text.n);
        assert_int_equal(RUN("--prompts", file, "-n", "5", "-s", "1", "-c", "12"), -1);
        assert_non_null(strstr(err_text(), "prompts.jsonl: line 2"));
        if (!strstr(err_text(), bad[i][1]))
            fail_msg("%s: %s", bad[i][0], err_text());
        assert_int_equal(out.n, 0);
        buf_free(&text);
    }
    scratch_text(file, "\n \n");
    assert_int_equal(RUN("--prompts", file, "-s", "1"), -1);
    assert_non_null(strstr(err_text(), "no prompts"));
    scratch_text(file, "{\"prompt\": \"a\"}\n");
    assert_int_equal(RUN("--prompts", file, "-p", "x", "-s", "1"), CMD_USAGE);
    assert_int_equal(RUN("--parallel", "3"), CMD_USAGE); // has no effect
    assert_int_equal(RUN("--prompts", file, "-s", "1", "-b", "3"), CMD_USAGE);
    assert_int_equal(RUN("--prompts", file, "-s", "1", "--cache-blocks", "9", "--cache-memory",
                         "1Mi"),
                     CMD_USAGE);
    assert_int_equal(RUN("--prompts", file, "-s", "1", "--cache-memory", "100"), -1);
    assert_non_null(strstr(err_text(), "bytes"));
    assert_int_equal(RUN("--prompts", file, "-s", "1", "--cache-memory", "10Ki"), -1);
    assert_non_null(strstr(err_text(), "prompt 1"));
    assert_int_equal(RUN("--prompts", file, "-s", "1", "--cache-type", "q8_0"), -1);
    assert_non_null(strstr(err_text(), "f16"));
    assert_int_equal(RUN("--prompts", file, "-s", "1", "-c", "321"), -1);
}

#define RUN_FROM(path, ...)                                                                        \
    capture_run_from(path, cmd_generate,                                                           \
                     (const char *[]){"generate", "-m", model, __VA_ARGS__, NULL}, &out, &notes)

/* - is standard input, wherever a prompt or prompts come from a file. */
static void standard_input_is_a_file(void **state)
{
    const char *file = scratch_path(*state, "prompt");
    scratch_text(file, "In the\n");
    assert_int_equal(RUN("-f", file, "-n", "9", "-s", "1"), 0);
    keep();
    assert_int_equal(RUN_FROM(file, "-f", "-", "-n", "9", "-s", "1"), 0);
    assert_true(same());
    scratch_text(file, "{\"prompt\": \"In\"}\n{\"prompt\": 5}\n");
    assert_int_equal(RUN_FROM(file, "--prompts", "-", "-s", "1"), -1);
    assert_non_null(strstr(err_text(), "standard input: line 2"));
    scratch_text(file, "{\"prompt\": \"In\"}\n");
    assert_int_equal(RUN("--prompts", file, "-n", "9", "-s", "1"), 0);
    keep();
    assert_int_equal(RUN_FROM(file, "--prompts", "-", "-n", "9", "-s", "1"), 0);
    assert_true(same());
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
        TEST(a_seed_gives_one_text),
        TEST(without_a_seed_it_is_printed),
        TEST(every_flag_has_its_effect),
        TEST(prompts_come_from_files_too),
        TEST(the_context_ends_it_with_a_note),
        TEST(characters_stay_whole),
        TEST(texts_to_stop_at_end_it),
        TEST(many_prompts_at_once),
        TEST(ids_come_back_as_they_were_given),
        TEST(prompts_are_checked_before_work),
        TEST(standard_input_is_a_file),
        TEST(wrong_calls_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
