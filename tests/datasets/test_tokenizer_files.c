/* tokenizer.model as SentencePiece wrote it, with its ids (tests/golden/import/spm), and damaged.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "datasets/tokenizer_files.h"
#include "tests/datasets/gibberish.h"
#include "tests/datasets/scratch.h"

#define SPM "tests/golden/import/spm/"

static void ids_are_those_of_sentencepiece(void **state)
{
    (void)state;
    size_t n, n_texts, n_ids;
    char *model = scratch_read(SPM "tokenizer.model", &n);
    char *texts = scratch_read(SPM "texts.txt", &n_texts),
         *ids = scratch_read(SPM "ids.txt", &n_ids);
    assert_true(tokenizer_files_is_model(model, n));
    struct tokenizer *t = tokenizer_files_model(model, n, NULL, 0);
    if (!t)
        fail_msg("%s", err_text());
    assert_int_equal(tokenizer_vocab_size(t), 360);
    assert_int_equal(t->space, TOKENIZER_SPACE_EACH);
    assert_int_equal(tokenizer_bos(t), 1);
    assert_int_equal(tokenizer_eot(t), 2);
    assert_int_equal(t->role[TOKENIZER_PAD], 3);
    assert_int_equal(t->vocab.token[5].type, VOCAB_USER);
    char *line = ids;
    int tests = 0;
    for (const char *text = texts; text < texts + n_texts; text += strlen(text) + 1, tests++) {
        struct tokens got = {0};
        struct buf mine = {0};
        line[strcspn(line, "\n")] = 0;
        // SentencePiece gives user pieces no space of their own behind them
        const bool inner = strchr(text, '\n') || strstr(text, "<x y>");
        assert_int_equal(tokenizer_encode(t, text, strlen(text), false, &got), 0);
        for (size_t i = 0; i < got.n; i++)
            buf_printf(&mine, i ? " %d" : "%d", got.id[i]);
        if (!inner && strcmp(mine.p ? mine.p : "", line))
            fail_msg("'%s': %s, not %s", text, mine.p, line);
        tokens_free(&got);
        buf_free(&mine);
        line += strlen(line) + 1;
    }
    assert_true(tests > 25);
    tokenizer_free(t);
    free(model);
    free(texts);
    free(ids);
}

static void config_is_read(void **state)
{
    (void)state;
    size_t n;
    char *model = scratch_read(SPM "tokenizer.model", &n);
    static const char config[] =
        "{\"added_tokens_decoder\": {\"1\": {\"content\": \"<s>\"}, \"361\": {\"content\": "
        "\"[INST]\", \"special\": false}, \"360\": {\"content\": \"[PAD]\", \"special\": true}}, "
        "\"bos_token\": \"<s>\", \"eos_token\": {\"content\": \"</s>\"}, \"pad_token\": \"[PAD]\", "
        "\"unk_token\": \"none\", \"add_bos_token\": false, \"add_eos_token\": true, "
        "\"chat_template\": \"{{ a }}\"}";
    struct tokenizer *t = tokenizer_files_model(model, n, config, strlen(config));
    if (!t || tokenizer_files_config(t, config, strlen(config)))
        fail_msg("%s", err_text());
    assert_int_equal(tokenizer_vocab_size(t), 362);
    assert_int_equal(t->vocab.token[360].type, VOCAB_CONTROL);
    assert_int_equal(t->vocab.token[361].type, VOCAB_USER);
    assert_int_equal(t->role[TOKENIZER_PAD], 360);
    assert_int_equal(t->role[TOKENIZER_UNK], 0); // the model's: the config names no token
    assert_int_equal(tokenizer_bos(t), -1);
    assert_true(t->add_eos);
    assert_string_equal(t->chat_template, "{{ a }}");
    assert_int_equal(tokenizer_files_chat(t, "{{ b }}", 7), 0);
    assert_string_equal(t->chat_template, "{{ b }}");
    assert_int_equal(tokenizer_files_config(t, "{\"add_bos_token\": true}", 23), 0);
    assert_int_equal(tokenizer_bos(t), 1);
    assert_int_equal(tokenizer_files_config(t, "{", 1), -1);
    assert_int_equal(tokenizer_files_config(t, "[1, {\"a\": 2}]", 13), 0);
    tokenizer_free(t);
    static const char *const bad[] = {"{\"added_tokens_decoder\": {\"365\": {\"content\": \"x\"}}}",
                                      "{\"added_tokens_decoder\": {\"x\": {\"content\": \"x\"}}}",
                                      "{\"added_tokens_decoder\": {\"360\": 7}}", "{"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_null(tokenizer_files_model(model, n, bad[i], strlen(bad[i])));
    free(model);
}

/* field `number` with n bytes */
static void put(struct buf *b, int number, const void *bytes, size_t n)
{
    const char head[] = {(char)(number << 3 | 2), (char)n};
    assert_true(n < 128 && number < 16);
    buf_add(b, head, 2);
    buf_add(b, bytes, n);
}

