#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "autograd/base/file.h"
#include "autograd/base/tail.h"

static char path[] = "/tmp/attar-tail-XXXXXX";

static int setup(void **state)
{
    (void)state;
    strcpy(path + strlen(path) - 6, "XXXXXX");
    const int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int teardown(void **state)
{
    (void)state;
    return unlink(path);
}

static void expect(const char *want)
{
    struct buf b = {0};
    assert_int_equal(file_read(path, 1 << 24, &b), 0);
    assert_string_equal(b.p ? b.p : "", want);
    buf_free(&b);
}

static struct rlimit limit;

static void fill_disk(rlim_t bytes)
{
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &(struct rlimit){bytes, limit.rlim_max}), 0);
}

static void make_room(void)
{
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void goes_on_at_the_end(void **state)
{
    (void)state;
    struct tail t;
    assert_int_equal(tail_open(&t, path), 0);
    assert_int_equal(tail_add(&t, "one\n", 4), 0);
    expect("one\n");
    assert_int_equal(tail_close(&t), 0);
    assert_int_equal(tail_open(&t, path), 0);
    assert_int_equal(t.size, 4);
    assert_int_equal(tail_add(&t, "two\n", 4), 0);
    assert_int_equal(tail_close(&t), 0);
    expect("one\ntwo\n");
}

static void no_part_of_a_record_is_written(void **state)
{
    (void)state;
    struct tail t;
    assert_int_equal(tail_open(&t, path), 0);
    assert_int_equal(tail_add(&t, "one\n", 4), 0);
    fill_disk(6);
    const int added = tail_add(&t, "two\n", 4), again = tail_add(&t, "3\n", 2);
    const int synced = tail_sync(&t), named = strstr(err_text(), path) != NULL;
    make_room();
    assert_int_equal(added, 0);
    assert_int_equal(again, 0);
    assert_int_equal(synced, -1);
    assert_true(named);
    expect("one\n");
    assert_int_equal(tail_add(&t, "four\n", 5), 0);
    expect("one\ntwo\n3\nfour\n");
    assert_int_equal(tail_close(&t), 0);
    assert_int_equal(tail_close(&t), 0); // closed already: nothing happens
}

static void what_waits_is_bounded(void **state)
{
    (void)state;
    const size_t n = TAIL_WAIT_MAX / 2;
    char *record = calloc(n, 1);
    struct tail t;
    assert_non_null(record);
    assert_int_equal(tail_open(&t, path), 0);
    fill_disk(1);
    const int first = tail_add(&t, record, n), second = tail_add(&t, record, n);
    const int third = tail_add(&t, "x", 1), closed = tail_close(&t);
    make_room();
    assert_int_equal(first, 0);
    assert_int_equal(second, 0);
    assert_int_equal(third, -1);
    assert_int_equal(closed, -1);
    expect("");
    free(record);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(goes_on_at_the_end),
        TEST(no_part_of_a_record_is_written),
        TEST(what_waits_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
