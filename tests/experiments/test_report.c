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

#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "experiments/metrics.h"
#include "experiments/report.h"
#include "tests/experiments/synthetic_run.h"

static void all_is_loaded(void **state)
{
    (void)state;
    struct report r;
    assert_int_equal(synthetic_run_write(synthetic_run, 60), 0);
    assert_int_equal(report_load(&r, synthetic_run), 0);
    assert_string_equal(r.name, "quick & <dirty>");
    assert_int_equal(strlen(r.written), 20);
    assert_true(r.config.n > 100);
    assert_int_equal(r.n, 3);

    const struct report_stage *s = &r.stage[0];
    assert_string_equal(s->name, "01-pretrain");
    assert_true(s->finished);
    assert_int_equal(s->problem.n, 0);
    assert_int_equal(s->loss.n, 60);
    assert_int_equal(s->lr.n, 60);
    assert_int_equal(s->grad.n, 60);
    assert_int_equal(s->speed.n, 60);
    assert_int_equal(s->n_terms, 0);
    assert_int_equal(s->valid.n, 6);
    assert_int_equal(s->bits.n, 6);
    assert_true(s->valid.x[5] == 60 && s->bits.x[0] == 10);
    assert_true(fabs(s->bits.y[5] - s->valid.y[5] * 40000 / 108000 / log(2)) < 1e-6);
    assert_int_equal(s->step, 60);
    assert_int_equal(s->tokens, 60 * 8192);
    assert_true(fabs(s->seconds - 60 * 0.73) < 1e-3);
    assert_int_equal(s->saves, 6);
    assert_int_equal(s->last_save, 60);
    assert_int_equal(s->resumes, 1);
    assert_int_equal(s->n_events, 2);
    assert_string_equal(s->event[0].kind, "resume");
    assert_string_equal(s->event[0].text, "from checkpoint.h5 of step 30");
    assert_int_equal(strlen(s->event[0].at), 20);
    assert_int_equal(s->n_samples, 7);
    assert_string_equal(s->sample[0].kind, "In the beginning");
    assert_int_equal(s->sample[6].step, 60);
    assert_int_equal(s->n_files, 3);
    assert_string_equal(s->file[1].name, "metrics.jsonl");
    assert_true(s->file[1].size > 1000 && s->config.n > 0);

    s = &r.stage[1]; // died in the middle of a line
    assert_false(s->finished);
    assert_int_equal(s->problem.n, 0);
    assert_int_equal(s->loss.n, 41);
    assert_true(isnan(s->loss.y[40]) && isfinite(s->loss.y[39]));
    assert_int_equal(s->n_terms, 2);
    assert_string_equal(s->term[1].name, "kl");
    assert_int_equal(s->term[1].n, 40);
    assert_string_equal(s->event[0].kind, "not finite");

    assert_string_equal(r.stage[2].name, "10-scores");
    assert_int_equal(r.stage[2].summary.n_rows, 3);
    report_free(&r);
}

static void stages_are_in_order(void **state)
{
    (void)state;
    static const char *const names[] = {"10-b", "2-c", "001-a", "02-a", "x-1", "3", "4-", "-5-a"};
    struct report r;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        synthetic_run_make(names[i]);
    synthetic_run_put("05-file", "no folder");
    assert_int_equal(report_load(&r, synthetic_run), 0);
    assert_int_equal(r.n, 4);
    assert_string_equal(r.stage[0].name, "001-a");
    assert_string_equal(r.stage[1].name, "02-a");
    assert_string_equal(r.stage[2].name, "2-c");
    assert_string_equal(r.stage[3].name, "10-b");
    report_free(&r);
}

static void damage_is_told_and_the_rest_shown(void **state)
{
    (void)state;
    struct report r;
    synthetic_run_make("01-a");
    synthetic_run_put("01-a/metrics.jsonl",
                      "{\"step\":1,\"loss\":2}\n{\"step\":\n{\"step\":3,\"loss\":2}\n");
    synthetic_run_put("01-a/summary.json", "{\"steps\":\"many\"}");
    assert_int_equal(report_load(&r, synthetic_run), 0);
    assert_int_equal(r.stage[0].loss.n, 1);
    assert_false(r.stage[0].finished);
    assert_non_null(strstr(r.stage[0].problem.p, "metrics.jsonl:2:"));
    assert_non_null(strstr(r.stage[0].problem.p, "\"steps\" is not a whole number"));
    report_free(&r);
}

