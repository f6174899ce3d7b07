#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "autograd/base/file.h"
#include "autograd/base/mem.h"
#include "experiments/page.h"
#include "experiments/page_parts.h"
#include "tests/experiments/synthetic_run.h"
#include "tests/experiments/xml.h"

/* The run's page, well-formed; buf_free() it. */
static struct buf page_of_run(void)
{
    struct report r;
    struct buf b = {0};
    assert_int_equal(report_load(&r, synthetic_run), 0);
    assert_int_equal(page_write(&b, &r), 0);
    report_free(&r);
    const char *fault = xml_check(b.p, b.n);
    if (fault)
        fail_msg("%s", fault);
    return b;
}

static int count(const char *s, const char *what)
{
    int n = 0;
    while ((s = strstr(s, what))) {
        n++;
        s += strlen(what);
    }
    return n;
}

static void page_is_whole_and_self_contained(void **state)
{
    (void)state;
    assert_int_equal(synthetic_run_write(synthetic_run, 600), 0);
    struct buf b = page_of_run();
    static const char *const there[] = {
        "<title>quick &amp; &lt;dirty&gt;",
        "prefers-color-scheme:dark",
        "@media print",
        "Started 2026-11-22 15:00 UTC",
        "seed 1",
        "01-pretrain",
        "7m 18s", // of the stage
        "3.15M",  // parameters
        "not finished",
        "Learning rate",
        "Gradient norm",
        "tokens per second",
        "cross_entropy",
        "pretrain@q3_k_m",
        "qat &lt;script&gt;",
        "Training forward minus it",
        "-0.00130",
        "from checkpoint.h5 of step 300",
        "loss is nan",
        "# &lt;b&gt;&amp;", // of the config
        "smoothed over 15 steps",
        "Bytes per token",
        "<b>Model</b> llama: 6 layers, 192 wide",
        "<b>Text</b> &lt;essays&gt;: 1,091,301 tokens to train on",
        "<b>Trained</b> all 3,146,240 parameters",
        "<small>3,146,240</small>",
        "<dt>arena</dt><dd>80.2 MB<small>80,194,624</small>",
        "<dt>FLOPs a step</dt><dd>4.83 GFLOP<small>4,831,838,208</small>",
        "<dt>time to the first step</dt><dd>0.8 s",
        "divergence from the teacher (kl)",
    };
    for (size_t i = 0; i < sizeof there / sizeof there[0]; i++)
        if (!strstr(b.p, there[i]))
            fail_msg("%s is missing", there[i]);
    static const char *const absent[] = {"<script", "<img",  "<link",       "http:",
                                         "https:",  "url(",  "@import",     "onerror=\"",
                                         "\"nan",   "\"inf", "scales bytes"};
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++)
        if (strstr(b.p, absent[i]))
            fail_msg("%s is in the page", absent[i]);
    assert_int_equal(count(b.p, "alert(1)"),
                     count(b.p, "&lt;script&gt;alert(1)") + count(b.p, "onerror=alert(1)"));
    // of each stage that trains: the loss twice, learning rate, gradient norm, speed; terms twice
    assert_int_equal(count(b.p, "role=\"img\""), 5 + 7);
    assert_true(b.n < 400000);
    buf_free(&b);
}

/* Every plot has a unit and a legend; those of a stage that was resumed say where. */
static void plots_have_unit_legend_and_resumptions(void **state)
{
    (void)state;
    assert_int_equal(synthetic_run_write(synthetic_run, 600), 0);
    struct buf b = page_of_run();
    const int figures = count(b.p, "<figure"), plots = count(b.p, "role=\"img\"");
    assert_true(figures > 6);
    assert_int_equal(count(b.p, "class=\"legend\""), figures);
    assert_int_equal(count(b.p, "class=\"unit\" x=\"2\""), plots);
    assert_null(strstr(b.p, "y=\"13\"></text>"));
    const char *qat = strstr(b.p, "id=\"stage-1\"");
    char *first = mem_text(b.p, (size_t)(qat - b.p));
    // a line in each of five drawings, and one in the legends of four figures
    assert_int_equal(count(first, "class=\"mark\""), 5 + 4);
    assert_int_equal(count(first, "<title>resumed, step 300</title>"), 5);
    assert_null(strstr(qat, "class=\"mark\""));
    free(first);
    buf_free(&b);
}

static void long_runs_stay_small(void **state)
{
    (void)state;
    assert_int_equal(synthetic_run_write(synthetic_run, 20000), 0);
    struct buf b = page_of_run();
    assert_true(b.n < 1000000);
    buf_free(&b);
}

static void little_data_makes_a_page(void **state)
{
    (void)state;
    synthetic_run_make("01-a");
    struct buf b = page_of_run();
    buf_free(&b);
    synthetic_run_put("01-a/metrics.jsonl", "{\"step\":1,\"loss\":null}\n");
    b = page_of_run();
    assert_non_null(strstr(b.p, "no data"));
    buf_free(&b);
    synthetic_run_put("01-a/metrics.jsonl", "{\"step\":0,\"valid_loss\":2}\n");
    b = page_of_run();
    assert_non_null(strstr(b.p, ">7.39<")); // its perplexity
    buf_free(&b);
    synthetic_run_put("01-a/metrics.jsonl", "{\"step\":1,\"loss\":5,\"<k>\":1}\nbad\n");
    b = page_of_run();
    assert_non_null(strstr(b.p, "Not all of this stage could be read"));
    buf_free(&b);
}

