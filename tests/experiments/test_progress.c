#include <math.h>
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "experiments/progress.h"

/* ---- a clock that stands still unless it is moved ---- */

static double now;

static double fake_clock(void)
{
    return now;
}

static void open_fake(struct progress *p, int fd, const char *label)
{
    progress_open(p, fd, label);
    p->clock = fake_clock;
    p->began = p->shown = now;
}

/* ---- the two kinds of stderr ---- */

struct screen {
    int to, from;     /* the program's end, the reader's end */
    char text[65536]; /* [n] what was written since the last look */
    size_t n;
};

static void open_terminal(struct screen *s, int columns)
{
    struct winsize w = {.ws_row = 24, .ws_col = (unsigned short)columns};
    struct termios t;
    if (openpty(&s->from, &s->to, NULL, NULL, &w)) {
        print_message("SKIPPED: this machine grants no pseudo-terminal (is /dev/pts mounted?)\n");
        skip();
    }
    assert_int_equal(tcgetattr(s->to, &t), 0);
    cfmakeraw(&t); // or \n would arrive as \r\n
    assert_int_equal(tcsetattr(s->to, TCSANOW, &t), 0);
    s->n = 0;
}

static void open_pipe(struct screen *s)
{
    int fd[2];
    assert_int_equal(pipe(fd), 0);
    s->from = fd[0];
    s->to = fd[1];
    s->n = 0;
}

static void close_screen(struct screen *s)
{
    close(s->to);
    close(s->from);
}

/* Takes in what was written so far; often enough, or the terminal's buffer fills and blocks. A mark
   behind it tells that all of it has arrived: a terminal delivers late. */
static void drain(struct screen *s)
{
    assert_int_equal(write(s->to, "\x05", 1), 1);
    do {
        const ssize_t r = read(s->from, s->text + s->n, sizeof s->text - 1 - s->n);
        assert_true(r > 0);
        s->n += (size_t)r;
    } while (s->text[s->n - 1] != 5);
    s->n--;
}

