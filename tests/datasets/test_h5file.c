#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <hdf5.h>

#include "autograd/base/err.h"
#include "datasets/h5file.h"
#include "tests/datasets/h5names.h"
#include "tests/datasets/scratch.h"

enum { ROWS = 3, COLS = 5, LONG = 200000 };

static uint16_t token(int i)
{
    return (uint16_t)((uint32_t)i * 2654435761u >> 16);
}

/* A file with a bit of everything; h5file_commit() is left to the caller. */
static int fill(struct h5file *f, int n)
{
    float m[ROWS * COLS];
    uint16_t *t = malloc((size_t)n * sizeof *t);
    for (int i = 0; i < ROWS * COLS; i++)
        m[i] = (float)i / 3;
    for (int i = 0; i < n; i++)
        t[i] = token(i);
    int r = h5file_write(f, "weights/a", H5_F32, 2, (int64_t[]){ROWS, COLS}, m);
    // pieces that do not line up with chunks
    for (int i = 0, step; !r && i < n; i += step) {
        step = n - i < 30011 ? n - i : 30011;
        r = h5file_append(f, "train/tokens", H5_U16, t + i, (size_t)step);
    }
    free(t);
    if (!r)
        r = h5file_append(f, "valid/tokens", H5_U16, NULL, 0);
    if (!r)
        r = h5file_write_text(f, "tokenizer", "{\"a\": \"\xc3\xa4\"}", 12);
    if (!r)
        r = h5file_write_text(f, "nothing", "", 0);
    if (!r)
        r = h5file_set_int(f, "train", "documents", 1LL << 40);
    if (!r)
        r = h5file_set_double(f, "/", "loss", 0.1);
    if (!r)
        r = h5file_set_text(f, "/", "name", "x y");
    return r;
}

static void make(const char *path)
{
    struct h5file *f;
    assert_int_equal(h5file_create(&f, path), 0);
    assert_int_equal(fill(f, LONG), 0);
    assert_int_equal(h5file_commit(f), 0);
}

static int collect(void *arg, const char *name)
{
    buf_text(arg, name);
    buf_text(arg, " ");
    return 0;
}

static void test_round_trip(void **state)
{
    const char *path = scratch_path(*state, "a.h5");
    struct h5file *f;
    make(path);
    assert_int_equal(scratch_count(*state), 1);
    assert_int_equal(h5file_open(&f, path), 0);

    float m[ROWS * COLS];
    assert_int_equal(h5file_read(f, "weights/a", H5_F32, 2, (int64_t[]){ROWS, COLS}, m), 0);
    for (int i = 0; i < ROWS * COLS; i++)
        assert_true(m[i] == (float)i / 3);
    assert_int_equal(h5file_read_rows(f, "weights/a", H5_F32, 1, 2, m), 0);
    assert_true(m[0] == (float)COLS / 3 && m[2 * COLS - 1] == (float)(3 * COLS - 1) / 3);

    struct h5shape s;
    assert_int_equal(h5file_shape(f, "train/tokens", &s), 0);
    assert_int_equal(s.type, H5_U16);
    assert_int_equal(s.ndim, 1);
    assert_int_equal(s.dim[0], LONG);
    uint16_t t[700];
    for (int at = 0; at + 700 <= LONG; at += 65111) {
        assert_int_equal(h5file_read_rows(f, "train/tokens", H5_U16, at, 700, t), 0);
        for (int i = 0; i < 700; i++)
            assert_int_equal(t[i], token(at + i));
    }
    assert_int_equal(h5file_shape(f, "valid/tokens", &s), 0);
    assert_int_equal(s.n, 0);

    struct buf b = {0};
    assert_int_equal(h5file_read_text(f, "tokenizer", &b), 0);
    assert_string_equal(b.p, "{\"a\": \"\xc3\xa4\"}");
    buf_clear(&b);
    assert_int_equal(h5file_read_text(f, "nothing", &b), 0);
    assert_int_equal(b.n, 0);
    assert_int_equal(h5file_get_text(f, "/", "name", &b), 0);
    assert_string_equal(b.p, "x y");
    int64_t i;
    double d;
    assert_int_equal(h5file_get_int(f, "train", "documents", &i), 0);
    assert_true(i == 1LL << 40);
    assert_int_equal(h5file_get_double(f, "/", "loss", &d), 0);
    assert_true(d == 0.1);

    buf_clear(&b);
    assert_int_equal(h5names_each(f, collect, &b), 0);
    assert_string_equal(b.p, "nothing tokenizer train/tokens valid/tokens weights/a ");
    assert_true(h5file_has(f, "train/tokens"));
    assert_false(h5file_has(f, "train/nothing"));
    assert_false(h5file_has(f, "no/such"));
    buf_free(&b);
    h5file_close(f);
}

