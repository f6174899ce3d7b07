/* Tokens that files beside a tokenizer.json add to it; ids as transformers 5.23 gives them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "datasets/tokenizer_files.h"

static struct tokenizer_text text_of(const char *s)
{
    return (struct tokenizer_text){s, s ? strlen(s) : 0};
}

/* The tokenizer of bytes (ids 0 to 255, <|endoftext|> 256) in a folder with these files. NULL with
   err(). */
static struct tokenizer *opened(const char *config, const char *map, const char *added, int vocab)
{
    struct tokenizer *bytes = tokenizer_new_byte(), *t = NULL;
    struct buf json = {0}, settled = {0};
    const struct tokenizer_text c = text_of(config), m = text_of(map), a = text_of(added);
    assert_int_equal(tokenizer_write(bytes, &json), 0);
    if (!tokenizer_files_settle(&c, &m, &a, &settled)) {
        const struct tokenizer_text j = {json.p, json.n}, s = {settled.p, settled.n};
        t = tokenizer_files_json(&j, &s, vocab);
        if (t && tokenizer_files_config(t, s.s, s.n)) {
            tokenizer_free(t);
            t = NULL;
        }
    }
    buf_free(&json);
    buf_free(&settled);
    tokenizer_free(bytes);
    return t;
}

static void has(const struct tokenizer *t, const char *content, int id, enum vocab_type type)
{
    assert_int_equal(tokenizer_find(t, content), id);
    if (id >= 0)
        assert_int_equal(t->vocab.token[id].type, type);
}

static void tokens_of_the_config_are_added(void **state)
{
    (void)state;
    struct tokenizer *t = opened("{\"model_max_length\": 1000000000000000019884624838656, "
                                 "\"eos_token\": \"<|im_end|>\", \"added_tokens_decoder\": {"
                                 "\"258\": {\"content\": \"<tool>\", \"special\": false}, "
                                 "\"257\": {\"content\": \"<|im_end|>\", \"special\": true}}}",
                                 NULL, NULL, 300);
    struct tokens ids = {0};
    assert_non_null(t);
    has(t, "<|im_end|>", 257, VOCAB_CONTROL);
    has(t, "<tool>", 258, VOCAB_USER);
    assert_int_equal(t->role[TOKENIZER_EOS], 257);
    assert_int_equal(tokenizer_eot(t), 257);
    assert_true(tokenizer_ends(t, 257));
    assert_int_equal(tokenizer_encode(t, "a<|im_end|><tool>", 17, true, &ids), 0);
    assert_int_equal(ids.n, 3);
    assert_int_equal(ids.id[1], 257);
    assert_int_equal(ids.id[2], 258);
    tokens_free(&ids);
    tokenizer_free(t);
    // flags of a token that the file has: the config's count
    t = opened("{\"added_tokens_decoder\": {\"256\": {\"content\": \"<|endoftext|>\", "
               "\"special\": false}}}",
               NULL, NULL, 300);
    assert_non_null(t);
    has(t, "<|endoftext|>", 256, VOCAB_USER);
    tokenizer_free(t);
}

static void ids_that_disagree_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *config, *added, *says;
    } each[] = {
        {"{\"added_tokens_decoder\": {\"299\": {\"content\": \"<x>\"}}}", NULL,
         "'<x>' has the id 299, in tokenizer.json it is 257"},
        {"{\"added_tokens_decoder\": {\"7\": {\"content\": \"<|endoftext|>\"}}}", NULL,
         "'<|endoftext|>' has the id 7, in tokenizer.json it is 256"},
        {"{\"added_tokens_decoder\": {\"x\": {\"content\": \"<x>\"}}}", NULL, "'x' is no id"},
        {"{\"added_tokens_decoder\": {\"257\": {}}}", NULL, "257 has no content"},
        {"{\"added_tokens_decoder\": {\"257\": {\"content\": \"<x>\", \"lstrip\": true}}}", NULL,
         "lstrip"},
        {"{}", "{\"<x>\": 300}", "'<x>' has the id 300"},
        {"{}", "{\"<x>\": \"257\"}", "added_tokens.json: '<x>' has no id"},
        {"{\"add_bos_token\": NaN}", NULL, "'add_bos_token' is neither"},
        {"{\"add_eos_token\": 7}", NULL, "'add_eos_token' is neither"},
        {"[]", NULL, "tokenizer_config.json: no object"},
        {"{}", "{", "added_tokens.json: line 1"},
    };
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        assert_null(opened(each[i].config, NULL, each[i].added, 400));
        if (!strstr(err_text(), each[i].says))
            fail_msg("%s: '%s' does not say '%s'", each[i].config, err_text(), each[i].says);
    }
}

