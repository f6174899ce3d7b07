#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "autograd/base/aside.h"
#include "autograd/base/err.h"
#include "tests/autograd/durable.h"

static char folder[32], path[64];

static int setup(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/attar-test-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    sprintf(path, "%s/a", folder);
    return 0;
}

static int remove_one(const char *name, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(name);
}

static int teardown(void **state)
{
    (void)state;
    return nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int entries(void)
{
    DIR *dir = opendir(folder);
    int n = -2;
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static void holds(const char *text)
{
    char got[64] = "";
    const int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(read(fd, got, sizeof got), strlen(text));
    assert_string_equal(got, text);
    close(fd);
}

static void put(const char *text)
{
    struct aside a;
    assert_int_equal(aside_open(&a, path), 0);
    assert_int_equal(write(a.fd, text, strlen(text)), strlen(text));
    assert_int_equal(aside_commit(&a), 0);
    aside_abandon(&a);
}

static void test_commit_and_abandon(void **state)
{
    (void)state;
    struct aside a;
    put("one");
    holds("one");
    assert_int_equal(aside_open(&a, path), 0);
    assert_int_equal(write(a.fd, "x", 1), 1);
    assert_int_equal(entries(), 2);
    holds("one"); // until it is complete
    aside_abandon(&a);
    aside_abandon(&a);
    assert_int_equal(entries(), 1);
    put("two");
    holds("two");
    assert_int_equal(entries(), 1);
}

static void touch(const char *name)
{
    char file[96];
    sprintf(file, "%s/%s", folder, name);
    close(open(file, O_CREAT | O_WRONLY, 0666));
}

static void test_leftovers(void **state)
{
    (void)state;
    touch("a.tmp-1"); // a living process of that number does not make it ours
    touch("a.tmp-99999999");
    touch("a.tmp-12x");
    touch("a.tmp-");
    touch("aa.tmp-7");
    put("one");
    assert_int_equal(entries(), 1 + 3);
}

static void test_errors(void **state)
{
    (void)state;
    struct aside a, b;
    char none[96];
    sprintf(none, "%s/no/a", folder);
    assert_int_equal(aside_open(&a, none), -1);
    assert_non_null(strstr(err_text(), none));
    assert_int_equal(aside_open(&a, path), 0);
    assert_int_equal(aside_open(&b, path), -1);
    assert_non_null(strstr(err_text(), "already"));
    aside_abandon(&b);
    aside_abandon(&a);
    // a folder that came meanwhile cannot be replaced: what was written goes away
    assert_int_equal(aside_open(&a, path), 0);
    assert_int_equal(mkdir(path, 0777), 0);
    assert_int_equal(aside_commit(&a), -1);
    assert_int_equal(entries(), 1);
}

/* Content before name, name before the folder's entry; content that may not be there gets none. */
static void test_order_of_syncs(void **state)
{
    (void)state;
    *durable_calls = 0;
    put("one");
    assert_string_equal(durable_calls, "frd");
    struct aside a;
    assert_int_equal(aside_open(&a, path), 0);
    assert_int_equal(write(a.fd, "two", 3), 3);
    durable_failing_sync = true;
    assert_int_equal(aside_commit(&a), -1);
    durable_failing_sync = false;
    assert_non_null(strstr(err_text(), path));
    holds("one");
    assert_int_equal(entries(), 1);
}

/* Before anything is written, not at the rename in the end. */
static void test_folder(void **state)
{
    struct aside a;
    (void)state;
    assert_int_equal(mkdir(path, 0777), 0);
    assert_int_equal(aside_open(&a, path), -1);
    assert_non_null(strstr(err_text(), "is a folder: the name of a file is wanted"));
    assert_int_equal(entries(), 1);
    aside_abandon(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_commit_and_abandon, setup, teardown),
        cmocka_unit_test_setup_teardown(test_leftovers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_errors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_order_of_syncs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_folder, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
