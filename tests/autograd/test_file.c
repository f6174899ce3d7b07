#include <fcntl.h>
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

#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "tests/autograd/durable.h"

static char folder[64];
static char path[128];

static int setup(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/attar-file-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/x.json", folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder); // fails, and so the test, where a part was left behind
}

static void written_is_read(void **state)
{
    (void)state;
    struct buf b = {0};
    const char bytes[] = "a\0b\n\xff";
    assert_int_equal(file_replace(path, "older and longer", 16), 0);
    assert_int_equal(file_replace(path, bytes, sizeof bytes), 0);
    assert_int_equal(file_read(path, sizeof bytes, &b), 0);
    assert_int_equal(b.n, sizeof bytes);
    assert_memory_equal(b.p, bytes, sizeof bytes);
    buf_free(&b);
}

/* - is standard input, which stays open and goes on where it was. */
static void standard_input_is_an_argument(void **state)
{
    (void)state;
    struct buf b = {0};
    const int saved = dup(STDIN_FILENO);
    assert_int_equal(file_replace(path, "12345", 5), 0);
    const int fd = open(path, O_RDONLY);
    char first;
    assert_true(dup2(fd, STDIN_FILENO) == STDIN_FILENO && read(STDIN_FILENO, &first, 1) == 1);
    close(fd);
    assert_int_equal(file_read_argument("-", 100, &b), 0);
    assert_int_equal(b.n, 4);
    assert_memory_equal(b.p, "2345", 4);
    assert_int_equal(read(STDIN_FILENO, &first, 1), 0); // open, and at its end
    close(STDIN_FILENO);
    assert_int_equal(file_read_argument("-", 100, &b), -1);
    assert_non_null(strstr(err_text(), "standard input: Bad file descriptor"));
    dup2(saved, STDIN_FILENO);
    close(saved);
    buf_clear(&b);
    assert_int_equal(file_read_argument(path, 100, &b), 0);
    assert_int_equal(b.n, 5);
    assert_int_equal(file_read_argument("/nowhere", 100, &b), -1);
    assert_non_null(strstr(err_text(), "/nowhere: No such file"));
    buf_free(&b);
}

static void bound_is_kept(void **state)
{
    (void)state;
    struct buf b = {0};
    assert_int_equal(file_replace(path, "12345", 5), 0);
    assert_int_equal(file_read(path, 4, &b), -1);
    assert_non_null(strstr(err_text(), path));
    assert_int_equal(b.n, 0);
    buf_free(&b);
}

static void absent_says_path(void **state)
{
    (void)state;
    struct buf b = {0};
    assert_int_equal(file_read(path, 4, &b), -1);
    assert_non_null(strstr(err_text(), path));
    assert_int_equal(file_replace("/nonexistent/folder/x", "1", 1), -1);
    assert_non_null(strstr(err_text(), "/nonexistent/folder/x"));
    assert_int_equal(file_read(folder, 4, &b), -1);
}

/* A write that fails half way leaves the old file, and nothing beside it. */
static void full_disk_keeps_old(void **state)
{
    (void)state;
    struct buf b = {0};
    static char big[65536];
    struct rlimit old;
    assert_int_equal(file_replace(path, "old", 3), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, SIG_IGN);
    const struct rlimit small = {4096, old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    const int rc = file_replace(path, big, sizeof big);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(rc, -1);
    assert_int_equal(file_read(path, 100, &b), 0);
    assert_int_equal(b.n, 3);
    assert_memory_equal(b.p, "old", 3);
    buf_free(&b);
}

/* Content before name, name before the folder's entry; content that may not be there gets none. */
static void order_of_syncs(void **state)
{
    (void)state;
    struct buf b = {0};
    *durable_calls = 0;
    assert_int_equal(file_replace(path, "old", 3), 0);
    assert_string_equal(durable_calls, "frd");
    durable_failing_sync = true;
    assert_int_equal(file_replace(path, "new", 3), -1);
    durable_failing_sync = false;
    assert_non_null(strstr(err_text(), path));
    assert_int_equal(file_read(path, 100, &b), 0);
    assert_memory_equal(b.p, "old", 3);
    buf_free(&b);
}

/* Said before the work, not after it. */
static void where_nothing_can_be_written_is_said(void **state)
{
    (void)state;
    char text[256];
    assert_int_equal(file_check_out(path), 0);
    assert_int_equal(file_check_out("x.json"), 0);
    assert_int_equal(file_check_out(folder), -1);
    snprintf(text, sizeof text, "%s is a folder: the name of a file is wanted, such as %s/NAME",
             folder, folder);
    assert_string_equal(err_text(), text);
    snprintf(text, sizeof text, "%s/none/x.json", folder);
    assert_int_equal(file_check_out(text), -1);
    assert_non_null(strstr(err_text(), "/none/: No such file"));
    assert_int_equal(file_check_out("/dev/null/x.json"), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(written_is_read, setup, teardown),
        cmocka_unit_test_setup_teardown(standard_input_is_an_argument, setup, teardown),
        cmocka_unit_test_setup_teardown(bound_is_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(absent_says_path, setup, teardown),
        cmocka_unit_test_setup_teardown(full_disk_keeps_old, setup, teardown),
        cmocka_unit_test_setup_teardown(order_of_syncs, setup, teardown),
        cmocka_unit_test_setup_teardown(where_nothing_can_be_written_is_said, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
