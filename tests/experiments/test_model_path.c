#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "experiments/model_path.h"
#include "experiments/model_tokenizer.h"
#include "tests/compress/cut_gguf.h"
#include "tests/datasets/scratch.h"
#include "tests/experiments/tiny_gguf.h"
#include "tests/experiments/tiny_model.h"

static const char *folder(void **state, const char *name)
{
    const char *path = scratch_path(*state, name);
    assert_int_equal(mkdir(path, 0777), 0);
    return path;
}

static void assert_means(const char *name, const char *file)
{
    struct buf path = {0};
    if (model_path(name, &path))
        fail_msg("%s", err_text());
    assert_string_equal(path.p, file);
    buf_free(&path);
}

static void files_stages_and_runs_are_found(void **state)
{
    struct buf path = {0};
    const char *run = folder(state, "run");
    const char *first = folder(state, "run/01-pretrain"), *ninth = folder(state, "run/09-qat");
    folder(state, "run/10-evaluate");
    folder(state, "run/logs");
    folder(state, "run/99x-odd");
    assert_int_equal(model_path(run, &path), -1);
    assert_non_null(strstr(err_text(), "no checkpoint.h5"));
    assert_int_equal(model_path(first, &path), -1);
    const char *a = scratch_path(*state, "run/01-pretrain/checkpoint.h5");
    const char *b = scratch_path(*state, "run/09-qat/checkpoint.h5");
    scratch_text(a, "1");
    assert_means(run, a);
    assert_means(first, a);
    assert_means(a, a);
    scratch_text(b, "9");
    scratch_text(scratch_path(*state, "run/99x-odd/checkpoint.h5"), "x");
    scratch_text(scratch_path(*state, "run/logs/checkpoint.h5"), "x");
    assert_means(run, b);
    assert_means(first, a);
    assert_means(ninth, b);
    assert_int_equal(model_path(scratch_path(*state, "none"), &path), -1);
    buf_free(&path);
}

static void models_are_opened(void **state)
{
    struct transformer m, again;
    struct tokenizer *tok;
    struct buf path = {0};
    const char *stage = folder(state, "01-pretrain");
    const char *file = scratch_path(*state, "01-pretrain/checkpoint.h5");
    tiny_model(&m, false, false);
    tiny_model_save(file, &m);
    if (model_path_open(stage, &again, &tok, &path))
        fail_msg("%s", err_text());
    assert_string_equal(path.p, file);
    assert_int_equal(tokenizer_vocab_size(tok), 257);
    assert_memory_equal(again.store.latent, m.store.latent, m.store.len * sizeof(float));
    transformer_free(&again);
    tokenizer_free(tok);
    scratch_text(file, "GGUF, or whatever");
    assert_int_equal(model_path_open(stage, &again, &tok, NULL), -1);
    transformer_free(&m);
    buf_free(&path);
}

/* All tensors and the tokenizer, from whichever part is named. */
static void a_model_in_parts_is_opened(void **state)
{
    const char *whole = scratch_path(*state, "whole.gguf"), *stem = scratch_path(*state, "m");
    struct transformer m, again;
    struct tokenizer *tok;
    tiny_model(&m, false, false);
    tiny_gguf_save(whole, &(struct tiny_gguf){.m = &m});
    cut_gguf(whole, stem, &(struct cut_gguf){.parts = 3, .bare_first = true});
    for (int named = 0; named < 3; named++) {
        const char *path = cut_gguf_path(stem, named, 3);
        if (model_path_open(path, &again, &tok, NULL))
            fail_msg("%s", err_text());
        for (int i = 0; i < m.store.n; i++)
            assert_memory_equal(again.store.p[i].used.data, m.store.p[i].used.data,
                                tensor_bytes(&m.store.p[i].used));
        transformer_free(&again);
        tokenizer_free(tok);
        tok = model_tokenizer(path);
        assert_non_null(tok);
        assert_int_equal(tokenizer_vocab_size(tok), 257);
        tokenizer_free(tok);
    }
    remove(cut_gguf_path(stem, 2, 3));
    assert_int_equal(model_path_open(cut_gguf_path(stem, 0, 3), &again, &tok, NULL), -1);
    assert_non_null(strstr(err_text(), "m-00003-of-00003.gguf: No such file"));
    transformer_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(files_stages_and_runs_are_found, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(models_are_opened, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(a_model_in_parts_is_opened, scratch_setup,
                                        scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
