#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "autograd/base/file.h"
#include "experiments/metrics.h"

static char folder[64];
static char path[128];

static int setup(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/attar-metrics-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/metrics.jsonl", folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

/* ---- what was read ---- */

struct seen {
    int n;
    int64_t step[1024];
    json_t *line[1024];
};

static int see(void *arg, int64_t step, const json_t *line)
{
    struct seen *s = arg;
    if (s->n == 1024)
        return -1;
    s->step[s->n] = step;
    s->line[s->n++] = json_deep_copy(line);
    return 0;
}

static void seen_free(struct seen *s)
{
    for (int i = 0; i < s->n; i++)
        json_decref(s->line[i]);
    s->n = 0;
}

static void put(const char *text, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void put_text(const char *text)
{
    put(text, strlen(text));
}

static void expect_text(const char *want)
{
    struct buf b = {0};
    assert_int_equal(file_read(path, 1 << 24, &b), 0);
    assert_string_equal(b.p ? b.p : "", want);
    buf_free(&b);
}

/* ---- numbers ---- */

static void numbers_read_back(void **state)
{
    (void)state;
    const double some[] = {0,
                           -0.0,
                           1,
                           0.1,
                           (double)0.1f,
                           1e300,
                           5e-324,
                           3.4e38,
                           3.5e38,
                           1e-45,
                           2.2250738585072014e-308,
                           123456789,
                           1 / 3.0,
                           (double)(1 / 3.0f),
                           16777217,
                           -2.5e-7,
                           3e-3,
                           1e16};
    uint64_t bits = 1;
    for (int i = 0; i < 20000; i++) {
        double x;
        if (i < (int)(sizeof some / sizeof some[0])) {
            x = some[i];
        } else {
            bits = bits * 6364136223846793005u + 1442695040888963407u;
            const uint32_t half = (uint32_t)(bits >> 32);
            float f;
            memcpy(&f, &half, 4);
            memcpy(&x, &bits, 8);
            if (i % 2)
                x = (double)f;
            if (!isfinite(x))
                continue;
        }
        struct buf b = {0};
        metrics_add_number(&b, x);
        json_t *j = json_loads(b.p, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, NULL);
        assert_non_null(j);
        const double y = json_number_value(j);
        if (fabs(x) <= 3.4e38 && (double)(float)x == x)
            assert_true((float)y == (float)x); // that it is close as a double is not promised
        else
            assert_true(y == x);
        assert_true(b.n <= 25);
        json_decref(j);
        buf_free(&b);
    }
    struct buf b = {0};
    metrics_add_number(&b, 0.1f);
    metrics_add_number(&b, NAN);
    metrics_add_number(&b, -INFINITY);
    metrics_add_number(&b, 0.1);
    assert_string_equal(b.p, "0.1nullnull0.1");
    buf_free(&b);
}

/* ---- lines ---- */

static void lines_read_back(void **state)
{
    (void)state;
    struct metrics m;
    struct seen s = {0};
    const struct metrics_term term[] = {{"kl", 0.25}, {"a\"b", 1e-3}};
    const char sample[] = "a\0\"\\\n\t\x7f\xff\xc3\xa9</script>";
    assert_int_equal(metrics_open(&m, path, -1), 0);
    assert_int_equal(metrics_step(&m, &(struct metrics_step){.step = 1,
                                                             .loss = (double)3.2f,
                                                             .lr = 1e-3,
                                                             .grad_norm = 0.5,
                                                             .tokens = 1LL << 53,
                                                             .time = 1.5,
                                                             .tokens_per_s = 1e4,
                                                             .term = term,
                                                             .n_terms = 2}),
                     0);
    assert_int_equal(metrics_valid(&m, &(struct metrics_valid){.step = 1,
                                                               .loss = log(16),
                                                               .tokens = 100,
                                                               .bytes = 200}),
                     0);
    assert_int_equal(metrics_valid(&m, &(struct metrics_valid){.step = 1, .loss = 1}), 0);
    assert_int_equal(metrics_sample(&m, 1, "the", sample, sizeof sample - 1), 0);
    assert_int_equal(metrics_event(&m, 1, "save", "%s at %d", "x", 7), 0);
    assert_int_equal(metrics_sync(&m), 0);
    assert_int_equal(metrics_close(&m), 0);
    assert_int_equal(metrics_read(path, see, &s), 0);
    assert_int_equal(s.n, 5);

    assert_true((float)metrics_number(s.line[0], "loss") == 3.2f);
    assert_true(metrics_number(s.line[0], "lr") == 1e-3);
    assert_true(metrics_number(s.line[0], "grad_norm") == 0.5);
    assert_true(metrics_number(s.line[0], "tokens") == 0x1p53);
    assert_true(metrics_number(s.line[0], "tokens_per_s") == 1e4);
    assert_true(metrics_number(s.line[0], "time") == 1.5);
    assert_true(metrics_number(s.line[0], "kl") == 0.25);
    assert_true(metrics_number(s.line[0], "a\"b") == 1e-3);
    assert_true(isnan(metrics_number(s.line[0], "absent")));

    assert_true(fabs(metrics_number(s.line[1], "perplexity") - 16) < 1e-12);
    assert_true(fabs(metrics_number(s.line[1], "bits_per_byte") - 2) < 1e-12);
    assert_true(isnan(metrics_number(s.line[2], "bits_per_byte")));

    const json_t *text = json_object_get(s.line[3], "sample");
    const char want[] = "a\0\"\\\n\t\x7f\xef\xbf\xbd\xc3\xa9</script>"; // \xff is no UTF-8
    assert_int_equal(json_string_length(text), sizeof want - 1);
    assert_memory_equal(json_string_value(text), want, sizeof want - 1);
    assert_string_equal(json_string_value(json_object_get(s.line[4], "message")), "x at 7");
    seen_free(&s);
}

static void not_finite_is_null_and_event(void **state)
{
    (void)state;
    struct metrics m;
    struct seen s = {0};
    const struct metrics_term term[] = {{"kl", INFINITY}};
    assert_int_equal(metrics_open(&m, path, -1), 0);
    assert_int_equal(metrics_step(&m, &(struct metrics_step){.step = 3,
                                                             .loss = NAN,
                                                             .grad_norm = INFINITY,
                                                             .term = term,
                                                             .n_terms = 1}),
                     0);
    assert_int_equal(metrics_valid(&m, &(struct metrics_valid){.step = 3, .loss = 1e4}), 0);
    assert_int_equal(metrics_close(&m), 0);
    assert_int_equal(metrics_read(path, see, &s), 0);
    assert_int_equal(s.n, 5);
    assert_true(json_is_null(json_object_get(s.line[0], "loss")));
    const char *message = json_string_value(json_object_get(s.line[1], "message"));
    assert_string_equal(message, "loss is nan, grad_norm is inf");
    assert_string_equal(json_string_value(json_object_get(s.line[2], "message")), "kl is inf");
    message = json_string_value(json_object_get(s.line[4], "message"));
    assert_string_equal(message, "perplexity is inf");
    seen_free(&s);
}

static void long_sample_is_cut_between_characters(void **state)
{
    (void)state;
    struct metrics m;
    struct seen s = {0};
    const size_t n = METRICS_SAMPLE_MAX + 100;
    char *text = malloc(n);
    assert_non_null(text);
    for (size_t i = 0; i < n; i++)
        text[i] = "\xe2\x82\xac"[i % 3];
    assert_int_equal(metrics_open(&m, path, -1), 0);
    assert_int_equal(metrics_sample(&m, 0, NULL, text, n), 0);
    memset(text, 1, n); // six bytes each in JSON
    assert_int_equal(metrics_sample(&m, 0, NULL, text, n), 0);
    assert_int_equal(metrics_close(&m), 0);
    assert_int_equal(metrics_read(path, see, &s), 0);
    assert_int_equal(s.n, 2);
    const json_t *sample = json_object_get(s.line[0], "sample");
    assert_int_equal(json_string_length(sample), METRICS_SAMPLE_MAX / 3 * 3);
    assert_null(strstr(json_string_value(sample), "\xef\xbf\xbd"));
    seen_free(&s);
    free(text);
}

/* ---- malformed files ---- */

#define GOOD "{\"step\":1,\"loss\":2}\n"

static void torn_last_line_is_left_out(void **state)
{
    (void)state;
    const char *const torn[] = {"{", "{\"step\":2,\"loss\":2.1", "{\"step\":", "\"", "\xff", " "};
    for (size_t i = 0; i < sizeof torn / sizeof torn[0]; i++) {
        char text[128];
        struct seen s = {0};
        snprintf(text, sizeof text, GOOD "%s", torn[i]);
        put_text(text);
        assert_int_equal(metrics_read(path, see, &s), 0);
        assert_int_equal(s.n, 1);
        seen_free(&s);
    }
    struct seen s = {0};
    put_text(GOOD "{\"step\":2,\"loss\":2}"); // whole but for its newline
    assert_int_equal(metrics_read(path, see, &s), 0);
    assert_int_equal(s.n, 2);
    seen_free(&s);
}

static void malformed_line_is_named(void **state)
{
    (void)state;
    const char *const bad[] = {"{\n",
                               "\n",
                               "[1]\n",
                               "7\n",
                               "{\"loss\":1}\n",
                               "{\"step\":-1}\n",
                               "{\"step\":1.5}\n",
                               "{\"step\":1,\"step\":2}\n",
                               "{\"step\":1} x\n",
                               "{\"step\":99999999999999999999}\n",
                               "{\"step\":1,\"loss\":1e999}\n",
                               "{\"step\":1,\"x\":\"\xff\"}\n",
                               "{\"step\":1,\"x\":nan}\n"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char text[256], place[160];
        struct seen s = {0};
        snprintf(text, sizeof text, GOOD "%s" GOOD, bad[i]);
        put_text(text);
        assert_int_equal(metrics_read(path, see, &s), -1);
        snprintf(place, sizeof place, "%s:2:", path);
        assert_ptr_equal(strstr(err_text(), place), err_text());
        assert_int_equal(s.n, 1);
        seen_free(&s);
    }
}

static void depth_and_length_are_bounded(void **state)
{
    (void)state;
    struct seen s = {0};
    const size_t n = METRICS_LINE_MAX + 10;
    char *text = malloc(n);
    assert_non_null(text);
    memset(text, '[', n);
    text[n - 1] = '\n';
    put(text, n);
    assert_int_equal(metrics_read(path, see, &s), -1);
    assert_non_null(strstr(err_text(), ":1: a line of more than"));
    text[100000] = '\n';
    put(text, 100001);
    assert_int_equal(metrics_read(path, see, &s), -1);

    // the longest line that is allowed
    memset(text, ' ', n);
    memcpy(text, "{\"step\":1", 9);
    text[METRICS_LINE_MAX - 1] = '}';
    text[METRICS_LINE_MAX] = '\n';
    put(text, METRICS_LINE_MAX + 1);
    assert_int_equal(metrics_read(path, see, &s), 0);
    assert_int_equal(s.n, 1);
    seen_free(&s);
    free(text);
}

static int stop_at_two(void *arg, int64_t step, const json_t *line)
{
    (void)line;
    ++*(int *)arg;
    return step == 2 ? 7 : 0;
}

static void reading_can_be_stopped(void **state)
{
    (void)state;
    int n = 0;
    put_text("{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n");
    assert_int_equal(metrics_read(path, stop_at_two, &n), 7);
    assert_int_equal(n, 2);
}

/* ---- resuming ---- */

/* The lines of steps from..to, as a stage with a validation every 4 steps writes them. */
static void write_steps(struct metrics *m, int from, int to)
{
    for (int step = from; step <= to; step++) {
        const struct metrics_step s = {.step = step,
                                       .loss = 5.0 / step,
                                       .lr = 1e-3,
                                       .grad_norm = step % 7 ? 1 : NAN,
                                       .tokens = step * 256};
        assert_int_equal(metrics_step(m, &s), 0);
        if (step % 4 == 0)
            assert_int_equal(metrics_valid(m, &(struct metrics_valid){.step = step,
                                                                      .loss = 6.0 / step}),
                             0);
    }
}

/* The file without its wall-clock times. */
static void read_plain(struct buf *b)
{
    struct seen s = {0};
    assert_int_equal(metrics_read(path, see, &s), 0);
    for (int i = 0; i < s.n; i++) {
        json_object_del(s.line[i], "at");
        char *text = json_dumps(s.line[i], JSON_SORT_KEYS);
        buf_text(b, text);
        buf_text(b, "\n");
        free(text);
    }
    seen_free(&s);
}

static void resumed_equals_unbroken(void **state)
{
    (void)state;
    struct buf unbroken = {0}, resumed = {0};
    struct metrics m;
    assert_int_equal(metrics_open(&m, path, -1), 0);
    write_steps(&m, 1, 20);
    assert_int_equal(metrics_close(&m), 0);
    read_plain(&unbroken);
    for (int saved = 0; saved <= 20; saved++) {
        for (int torn = 0; torn < 2; torn++) {
            assert_int_equal(metrics_open(&m, path, -1), 0);
            write_steps(&m, 1, saved < 17 ? saved + 3 : 20);
            if (torn)
                assert_int_equal(write(m.file.fd, "{\"step\":2", 9), 9);
            assert_int_equal(metrics_close(&m), 0);
            assert_int_equal(metrics_open(&m, path, saved), 0);
            write_steps(&m, saved + 1, 20);
            assert_int_equal(metrics_close(&m), 0);
            buf_clear(&resumed);
            read_plain(&resumed);
            assert_string_equal(resumed.p, unbroken.p);
        }
    }
    buf_free(&unbroken);
    buf_free(&resumed);
}

static void resuming_keeps_bytes(void **state)
{
    (void)state;
    struct metrics m;
    put_text("{\"step\": 0, \"x\": 1.50}\n{\"step\":2}\n{\"step\":3}\n{\"step\":2}\n{\"step\":4}");
    assert_int_equal(metrics_open(&m, path, 2), 0);
    assert_int_equal(metrics_close(&m), 0);
    expect_text("{\"step\": 0, \"x\": 1.50}\n{\"step\":2}\n{\"step\":2}\n");
    assert_int_equal(metrics_open(&m, path, -1), 0);
    assert_int_equal(metrics_close(&m), 0);
    expect_text("");
}

/* A power cut leaves zeros or halves behind the last sync: they go. In between they are no crash's
   work, and what is kept must not be guessed. */
static void resuming_drops_only_a_malformed_end(void **state)
{
    (void)state;
    struct metrics m;
    put("{\"step\":1}\n{\"step\":2}\n\0\0\0\n\0{\"st", 30);
    assert_int_equal(metrics_open(&m, path, 2), 0);
    assert_int_equal(metrics_close(&m), 0);
    expect_text("{\"step\":1}\n{\"step\":2}\n");

    const char damaged[] = "{\"step\":1}\n{\"st\n{\"step\":2}\n";
    put_text(damaged);
    assert_int_equal(metrics_open(&m, path, 2), -1);
    assert_non_null(strstr(err_text(), "metrics.jsonl:2:"));
    assert_non_null(strstr(err_text(), "remove that line"));
    expect_text(damaged);
    assert_int_equal(metrics_open(&m, path, 1), 0);
    assert_int_equal(metrics_close(&m), 0);
    expect_text("{\"step\":1}\n");
}

static void resuming_inside_a_step_drops_what_is_undone(void **state)
{
    (void)state;
    static const char *const undone[] = {"sample", "valid_loss", NULL};
    struct metrics m;
    put_text("{\"step\":1,\"loss\":2}\n{\"step\":1,\"valid_loss\":3}\n{\"step\":2,\"loss\":2}\n"
             "{\"step\":2,\"valid_loss\":3}\n{\"step\":2,\"sample\":\"a\"}\n");
    assert_int_equal(metrics_reopen(&m, path, 2, undone + 1), 0);
    assert_int_equal(metrics_close(&m), 0);
    expect_text("{\"step\":1,\"loss\":2}\n{\"step\":1,\"valid_loss\":3}\n{\"step\":2,\"loss\":2}\n"
                "{\"step\":2,\"sample\":\"a\"}\n");
    assert_int_equal(metrics_reopen(&m, path, 2, undone), 0);
    assert_int_equal(metrics_close(&m), 0);
    expect_text(
        "{\"step\":1,\"loss\":2}\n{\"step\":1,\"valid_loss\":3}\n{\"step\":2,\"loss\":2}\n");
}

/* A full disk: no half-written line is left, what could not be written waits, and nothing is said
   to be on the disk that is not. */
static void full_disk_loses_no_line(void **state)
{
    (void)state;
    struct metrics m;
    struct seen s = {0};
    struct rlimit old;
    assert_int_equal(metrics_open(&m, path, -1), 0);
    write_steps(&m, 1, 3);
    const int64_t before = m.file.size;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    const struct rlimit small = {(rlim_t)before + 10, old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    const int event = metrics_event(&m, 3, "save", "too long for the disk");
    const int sync = metrics_sync(&m);
    const bool named = strstr(err_text(), path) != NULL;
    write_steps(&m, 4, 4);
    const int64_t full = m.file.size;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(event, 0);
    assert_int_equal(sync, -1);
    assert_true(named);
    assert_int_equal(full, before);
    assert_int_equal(metrics_read(path, see, &s), 0);
    assert_int_equal(s.n, 3);
    seen_free(&s);
    assert_int_equal(metrics_sync(&m), 0);
    write_steps(&m, 5, 5);
    assert_int_equal(metrics_close(&m), 0);
    s = (struct seen){0};
    assert_int_equal(metrics_read(path, see, &s), 0);
    assert_int_equal(s.n, 7);
    const int64_t steps[] = {1, 2, 3, 3, 4, 4, 5};
    for (int i = 0; i < 7; i++)
        assert_int_equal(s.step[i], steps[i]);
    seen_free(&s);
}

static void errors_name_the_path(void **state)
{
    (void)state;
    struct metrics m;
    struct seen s = {0};
    assert_int_equal(metrics_open(&m, "/nonexistent/metrics.jsonl", -1), -1);
    assert_non_null(strstr(err_text(), "/nonexistent/metrics.jsonl"));
    assert_int_equal(metrics_close(&m), 0);
    assert_int_equal(metrics_read(path, see, &s), -1);
    assert_non_null(strstr(err_text(), path));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(numbers_read_back),
        TEST(lines_read_back),
        TEST(not_finite_is_null_and_event),
        TEST(long_sample_is_cut_between_characters),
        TEST(torn_last_line_is_left_out),
        TEST(malformed_line_is_named),
        TEST(depth_and_length_are_bounded),
        TEST(reading_can_be_stopped),
        TEST(resumed_equals_unbroken),
        TEST(resuming_keeps_bytes),
        TEST(resuming_drops_only_a_malformed_end),
        TEST(resuming_inside_a_step_drops_what_is_undone),
        TEST(full_disk_loses_no_line),
        TEST(errors_name_the_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
