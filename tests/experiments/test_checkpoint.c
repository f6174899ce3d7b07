/* What a checkpoint claims is held against the file before anything is made from it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "experiments/checkpoint.h"
#include "tests/datasets/scratch.h"
#include "tests/experiments/tiny_model.h"

static void what_is_saved_is_read(void **state)
{
    struct transformer m, back;
    struct tokenizer *tok;
    struct checkpoint c;
    const char *path = scratch_path(*state, "c.h5");
    tiny_model(&m, false, false);
    tiny_model_save(path, &m);
    assert_int_equal(checkpoint_open(&c, path), 0);
    assert_int_equal(c.state.step, 12);
    assert_int_equal(c.state.best_step, 10);
    assert_string_equal(c.config.p, "name: tiny\n");
    checkpoint_close(&c);
    assert_int_equal(checkpoint_use(path, &back, &tok), 0);
    assert_int_equal(back.store.len, m.store.len);
    assert_memory_equal(back.store.latent, m.store.latent, m.store.len * sizeof(float));
    tokenizer_free(tok);
    transformer_free(&back);
    transformer_free(&m);
}

/* The member of dims gets the value, the weights stay as they are: opening must say why not. */
static void refused(void *state, size_t member, int value, const char *reason)
{
    struct transformer m;
    struct checkpoint c;
    const char *path = scratch_path(state, "bad.h5");
    tiny_model(&m, false, false);
    *(int *)((char *)&m.dims + member) = value;
    tiny_model_save(path, &m);
    assert_int_equal(checkpoint_open(&c, path), -1);
    if (!strstr(err_text(), path) || !strstr(err_text(), reason))
        fail_msg("`%s` does not say `%s`", err_text(), reason);
    transformer_free(&m);
}

static void a_model_must_fit_into_its_file(void **state)
{
    static const char reason[] = "too short for its model";
    refused(*state, offsetof(struct transformer_dims, vocab), 200000, reason);
    refused(*state, offsetof(struct transformer_dims, d_ff), 60000, reason);
    refused(*state, offsetof(struct transformer_dims, vocab), -1, "");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_is_saved_is_read),
        TEST(a_model_must_fit_into_its_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
