#include <math.h>
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
#include "autograd/base/file.h"
#include "experiments/summary.h"

static char folder[64];
static char path[128];

static int setup(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/attar-summary-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/summary.json", folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

static void all_members_read_back(void **state)
{
    (void)state;
    const struct summary_row row[] = {
        {"pretrain", 2.5, exp(2.5), 1.25, NAN, NAN, 1000, 0, NAN},
        {"pretrain@q3_k_m", 2.75, exp(2.75), NAN, 0.0625, 0.25, 999, 123456, 2.8125},
    };
    const struct summary_fact fact[] = {{"bits per weight", "3.91"}, {"a \"b\" <c>", "\n"}};
    struct summary w, r;
    summary_init(&w);
    w.stage = "warm-up";
    w.kind = "pretrain";
    w.steps = 600;
    w.tokens = 1LL << 40;
    w.seconds = 81.5;
    w.parameters = 3000000;
    w.train_loss = 2.25;
    w.valid_loss = 2.5;
    w.bits_per_byte = 1.25;
    w.best_valid_loss = 2.375;
    w.best_step = 580;
    w.version = "1.0";
    w.seed = -5;
    w.started = "2026-11-22T15:00:00Z";
    w.finished = "2026-11-22T15:01:00Z";
    w.row = row;
    w.n_rows = 2;
    w.fact = fact;
    w.n_facts = 2;
    summary_machine(&w);
    assert_true(w.cpu && *w.cpu && w.blas && *w.blas && w.threads >= 1);
    assert_int_equal(summary_write(&w, path), 0);
    assert_int_equal(summary_read(&r, path), 0);

    const char *const texts[][2] = {{w.stage, r.stage},      {w.kind, r.kind},
                                    {w.cpu, r.cpu},          {w.blas, r.blas},
                                    {w.version, r.version},  {w.started, r.started},
                                    {w.finished, r.finished}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_string_equal(texts[i][0], texts[i][1]);
    assert_int_equal(r.steps, w.steps);
    assert_int_equal(r.tokens, w.tokens);
    assert_int_equal(r.parameters, w.parameters);
    assert_int_equal(r.best_step, w.best_step);
    assert_int_equal(r.threads, w.threads);
    assert_int_equal(r.seed, w.seed);
    assert_true(r.seconds == w.seconds && r.train_loss == w.train_loss &&
                r.valid_loss == w.valid_loss && r.bits_per_byte == w.bits_per_byte &&
                r.best_valid_loss == w.best_valid_loss);
    assert_int_equal(r.n_rows, 2);
    for (int i = 0; i < 2; i++) {
        assert_string_equal(r.row[i].name, row[i].name);
        assert_true(r.row[i].loss == row[i].loss && r.row[i].perplexity == row[i].perplexity);
        assert_int_equal(r.row[i].tokens, row[i].tokens);
        assert_int_equal(r.row[i].size, row[i].size);
    }
    assert_true(isnan(r.row[0].kld) && r.row[0].bits_per_byte == 1.25);
    assert_true(r.row[1].kld == 0.0625 && r.row[1].kld_error == 0.25 &&
                isnan(r.row[1].bits_per_byte));
    assert_true(isnan(r.row[0].trained_loss) && r.row[1].trained_loss == 2.8125);
    assert_int_equal(r.n_facts, 2);
    assert_string_equal(r.fact[1].name, fact[1].name);
    assert_string_equal(r.fact[1].value, fact[1].value);
    summary_free(&r);
}

static void unknown_stays_unknown(void **state)
{
    (void)state;
    struct summary w, r;
    summary_init(&w);
    assert_int_equal(summary_write(&w, path), 0);
    assert_int_equal(summary_read(&r, path), 0);
    assert_true(!r.stage && !r.cpu && !r.steps && !r.n_rows && !r.n_facts);
    assert_true(isnan(r.seconds) && isnan(r.valid_loss));
    summary_free(&r);
    summary_free(&r);
}

static void malformed_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } bad[] = {
        {"", "summary.json:"},
        {"{", "summary.json:1:"},
        {"[]", "not a JSON object"},
        {"{\"stage\": 3}", "\"stage\" is not a text"},
        {"{\"steps\": 1.5}", "\"steps\" is not a whole number"},
        {"{\"seconds\": \"9\"}", "\"seconds\" is not a number"},
        {"{\"rows\": {}}", "\"rows\" is not a list"},
        {"{\"rows\": [{\"name\": \"a\"}, {\"name\": 1}]}", "\"name\" is not a text"},
        {"{\"facts\": [{\"value\": 1}]}", "\"value\" is not a text"},
        {"{\"stage\":\"a\",\"stage\":\"b\"}", "duplicate"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct summary s;
        assert_int_equal(file_replace(path, bad[i].text, strlen(bad[i].text)), 0);
        assert_int_equal(summary_read(&s, path), -1);
        assert_non_null(strstr(err_text(), bad[i].message));
        assert_non_null(strstr(err_text(), path));
    }
    struct summary s; // a row that is no object is a row of which nothing is known
    assert_int_equal(file_replace(path, "{\"rows\":[7]}", 12), 0);
    assert_int_equal(summary_read(&s, path), 0);
    assert_true(s.n_rows == 1 && !s.row[0].name && isnan(s.row[0].loss));
    summary_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_members_read_back, setup, teardown),
        cmocka_unit_test_setup_teardown(unknown_stays_unknown, setup, teardown),
        cmocka_unit_test_setup_teardown(malformed_is_named, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
