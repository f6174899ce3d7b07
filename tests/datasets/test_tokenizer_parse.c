#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"
#include "datasets/bpe_train.h"
#include "datasets/tokenizer.h"
#include "tests/datasets/gibberish.h"
#include "tests/datasets/scratch.h"

static struct tokenizer *trained(const char *pre)
{
    uint64_t seed = 60;
    struct buf s = {0};
    struct bpe_train *b = bpe_train_new(pre, 330, NULL);
    gibberish_text(&seed, GIBBERISH_WORDS, 2000, &s);
    assert_int_equal(bpe_train_add(b, s.p, s.n), 0);
    buf_free(&s);
    struct tokenizer *t = bpe_train_finish(b);
    assert_non_null(t);
    return t;
}

static struct tokenizer *parse(const char *json)
{
    return tokenizer_parse(json, strlen(json));
}

/* A file of our own with one place changed; what is replaced has to be there. */
static char *edited(const char *json, const char *what, const char *by)
{
    const char *at = strstr(json, what);
    assert_non_null(at);
    struct buf b = {0};
    buf_add(&b, json, (size_t)(at - json));
    buf_text(&b, by);
    buf_text(&b, at + strlen(what));
    return b.p;
}

static void written_files_are_read(void **state)
{
    for (const struct pretok *r = pretok_rules; r->name; r++) {
        struct tokenizer *t = trained(r->name);
        t->bos = t->eot;
        t->nfc = r->most_numbers == 1;
        const char *path = scratch_path(*state, "t.json");
        assert_int_equal(tokenizer_save(t, path), 0);
        struct tokenizer *u = tokenizer_load(path);
        assert_non_null(u);
        struct buf x = {0}, y = {0};
        assert_int_equal(tokenizer_write(t, &x) | tokenizer_write(u, &y), 0);
        assert_string_equal(x.p, y.p);
        assert_string_equal(tokenizer_pre(u), r->name);
        assert_string_equal(tokenizer_name(u), "bpe");
        assert_int_equal(tokenizer_bos(u), t->bos);
        assert_int_equal(u->nfc, t->nfc);
        assert_int_equal(tokenizer_eot(u), 329);
        uint64_t seed = 61;
        struct buf s = {0};
        struct tokens a = {0}, b = {0};
        t->nfc = u->nfc = false;
        gibberish_text(&seed, GIBBERISH_BYTES, 3000, &s);
        assert_int_equal(tokenizer_encode(t, s.p, s.n, true, &a), 0);
        assert_int_equal(tokenizer_encode(u, s.p, s.n, true, &b), 0);
        assert_int_equal(a.n, b.n);
        assert_memory_equal(a.id, b.id, a.n * sizeof *a.id);
        tokens_free(&a);
        tokens_free(&b);
        buf_free(&s);
        buf_free(&x);
        buf_free(&y);
        tokenizer_free(t);
        tokenizer_free(u);
    }
}

static void byte_files_are_read(void **state)
{
    (void)state;
    struct tokenizer *t = tokenizer_new_byte();
    struct buf json = {0};
    assert_int_equal(tokenizer_write(t, &json), 0);
    struct tokenizer *u = tokenizer_parse(json.p, json.n);
    assert_non_null(u);
    assert_string_equal(tokenizer_name(u), "byte");
    assert_int_equal(tokenizer_vocab_size(u), 257);
    for (int32_t id = 0; id < 257; id++) {
        size_t a, b;
        const char *x = tokenizer_bytes(t, id, &a), *y = tokenizer_bytes(u, id, &b);
        assert_int_equal(a, b);
        assert_memory_equal(x, y, a);
    }
    buf_free(&json);
    tokenizer_free(t);
    tokenizer_free(u);
}

#define BYTE_LEVEL "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": true}"
#define MODEL(merges)                                                                              \
    "\"model\": {\"type\": \"BPE\", \"ignore_merges\": true, \"vocab\": {\"h\": 0, \"i\": 1, "     \
    "\"hi\": 2, \"\\u0120\": 3, \"\\u0120hi\": 4, \"him\": 9, \"m\": 5, \"a b\": 6}, "             \
    "\"merges\": " merges "}"

/* What other programs write: pairs as arrays, holes between ids, bytes missing, tokens that no
   text becomes, user tokens. */
