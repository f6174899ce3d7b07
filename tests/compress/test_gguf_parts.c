#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "autograd/base/file.h"
#include "compress/gguf_write.h"
#include "compress/imatrix.h"
#include "tests/compress/cut_gguf.h"
#include "tests/datasets/scratch.h"

enum { TENSORS = 7 };

/* Seven vectors of 1 to 7 elements. */
static void write_whole(const char *path)
{
    static const float values[TENSORS] = {1, 2, 3, 4, 5, 6, 7};
    struct gguf_write w = {0};
    gguf_write_text(&w, "general.architecture", "llama");
    gguf_write_text(&w, "general.name", "seven");
    for (uint64_t i = 0; i < TENSORS; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%d", (int)i);
        gguf_write_tensor(&w, name, gguf_type(0), 1, (uint64_t[]){i + 1});
    }
    int rc = gguf_write_open(&w, path);
    for (size_t i = 0; i < TENSORS && !rc; i++)
        rc = gguf_write_data(&w, values, (i + 1) * sizeof *values);
    if (rc || gguf_write_commit(&w))
        fail_msg("%s", err_text());
}

struct paths {
    char whole[2048], stem[2048];
};

static struct paths made(void **state, const struct cut_gguf *c)
{
    struct paths p;
    snprintf(p.whole, sizeof p.whole, "%s", scratch_path(*state, "whole.gguf"));
    snprintf(p.stem, sizeof p.stem, "%s", scratch_path(*state, "m"));
    write_whole(p.whole);
    cut_gguf(p.whole, p.stem, c);
    return p;
}

/* Whichever part is named: all tensors in the whole file's order, with their values, and the first
   part's metadata. */
static void any_part_is_the_whole(void **state)
{
    for (int parts = 2; parts <= 4; parts++)
        for (int bare = 0; bare < 2; bare++) {
            const struct paths p =
                made(state, &(struct cut_gguf){.parts = parts, .bare_first = bare});
            for (int named = 0; named < parts; named++) {
                const char *path = cut_gguf_path(p.stem, named, parts);
                struct gguf g;
                uint64_t bytes = 0;
                struct buf name = {0};
                if (gguf_open(&g, path))
                    fail_msg("%s", err_text());
                assert_int_equal(g.n_tensors, TENSORS);
                assert_int_equal(g.n_parts, parts - 1);
                assert_non_null(gguf_find(&g, "general.name"));
                for (int i = 0; i < TENSORS; i++) {
                    float x[TENSORS];
                    assert_int_equal(g.tensor[i].name.s[1], '0' + i);
                    assert_int_equal(g.tensor[i].bytes, (i + 1) * 4);
                    memcpy(x, g.tensor[i].data, g.tensor[i].bytes);
                    assert_true(x[i] == (float)i + 1);
                }
                for (int i = 0; i < parts; i++) {
                    struct buf b = {0};
                    assert_int_equal(gguf_path(&g, path, i, &name), 0);
                    assert_int_equal(file_read(name.p, 1 << 20, &b), 0);
                    bytes += b.n;
                    buf_free(&b);
                }
                assert_int_equal(gguf_size(&g), bytes);
                buf_free(&name);
                gguf_close(&g);
            }
        }
}

static void assert_refused(const char *path, const char *part)
{
    struct gguf g;
    if (!gguf_open(&g, path))
        fail_msg("accepted: '%s' was expected", part);
    if (!strstr(err_text(), part))
        fail_msg("'%s' is not in '%s'", part, err_text());
    assert_null(g.base); // nothing is left open
}