static void test_misuse_is_an_error(void **state)
{
    const char *path = scratch_path(*state, "a.h5");
    struct h5file *f;
    float m[ROWS * COLS];
    uint16_t t[8];
    int64_t i;
    struct buf b = {0};
    make(path);
    assert_int_equal(h5file_open(&f, path), 0);
    assert_int_equal(h5file_read(f, "weights/a", H5_F32, 2, (int64_t[]){COLS, ROWS}, m), -1);
    assert_non_null(strstr(err_text(), "f32[3,5], expected f32[5,3]"));
    assert_int_equal(h5file_read(f, "weights/a", H5_I32, 2, (int64_t[]){ROWS, COLS}, m), -1);
    assert_int_equal(h5file_read(f, "tokenizer", H5_U8, 0, NULL, m), -1);
    assert_int_equal(h5file_read(f, "weights", H5_F32, 0, NULL, m), -1);
    assert_int_equal(h5file_read(f, "none", H5_F32, 0, NULL, m), -1);
    assert_non_null(strstr(err_text(), "has no `none`"));
    assert_int_equal(h5file_read_rows(f, "train/tokens", H5_U16, LONG - 3, 4, t), -1);
    assert_int_equal(h5file_read_rows(f, "train/tokens", H5_U16, -1, 2, t), -1);
    assert_int_equal(h5file_read_rows(f, "train/tokens", H5_U16, INT64_MAX, 2, t), -1);
    assert_int_equal(h5file_read_rows(f, "train/tokens", H5_I32, 0, 2, t), -1);
    assert_int_equal(h5file_read_rows(f, "train/tokens", H5_U16, LONG, 0, t), 0);
    assert_int_equal(h5file_read_text(f, "weights/a", &b), -1);
    assert_int_equal(h5file_get_int(f, "/", "loss", &i), -1);
    assert_int_equal(h5file_get_int(f, "/", "none", &i), -1);
    assert_int_equal(h5file_get_text(f, "/", "loss", &b), -1);
    assert_int_equal(h5file_write_text(f, "new", "x", 1), -1); // opened for reading
    buf_free(&b);
    h5file_close(f);
    assert_int_equal(h5file_open(&f, scratch_path(*state, "none.h5")), -1);
    assert_int_equal(h5file_create(&f, scratch_path(*state, "no/such/folder.h5")), -1);
    assert_int_equal(h5file_open(&f, "/"), -1);
}

static void test_abandon_keeps_the_old_file(void **state)
{
    const char *path = scratch_path(*state, "a.h5");
    struct h5file *f, *g;
    make(path);
    assert_int_equal(h5file_create(&f, path), 0);
    assert_int_equal(h5file_create(&g, path), -1); // one writer at a time
    assert_int_equal(fill(f, 10), 0);
    h5file_abandon(f);
    h5file_abandon(NULL);
    assert_int_equal(scratch_count(*state), 1);
    assert_int_equal(h5file_open(&f, path), 0);
    struct h5shape s;
    assert_int_equal(h5file_shape(f, "train/tokens", &s), 0);
    assert_int_equal(s.n, LONG);
    h5file_close(f);
}

static void test_equal_content_gives_equal_files(void **state)
{
    char *a, *b;
    size_t na, nb;
    make(scratch_path(*state, "a.h5"));
    make(scratch_path(*state, "b.h5"));
    a = scratch_read(scratch_path(*state, "a.h5"), &na);
    b = scratch_read(scratch_path(*state, "b.h5"), &nb);
    assert_int_equal(na, nb);
    assert_memory_equal(a, b, na);
    free(a);
    free(b);
}

static void refused(const char *path)
{
    struct h5file *f;
    assert_int_equal(h5file_open(&f, path), -1);
    assert_non_null(strstr(err_text(), path));
}

