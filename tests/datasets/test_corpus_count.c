/* What is counted is what a build finds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "datasets/corpus.h"
#include "datasets/corpus_count.h"
#include "tests/datasets/scratch.h"

static void write_text(void *scratch, const char *name, int documents)
{
    static char text[20000];
    size_t n = 0;
    for (int i = 0; i < documents; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "document %d\nof two lines\n\n", i * i);
    scratch_text(scratch_path(scratch, name), text);
}

/* By hash, by the tail, and by the tail as documents are few. */
static void as_built(void **state)
{
    static const struct {
        int documents;
        enum split_mode valid;
        double fraction;
    } cases[] = {{200, SPLIT_HASH, 0.3},
                 {200, SPLIT_TAIL, 0.3},
                 {7, SPLIT_HASH, 0.3},
                 {7, SPLIT_HASH, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[300];
        const char *source = "a.txt";
        write_text(*state, source, cases[i].documents);
        snprintf(path, sizeof path, "%s", scratch_folder(*state));
        struct corpus_spec spec = {.source = &source,
                                   .n_sources = 1,
                                   .valid = cases[i].valid,
                                   .valid_fraction = cases[i].fraction,
                                   .tokenizer = CORPUS_BYTE,
                                   .base_dir = path,
                                   .cache_dir = path};
        struct corpus_count n;
        struct corpus c;
        struct buf file = {0};
        assert_int_equal(corpus_count(&spec, 1 << 20, &n), CORPUS_COUNTED);
        if (corpus_build(&spec, NULL, &file) || corpus_open(&c, file.p))
            fail_msg("%s", err_text());
        for (int side = 0; side < 2; side++) {
            assert_int_equal(n.bytes[side], c.part[side].bytes);
            assert_int_equal(n.documents[side], c.part[side].documents);
        }
        assert_int_equal(n.pairs, 0);
        corpus_close(&c);
        buf_free(&file);
        assert_int_equal(corpus_count(&spec, 10, &n), CORPUS_LARGE);
        assert_true(n.file_bytes > 10);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(as_built, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