static void what_is_no_whole_is_refused_by_name(void **state)
{
    static const struct {
        struct cut_gguf how;
        const char *why;
    } cases[] = {
        {{.parts = 3, .no = 1},
         "by its metadata it is part 2 of 3 with 7 tensors in all; part 3 of 3 with "
         "7 is expected"},
        {{.parts = 3, .tensors = 9},
         "part 3 of 3 with 9 tensors in all; part 3 of 3 with 7 is expected"},
        {{.parts = 3, .less = true},
         "the 3 parts have 6 tensors, by split.tensors.count there are 7"},
        {{.parts = 3, .twice = true}, "tensor 't0' is there twice"},
        {{.parts = 3, .name = "eight"},
         "metadata 'general.name' is not what it is in part 1: a part of "
         "another model"},
        {{.parts = 3, .leave = "split.no"}, "metadata 'split.no' is missing"},
        {{.parts = 3, .leave = "split.tensors.count"}, "metadata 'split.tensors.count' is missing"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct paths p = made(state, &cases[i].how);
        for (int named = 0; named < 3; named++)
            if (named < 2 || (!cases[i].how.no && !cases[i].how.tensors))
                assert_refused(cut_gguf_path(p.stem, named, 3), cases[i].why);
    }
    struct paths p =
        made(state, &(struct cut_gguf){.parts = 3, .name = "seven"}); // said twice, the same
    struct gguf g;
    assert_int_equal(gguf_open(&g, cut_gguf_path(p.stem, 0, 3)), 0);
    gguf_close(&g);
}

static void a_missing_part_is_named(void **state)
{
    const struct paths p = made(state, &(struct cut_gguf){.parts = 3});
    unlink(cut_gguf_path(p.stem, 1, 3));
    assert_refused(cut_gguf_path(p.stem, 0, 3), "m-00002-of-00003.gguf: No such file");
    assert_refused(cut_gguf_path(p.stem, 2, 3), "part 2 of 3");
}

/* The others are found by the name; bytes without one are half a model. */
static void a_part_of_another_name_or_none_is_refused(void **state)
{
    const struct paths p = made(state, &(struct cut_gguf){.parts = 2});
    const char *other = scratch_path(*state, "other.gguf");
    struct buf b = {0};
    struct gguf g;
    struct imatrix m;
    assert_int_equal(file_read(cut_gguf_path(p.stem, 0, 2), 1 << 20, &b), 0);
    assert_int_equal(file_replace(other, b.p, b.n), 0);
    assert_refused(other, "its name has to end in -00001-of-00002.gguf");
    assert_int_equal(gguf_parse(&g, b.p, b.n), -1);
    assert_non_null(strstr(err_text(), "part 1 of 2"));
    assert_int_equal(imatrix_read(&m, other), -1);
    assert_non_null(strstr(err_text(), "part 1 of 2"));
    buf_free(&b);
}

/* What gguf-split --merge leaves behind (count 0), and a split into one. */
static void one_file_may_speak_of_parts(void **state)
{
    struct paths p = made(state, &(struct cut_gguf){.parts = 1});
    const char *path = cut_gguf_path(p.stem, 0, 1);
    struct gguf g;
    assert_int_equal(gguf_open(&g, path), 0);
    assert_int_equal(g.n_tensors, TENSORS);
    assert_int_equal(g.n_parts, 0);
    gguf_close(&g);
    p = made(state, &(struct cut_gguf){.parts = 1, .less = true});
    assert_refused(path, "the file has 6 tensors, by split.tensors.count there are 7");
    struct buf b = {0};
    static const char count[] = "split.count\2\0\0";
    assert_int_equal(file_read(path, 1 << 20, &b), 0);
    char *at = memmem(b.p, b.n, count, sizeof count - 1);
    assert_non_null(at);
    at[sizeof "split.count" - 1 + 4] = 0;
    assert_int_equal(file_replace(path, b.p, b.n), 0);
    assert_int_equal(gguf_open(&g, path), 0);
    assert_int_equal(g.n_tensors, TENSORS - 1);
    gguf_close(&g);
    buf_free(&b);
}

static volatile unsigned char seen; // bytes are read, not only pointed to

/* Whatever a byte of a part becomes: refused, or read within the files. */
static void every_flipped_byte_is_survived(void **state)
{
    const struct paths p = made(state, &(struct cut_gguf){.parts = 2, .name = "seven"});
    char path[4096];
    size_t n;
    snprintf(path, sizeof path, "%s", cut_gguf_path(p.stem, 1, 2));
    char *bytes = scratch_read(path, &n);
    for (size_t i = 0; i < n; i++)
        for (int flip = 1; flip < 256; flip *= 2) {
            struct gguf g;
            bytes[i] ^= (char)flip;
            scratch_write(path, bytes, n);
            bytes[i] ^= (char)flip;
            if (gguf_open(&g, cut_gguf_path(p.stem, 0, 2)))
                continue;
            for (size_t t = 0; t < g.n_tensors; t++)
                for (uint64_t k = 0; k < g.tensor[t].bytes; k++)
                    seen = g.tensor[t].data[k];
            gguf_close(&g);
        }
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(any_part_is_the_whole, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(what_is_no_whole_is_refused_by_name, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(a_missing_part_is_named, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(a_part_of_another_name_or_none_is_refused, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(one_file_may_speak_of_parts, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(every_flipped_byte_is_survived, scratch_setup,
                                        scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
