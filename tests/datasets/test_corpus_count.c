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

/* Prompts of 20 bytes, in the last fifth of 30; a prompt's tokens are its bytes. */
static void prompts_that_leave_room(void **state)
{
    static const struct {
        int64_t T;
        double fraction;
        bool train, valid;
    } cases[] = {{19, 0.2, false, false}, {20, 0.2, true, false}, {29, 0.2, true, false},
                 {30, 0.2, true, true},   {100, 0.2, true, true}, {20, 0, true, true},
                 {19, 0, false, true}};
    char path[300], text[2000] = "";
    const char *source = "a.jsonl";
    struct tokenizer *bytes = tokenizer_new_byte();
    for (int i = 0; i < 20; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text),
                 "{\"prompt\": \"%0*d\", \"completion\": \"b\"}\n", i < 15 ? 20 : 30, i);
    scratch_text(scratch_path(*state, source), text);
    snprintf(path, sizeof path, "%s", scratch_folder(*state));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct corpus_spec spec = {.source = &source,
                                         .n_sources = 1,
                                         .valid = SPLIT_TAIL,
                                         .valid_fraction = cases[i].fraction,
                                         .tokenizer = CORPUS_BYTE,
                                         .base_dir = path,
                                         .cache_dir = path};
        struct corpus_count n;
        bool fits[2];
        assert_int_equal(corpus_count(&spec, 1 << 20, &n), CORPUS_COUNTED);
        assert_int_equal(n.shortest[0], 20);
        if (corpus_count_fits(&spec, &n, bytes, cases[i].T, fits))
            fail_msg("%s", err_text());
        if (fits[0] != cases[i].train || fits[1] != cases[i].valid)
            fail_msg("%zu: training %d, validation %d", i, fits[0], fits[1]);
    }
    tokenizer_free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(as_built, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(prompts_that_leave_room, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