/* Names without an id: what is a piece becomes special, another takes the next id, unless the model
   has no more. */
static void tokens_that_are_only_named(void **state)
{
    (void)state;
    const char *config = "{\"eos_token\": \"<|im_end|>\", \"pad_token\": {\"content\": \"<pad>\"}, "
                         "\"additional_special_tokens\": [\"<a>\"], \"unk_token\": \"!\"}";
    struct tokenizer *t = opened(config, NULL, NULL, 300);
    assert_non_null(t);
    has(t, "<|im_end|>", 257, VOCAB_CONTROL);
    has(t, "!", '!', VOCAB_CONTROL);
    has(t, "<pad>", 258, VOCAB_CONTROL);
    has(t, "<a>", 259, VOCAB_CONTROL);
    assert_int_equal(t->role[TOKENIZER_EOS], 257);
    assert_int_equal(t->role[TOKENIZER_PAD], 258);
    tokenizer_free(t);
    t = opened(config, NULL, NULL, 257);
    assert_non_null(t);
    assert_int_equal(tokenizer_vocab_size(t), 257);
    assert_int_equal(t->role[TOKENIZER_EOS], -1);
    tokenizer_free(t);
}

/* "image_token" and the like, and extra_special_tokens as an object or as a list. */
static void tokens_under_names_of_the_model(void **state)
{
    (void)state;
#define TYPED(text) "{\"__type\": \"AddedToken\", \"content\": \"" text "\"}"
    static const struct {
        const char *config, *map, *tokens[5]; // from 257 on
    } each[] = {
        {"{\"image_token\": \"<i>\"}", NULL, {"<i>"}},
        {"{\"extra_special_tokens\": {\"image_token\": \"<i>\", \"boi\": \"<b>\"}}",
         NULL,
         {"<i>", "<b>"}},
        {"{\"extra_special_tokens\": {\"image_token\": \"<i>\", \"boi\": \"<b>\"}, "
         "\"audio_token\": \"<a>\", \"eos_token\": \"<e>\"}",
         NULL,
         {"<e>", "<a>", "<i>", "<b>"}},
        {"{\"audio_token\": \"<a>\", \"extra_special_tokens\": {\"image_token\": \"<i>\", "
         "\"boi\": \"<b>\"}, \"eos_token\": \"<e>\"}",
         NULL,
         {"<e>", "<a>", "<i>", "<b>"}},
        {"{\"audio_token\": \"<a>\", \"z_token\": \"<z>\", \"extra_special_tokens\": "
         "{\"boi\": \"<b>\", \"audio_token\": \"<o>\"}}",
         NULL,
         {"<o>", "<z>", "<b>"}},
        {"{\"z_token\": \"<z>\", \"audio_token\": " TYPED("<a>") "}", NULL, {"<a>", "<z>"}},
        {"{\"image_token\": {\"content\": \"<i>\"}}", NULL, {NULL}},
        {"{\"additional_special_tokens\": [\"<x>\"], \"image_token\": \"<i>\", "
         "\"extra_special_tokens\": [\"<y>\"]}",
         NULL,
         {"<i>", "<y>"}},
        {"{\"additional_special_tokens\": [\"<x>\"], \"extra_special_tokens\": "
         "{\"boi\": \"<b>\"}}",
         NULL,
         {"<b>", "<x>"}},
        {"{\"audio_token\": \"<a>\"}", "{\"image_token\": {\"content\": \"<i>\"}}", {"<i>", "<a>"}},
    };
#undef TYPED
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        struct tokenizer *t = opened(each[i].config, each[i].map, NULL, 300);
        int n = 0;
        assert_non_null(t);
        for (; each[i].tokens[n]; n++) {
            if (tokenizer_find(t, each[i].tokens[n]) != 257 + n)
                fail_msg("%s: %s is %d, not %d", each[i].config, each[i].tokens[n],
                         tokenizer_find(t, each[i].tokens[n]), 257 + n);
            has(t, each[i].tokens[n], 257 + n, VOCAB_CONTROL);
        }
        if (tokenizer_vocab_size(t) != 257 + n)
            fail_msg("%s: %d tokens", each[i].config, tokenizer_vocab_size(t));
        tokenizer_free(t);
    }
}