/* What was written since the last look. */
static const char *look(struct screen *s)
{
    drain(s);
    s->text[s->n] = 0;
    s->n = 0;
    return s->text;
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

/* What the last \r...\033[K leaves on the screen, colours removed. */
static const char *visible(struct screen *s)
{
    static char out[PROGRESS_LINE];
    char *n = out;
    const char *at = look(s), *begin = strrchr(at, '\r');
    assert_non_null(begin);
    for (const char *c = begin + 1; *c && c[0] != '\n'; c++) {
        if (*c == '\033')
            while (*c && *c != 'm' && *c != 'K')
                c++;
        else
            *n++ = *c;
    }
    *n = 0;
    return out;
}

static const struct progress_step example = {.step = 120,
                                             .steps = 600,
                                             .loss = 3.214,
                                             .smooth = 3.25,
                                             .lr = 2.9e-3,
                                             .grad_norm = 0.84,
                                             .tokens_per_s = 11200,
                                             .gemm_share = 0.61,
                                             .mem_bytes = 412e6};

/* Steps 0..120 at 0.277 s each; returns what the screen shows. */
static const char *run_example(struct screen *s, struct progress *p)
{
    struct progress_step step = example;
    open_fake(p, s->to, "step");
    for (step.step = 0; step.step <= 120; step.step++) {
        now += 0.277;
        progress_step(p, &step);
        drain(s);
    }
    return visible(s);
}

/* ---- terminal ---- */

static void training_line_fits_100_columns(void **state)
{
    (void)state;
    struct screen s;
    struct progress p;
    open_terminal(&s, 100);
    assert_string_equal(run_example(&s, &p),
                        "step 120/600  loss 3.214 (3.250)  lr 2.9e-3  grad 0.84  11.2k tok/s  "
                        "GEMM 61%  mem 412 MB  ETA 2:13");
    progress_close(&p);
    close_screen(&s);
}

static void narrow_terminals_lose_fields_from_the_right(void **state)
{
    (void)state;
    static const struct {
        int columns;
        const char *line;
    } table[] = {
        {99,
         "step 120/600  loss 3.214 (3.250)  lr 2.9e-3  grad 0.84  11.2k tok/s  GEMM 61%  ETA 2:13"},
        {80, "step 120/600  loss 3.214 (3.250)  lr 2.9e-3  grad 0.84  11.2k tok/s  ETA 2:13"},
        {60, "step 120/600  loss 3.214 (3.250)  lr 2.9e-3  ETA 2:13"},
        {43, "step 120/600  loss 3.214 (3.250)  ETA 2:13"},
        {42, "step 120/600  ETA 2:13"},
        {20, "step 120/600"},
        {9, "step 120"},
        {2, "s"},
        {1, ""},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct screen s;
        struct progress p;
        open_terminal(&s, table[i].columns);
        assert_string_equal(run_example(&s, &p), table[i].line);
        progress_close(&p);
        close_screen(&s);
    }
}

/* No width ever reaches the last column, whatever the values. */
static void every_width_is_kept(void **state)
{
    (void)state;
    const double odd[] = {NAN, INFINITY, -1e300, 1e300, 0, 1e-12, 999.4999, 999999};
    for (int columns = 1; columns < 140; columns++) {
        struct screen s;
        struct progress p;
        open_terminal(&s, columns);
        open_fake(&p, s.to, "pretrain");
        now += 3;
        const double x = odd[columns % 8];
        progress_step(&p, &(struct progress_step){INT64_MAX, INT64_MAX, x, x, x, x, x, x, x, {0}});
        assert_true((int)strlen(visible(&s)) < columns);
        now += 3;
        progress_update(&p, x, 1e18, "documents");
        assert_true((int)strlen(visible(&s)) < columns);
        progress_close(&p);
        assert_true((int)strlen(visible(&s)) < columns);
        close_screen(&s);
    }
}

static void resizing_is_seen(void **state)
{
    (void)state;
    struct screen s;
    struct progress p;
    open_terminal(&s, 100);
    assert_true(strlen(run_example(&s, &p)) == 99);
    const struct winsize w = {.ws_row = 24, .ws_col = 50};
    assert_int_equal(ioctl(s.to, TIOCSWINSZ, &w), 0);
    now += 1;
    progress_step(&p, &example);
    assert_true(strlen(visible(&s)) < 50);
    progress_close(&p);
    close_screen(&s);
}

static void at_most_ten_a_second_and_not_at_once(void **state)
{
    (void)state;
    struct screen s;
    struct progress p;
    open_terminal(&s, 80);
    open_fake(&p, s.to, "corpus");
    for (int i = 0; i < 1990; i++, now += 0.001) {
        progress_update(&p, i, 1e6, "B");
        drain(&s);
    }
    assert_string_equal(look(&s), "");
    for (int i = 1990; i < 12000; i++, now += 0.001) {
        progress_update(&p, i, 1e6, "B");
        drain(&s);
    }
    const char *text = look(&s);
    assert_in_range(count(text, "\r"), 95, 101);
    assert_int_equal(count(text, "\033[K"), count(text, "\r"));
    assert_int_equal(count(text, "\n"), 0);
    progress_close(&p);
    close_screen(&s);
}

static void short_work_shows_nothing(void **state)
{
    (void)state;
    for (int terminal = 0; terminal < 2; terminal++) {
        struct screen s;
        struct progress p;
        if (terminal)
            open_terminal(&s, 80);
        else
            open_pipe(&s);
        open_fake(&p, s.to, "corpus");
        for (int i = 0; i < 100; i++, now += 0.019)
            progress_update(&p, i, 100, "documents");
        progress_close(&p);
        assert_string_equal(look(&s), "");
        close_screen(&s);
    }
}

static void no_color_is_honoured(void **state)
{
    (void)state;
    for (int plain = 0; plain < 2; plain++) {
        struct screen s;
        struct progress p;
        open_terminal(&s, 80);
        if (plain)
            setenv("NO_COLOR", "1", 1);
        open_fake(&p, s.to, "step");
        unsetenv("NO_COLOR");
        now += 3;
        progress_step(&p, &example);
        assert_int_equal(strstr(look(&s), "\033[2m") == NULL, plain);
        progress_close(&p);
        close_screen(&s);
    }
}

/* ---- warnings and nesting ---- */

static void warnings_clear_the_line(void **state)
{
    (void)state;
    struct screen s;
    struct progress p;
    open_terminal(&s, 80);
    open_fake(&p, s.to, "step");
    now += 3;
    progress_step(&p, &example);
    look(&s);
    assert_non_null(err_before_warning);
    err_before_warning();
    assert_string_equal(look(&s), "\r\033[K");
    err_before_warning();
    assert_string_equal(look(&s), ""); // nothing stands there any more
    now += 0.2;
    progress_step(&p, &example);
    assert_true(strlen(visible(&s)) > 20);
    progress_close(&p);
    look(&s);
    err_before_warning();
    assert_string_equal(look(&s), "");
    close_screen(&s);
}

static void inner_line_takes_over(void **state)
{
    (void)state;
    struct screen s;
    struct progress outer, inner;
    open_terminal(&s, 80);
    open_fake(&outer, s.to, "step");
    now += 3;
    progress_step(&outer, &example);
    look(&s);
    open_fake(&inner, s.to, "evaluate");
    assert_string_equal(look(&s), "\r\033[K");
    now += 3;
    progress_update(&inner, 3, 12, "chunks");
    assert_string_equal(visible(&s), "evaluate 3/12 chunks  25%");
    err_before_warning();
    assert_string_equal(look(&s), "\r\033[K");
    progress_close(&inner);
    look(&s);
    progress_step(&outer, &example);
    look(&s);
    err_before_warning();
    assert_string_equal(look(&s), "\r\033[K");
    progress_close(&outer);
    close_screen(&s);
}

static void last_state_stays(void **state)
{
    (void)state;
    struct screen s;
    struct progress p;
    open_terminal(&s, 80);
    open_fake(&p, s.to, "corpus");
    for (int i = 0; i <= 46; i++, now += 0.5) {
        progress_update(&p, i * 1e5, 4.6e6, "B");
        drain(&s);
    }
    progress_close(&p);
    const char *text = look(&s);
    assert_string_equal(text + strlen(text) - 4, "\033[K\n");
    assert_non_null(strstr(text, "4.60 MB/4.60 MB  100%  200 kB/s"));
    assert_non_null(strstr(text, "0:24"));
    close_screen(&s);
}

/* ---- log ---- */

static void log_lines_are_plain_and_thin_out(void **state)
{
    (void)state;
    struct screen s;
    struct progress p;
    int lines = 0;
    now = 1000; // whole seconds: intervals are compared exactly
    open_pipe(&s);
    open_fake(&p, s.to, "step");
    struct progress_step step = example;
    step.steps = 100000;
    const double start = now;
    double at[64];
    for (step.step = 1; now - start < 3600; step.step++) {
        now += 1;
        progress_step(&p, &step);
        const char *text = look(&s);
        assert_null(strchr(text, '\r'));
        assert_null(strchr(text, '\033'));
        assert_in_range(count(text, "\n"), 0, 1);
        if (*text && lines < 64)
            at[lines++] = now - start;
    }
    assert_in_range(lines, 12, 20);
    assert_true(at[0] == 10 && at[1] == 30 && at[2] == 70);
    assert_true(at[lines - 1] - at[lines - 2] == 300);
    progress_close(&p);
    assert_non_null(strstr(look(&s), "in 1:00:00\n"));
    close_screen(&s);
}

static void log_shows_each_twentieth(void **state)
{
    (void)state;
    struct screen s;
    struct progress p;
    open_pipe(&s);
    open_fake(&p, s.to, "evaluate");
    for (int i = 1; i <= 1000; i++) {
        now += 0.06;
        progress_update(&p, i, 1000, "chunks");
    }
    const char *text = look(&s);
    assert_in_range(count(text, "\n"), 18, 21);
    assert_non_null(strstr(text, "evaluate 100/1.00k chunks  10%  16.7 chunks/s  ETA 0:54\n"));
    progress_close(&p);
    close_screen(&s);
}

static void unknown_total_has_no_eta(void **state)
{
    (void)state;
    struct screen s;
    struct progress p;
    open_pipe(&s);
    open_fake(&p, s.to, "reading");
    for (int i = 1; i <= 40; i++) {
        now += 0.5;
        progress_update(&p, i * 2e9, 0, "B");
    }
    assert_string_equal(look(&s), "reading 40.0 GB  4.00 GB/s\n");
    assert_true(isnan(progress_eta(&p)));
    progress_close(&p);
    close_screen(&s);
}

/* ---- ETA ---- */

static void eta_survives_pauses(void **state)
{
    (void)state;
    struct screen s;
    struct progress p;
    open_pipe(&s);
    open_fake(&p, s.to, "step");
    struct progress_step step = example;
    for (step.step = 301; step.step <= 400; step.step++) { // a resumed run: 300 were done before
        now += 0.5;
        progress_step(&p, &step);
    }
    assert_true(fabs(progress_eta(&p) - 100) < 1);
    now += 7200; // suspended for two hours
    for (; step.step <= 410; step.step++) {
        now += 0.5;
        progress_step(&p, &step);
    }
    assert_true(fabs(progress_eta(&p) - 95) < 1);
    for (; step.step <= 500; step.step++) { // an evaluation every ten steps
        now += step.step % 10 ? 0.5 : 20;
        progress_step(&p, &step);
    }
    assert_true(progress_eta(&p) > 40 && progress_eta(&p) < 80);
    for (; step.step <= 520; step.step++) { // now it is really twenty times slower
        now += 10;
        progress_step(&p, &step);
    }
    assert_true(fabs(progress_eta(&p) / 800 - 1) < 0.1);
    progress_close(&p);
    close_screen(&s);
}

/* A validation of 30 s every 10 steps of 1 s, and a sample of 5 s every 25. */
static void eta_knows_what_comes_between(void **state)
{
    (void)state;
    struct progress p;
    const double began = now;
    double total = 0, eta[101];
    open_fake(&p, -1, "step");
    struct progress_step step = example;
    step.steps = 100;
    for (step.step = 1; step.step <= 100; step.step++) {
        now += 1;
        step.left[PROGRESS_VALIDATION] = progress_left(10, step.step, 100);
        step.left[PROGRESS_SAMPLE] = progress_left(25, step.step, 100);
        progress_step(&p, &step);
        eta[step.step] = now - began + progress_eta(&p);
        if (step.step % 10 == 0) {
            progress_leave(&p);
            now += 30;
            progress_return(&p, PROGRESS_VALIDATION);
        }
        if (step.step % 25 == 0) {
            progress_leave(&p);
            now += 5;
            progress_return(&p, PROGRESS_SAMPLE);
        }
    }
    total = now - began;
    assert_true(fabs(total - (100 + 10 * 30 + 4 * 5)) < 1e-6);
    assert_true(fabs(eta[10] - 100) < 1e-6); // none was seen yet
    assert_true(fabs(eta[11] - (total - 4 * 5)) < 1e-6);
    for (int i = 26; i <= 100; i++)
        assert_true(fabs(eta[i] - total) < 1e-6);
    progress_close(&p);
}

/* The recent ones count: a machine that has become slower, or less to validate on. */
static void eta_follows_what_changes(void **state)
{
    (void)state;
    struct progress p;
    open_fake(&p, -1, "step");
    struct progress_step step = example;
    step.steps = 1000;
    step.left[PROGRESS_VALIDATION] = 10;
    for (step.step = 1; step.step <= 60; step.step++) {
        now += 1;
        progress_step(&p, &step);
        progress_leave(&p);
        now += step.step < 30 ? 2 : 20;
        progress_return(&p, PROGRESS_VALIDATION);
    }
    assert_true(fabs(progress_eta(&p) - (940 + 10 * 20)) < 1);
    progress_close(&p);
}

static void what_is_left_is_what_comes(void **state)
{
    (void)state;
    for (int every = 0; every <= 12; every++)
        for (int steps = 1; steps <= 25; steps++)
            for (int step = 1, left; step <= steps; step++) {
                left = 0;
                for (int s = step; s <= steps; s++)
                    left += every && (s == steps || s % every == 0);
                assert_int_equal(progress_left(every, step, steps), left);
            }
}

static void closed_reader_is_no_harm(void **state)
{
    (void)state;
    struct progress p;
    open_fake(&p, -1, "step");
    now += 20;
    progress_step(&p, &example);
    progress_close(&p);
}

int main(void)
{
    unsetenv("NO_COLOR");
    setenv("TERM", "xterm", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(training_line_fits_100_columns),
        cmocka_unit_test(narrow_terminals_lose_fields_from_the_right),
        cmocka_unit_test(every_width_is_kept),
        cmocka_unit_test(resizing_is_seen),
        cmocka_unit_test(at_most_ten_a_second_and_not_at_once),
        cmocka_unit_test(short_work_shows_nothing),
        cmocka_unit_test(no_color_is_honoured),
        cmocka_unit_test(warnings_clear_the_line),
        cmocka_unit_test(inner_line_takes_over),
        cmocka_unit_test(last_state_stays),
        cmocka_unit_test(log_lines_are_plain_and_thin_out),
        cmocka_unit_test(log_shows_each_twentieth),
        cmocka_unit_test(unknown_total_has_no_eta),
        cmocka_unit_test(eta_survives_pauses),
        cmocka_unit_test(eta_knows_what_comes_between),
        cmocka_unit_test(eta_follows_what_changes),
        cmocka_unit_test(what_is_left_is_what_comes),
        cmocka_unit_test(closed_reader_is_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
