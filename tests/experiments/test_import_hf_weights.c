/* Which tensors of a folder are the model's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "experiments/import_hf.h"
#include "tests/datasets/scratch.h"
#include "tests/experiments/hf_folder.h"

#define EMBD "\"model.embed_tokens.weight\""
#define HEAD "\"lm_head.weight\"           " // as long

static void opened(struct transformer *m, const char *folder)
{
    struct tokenizer *t;
    if (import_hf(folder, m, &t))
        fail_msg("%s", err_text());
    tokenizer_free(t);
}

/* The folder's logits are those of the model. */
static void same(const char *folder, const char *model, bool tied)
{
    struct transformer m;
    opened(&m, folder);
    assert_int_equal(m.dims.tied, tied);
    const double off = hf_distance(&m, model);
    if (!(off < 1e-5))
        fail_msg("%s: logits differ by %g of their norm", model, off);
    transformer_free(&m);
}

static void refused(const char *folder, const char *says)
{
    struct transformer m;
    struct tokenizer *t;
    assert_int_equal(import_hf(folder, &m, &t), -1);
    if (!strstr(err_text(), says))
        fail_msg("'%s' does not say '%s'", err_text(), says);
}

/* Makes the head of the folder's file the embedding's bytes. */
static void tie(const char *folder)
{
    const char *path = hf_in(folder, "model.safetensors");
    struct safetensors s;
    size_t n;
    char *bytes = scratch_read(path, &n);
    assert_int_equal(safetensors_open(&s, path), 0);
    const struct safetensors_tensor *head = safetensors_find(&s, "lm_head.weight");
    const struct safetensors_tensor *embd = safetensors_find(&s, "model.embed_tokens.weight");
    memcpy(bytes + s.data + head->begin, bytes + s.data + embd->begin, embd->end - embd->begin);
    safetensors_close(&s);
    scratch_write(path, bytes, n);
    free(bytes);
}

static void a_head_that_differs_is_used(void **state)
{
    const char *folder = hf_copied(*state, "llama");
    hf_replace(hf_in(folder, "config.json"), "\"tie_word_embeddings\": false",
               "\"tie_word_embeddings\": true");
    same(folder, "llama", false);
    tie(folder); // the same values: one matrix
    struct transformer m;
    opened(&m, folder);
    assert_true(m.dims.tied);
    assert_true(m.output == m.token_embd);
    transformer_free(&m);
}

static void a_head_alone_is_the_embedding_too(void **state)
{
    const char *folder = hf_copied(*state, "llama3");
    const char *const shards[] = {"model-00001-of-00003.safetensors",
                                  "model-00002-of-00003.safetensors",
                                  "model-00003-of-00003.safetensors"};
    size_t n, i = 0;
    for (bool there = false; !there && i < 3; i++) {
        char *bytes = scratch_read(hf_in(folder, shards[i]), &n);
        there = memmem(bytes, n, EMBD, strlen(EMBD));
        free(bytes);
        if (there)
            hf_replace(hf_in(folder, shards[i]), EMBD, HEAD);
    }
    same(folder, "llama3", true);
    hf_replace(hf_in(folder, "config.json"), "\"tie_word_embeddings\": true",
               "\"tie_word_embeddings\": false");
    refused(folder, "a tensor is missing: 'model.embed_tokens.weight'");
}

static void one_file_comes_before_an_index(void **state)
{
    const char *folder = hf_copied(*state, "llama3");
    hf_copy(hf_golden("llama", "config.json"), hf_in(folder, "config.json"));
    hf_copy(hf_golden("llama", "model.safetensors"), hf_in(folder, "model.safetensors"));
    same(folder, "llama", false);
    for (int i = 1; i <= 3; i++) {
        char name[64];
        snprintf(name, sizeof name, "model-0000%d-of-00003.safetensors", i);
        assert_int_equal(remove(hf_in(folder, name)), 0);
    }
    same(folder, "llama", false);
}

static void what_is_missing_is_named(void **state)
{
    const char *folder = hf_copied(*state, "llama");
    hf_replace(hf_in(folder, "model.safetensors"), "\"model.norm.weight\"",
               "\"model.norn.weight\"");
    refused(folder, "a tensor is missing: 'model.norm.weight'");
    hf_copy(hf_golden("llama", "model.safetensors"), hf_in(folder, "model.safetensors"));
    hf_replace(hf_in(folder, "config.json"), "\"num_hidden_layers\": 2",
               "\"num_hidden_layers\": 4");
    refused(folder, "tensors are missing: 'model.layers.2.input_layernorm.weight', ");
    refused(folder, " and 12 more");
    hf_copy(hf_golden("llama", "config.json"), hf_in(folder, "config.json"));
    hf_replace(hf_in(folder, "model.safetensors"), "\"lm_head.weight\"", "\"lm_heap.weight\"");
    refused(folder, "'lm_head.weight' (a head that is the embedding says \"tie_word_embeddings\"");
}

static void what_is_there_twice_is_named(void **state)
{
    const char *folder = hf_copied(*state, "llama3");
    hf_copy(hf_golden("llama3", "model-00002-of-00003.safetensors"),
            hf_in(folder, "copy.safetensors"));
    hf_replace(hf_in(folder, "model.safetensors.index.json"), "\"weight_map\": {",
               "\"weight_map\": {\"x\": \"copy.safetensors\",");
    refused(folder, "' is there twice");
}

static void what_is_not_read_is_named(void **state)
{
    const char *folder = hf_copied(*state, "llama");
    scratch_text(hf_in(folder, "adapter_config.json"), "{}");
    refused(folder, "adapter_config.json: an adapter lies beside the model");
    assert_int_equal(remove(hf_in(folder, "adapter_config.json")), 0);
    assert_int_equal(remove(hf_in(folder, "model.safetensors")), 0);
    refused(folder, "neither model.safetensors nor model.safetensors.index.json");
    scratch_text(hf_in(folder, "pytorch_model.bin"), "");
    refused(folder, "pytorch_model.bin is not read: save the model");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_head_that_differs_is_used, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(a_head_alone_is_the_embedding_too, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(one_file_comes_before_an_index, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(what_is_missing_is_named, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(what_is_there_twice_is_named, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(what_is_not_read_is_named, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