static void older_files_count_where_the_config_is_older(void **state)
{
    (void)state;
    const char *map = "{\"eos_token\": {\"content\": \"<|endoftext|>\"}}";
    struct tokenizer *t = opened("{\"eos_token\": \"!\"}", map, "{\"<|im_end|>\": 257}", 300);
    assert_non_null(t);
    assert_int_equal(t->role[TOKENIZER_EOS], 256);
    has(t, "<|im_end|>", 257, VOCAB_USER);
    tokenizer_free(t);
    t = opened("{\"eos_token\": \"!\", \"added_tokens_decoder\": {}}", map, "{\"<|im_end|>\": 257}",
               300);
    assert_non_null(t);
    assert_int_equal(t->role[TOKENIZER_EOS], '!');
    has(t, "<|im_end|>", -1, VOCAB_HOLE);
    tokenizer_free(t);
    t = opened("{\"eos_token\": \"<x>\"}", NULL, "{\"<x>\": 257}", 300);
    assert_non_null(t);
    has(t, "<x>", 257, VOCAB_CONTROL);
    tokenizer_free(t);
}

static void all_ends_of_a_list_end_texts(void **state)
{
    (void)state;
    struct tokenizer *t =
        opened("{\"eos_token\": \"<a>\", \"additional_special_tokens\": [\"<b>\", "
               "\"<c>\", \"<d>\"]}",
               NULL, NULL, 300);
    const char *list = "{\"eos_token_id\": [257, 258, 256, 259]}",
               *gone = "{\"eos_token_id\": 300}";
    assert_non_null(t);
    assert_int_equal(tokenizer_files_ends(t, list, strlen(list)), 0);
    for (int id = 256; id < 260; id++) // 256 by its name
        assert_true(tokenizer_ends(t, id));
    assert_false(tokenizer_ends(t, 260));
    assert_int_equal(t->role[TOKENIZER_EOS], 257);
    assert_int_equal(tokenizer_files_ends(t, gone, strlen(gone)), 0); // with a warning
    assert_int_equal(tokenizer_files_ends(t, "{", 1), -1);
    tokenizer_free(t);
    t = tokenizer_new_byte();
    t->eot = t->role[TOKENIZER_EOS] = -1;
    assert_int_equal(tokenizer_files_ends(t, "{\"eos_token_id\": 65}", 20), 0);
    assert_int_equal(t->role[TOKENIZER_EOS], 65);
    assert_int_equal(tokenizer_eot(t), 65);
    tokenizer_free(t);
}

/* ---- behind normalization ---- */

