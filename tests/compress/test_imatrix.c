#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/buf.h"
#include "autograd/base/err.h"
#include "compress/gguf_write.h"
#include "compress/imatrix.h"
#include "tests/datasets/scratch.h"

static void put(struct buf *b, int32_t x)
{
    buf_add(b, &x, sizeof x);
}

static void put_name(struct buf *b, const char *name)
{
    put(b, (int32_t)strlen(name));
    buf_text(b, name);
}

/* Two entries, unsorted, and the dataset's name. */
static struct buf legacy(void)
{
    struct buf b = {0};
    put(&b, 2);
    put_name(&b, "blk.0.ffn_up.weight");
    put(&b, 4);
    put(&b, 3);
    buf_add(&b, (float[]){8, 4, 2}, 12);
    put_name(&b, "blk.0.attn_q.weight");
    put(&b, 2);
    put(&b, 2);
    buf_add(&b, (float[]){1, 0}, 8);
    put(&b, 17);
    put_name(&b, "wiki.txt");
    return b;
}

static void assert_mean(const struct imatrix *m, const char *name, size_t n, const float *want)
{
    const struct imatrix_entry *e = imatrix_find(m, name);
    float mean[8];
    assert_non_null(e);
    assert_int_equal(e->cols * e->mats, n);
    imatrix_mean(e, mean);
    assert_memory_equal(mean, want, n * sizeof *mean);
}

static void the_old_kind_is_read(void **state)
{
    (void)state;
    struct imatrix m;
    struct buf b = legacy();
    if (imatrix_parse(&m, b.p, b.n))
        fail_msg("%s", err_text());
    assert_int_equal(m.n, 2);
    assert_int_equal(m.chunks, 17);
    assert_int_equal(m.n_datasets, 1);
    assert_string_equal(m.dataset[0], "wiki.txt");
    assert_mean(&m, "blk.0.ffn_up.weight", 3, (float[]){2, 1, 0.5f});
    assert_mean(&m, "blk.0.attn_q.weight", 2, (float[]){0.5f, 0});
    assert_null(imatrix_find(&m, "blk.0.attn_k.weight"));
    imatrix_free(&m);
    const size_t end = 4 + 4 + 19 + 8 + 12 + 4 + 19 + 8 + 8;
    assert_int_equal(imatrix_parse(&m, b.p, end), 0); // chunks and dataset need not be there
    assert_int_equal(m.chunks, 0);
    assert_int_equal(m.n_datasets, 0);
    imatrix_free(&m);
    buf_free(&b);
}

/* Exactly these bytes, so that the sanitizer sees their end. */
static int parse_exactly(const struct buf *b, size_t n)
{
    struct imatrix m;
    char *exact = malloc(n ? n : 1);
    memcpy(exact, b->p, n);
    const int rc = imatrix_parse(&m, exact, n);
    if (!rc)
        imatrix_free(&m);
    free(exact);
    return rc;
}

static void a_cut_of_the_old_kind_is_refused(void **state)
{
    (void)state;
    struct buf b = legacy();
    for (size_t n = 0; n < b.n; n++) {
        // complete without chunks, and with chunks alone
        const bool whole = n == b.n - 4 - 4 - 8 || n == b.n - 4 - 8;
        if (parse_exactly(&b, n) != (whole ? 0 : -1))
            fail_msg("%zu of %zu bytes", n, b.n);
    }
    buf_free(&b);
}

static void assert_refused(struct buf *b, const char *part)
{
    if (!parse_exactly(b, b->n))
        fail_msg("accepted: '%s' was expected", part);
    if (!strstr(err_text(), part))
        fail_msg("'%s' is not in '%s'", part, err_text());
    buf_free(b);
}

static void set(struct buf *b, size_t at, int32_t x)
{
    memcpy(b->p + at, &x, sizeof x);
}

static void bad_files_of_the_old_kind_are_refused(void **state)
{
    (void)state;
    static const int32_t counts[] = {-1, 3, INT32_MAX, INT32_MIN};
    struct buf b;
    for (size_t i = 0; i < 4; i++) {
        b = legacy();
        set(&b, 0, counts[i]);
        assert_refused(&b, i == 1 ? "byte" : "entries do not fit");
        b = legacy();
        set(&b, 4, counts[i] == 3 ? 1000 : counts[i]);
        assert_refused(&b, "byte 8: ");
        b = legacy();
        set(&b, 4 + 4 + 19 + 4, counts[i] == 3 ? 1000 : counts[i]);
        assert_refused(&b, "values do not fit");
    }
    b = legacy();
    set(&b, 0, 0);
    assert_refused(&b, "no entries");
    b = legacy();
    set(&b, 4 + 4 + 19, 0);
    assert_refused(&b, "0 calls");
    b = legacy();
    b.p[10] = '\n';
    assert_refused(&b, "control characters");
    b = legacy();
    memcpy(b.p + 8, b.p + 4 + 4 + 19 + 8 + 12 + 4, 19);
    assert_refused(&b, "is there twice");
    static const float bad[] = {-1, __builtin_nanf(""), __builtin_inff()};
    for (size_t i = 0; i < 3; i++) {
        b = legacy();
        memcpy(b.p + 4 + 4 + 19 + 8 + 4, &bad[i], 4);
        assert_refused(&b, "value 1 is");
    }
    b = legacy();
    buf_text(&b, "x");
    assert_refused(&b, "1 bytes too many");
}

