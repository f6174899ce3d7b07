#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "datasets/corpus.h"
#include "tests/datasets/scratch.h"

/* A corpus of four tokens with one thing wrong: files whose hash is right may still lie. */
struct lie {
    const char *says; /* what the error must say */
    const char *format, *content;
    int64_t version, vocab_size, eot, tokens, documents, bytes;
    int32_t last_token;
    int64_t second_start;
    bool wide, masked_without_mask, no_tokenizer;
};

static void make(const char *path, const struct lie *l)
{
    struct h5file *f;
    const uint16_t narrow[4] = {1, 2, 3, (uint16_t)l->last_token};
    const int32_t wide[4] = {1, 2, 3, l->last_token};
    const int64_t start[2] = {0, l->second_start};
    assert_int_equal(h5file_create(&f, path), 0);
    assert_int_equal(h5file_set_text(f, "/", "format", l->format ? l->format : "attar corpus"), 0);
    assert_int_equal(h5file_set_int(f, "/", "version", l->version ? l->version : 2), 0);
    assert_int_equal(h5file_set_int(f, "/", "vocab_size", l->vocab_size ? l->vocab_size : 257), 0);
    assert_int_equal(h5file_set_int(f, "/", "eot", l->eot), 0);
    const char *content = l->content ? l->content : "0123456789abcdef0123456789abcdef";
    assert_int_equal(h5file_set_text(f, "/", "content", content), 0);
    if (l->wide)
        assert_int_equal(h5file_append(f, "train/tokens", H5_I32, wide, 4), 0);
    else
        assert_int_equal(h5file_append(f, "train/tokens", H5_U16, narrow, 4), 0);
    assert_int_equal(h5file_append(f, "train/documents", H5_I64, start, 2), 0);
    assert_int_equal(h5file_set_int(f, "train", "tokens", l->tokens ? l->tokens : 4), 0);
    assert_int_equal(h5file_set_int(f, "train", "documents", l->documents ? l->documents : 2), 0);
    assert_int_equal(h5file_set_int(f, "train", "bytes", l->bytes), 0);
    assert_int_equal(h5file_set_int(f, "train", "loss_bytes", 0), 0);
    assert_int_equal(h5file_set_int(f, "train", "masked", l->masked_without_mask), 0);
    if (!l->no_tokenizer)
        assert_int_equal(h5file_write_text(f, "tokenizer", "{}", 2), 0);
    assert_int_equal(h5file_commit(f), 0);
}

/* Everything that can be read of a corpus; the first error. */
static int read_all(const char *path)
{
    struct corpus c;
    int32_t token[4];
    int64_t *start = NULL;
    struct tokenizer *t = NULL;
    if (corpus_open(&c, path))
        return -1;
    const int r = corpus_read(&c, CORPUS_TRAIN, 0, 4, token) ||
                          !(start = corpus_documents(&c, CORPUS_TRAIN)) ||
                          !(t = corpus_tokenizer(&c))
                      ? -1
                      : 0;
    free(start);
    tokenizer_free(t);
    corpus_close(&c);
    return r;
}

static void test_lies_are_refused(void **state)
{
    static const struct lie lies[] = {
        {.says = "content is no hash", .content = "0123"},
        {.says = "not a corpus", .format = "attar checkpoint"},
        {.says = "corpus version 3", .version = 3},
        {.says = "vocab_size", .vocab_size = -5},
        {.says = "vocab_size", .vocab_size = 1LL << 40},
        {.says = "eot", .eot = 257},
        {.says = "train/tokens", .tokens = 5},
        {.says = "train/tokens", .tokens = 1LL << 60},
        {.says = "train/tokens", .wide = true},
        {.says = "train/tokens", .vocab_size = 65537},
        {.says = "train/documents", .documents = 3},
        {.says = "bytes", .bytes = -1},
        {.says = "train/mask", .masked_without_mask = true},
        {.says = "token 3 of train is 257", .last_token = 257},
        {.says = "not increasing", .second_start = 0},
        {.says = "not increasing", .second_start = 4},
        {.says = "not increasing", .second_start = -1},
        {.says = "no `tokenizer`", .second_start = 2, .no_tokenizer = true},
        {.says = "a.h5", .second_start = 2}, // {} is no tokenizer
    };
    const char *path = scratch_path(*state, "a.h5");
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        make(path, &lies[i]);
        assert_int_equal(read_all(path), -1);
        if (!strstr(err_text(), lies[i].says))
            fail_msg("`%s` does not say `%s`", err_text(), lies[i].says);
    }
}

static void test_both_widths(void **state)
{
    const char *path = scratch_path(*state, "a.h5");
    for (int wide = 0; wide < 2; wide++) {
        const struct lie l = {.second_start = 2,
                              .last_token = wide ? 70000 : 65535,
                              .vocab_size = wide ? 70001 : 65536,
                              .wide = wide != 0};
        struct corpus c;
        int32_t token[4];
        uint8_t mask[4];
        make(path, &l);
        assert_int_equal(corpus_open(&c, path), 0);
        assert_int_equal(corpus_read(&c, CORPUS_TRAIN, 0, 4, token), 0);
        assert_int_equal(token[0], 1);
        assert_int_equal(token[3], l.last_token);
        assert_int_equal(corpus_read(&c, CORPUS_TRAIN, 3, 1, token), 0);
        assert_int_equal(token[0], l.last_token);
        assert_int_equal(corpus_read_mask(&c, CORPUS_TRAIN, 0, 4, mask), 0);
        assert_memory_equal(mask, "\1\1\1\1", 4);
        assert_int_equal(corpus_read(&c, CORPUS_TRAIN, 1, 4, token), -1);
        assert_int_equal(corpus_read(&c, CORPUS_VALID, 0, 1, token), -1);
        assert_int_equal(strlen(corpus_hash(&c)), 32);
        corpus_close(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lies_are_refused, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_both_widths, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
