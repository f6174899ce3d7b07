/* A GGUF file's tensors are the model's: all of them, and no others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "experiments/model_gguf.h"
#include "tests/datasets/scratch.h"
#include "tests/experiments/tiny_gguf.h"
#include "tests/experiments/tiny_model.h"

static void tensors_without_a_place(void **state)
{
    const char *path = scratch_path(*state, "m.gguf");
    static const float zeros[64];
    static const struct {
        const char *name, *says;
        uint64_t n;
    } each[] = {{"blk.0.attn_q.bias", "'blk.0.attn_q.bias' has no place", 32},
                {"blk.2.ffn_up.weight", "'blk.2.ffn_up.weight' has no place", 8},
                {"rope_freqs.weight", "is no F32 of 4", 8},
                {"rope_freqs.weight", "frequency 0 is divided by 0", 4}};
    struct transformer m, got;
    struct tokenizer *t;
    tiny_model(&m, false, false);
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        tiny_gguf_save(path, &(struct tiny_gguf){.m = &m,
                                                 .extra = each[i].name,
                                                 .n_extra = each[i].n,
                                                 .extra_data = zeros});
        assert_int_equal(model_gguf_use(path, &got, &t), -1);
        if (!strstr(err_text(), each[i].says))
            fail_msg("'%s' does not say '%s'", err_text(), each[i].says);
    }
    transformer_free(&m);
}

/* All that are missing are named, up to a handful. */
static void tensors_that_are_missing(void **state)
{
    const char *path = scratch_path(*state, "m.gguf");
    struct transformer m, got;
    struct tokenizer *t;
    tiny_model_with(&m, ARCH_LLAMA, false);
    tiny_gguf_save(path, &(struct tiny_gguf){.m = &m, .skip = "blk.1.ffn_up.weight"});
    assert_int_equal(model_gguf_use(path, &got, &t), -1);
    assert_non_null(strstr(err_text(), ": tensor 'blk.1.ffn_up.weight' is missing"));
    tiny_gguf_save(path, &(struct tiny_gguf){.m = &m, .skip = "blk.1.*"});
    assert_int_equal(model_gguf_use(path, &got, &t), -1);
    assert_non_null(strstr(err_text(), ": tensors 'blk.1.attn_norm.weight', 'blk.1."));
    assert_non_null(strstr(err_text(), " and 3 more are missing"));
    transformer_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(tensors_without_a_place, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(tensors_that_are_missing, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