static void foreign_file(void **state)
{
    (void)state;
    struct tokenizer *t = parse(
        "{\"added_tokens\": [{\"id\": 12, \"content\": \"</s>\", \"special\": true}, {\"id\": 11, "
        "\"content\": \"[m m]\", \"special\": false}], \"pre_tokenizer\": " BYTE_LEVEL
        ", \"post_processor\": {\"type\": \"Sequence\", \"processors\": [{\"type\": \"ByteLevel\"},"
        "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"</s>\"}}, "
        "{\"Sequence\": {\"id\": \"A\"}}], \"special_tokens\": {\"</s>\": {\"ids\": "
        "[12]}}}]}, " MODEL("[[\"h\", \"i\"], [\"\\u0120\", \"hi\"]]") "}");
    if (!t)
        fail_msg("%s", err_text());
    assert_int_equal(tokenizer_vocab_size(t), 13);
    assert_int_equal(tokenizer_eot(t), 12);
    assert_int_equal(tokenizer_bos(t), 12);
    size_t len;
    assert_null(tokenizer_bytes(t, 7, &len));
    struct tokens got = {0};
    const char *s = "hi hi him him[m m]</s>xa b";
    assert_int_equal(tokenizer_encode(t, s, strlen(s), false, &got), 0);
    // "him" only as a whole piece; x a b < / s > have no tokens
    static const int32_t want[] = {2, 4, 4, 5, 4, 5, 11, 3};
    assert_int_equal(got.n, sizeof want / sizeof *want);
    assert_memory_equal(got.id, want, sizeof want);
    got.n = 0;
    assert_int_equal(tokenizer_encode(t, "him", 3, false, &got), 0);
    assert_int_equal(got.n, 1);
    assert_int_equal(got.id[0], 9);
    tokens_free(&got);
    struct buf json = {0};
    assert_int_equal(tokenizer_write(t, &json), 0);
    struct tokenizer *u = tokenizer_parse(json.p, json.n);
    assert_non_null(u);
    assert_int_equal(tokenizer_vocab_size(u), 13);
    assert_int_equal(u->vocab.token[11].type, VOCAB_USER);
    assert_int_equal(u->vocab.token[6].type, VOCAB_UNUSED);
    assert_int_equal(u->vocab.token[7].type, VOCAB_HOLE);
    assert_ptr_equal(u->bpe.whole, &u->vocab);
    buf_free(&json);
    tokenizer_free(t);
    tokenizer_free(u);
}

/* Each edit of a good file, and a word of the message that refuses it. */
static void refusals(void **state)
{
    (void)state;
    static const struct {
        const char *what, *by, *word;
    } edits[] = {
        {"\"BPE\"", "\"Unigram\"", "Unigram"},
        {"\"byte_fallback\": false", "\"byte_fallback\": true", "byte_fallback"},
        {"\"dropout\": null", "\"dropout\": 0.1", "dropout"},
        {"\"end_of_word_suffix\": null", "\"end_of_word_suffix\": \"</w>\"", "end_of_word_suffix"},
        {"\"normalizer\": null", "\"normalizer\": {\"type\": \"NFKC\"}", "NFKC"},
        {"\"add_prefix_space\": false", "\"add_prefix_space\": true", "add_prefix_space"},
        {"\"use_regex\": true", "\"use_regex\": false", "cuts nowhere"},
        {"{\"type\": \"ByteLevel\", \"add_prefix_space\": false", "{\"type\": \"Metaspace\"",
         "Metaspace"},
        {"\"decoder\": {\"type\": \"ByteLevel\"", "\"decoder\": {\"type\": \"Fuse\"", "Fuse"},
        {"\"lstrip\": false", "\"lstrip\": true", "lstrip"},
        {"\"single_word\": false", "\"single_word\": true", "single_word"},
        {"{\"id\": 329", "{\"id\": 1000000", "out of range"},
        {"{\"id\": 329", "{\"id\": -1", "out of range"},
        {"{\"id\": 329",
         "{\"id\": 328, \"content\": \"<|endoftext|>\", \"special\": true}, {\"id\": 329",
         "before"},
        {"\"added_tokens\": [",
         "\"added_tokens\": [{\"id\": 340, \"content\": \"<x>\"}, {\"id\": 341, "
         "\"content\": \"<x>\"}, ",
         "before"},
        {"\"added_tokens\": [", "\"added_tokens\": [{\"id\": 7, \"content\": \"<x>\"}, ",
         "belongs to another"},
        {"\": 5,", "\": 4,", "twice"},
        {"\": 5,", "\": 1e9,", "no number"},
        {"\": 5,", "\": 123456789,", "no number"},
        {"\"merges\": [", "\"merges\": [\"ab\", ", "merges[0]"},
        {"\"merges\": [", "\"merges\": [[\"a\"], ", "merges[0]"},
        {"\"merges\": [", "\"merges\": [7, ", "merges[0]"},
        {"\"merges\": [", "\"merges\": [\"q q\", ", "merges[0]"},
        {"\"merges\": [", "\"merges\": [\"a b c\", ", "merges[0]"},
        {"\"merges\"", "\"vocab\"", "duplicate"},
        {"\"model\"", "\"modem\"", "model"},
        {"\"post_processor\": null", "\"post_processor\": {\"type\": \"BertProcessing\"}", "Bert"},
        {"\"post_processor\": null",
         "\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"Sequence\": {}}, "
         "{\"SpecialToken\": {\"id\": \"x\"}}, {\"Sequence\": {}}]}",
         "before the text"},
        {"\"post_processor\": null",
         "\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"Sequence\": {}}, "
         "{\"SpecialToken\": {\"id\": \"x\"}}]}",
         "'x' is not one id"},
        {"\"post_processor\": null",
         "\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": "
         "{\"id\": \"x\"}}, {\"Sequence\": {}}], \"special_tokens\": {\"x\": {\"ids\": [999]}}}",
         "999"},
    };
    struct tokenizer *t = trained("gpt-2");
    struct buf json = {0};
    assert_int_equal(tokenizer_write(t, &json), 0);
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        char *bad = edited(json.p, edits[i].what, edits[i].by);
        struct tokenizer *u = parse(bad);
        if (u || !strstr(err_text(), edits[i].word))
            fail_msg("%s: %s", edits[i].by, u ? "was read" : err_text());
        free(bad);
    }
    buf_free(&json);
    tokenizer_free(t);
    assert_null(tokenizer_load("/nonexistent/t.json"));
    assert_non_null(strstr(err_text(), "/nonexistent/t.json"));
    t = trained("llama-bpe");
    assert_int_equal(tokenizer_write(t, &json), 0);
    char *bad = edited(json.p, "{1,3}", "{1,4}");
    assert_null(parse(bad));
    assert_non_null(strstr(err_text(), "{1,4}"));
    free(bad);
    bad = edited(json.p, "\"Isolated\"", "\"Removed\"");
    assert_null(parse(bad));
    free(bad);
    bad = edited(json.p, "\"use_regex\": false", "\"use_regex\": true");
    assert_null(parse(bad));
    assert_non_null(strstr(err_text(), "twice"));
    free(bad);
    buf_free(&json);
    tokenizer_free(t);
}