static void refused(const struct buf *model, const char *says)
{
    assert_null(tokenizer_files_model(model->p, model->n, NULL, 0));
    if (!strstr(err_text(), says))
        fail_msg("'%s' does not say '%s'", err_text(), says);
}

static void malformed_models_are_refused(void **state)
{
    (void)state;
    static const struct {
        int number;
        const char *bytes;
        size_t n;
        const char *says;
    } each[] = {
        {2, "\x18\x01", 2, "model_type is 1 (Unigram)"},
        {2, "\x18\x02\xc0\x01\x01", 5, "treat_whitespace_as_suffix"},
        {3, "\x12\x01x", 3, "a table of characters"},
        {3, "\x20\x01", 2, "remove_extra_whitespaces"},
        {3, "\x28\x00", 2, "escape_whitespaces"},
        {1, "\x0a\x05x", 3, "piece 1"}, // a text beyond the piece
        {1, "\x0a\x01y\x18\x09", 5, "piece 1 is of type 9"},
        {1, "\x0a\x01y\x18\x06", 5, "is of type byte"},
        {1, "\x0a\x01y\x10\x01", 5, "field 2 is of wire type 0"}, // the score as a varint
        {1, "\x0a\x01x", 3, "are the same"},
        {1, "\x0b", 1, "a field of wire type 3"},
        {1, "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, "piece 1"},
        {1, "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 13, "more than ten bytes"},
        {1, "\x0a\x01y\x15\x00\x00\xc0\x7f", 8, "score"}, // NaN
    };
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        struct buf b = {0};
        put(&b, 1, "\x0a\x01x", 3);
        if (each[i].number == 1 || each[i].number == 3)
            put(&b, 2, "\x18\x02", 2);
        if (each[i].number != 3)
            put(&b, 3, "\x20\x00", 2);
        else if (strstr(each[i].says, "escape") || strstr(each[i].says, "table"))
            put(&b, 3, "\x20\x00", 2);
        put(&b, each[i].number, each[i].bytes, each[i].n);
        refused(&b, each[i].says);
        buf_free(&b);
    }
    refused(&(struct buf){.p = "", .n = 0}, "model_type is 1");
    refused(&(struct buf){.p = "\x0a", .n = 1}, "byte 1");
}

/* Whatever bytes change, or are missing, it is a tokenizer that works, or an error. */
static void damage_does_no_harm(void **state)
{
    (void)state;
    size_t n, read = 0;
    uint64_t seed = 77;
    char *model = scratch_read(SPM "tokenizer.model", &n), *bad = malloc(n);
    void (*const warn)(void) = err_before_warning;
    for (int i = 0; i < 1500; i++) {
        memcpy(bad, model, n);
        for (uint64_t k = 1 + gibberish_below(&seed, 3); k; k--)
            bad[gibberish_below(&seed, n)] = (char)gibberish_below(&seed, 256);
        const size_t len = i % 3 ? n : gibberish_below(&seed, n);
        struct tokenizer *t = tokenizer_files_model(bad, len, NULL, 0);
        if (!t)
            continue;
        struct tokens ids = {0};
        assert_int_equal(tokenizer_encode(t, "the quick \xff", 11, true, &ids), 0);
        tokens_free(&ids);
        tokenizer_free(t);
        read++;
    }
    assert_true(read < 1400);
    assert_ptr_equal(err_before_warning, warn);
    free(model);
    free(bad);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_those_of_sentencepiece),
        cmocka_unit_test(config_is_read),
        cmocka_unit_test(malformed_models_are_refused),
        cmocka_unit_test(damage_does_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
