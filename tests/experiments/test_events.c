/* The event files are read back here by a reader of its own: framing, checksums, messages. */
#include <dirent.h>
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
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "autograd/base/crc32c.h"
#include "autograd/base/file.h"
#include "experiments/events.h"
#include "tests/datasets/scratch.h"

static const double BEGAN = 1.7e9;
static char lines[300], folder[300]; /* metrics.jsonl, the event files */

static int setup(void **state)
{
    if (scratch_setup(state))
        return -1;
    snprintf(lines, sizeof lines, "%s", scratch_path(*state, "metrics.jsonl"));
    snprintf(folder, sizeof folder, "%s", scratch_path(*state, "tensorboard"));
    return 0;
}

/* ---- messages ---- */

struct view {
    const unsigned char *p;
    size_t n;
};

struct part {
    int field;
    uint64_t x; /* a number, or the bits of one */
    struct view bytes;
};

static uint64_t take_bits(struct view *v, size_t n)
{
    uint64_t x = 0;
    assert_true(v->n >= n);
    for (size_t i = 0; i < n; i++)
        x |= (uint64_t)v->p[i] << 8 * i;
    v->p += n;
    v->n -= n;
    return x;
}

static uint64_t take_varint(struct view *v)
{
    uint64_t x = 0;
    for (int shift = 0;; shift += 7) {
        assert_true(shift < 64);
        const uint64_t byte = take_bits(v, 1);
        x |= (byte & 127) << shift;
        if (byte < 128)
            return x;
    }
}

static struct view take_view(struct view *v, size_t n)
{
    const struct view out = {v->p, n};
    assert_true(v->n >= n);
    v->p += n;
    v->n -= n;
    return out;
}

static bool next_part(struct view *v, struct part *out)
{
    if (!v->n)
        return false;
    const uint64_t key = take_varint(v);
    *out = (struct part){.field = (int)(key >> 3)};
    switch (key & 7) {
    case 0:
        out->x = take_varint(v);
        break;
    case 1:
        out->x = take_bits(v, 8);
        break;
    case 2:
        out->bytes = take_view(v, take_varint(v));
        break;
    case 5:
        out->x = take_bits(v, 4);
        break;
    default:
        fail_msg("wire type %d", (int)(key & 7));
    }
    return true;
}

/* The message's only field of that number. */
static struct part only(struct view v, int field)
{
    struct part p, found = {0};
    while (next_part(&v, &p))
        if (p.field == field) {
            assert_int_equal(found.field, 0);
            found = p;
        }
    return found;
}

static double bits_double(uint64_t bits)
{
    double x;
    memcpy(&x, &bits, 8);
    return x;
}

static float bits_float(uint64_t bits)
{
    const uint32_t half = (uint32_t)bits;
    float x;
    memcpy(&x, &half, 4);
    return x;
}

/* ---- what a file says, as text: a line a value ---- */

static uint32_t unmask(uint64_t masked)
{
    const uint32_t x = (uint32_t)masked - 0xa282ead8;
    return x >> 17 | x << 15;
}

static void tell_value(struct view v, double wall, uint64_t step, struct buf *out)
{
    const struct view tag = only(v, 1).bytes;
    const struct part scalar = only(v, 2), tensor = only(v, 8);
    buf_printf(out, "%.2f %llu %.*s ", wall - BEGAN, (unsigned long long)step, (int)tag.n,
               (const char *)tag.p);
    assert_true(!scalar.field != !tensor.field);
    if (scalar.field) {
        buf_printf(out, "%.9g\n", (double)bits_float(scalar.x));
        return;
    }
    const struct view meta = only(v, 9).bytes, text = only(tensor.bytes, 8).bytes;
    const struct view plugin = only(only(meta, 1).bytes, 1).bytes;
    assert_int_equal(only(meta, 4).x, 2);         // DATA_CLASS_TENSOR
    assert_int_equal(only(tensor.bytes, 1).x, 7); // DT_STRING
    assert_int_equal(only(tensor.bytes, 2).bytes.n, 0);
    buf_printf(out, "%.*s: %.*s\n", (int)plugin.n, (const char *)plugin.p, (int)text.n,
               (const char *)text.p);
}

