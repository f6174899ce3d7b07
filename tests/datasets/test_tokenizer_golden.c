/* Vocabularies and ids that Hugging Face tokenizers made: tests/oracle/make_tokenizer_golden.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "autograd/base/err.h"
#include "datasets/tokenizer.h"

static struct tokenizer *tokenizer_of(const json_t *one)
{
    char *text = json_dumps(json_object_get(one, "tokenizer"), 0);
    struct tokenizer *t = tokenizer_parse(text, strlen(text));
    if (!t)
        fail_msg("%s", err_text());
    free(text);
    return t;
}

static void check_texts(const struct tokenizer *t, const json_t *texts, const json_t *ids,
                        bool special)
{
    size_t i, k;
    json_t *text, *id;
    assert_int_equal(json_array_size(texts), json_array_size(ids));
    json_array_foreach(texts, i, text)
    {
        struct tokens got = {0};
        assert_int_equal(tokenizer_encode(t, json_string_value(text), json_string_length(text),
                                          special, &got),
                         0);
        assert_int_equal(got.n, json_array_size(json_array_get(ids, i)));
        json_array_foreach(json_array_get(ids, i), k, id)
            assert_int_equal(got.id[k], json_integer_value(id));
        tokens_free(&got);
    }
}

static void same_ids(void **state)
{
    const json_t *golden = *state, *texts = json_object_get(golden, "texts");
    size_t i;
    json_t *one;
    assert_int_equal(json_array_size(json_object_get(golden, "cases")), 4);
    json_array_foreach(json_object_get(golden, "cases"), i, one)
    {
        struct tokenizer *t = tokenizer_of(one);
        assert_string_equal(tokenizer_pre(t), json_string_value(json_object_get(one, "pre")));
        assert_int_equal(tokenizer_bos(t), json_integer_value(json_object_get(one, "bos")));
        assert_int_equal(tokenizer_eot(t), json_integer_value(json_object_get(one, "eot")));
        assert_int_equal(tokenizer_vocab_size(t),
                         json_integer_value(json_object_get(one, "vocab_size")));
        check_texts(t, texts, json_object_get(one, "special"), true);
        check_texts(t, texts, json_object_get(one, "plain"), false);
        // and once more through a file of ours
        struct buf json = {0};
        assert_int_equal(tokenizer_write(t, &json), 0);
        struct tokenizer *u = tokenizer_parse(json.p, json.n);
        assert_non_null(u);
        check_texts(u, texts, json_object_get(one, "special"), true);
        buf_free(&json);
        tokenizer_free(t);
        tokenizer_free(u);
    }
}

static int setup(void **state)
{
    json_error_t e;
    *state = json_load_file("tests/golden/tokenizer.json", JSON_ALLOW_NUL, &e);
    if (!*state)
        print_error("tests/golden/tokenizer.json: %s\n", e.text);
    return *state ? 0 : -1;
}

static int teardown(void **state)
{
    json_decref(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(same_ids, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
