#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "experiments/cmd.h"
#include "experiments/flags.h"

struct args {
    const char *model, *prompt;
    int64_t top_k, n_predict;
    double temp;
    bool fresh;
    int format;
    struct ints threads;
    struct texts add, rest;
    int64_t width;
};

static const char *const formats[] = {"md", "csv", NULL};
static const struct field table[] = {
    {FIELD_AT(args, model), .type = FIELD_TEXT, .flags = FIELD_REQUIRED, .letter = 'm', .doc = "M"},
    {FIELD_AT(args, top_k), .type = FIELD_INT, .min = 0, .max = 1000, .def = "40", .doc = "K"},
    {FIELD_AT(args, n_predict), .type = FIELD_INT, .min = 1, .max = 4096, .def = "128",
     .letter = 'n', .doc = "N"},
    {FIELD_AT(args, temp), .type = FIELD_FLOAT, .min = 0, .max = 100, .def = "0.8", .doc = "T"},
    {FIELD_AT(args, fresh), .type = FIELD_BOOL, .letter = 'f', .doc = "F"},
    {FIELD_AT(args, format), .type = FIELD_ENUM, .names = formats, .def = "md", .doc = "O"},
    {FIELD_AT(args, threads), .type = FIELD_INTS, .min = 1, .max = 64, .def = "2", .doc = "TH"},
    {FIELD_AT(args, add), .type = FIELD_TEXTS, .doc = "A"},
    {FIELD_AT(args, width), .type = FIELD_INT, .min = 1, .max = 99, .when = "format=csv",
     .doc = "W"},
    {FIELD_AT(args, prompt), .type = FIELD_TEXT, .flags = FIELD_POSITIONAL | FIELD_REQUIRED,
     .doc = "P"},
    {FIELD_AT(args, rest), .type = FIELD_TEXTS, .flags = FIELD_POSITIONAL, .doc = "R"},
    {0},
};
static const struct flags flags = {"try -m MODEL PROMPT [REST ...]", "Tries.", table};

static struct pool pool;

/* Splits at blanks: "" stands for an empty argument. */
static int parse(struct args *a, const char *line)
{
    char copy[512], *argv[32];
    int argc = 0;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *rest = copy, *one; (one = strsep(&rest, " ")) && argc < 32;)
        argv[argc++] = strcmp(one, "\"\"") ? one : one + 2;
    memset(a, 0x55, sizeof *a);
    return flags_parse(&flags, argc, argv, a, &pool);
}

static void good(void **state)
{
    (void)state;
    struct args a;
    assert_int_equal(parse(&a, "try -m x.gguf hello"), 0);
    assert_string_equal(a.model, "x.gguf");
    assert_string_equal(a.prompt, "hello");
    assert_true(a.top_k == 40 && a.n_predict == 128 && a.temp == 0.8 && !a.fresh);
    assert_true(a.threads.n == 1 && a.threads.value[0] == 2 && a.rest.n == 0 && a.add.n == 0);
    assert_int_equal(parse(&a, "try p --model=m --top-k 5 -n7 --temp=1e-1 -f --format csv q r=1 "
                               "--width 3 --threads 1,2,4 --add u --add=v -- --fresh -m"),
                     0);
    assert_string_equal(a.model, "m");
    assert_true(a.top_k == 5 && a.n_predict == 7 && a.temp == 0.1 && a.fresh && a.format == 1);
    assert_true(a.width == 3 && a.threads.n == 3 && a.threads.value[2] == 4 && a.add.n == 2);
    assert_string_equal(a.add.value[1], "v");
    assert_int_equal(a.rest.n, 4);
    assert_string_equal(a.rest.value[1], "r=1");
    assert_string_equal(a.rest.value[3], "-m");
    assert_int_equal(parse(&a, "try -m - \"\" --top_k=9 --fresh=false"), 0);
    assert_string_equal(a.prompt, "");
    assert_true(a.top_k == 9 && !a.fresh);
    assert_int_equal(parse(&a, "try -m=x p -n 1K"), 0); // as with cc: what follows -m is the value
    assert_string_equal(a.model, "=x");
    assert_int_equal(a.n_predict, 1000);
}

static void bad(void **state)
{
    (void)state;
    static const struct {
        const char *line, *message;
    } lines[] = {
        {"try p", "missing --model; usage: attar try -m MODEL"},
        {"try -m x", "missing PROMPT; usage"},
        {"try -m x p --topk 4", "unknown flag --topk; did you mean --top-k?"},
        {"try -m x p --zebra", "unknown flag --zebra; `attar try --help` lists the flags"},
        {"try -m x p -z", "unknown flag -z"},
        {"try -m x p --prompt q", "unknown flag --prompt"},
        {"try -m x p --top-k", "--top-k needs a value"},
        {"try p -m", "-m needs a value"},
        {"try -m x p --top-k 4x", "--top-k: '4x' is not a number"},
        {"try -m x p --top-k=", "--top-k: '' is not a number"},
        {"try -m x p --top-k 1001", "--top-k: '1001' is out of range (0 to 1000)"},
        {"try -m x p --top-k 1 --top_k 2", "--top-k is given twice"},
        {"try -m x -m y p", "--model is given twice"},
        {"try -m x p --fresh=1", "--fresh: '1' is neither true nor false"},
        {"try -m x p -fx", "-f takes no value"},
        {"try -m x p --format xml", "--format: 'xml' is none of md, csv"},
        {"try -m x p --threads 1,,2", "--threads: '' is not a number"},
        {"try -m x p --threads 1,2,", "--threads: '' is not a number"},
        {"try -m x p --width 4", "--width has no effect without --format csv"},
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct args a;
        if (parse(&a, lines[i].line) != CMD_USAGE ||
            strncmp(err_text(), lines[i].message, strlen(lines[i].message)))
            fail_msg("%s: %s", lines[i].line, err_text());
    }
    static const struct field one[] = {{FIELD_AT(args, prompt), .type = FIELD_TEXT,
                                        .flags = FIELD_POSITIONAL, .doc = "P"},
                                       {0}};
    static const struct flags single = {"one [PROMPT]", "One.", one};
    char *argv[] = {(char[]){"one"}, (char[]){"a"}, (char[]){"b"}};
    struct args a;
    assert_int_equal(flags_parse(&single, 3, argv, &a, &pool), CMD_USAGE);
    assert_string_equal(
        err_text(),
        "unexpected argument 'b' (text with blanks wants quotes); usage: attar one [PROMPT]");
}

static void help(void **state)
{
    (void)state;
    struct buf b = {0};
    flags_help(&flags, &b);
    assert_non_null(strstr(b.p, "usage: attar try -m MODEL PROMPT"));
    assert_non_null(strstr(b.p, "-n, --n-predict"));
    assert_non_null(strstr(b.p, "whole number, 1 to 4096; default 128"));
    assert_non_null(strstr(b.p, "md | csv; default md"));
    buf_free(&b);
    struct args a;
    fflush(stdout);
    const int kept = dup(1), null = open("/dev/null", O_WRONLY);
    dup2(null, 1);
    const int rc = parse(&a, "try --help --nonsense");
    const int brief = parse(&a, "try -h");
    fflush(stdout);
    dup2(kept, 1);
    close(kept);
    close(null);
    assert_int_equal(rc, FLAGS_HELP);
    assert_int_equal(brief, FLAGS_HELP);
}

static int free_pool(void **state)
{
    (void)state;
    pool_free(&pool);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(good), cmocka_unit_test(bad),
                                       cmocka_unit_test(help)};
    return cmocka_run_group_tests(tests, NULL, free_pool);
}