static void tell_event(struct view v, int number, struct buf *out)
{
    const struct view version = only(v, 3).bytes;
    const double wall = bits_double(only(v, 1).x);
    struct view summary = only(v, 5).bytes;
    struct part value;
    assert_int_equal(version.n > 0, number == 0);
    assert_int_equal(only(v, 7).field != 0, number == 1);
    if (number == 0)
        assert_memory_equal(version.p, "brain.Event:2", 13);
    if (number == 1)
        assert_int_equal(only(only(v, 7).bytes, 1).x, 1); // START
    assert_int_equal(summary.n > 0, number > 1);
    while (next_part(&summary, &value)) {
        assert_int_equal(value.field, 1);
        tell_value(value.bytes, wall, only(v, 2).x, out);
    }
}

static void tell_file(const char *path, struct buf *out)
{
    struct buf b = {0};
    assert_int_equal(file_read(path, 1 << 24, &b), 0);
    struct view v = {(const unsigned char *)b.p, b.n};
    for (int number = 0; v.n; number++) {
        const unsigned char *const head = v.p;
        const uint64_t n = take_bits(&v, 8);
        assert_int_equal(unmask(take_bits(&v, 4)), crc32c(head, 8));
        const struct view event = take_view(&v, n);
        assert_int_equal(unmask(take_bits(&v, 4)), crc32c(event.p, event.n));
        tell_event(event, number, out);
    }
    buf_free(&b);
}

/* The newest file; the ones before it are empty. */
static void newest(char path[600], int expected_files)
{
    int n = 0;
    *path = 0;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (const struct dirent *d; (d = readdir(dir));) {
        char full[600];
        snprintf(full, sizeof full, "%.299s/%.255s", folder, d->d_name);
        if (*d->d_name == '.')
            continue;
        n++;
        if (strcmp(full, path) > 0)
            snprintf(path, 600, "%s", full);
    }
    rewinddir(dir);
    for (const struct dirent *d; (d = readdir(dir));) {
        char full[600];
        struct stat st;
        snprintf(full, sizeof full, "%.299s/%.255s", folder, d->d_name);
        if (*d->d_name != '.' && strcmp(full, path)) {
            assert_int_equal(stat(full, &st), 0);
            assert_int_equal(st.st_size, 0);
        }
    }
    closedir(dir);
    assert_int_equal(n, expected_files);
}

static void expect(int files, const char *want)
{
    char path[600];
    struct buf told = {0};
    newest(path, files);
    tell_file(path, &told);
    assert_string_equal(told.p ? told.p : "", want);
    buf_free(&told);
}

/* ---- tests ---- */

static void open_both(struct metrics *m, struct events *e, int64_t step)
{
    static const char *const undone[] = {"valid_loss", NULL};
    assert_int_equal(metrics_reopen(m, lines, step, undone), 0);
    assert_int_equal(events_open(e, m, folder, BEGAN), 0);
}

static void close_both(struct metrics *m, struct events *e)
{
    assert_int_equal(metrics_close(m), 0);
    events_close(e);
}

static void write_step(struct metrics *m, int64_t step)
{
    const struct metrics_term kl = {"kl", 0.5};
    const struct metrics_step s = {.step = step,
                                   .loss = 4.0 / (double)step,
                                   .lr = 0.1,
                                   .grad_norm = step == 300 ? NAN : 2,
                                   .tokens = 128 * step,
                                   .tokens_per_s = 1e4,
                                   .time = 0.25 * (double)step,
                                   .term = &kl,
                                   .n_terms = 1};
    assert_int_equal(metrics_step(m, &s), 0);
}

static void write_valid(struct metrics *m, int64_t step)
{
    const struct metrics_valid v = {.step = step, .loss = 0, .time = 0.25 * (double)step + 0.01};
    assert_int_equal(metrics_valid(m, &v), 0);
}

#define STEP_1                                                                                     \
    "0.25 1 train/loss 4\n0.25 1 train/lr 0.100000001\n0.25 1 train/grad_norm 2\n"                 \
    "0.25 1 train/kl 0.5\n0.25 1 train/tokens 128\n0.25 1 train/tokens_per_s 10000\n"              \
    "0.25 1 train/time 0.25\n"
