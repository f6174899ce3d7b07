#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "datasets/tokenizer.h"
#include "experiments/cmd.h"
#include "tests/datasets/scratch.h"

/* Runs `tokenizer <words>`, blanks between them; what it printed goes to *out, to be freed. */
static int run(void *state, const char *words, char **out)
{
    char copy[2000], *argv[20], name[] = "tokenizer";
    int argc = 0;
    snprintf(copy, sizeof copy, "%s", words);
    argv[argc++] = name;
    for (char *w = strtok(copy, " "); w; w = strtok(NULL, " "))
        argv[argc++] = w;
    argv[argc] = NULL;
    const char *path = scratch_path(state, "stdout");
    fflush(stdout);
    const int keep = dup(STDOUT_FILENO);
    const int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    dup2(fd, STDOUT_FILENO);
    const int rc = cmd_tokenizer(argc, argv);
    fflush(stdout);
    dup2(keep, STDOUT_FILENO);
    close(keep);
    close(fd);
    size_t n;
    *out = scratch_read(path, &n);
    *out = realloc(*out, n + 1);
    (*out)[n] = 0;
    return rc;
}

static void expect(void *state, const char *words, int rc, const char *want)
{
    char *out;
    assert_int_equal(run(state, words, &out), rc);
    if (want)
        assert_string_equal(out, want);
    free(out);
}

static void train_encode_decode(void **state)
{
    const char *text =
        "low low low lower lower\n\nnewest newest <|endoftext|> newest newest widest\n";
    char words[1000];
    const char *corpus = scratch_path(*state, "corpus.txt"), *file = scratch_path(*state, "t.json"),
               *ids = scratch_path(*state, "ids");
    scratch_text(corpus, text);
    snprintf(words, sizeof words, "train -v 262 --pre qwen2 -o %s %s", file, corpus);
    expect(*state, words, 0, "");
    struct tokenizer *t = tokenizer_load(file);
    assert_non_null(t);
    assert_int_equal(tokenizer_vocab_size(t), 262);
    assert_string_equal(tokenizer_pre(t), "qwen2");
    for (int special = 0; special < 2; special++) {
        char *out;
        struct tokens want = {0};
        struct buf line = {0};
        snprintf(words, sizeof words, "encode -t %s %s %s", file, special ? "--special" : "",
                 corpus);
        assert_int_equal(run(*state, words, &out), 0);
        assert_int_equal(tokenizer_encode(t, text, strlen(text), special, &want), 0);
        for (size_t i = 0; i < want.n; i++)
            buf_printf(&line, "%d%s", want.id[i], i + 1 < want.n ? " " : "\n");
        assert_string_equal(out, line.p);
        assert_int_equal(strstr(out, "261") != NULL, special);
        scratch_text(ids, out);
        free(out);
        snprintf(words, sizeof words, "decode -t %s %s", file, ids);
        expect(*state, words, 0, text);
        tokens_free(&want);
        buf_free(&line);
    }
    tokenizer_free(t);
}

static void rules_have_flags(void **state)
{
    char words[1000];
    const char *corpus = scratch_path(*state, "corpus.txt"), *file = scratch_path(*state, "t.json");
    scratch_text(corpus, "some text, some text");
    int n = 0;
    for (const struct pretok *r = pretok_rules; r->name; r++) {
        if (r->apart)
            continue;
        n++;
        snprintf(words, sizeof words, "train -v 260 --special <a> --special <b> --pre %s -o %s %s",
                 r->name, file, corpus);
        expect(*state, words, 0, "");
        struct tokenizer *t = tokenizer_load(file);
        assert_non_null(t);
        assert_string_equal(tokenizer_pre(t), r->name);
        assert_int_equal(tokenizer_find(t, "<b>"), 259);
        tokenizer_free(t);
    }
    assert_int_equal(n, 4); // as many as --pre takes
}

static void mistakes(void **state)
{
    char words[1000];
    const char *bad = scratch_path(*state, "bad"), *file = scratch_path(*state, "t.json");
    scratch_text(bad, "{}");
    expect(*state, "", CMD_USAGE, "");
    expect(*state, "tran", CMD_USAGE, "");
    expect(*state, "encode", CMD_USAGE, "");
    expect(*state, "train -v 100 -o x y", CMD_USAGE, "");
    expect(*state, "encode -t /nonexistent x", -1, "");
    snprintf(words, sizeof words, "encode -t %s %s", bad, bad);
    expect(*state, words, -1, "");
    assert_non_null(strstr(err_text(), bad));
    snprintf(words, sizeof words, "train -v 300 -o %s /nonexistent.txt", file);
    expect(*state, words, -1, "");
    assert_int_not_equal(access(file, F_OK), 0);
    struct tokenizer *t = tokenizer_new_byte();
    assert_int_equal(tokenizer_save(t, file), 0);
    tokenizer_free(t);
    static const char *const lines[] = {"1 2 x", "1 257", "-1", "99999999999999999999", "1,2"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        scratch_text(bad, lines[i]);
        snprintf(words, sizeof words, "decode -t %s %s", file, bad);
        expect(*state, words, -1, "");
    }
    char *out;
    assert_int_equal(run(*state, "--help", &out), 0);
    assert_non_null(strstr(out, "--vocab-size"));
    assert_non_null(strstr(out, "decode -t"));
    free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(train_encode_decode, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(rules_have_flags, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(mistakes, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