/* SentencePiece's spaces by steps, a few pieces, one added token. */
#define SPM(normalized, special)                                                                   \
    "{\"added_tokens\": [{\"id\": 0, \"content\": \"<unk>\", \"special\": true}, {\"id\": 14, "    \
    "\"content\": \"<to>\", \"normalized\": " normalized ", \"special\": " special "}], "          \
    "\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Prepend\", "          \
    "\"prepend\": \"\xe2\x96\x81\"}, {\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, "   \
    "\"content\": \"\xe2\x96\x81\"}]}, \"model\": {\"type\": \"BPE\", \"byte_fallback\": true, "   \
    "\"fuse_unk\": true, \"unk_token\": \"<unk>\", \"vocab\": {\"<unk>\": 0, "                     \
    "\"\xe2\x96\x81\": 1, \"A\": 2, \"B\": 3, \"C\": 4, \"<\": 5, \">\": 6, \"t\": 7, \"o\": 8, "  \
    "\"\xe2\x96\x81"                                                                               \
    "A\": 9, \"\xe2\x96\x81"                                                                       \
    "B\": 10, \"\xe2\x96\x81"                                                                      \
    "C\": 11, \"\xe2\x96\x81\xe2\x96\x81\": 12, \"x\": 13}, \"merges\": [\"\xe2\x96\x81 A\", "     \
    "\"\xe2\x96\x81 B\", \"\xe2\x96\x81 C\", \"\xe2\x96\x81 \xe2\x96\x81\"]}}"

static void encodes(const struct tokenizer *t, const char *text, const int32_t *want, size_t n)
{
    struct tokens ids = {0};
    assert_int_equal(tokenizer_encode(t, text, strlen(text), true, &ids), 0);
    for (size_t i = 0; i < ids.n && i < n; i++)
        if (ids.id[i] != want[i])
            fail_msg("'%s': id %zu is %d, not %d", text, i, ids.id[i], want[i]);
    assert_int_equal(ids.n, n);
    tokens_free(&ids);
}
#define ENCODES(t, text, ...)                                                                      \
    encodes(t, text, (const int32_t[]){__VA_ARGS__},                                               \
            sizeof((int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

/* The token is normalized too, to one with a space before it (tokenizers 0.23.3). */
static void normalized_tokens_are_found_behind_the_steps(void **state)
{
    (void)state;
    struct buf json = {0};
    struct tokenizer *t = tokenizer_parse(SPM("true", "false"), sizeof SPM("true", "false") - 1);
    if (!t)
        fail_msg("%s", err_text());
    for (int again = 0; again < 2; again++) {
        ENCODES(t, "A<to>B <to> C", 9, 5, 7, 8, 6, 3, 14, 11);
        ENCODES(t, "<to>", 14);
        ENCODES(t, "<to><to>", 14, 5, 7, 8, 6);
        ENCODES(t, "  <to>", 12, 14);
        ENCODES(t, "\xe2\x96\x81<to>x", 1, 14, 13);
        // and so it is when it was written and read
        json.n = 0;
        assert_int_equal(tokenizer_write(t, &json), 0);
        tokenizer_free(t);
        t = tokenizer_parse(json.p, json.n);
        assert_non_null(t);
    }
    tokenizer_free(t);
    buf_free(&json);
    t = tokenizer_parse(SPM("false", "false"), sizeof SPM("false", "false") - 1);
    assert_non_null(t);
    ENCODES(t, "A<to>B <to> C", 9, 14, 10, 1, 14, 1, 11);
    tokenizer_free(t);
    t = tokenizer_parse(SPM("true", "true"), sizeof SPM("true", "true") - 1);
    assert_non_null(t);
    int32_t first = -1;
    assert_int_equal(tokenizer_count_special(t, "A<to>B <to> <unk>C", 18, &first), 2);
    assert_int_equal(first, 0); // <unk>, as it is
    assert_int_equal(tokenizer_count_special(t, "A<to>B <to>", 11, &first), 1);
    assert_int_equal(first, 14);
    tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_of_the_config_are_added),
        cmocka_unit_test(ids_that_disagree_are_refused),
        cmocka_unit_test(tokens_that_are_only_named),
        cmocka_unit_test(tokens_under_names_of_the_model),
        cmocka_unit_test(older_files_count_where_the_config_is_older),
        cmocka_unit_test(all_ends_of_a_list_end_texts),
        cmocka_unit_test(normalized_tokens_are_found_behind_the_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