#define STEP_2                                                                                     \
    "0.50 2 train/loss 2\n0.50 2 train/lr 0.100000001\n0.50 2 train/grad_norm 2\n"                 \
    "0.50 2 train/kl 0.5\n0.50 2 train/tokens 256\n0.50 2 train/tokens_per_s 10000\n"              \
    "0.50 2 train/time 0.5\n"
#define VALID_2 "0.51 2 valid/loss 0\n0.51 2 valid/perplexity 1\n0.51 2 valid/time 0.50999999\n"

static void every_number_and_sample_is_there(void **state)
{
    (void)state;
    struct metrics m;
    struct events e;
    open_both(&m, &e, -1);
    write_step(&m, 1);
    assert_int_equal(metrics_sample(&m, 1, "In", " the beginning", 14), 0);
    assert_int_equal(metrics_sample(&m, 1, NULL, "\xe2\x82\xac", 3), 0);
    write_step(&m, 300);
    close_both(&m, &e);
    expect(1, STEP_1 "0.25 1 sample text: In the beginning\n0.25 1 sample text: \xe2\x82\xac\n"
                     "75.00 300 train/loss 0.0133333337\n75.00 300 train/lr 0.100000001\n"
                     "75.00 300 train/grad_norm nan\n75.00 300 train/kl 0.5\n"
                     "75.00 300 train/tokens 38400\n75.00 300 train/tokens_per_s 10000\n"
                     "75.00 300 train/time 75\n");
}

/* As metrics.jsonl: what is done again is there once, what was done before is there. */
static void a_new_start_tells_what_the_metrics_tell(void **state)
{
    (void)state;
    struct metrics m;
    struct events e;
    open_both(&m, &e, -1);
    write_step(&m, 1);
    write_step(&m, 2);
    write_valid(&m, 2);
    write_step(&m, 3);
    close_both(&m, &e);
    open_both(&m, &e, 2); // in the same second
    expect(2, STEP_1 STEP_2);
    write_valid(&m, 2);
    expect(2, STEP_1 STEP_2 VALID_2);
    close_both(&m, &e);
    open_both(&m, &e, 1);
    write_step(&m, 2);
    close_both(&m, &e);
    expect(3, STEP_1 STEP_2);
}

static void a_new_name_comes_after_the_old_ones(void **state)
{
    char old[600], path[600];
    struct metrics m;
    struct events e;
    assert_int_equal(mkdir(folder, 0777), 0);
    snprintf(old, sizeof old, "%s/events.out.tfevents.4000000000.z.1", folder);
    assert_int_equal(file_replace(old, "x", 1), 0);
    snprintf(path, sizeof path, "%s", scratch_path(*state, "tensorboard/notes.txt"));
    assert_int_equal(file_replace(path, "x", 1), 0);
    open_both(&m, &e, -1);
    assert_non_null(strstr(e.file.path, "/events.out.tfevents.4000000001."));
    close_both(&m, &e);
    struct stat st;
    assert_int_equal(stat(old, &st), 0);
    assert_int_equal(st.st_size, 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 1); // not ours
}

static void no_folder_is_no_end(void **state)
{
    (void)state;
    struct metrics m;
    struct events e;
    assert_int_equal(file_replace(folder, "", 0), 0); // a file has its name
    assert_int_equal(metrics_open(&m, lines, -1), 0);
    assert_int_equal(events_open(&e, &m, folder, BEGAN), -1);
    assert_non_null(strstr(err_text(), folder));
    write_step(&m, 1);
    close_both(&m, &e);
}

/* The lines of both files wait while the disk is full, and the run goes on. */
static void full_disk_is_no_end(void **state)
{
    (void)state;
    struct metrics m;
    struct events e;
    struct rlimit old;
    open_both(&m, &e, -1);
    write_step(&m, 1);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    const rlim_t size = (rlim_t)e.file.size + 10;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &(struct rlimit){size, old.rlim_max}), 0);
    write_step(&m, 2);
    const bool waits = e.file.wait.n > 0 && !e.stopped;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_true(waits);
    expect(1, STEP_1);
    write_valid(&m, 2);
    close_both(&m, &e);
    expect(1, STEP_1 STEP_2 VALID_2);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(every_number_and_sample_is_there),
        TEST(a_new_start_tells_what_the_metrics_tell),
        TEST(a_new_name_comes_after_the_old_ones),
        TEST(no_folder_is_no_end),
        TEST(full_disk_is_no_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