/* Every byte of the user block, and bytes all over the rest. */
static void test_damage_is_refused(void **state)
{
    const char *path = scratch_path(*state, "a.h5"), *bad = scratch_path(*state, "bad.h5");
    size_t n;
    make(path);
    char *bytes = scratch_read(path, &n);
    for (size_t i = 0; i < n; i += i < 600 ? 1 : i < 4096 ? 97 : 9973) {
        bytes[i] ^= 0x20;
        scratch_write(bad, bytes, n);
        refused(bad);
        bytes[i] ^= 0x20;
    }
    for (size_t i = 0; i < n; i += i < 700 ? 7 : n / 50) {
        scratch_write(bad, bytes, i);
        refused(bad);
    }
    bytes[8] = 2;
    scratch_write(bad, bytes, n);
    refused(bad);
    assert_non_null(strstr(err_text(), "container version 2"));
    free(bytes);
}

/* The sizes at which a write can fail, most of them inside HDF5's own flush and close. */
static void test_full_disk(void **state)
{
    const char *path = scratch_path(*state, "a.h5");
    struct stat st;
    make(path);
    assert_int_equal(stat(path, &st), 0);
    int failed = 0;
    for (long limit = 0; limit < st.st_size + 4096; limit += limit < 8192 ? 193 : 20011) {
        const pid_t child = fork();
        if (!child) {
            const struct rlimit r = {(rlim_t)limit, (rlim_t)limit};
            struct h5file *f;
            signal(SIGXFSZ, SIG_IGN);
            setrlimit(RLIMIT_FSIZE, &r);
            if (h5file_create(&f, path))
                exit(1);
            if (fill(f, LONG)) {
                h5file_abandon(f);
                exit(1);
            }
            exit(h5file_commit(f) ? strstr(err_text(), "File too large") ? 1 : 3 : 0);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), limit < st.st_size);
        assert_int_equal(scratch_count(*state), 1);
        failed += WEXITSTATUS(status);
    }
    assert_true(failed > 40);
    struct h5file *f;
    assert_int_equal(h5file_open(&f, path), 0);
    h5file_close(f);
}

/* Kills a process that writes the same file over and over: the name is whole or absent. */
static void test_kill(void **state)
{
    const char *path = scratch_path(*state, "a.h5");
    for (int round = 0; round < 40; round++) {
        const pid_t child = fork();
        if (!child) {
            for (;;) {
                struct h5file *f;
                if (h5file_create(&f, path) || fill(f, LONG) || h5file_commit(f))
                    _exit(1);
            }
        }
        usleep((useconds_t)(500 + 977 * round));
        kill(child, SIGKILL);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        struct h5file *f;
        if (!access(path, F_OK)) {
            assert_int_equal(h5file_open(&f, path), 0);
            h5file_close(f);
        }
    }
    // what the killed ones left is gone after the next
    make(path);
    assert_int_equal(scratch_count(*state), 1);
}

/* While one process writes, another one's start must not take its file away. */
static void test_the_living_keep_their_file(void **state)
{
    const char *path = scratch_path(*state, "a.h5");
    struct h5file *f;
    assert_int_equal(h5file_create(&f, path), 0);
    const pid_t child = fork();
    if (!child) {
        struct h5file *g;
        _exit(h5file_create(&g, path) || fill(g, 100) || h5file_commit(g));
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(fill(f, LONG), 0);
    assert_int_equal(h5file_commit(f), 0);
    assert_int_equal(h5file_open(&f, path), 0);
    struct h5shape s;
    assert_int_equal(h5file_shape(f, "train/tokens", &s), 0);
    assert_int_equal(s.n, LONG);
    h5file_close(f);
}

/* HDF5 by itself, as its tools do it, reads the file. */
static void test_is_plain_hdf5(void **state)
{
    const char *path = scratch_path(*state, "a.h5");
    uint16_t *t = calloc(LONG, sizeof *t);
    make(path);
    const hid_t f = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    assert_true(f >= 0);
    const hid_t d = H5Dopen2(f, "train/tokens", H5P_DEFAULT);
    assert_true(H5Dread(d, H5T_NATIVE_UINT16, H5S_ALL, H5S_ALL, H5P_DEFAULT, t) >= 0);
    for (int i = 0; i < LONG; i++)
        assert_int_equal(t[i], token(i));
    H5Dclose(d);
    H5Fclose(f);
    free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_is_plain_hdf5, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_misuse_is_an_error, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_abandon_keeps_the_old_file, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(test_equal_content_gives_equal_files, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(test_damage_is_refused, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_full_disk, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_kill, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_the_living_keep_their_file, scratch_setup,
                                        scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