static void what_is_written_is_read(void **state)
{
    const char *path = scratch_path(*state, "im.gguf");
    struct imatrix m = {.chunks = 12, .chunk_size = 512};
    struct imatrix_entry *e = imatrix_add(&m, "blk.1.attn_q.weight", 3);
    assert_non_null(e);
    memcpy(e->sum, (float[]){6, 0, 3}, 12);
    *e->count = 6;
    e = imatrix_add(&m, "blk.0.attn_q.weight", 1);
    assert_non_null(e);
    *e->sum = 5; // nothing counted
    assert_int_equal(imatrix_add_dataset(&m, "a.txt"), 0);
    assert_int_equal(imatrix_add_dataset(&m, "b.txt"), 0);
    assert_int_equal(imatrix_finish(&m), 0);
    if (imatrix_write(&m, path))
        fail_msg("%s", err_text());
    imatrix_free(&m);
    if (imatrix_read(&m, path))
        fail_msg("%s", err_text());
    assert_int_equal(m.n, 2);
    assert_int_equal(m.chunks, 12);
    assert_int_equal(m.chunk_size, 512);
    assert_int_equal(m.n_datasets, 2);
    assert_string_equal(m.dataset[1], "b.txt");
    assert_mean(&m, "blk.1.attn_q.weight", 3, (float[]){1, 0, 0.5f});
    assert_mean(&m, "blk.0.attn_q.weight", 1, (float[]){1});
    imatrix_free(&m);
    struct gguf g; // the names and shapes that llama.cpp looks for
    assert_int_equal(gguf_open(&g, path), 0);
    const struct gguf_tensor *sum = gguf_tensor(&g, "blk.1.attn_q.weight.in_sum2"),
                             *count = gguf_tensor(&g, "blk.1.attn_q.weight.counts");
    assert_non_null(sum);
    assert_non_null(count);
    assert_int_equal(sum->dim[0], 3);
    assert_int_equal(sum->dim[1], 1);
    assert_int_equal(count->dim[0], 1);
    gguf_close(&g);
}

/* A file of the new kind with some of its parts wrong. */
static void write_parts(const char *path, const char *type, const char *sum, uint32_t sum_type,
                        const char *count, uint64_t counts)
{
    struct gguf_write w = {0};
    static const float zeros[64];
    gguf_write_text(&w, "general.type", type);
    gguf_write_tensor(&w, sum, gguf_type(sum_type), 2, (uint64_t[]){4, 2});
    gguf_write_tensor(&w, count, gguf_type(0), 2, (uint64_t[]){1, counts});
    if (gguf_write_open(&w, path) || gguf_write_data(&w, zeros, sum_type ? 16 : 32) ||
        gguf_write_data(&w, zeros, 4 * counts) || gguf_write_commit(&w))
        fail_msg("%s", err_text());
}

static void bad_files_of_the_new_kind_are_refused(void **state)
{
    static const struct {
        const char *type, *sum;
        uint32_t sum_type;
        const char *count;
        uint64_t counts;
        const char *part;
    } bad[] = {
        {"imatrix", "a.in_sum2", 0, "a.counts", 2, NULL},
        {"model", "a.in_sum2", 0, "a.counts", 2, "not an importance matrix"},
        {"imatrix", "a.in_sum2", 1, "a.counts", 2, "sums have to be F32"},
        {"imatrix", "a.in_sum2", 0, "a.counts", 3, "one for each matrix"},
        {"imatrix", "a.in_sum2", 0, "b.counts", 2, "no sums that it counts"},
        {"imatrix", "a.in_sum2", 0, "a.count", 2, "1 sums, but 0 counts"},
    };
    const char *path = scratch_path(*state, "bad.gguf");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct imatrix m;
        write_parts(path, bad[i].type, bad[i].sum, bad[i].sum_type, bad[i].count, bad[i].counts);
        const int rc = imatrix_read(&m, path);
        if (!bad[i].part) {
            assert_int_equal(rc, 0);
            imatrix_free(&m);
            continue;
        }
        assert_int_equal(rc, -1);
        if (!strstr(err_text(), bad[i].part) || !strstr(err_text(), path))
            fail_msg("'%s' is not in '%s'", bad[i].part, err_text());
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_old_kind_is_read),
        TEST(a_cut_of_the_old_kind_is_refused),
        TEST(bad_files_of_the_old_kind_are_refused),
        TEST(what_is_written_is_read),
        TEST(bad_files_of_the_new_kind_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