static void strange_lines_are_harmless(void **state)
{
    (void)state;
    struct report r;
    synthetic_run_make("01-a");
    synthetic_run_put(
        "01-a/metrics.jsonl",
        "{\"step\":1,\"loss\":\"2\",\"sample\":7,\"event\":[],\"lr\":{}}\n"
        "{\"step\":1,\"event\":\"x\",\"message\":3,\"at\":9}\n"
        "{\"step\":1,\"sample\":\"\",\"prompt\":[1]}\n"
        "{\"step\":9007199254740993,\"loss\":1e308,\"tokens\":-5,\"time\":\"x\"}\n"
        "{\"step\":2,\"loss\":1,\"a\":1,\"b\":1,\"c\":1,\"d\":1,\"e\":1,\"f\":1,\"g\":null}\n"
        "{\"step\":3,\"loss\":1,\"tokens\":1e300,"
        "\"a_name_that_is_longer_than_any_field_of_the_struct_could_ever_hold\":1}\n");
    assert_int_equal(report_load(&r, synthetic_run), 0);
    assert_int_equal(r.stage[0].problem.n, 0);
    assert_int_equal(r.stage[0].n_terms, REPORT_TERMS);
    assert_int_equal(r.stage[0].n_events, 1);
    assert_int_equal(r.stage[0].event[0].n, 0);
    assert_int_equal(r.stage[0].n_samples, 1);
    assert_int_equal(r.stage[0].tokens, 0);
    report_free(&r);
}

/* However many samples: at most REPORT_SAMPLES, the first, the last, evenly apart in between. */
static void samples_thin_out_evenly(void **state)
{
    (void)state;
    synthetic_run_make("01-a");
    for (int n = 1; n < 200; n++) {
        struct report r;
        struct buf log = {0};
        for (int i = 0; i < n; i++)
            buf_printf(&log, "{\"step\":%d,\"sample\":\"s%d\"}\n", i, i);
        synthetic_run_put("01-a/metrics.jsonl", log.p);
        buf_free(&log);
        assert_int_equal(report_load(&r, synthetic_run), 0);
        const struct report_stage *s = &r.stage[0];
        assert_int_equal(s->samples, n);
        assert_in_range(s->n_samples, n < 12 ? n : 12, REPORT_SAMPLES);
        assert_int_equal(s->sample[0].step, 0);
        assert_int_equal(s->sample[s->n_samples - 1].step, n - 1);
        for (int i = 0; i < s->n_samples; i++) {
            char want[16];
            snprintf(want, sizeof want, "s%d", (int)s->sample[i].step);
            assert_string_equal(s->sample[i].text, want);
            if (i && i < s->n_samples - 1)
                assert_int_equal(s->sample[i].step - s->sample[i - 1].step, s->stride);
        }
        report_free(&r);
    }
}

static void many_events_are_bounded(void **state)
{
    (void)state;
    struct report r;
    struct buf log = {0};
    synthetic_run_make("01-a");
    for (int i = 0; i < 1000; i++)
        buf_printf(&log, "{\"step\":%d,\"event\":\"warning\",\"message\":\"w\"}\n", i);
    synthetic_run_put("01-a/metrics.jsonl", log.p);
    buf_free(&log);
    assert_int_equal(report_load(&r, synthetic_run), 0);
    assert_int_equal(r.stage[0].n_events, REPORT_EVENTS);
    assert_int_equal(r.stage[0].events, 1000);
    report_free(&r);
}

static void no_run_is_an_error(void **state)
{
    (void)state;
    struct report r;
    assert_int_equal(report_load(&r, synthetic_run), -1);
    assert_non_null(strstr(err_text(), "no stage folders"));
    report_free(&r);
    assert_int_equal(report_load(&r, "/nonexistent/run"), -1);
    assert_non_null(strstr(err_text(), "/nonexistent/run"));
    report_free(&r);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, synthetic_run_setup, synthetic_run_teardown)
    const struct CMUnitTest tests[] = {
        TEST(all_is_loaded),
        TEST(stages_are_in_order),
        TEST(damage_is_told_and_the_rest_shown),
        TEST(strange_lines_are_harmless),
        TEST(samples_thin_out_evenly),
        TEST(many_events_are_bounded),
        TEST(no_run_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