static void values_table(void **state)
{
    (void)state;
    struct buf b = {0};
    const int64_t counts[] = {1, 999, 1000, 1234567, -1000, INT64_MAX};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        page_count(&b, counts[i]);
        buf_text(&b, "|");
    }
    assert_string_equal(b.p, "1|999|1,000|1,234,567|-1,000|9,223,372,036,854,775,807|");
    buf_clear(&b);
    const double sizes[] = {7, 999, 1000, 9994, 9996, 99960, 999600, 12584960, 0.5};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        page_short(&b, sizes[i], "B");
        buf_text(&b, "|");
    }
    assert_string_equal(b.p, "7 B|999 B|1.00 kB|9.99 kB|10.0 kB|100 kB|1.00 MB|12.6 MB|0.50 B|");
    buf_clear(&b);
    const double times[] = {0.04, 9.94, 9.96, 59.4, 59.96, 60, 3599.7, 3600, 86399, 86400, 1e6};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        page_time(&b, times[i]);
        buf_text(&b, "|");
    }
    assert_string_equal(b.p, "0.0 s|9.9 s|10 s|59 s|1m 00s|1m 00s|1h 00m|1h 00m|23h 59m|1d 00h|"
                             "11d 13h|");
    buf_clear(&b);
    page_moment(&b, "2026-11-22T15:00:09Z");
    page_moment(&b, "<b>");
    page_moment(&b, NULL);
    assert_string_equal(b.p, "2026-11-22 15:00 UTC&lt;b&gt;");
    buf_free(&b);
}

/* Validations of averaged weights are told apart from those of the weights as trained. */
static void averages_are_named(void **state)
{
    (void)state;
    synthetic_run_make("01-a");
    synthetic_run_put("01-a/metrics.jsonl",
                      "{\"step\":1,\"loss\":5,\"tokens\":10,\"time\":2}\n"
                      "{\"step\":1,\"valid_loss\":4,\"valid_loss_unaveraged\":4.25}\n");
    struct buf b = page_of_run();
    assert_non_null(strstr(b.p, "validation, as trained"));
    assert_non_null(strstr(b.p, "validation, averaged"));
    buf_free(&b);
    synthetic_run_put("01-a/metrics.jsonl", "{\"step\":1,\"loss\":5,\"tokens\":10,\"time\":2}\n"
                                            "{\"step\":1,\"valid_loss\":4}\n");
    b = page_of_run();
    assert_null(strstr(b.p, "averaged"));
    buf_free(&b);
}

/* A summary's figures win; the log's stand in for those it lacks. */
static void figures_come_from_summary_or_log(void **state)
{
    (void)state;
    struct report r;
    synthetic_run_make("01-a");
    synthetic_run_put("01-a/metrics.jsonl",
                      "{\"step\":1,\"loss\":5,\"tokens\":10,\"time\":2}\n"
                      "{\"step\":1,\"valid_loss\":4,\"bits_per_byte\":2}\n"
                      "{\"step\":2,\"loss\":4,\"tokens\":20,\"time\":4}\n"
                      "{\"step\":2,\"valid_loss\":3,\"bits_per_byte\":1.5}\n"
                      "{\"step\":3,\"loss\":3,\"tokens\":30,\"time\":6}\n"
                      "{\"step\":3,\"valid_loss\":3.5,\"bits_per_byte\":1.75}\n");
    assert_int_equal(report_load(&r, synthetic_run), 0);
    struct page_figures f = page_figures(&r.stage[0]);
    assert_true(f.steps == 3 && f.tokens == 30 && f.seconds == 6 && f.train_loss == 3 &&
                f.valid_loss == 3.5 && f.best_loss == 3 && f.best_step == 2 &&
                f.bits_per_byte == 1.75);
    report_free(&r);
    synthetic_run_put("01-a/summary.json",
                      "{\"steps\":7,\"train_loss\":2,\"best_valid_loss\":1,\"best_step\":6}");
    assert_int_equal(report_load(&r, synthetic_run), 0);
    f = page_figures(&r.stage[0]);
    assert_true(f.steps == 7 && f.tokens == 30 && f.train_loss == 2 && f.valid_loss == 3.5 &&
                f.best_loss == 1 && f.best_step == 6);
    report_free(&r);
}

/* Memory that runs out anywhere is an error, no crash and no half page. */
static void short_memory_is_an_error(void **state)
{
    (void)state;
    int failures = 0;
    assert_int_equal(synthetic_run_write(synthetic_run, 90), 0);
    for (long k = 1;; k++) {
        struct report r;
        struct buf b = {0};
        mem_fail_at(k);
        int rc = report_load(&r, synthetic_run);
        if (!rc)
            rc = page_write(&b, &r);
        const bool problem =
            r.n == 3 && (r.stage[0].problem.n || r.stage[1].problem.n || r.stage[2].problem.n);
        report_free(&r);
        buf_free(&b);
        struct buf probe = {0};
        buf_text(&probe, "x"); // fails if the k-th call has not come yet
        const bool over = probe.failed;
        mem_fail_at(0);
        buf_free(&probe);
        failures += rc != 0 || problem;
        if (rc == 0 && !problem && (over || k > 5000))
            break;
        assert_true(k <= 5000);
    }
    assert_true(failures > 20);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, synthetic_run_setup, synthetic_run_teardown)
    const struct CMUnitTest tests[] = {
        TEST(page_is_whole_and_self_contained),
        TEST(plots_have_unit_legend_and_resumptions),
        TEST(long_runs_stay_small),
        TEST(little_data_makes_a_page),
        cmocka_unit_test(values_table),
        TEST(figures_come_from_summary_or_log),
        TEST(short_memory_is_an_error),
        TEST(averages_are_named),
        TEST(short_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
