/* What a checkpoint claims is held against the file before anything is made from it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "datasets/h5file.h"
#include "experiments/checkpoint.h"
#include "optim/ema.h"
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

/* Of every architecture; one that nobody knows is refused by its name. */
static void the_architecture_is_kept(void **state)
{
    const char *path = scratch_path(*state, "c.h5");
    for (int arch = 0; arch < ARCH_N; arch++) {
        struct transformer m, back;
        struct tokenizer *tok;
        tiny_model_of(&m, (enum arch)arch, false, false);
        tiny_model_save(path, &m);
        assert_int_equal(checkpoint_use(path, &back, &tok), 0);
        assert_int_equal(back.dims.arch, arch);
        assert_int_equal(back.store.n, m.store.n);
        assert_memory_equal(back.store.latent, m.store.latent, m.store.len * sizeof(float));
        tokenizer_free(tok);
        transformer_free(&back);
        transformer_free(&m);
    }
    struct h5file *f;
    struct checkpoint c;
    assert_int_equal(h5file_create(&f, path), 0);
    assert_int_equal(h5file_set_int(f, "/", "format", 1), 0);
    assert_int_equal(h5file_set_text(f, "model", "arch", "abacus"), 0);
    assert_int_equal(h5file_commit(f), 0);
    assert_int_equal(checkpoint_open(&c, path), -1);
    assert_non_null(strstr(err_text(), "architecture 'abacus' is unknown"));
}

/* With an average beside the weights, that is the model; the weights are for going on. */
static void an_average_is_the_model(void **state)
{
    struct transformer m, back;
    struct tokenizer *tok;
    struct checkpoint c;
    const char *path = scratch_path(*state, "c.h5");
    tiny_model(&m, true, false);
    tiny_model_save(path, &m);
    assert_int_equal(checkpoint_open(&c, path), 0);
    assert_true(!c.averaged && isnan(c.state.last_unaveraged));
    checkpoint_close(&c);
    for (int64_t step = 1; step <= 2; step++) {
        assert_int_equal(ema_update(&m.store, &(struct ema_args){.decay = 0.5}, step), 0);
        m.store.latent[3] += 1;
    }
    tiny_model_save(path, &m);
    const float *average = store_state(&m.store, ema_name);
    assert_int_equal(checkpoint_use(path, &back, &tok), 0);
    assert_memory_equal(back.store.latent, average, m.store.len * sizeof(float));
    assert_int_equal(back.store.n_states, 0);
    tokenizer_free(tok);
    transformer_free(&back);
    assert_int_equal(checkpoint_open(&c, path), 0);
    assert_true(c.averaged && c.state.last_unaveraged == 2.9375);
    assert_int_equal(transformer_init(&back, &c.dims, STORE_TRAINED), 0);
    assert_int_equal(checkpoint_load(&c, &back, true), 0);
    assert_memory_equal(back.store.latent, m.store.latent, m.store.len * sizeof(float));
    assert_memory_equal(store_state(&back.store, ema_name), average, m.store.len * sizeof(float));
    assert_int_equal(back.store.n_states, 1);
    checkpoint_close(&c);
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
        TEST(the_architecture_is_kept),
        TEST(an_average_is_the_model),
        TEST(a_model_must_fit_into_its_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