/* Cut off at every place, and with bytes changed: an error or a tokenizer that works. */
static void damage(void **state)
{
    (void)state;
    struct tokenizer *t = trained("smollm");
    struct buf json = {0};
    assert_int_equal(tokenizer_write(t, &json), 0);
    tokenizer_free(t);
    for (size_t n = 0; n + 3 < json.n; n += n < 2000 ? 1 : 41)
        assert_null(tokenizer_parse(json.p, n));
    uint64_t seed = 62;
    int read = 0;
    for (int round = 0; round < 3000; round++) {
        char *bad = mem_text(json.p, json.n);
        for (int k = 0; k < 1 + round % 4; k++) {
            const uint64_t at = gibberish_below(&seed, round % 2 ? 1500 : json.n);
            bad[at] = round % 3 ? "0123456789\"{}[],: ea\\"[gibberish_below(&seed, 21)]
                                : (char)gibberish_below(&seed, 256);
        }
        t = tokenizer_parse(bad, json.n);
        if (t) {
            struct tokens ids = {0};
            struct buf out = {0};
            read++;
            assert_int_equal(tokenizer_encode(t, json.p, 1000, true, &ids), 0);
            assert_int_equal(tokenizer_decode(t, ids.id, ids.n, &out), 0);
            tokens_free(&ids);
            buf_free(&out);
            tokenizer_free(t);
        }
        free(bad);
    }
    print_message("%d of 3000 damaged files were still read\n", read);
    buf_free(&json);
}

static void memory_runs_out(void **state)
{
    (void)state;
    struct tokenizer *t = trained("qwen2"), *u = NULL;
    struct buf json = {0};
    assert_int_equal(tokenizer_write(t, &json), 0);
    tokenizer_free(t);
    for (long k = 1; !u; k++) {
        mem_fail_at(k);
        u = tokenizer_parse(json.p, json.n);
        mem_fail_at(0);
        assert_true(k < 5000);
    }
    struct buf again = {0};
    for (long k = 1;; k++) {
        mem_fail_at(k);
        const int rc = tokenizer_write(u, &again);
        mem_fail_at(0);
        if (!rc)
            break;
        buf_free(&again);
        assert_true(k < 5000);
    }
    assert_string_equal(again.p, json.p);
    buf_free(&again);
    buf_free(&json);
    tokenizer_free(u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(written_files_are_read, scratch_setup, scratch_teardown),
        cmocka_unit_test(byte_files_are_read),
        cmocka_unit_test(foreign_file),
        cmocka_unit_test(refusals),
        cmocka_unit_test(damage),
        cmocka_unit_test(memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
