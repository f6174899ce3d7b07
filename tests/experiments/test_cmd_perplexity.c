#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "autograd/base/rng.h"
#include "experiments/cmd.h"
#include "experiments/perplexity.h"
#include "tests/datasets/scratch.h"
#include "tests/experiments/capture.h"
#include "tests/experiments/tiny_model.h"

enum { TEXT = 700 };

static struct buf out, notes;

static void it_prints_as_llama_perplexity(void **state)
{
    const char *model = scratch_path(*state, "model.h5"), *file = scratch_path(*state, "a.txt");
    char text[TEXT + 1];
    int32_t token[TEXT];
    struct transformer m;
    struct perplexity p;
    double error;
    struct buf expected = {0};
    for (int i = 0; i < TEXT; i++)
        token[i] = text[i] = (char)('a' + rng_below(1, (uint64_t)i, 26));
    text[TEXT] = '\n'; // dropped
    scratch_write(file, text, TEXT + 1);
    tiny_model(&m, false, false);
    tiny_model_save(model, &m);
    const struct perplexity_args args = {.c = 100, .chunks = -1, .bos = -1, .cache = KVBLOCK_F16};
    for (int k = 1; k <= 7; k++) {
        struct perplexity_args some = args;
        some.chunks = k;
        assert_int_equal(perplexity_run(&p, &m, token, TEXT, &some, NULL, NULL), 0);
        buf_printf(&expected, "[%d]%.4f,", k, perplexity_value(&p, &error));
    }
    const double value = perplexity_value(&p, &error);
    buf_printf(&expected, "\nFinal estimate: PPL = %.4f +/- %.5f\n", value, error);
    assert_int_equal(capture_run(cmd_perplexity,
                                 (const char *[]){"perplexity", "-m", model, "-f", file, "-c",
                                                  "100", NULL},
                                 &out, &notes),
                     0);
    assert_string_equal(out.p, expected.p);
    assert_non_null(strstr(notes.p, "700 tokens; 7 chunks of 100"));
    transformer_free(&m);
    buf_free(&expected);
}

/* As llama-perplexity has it; and - is standard input. */
static void special_tokens_in_text_are_text(void **state)
{
    const char *model = scratch_path(*state, "model.h5"), *file = scratch_path(*state, "a.txt");
    struct transformer m;
    struct buf text = {0};
    tiny_model(&m, false, false);
    tiny_model_save(model, &m);
    transformer_free(&m);
    for (int i = 0; i < 20; i++)
        buf_text(&text, "abc<|endoftext|>"); // 16 bytes
    scratch_write(file, text.p, text.n);
    assert_int_equal(capture_run_from(file, cmd_perplexity,
                                      (const char *[]){"perplexity", "-m", model, "-f", "-", "-c",
                                                       "100", NULL},
                                      &out, &notes),
                     0);
    assert_non_null(strstr(notes.p, "320 tokens; 3 chunks of 100"));
    assert_non_null(strstr(notes.p, "standard input spells out special tokens in 20 places (the "
                                    "first is <|endoftext|>)"));
    buf_free(&text);
}

static void lengths_are_checked(void **state)
{
    const char *model = scratch_path(*state, "model.h5"), *file = scratch_path(*state, "a.txt");
    struct transformer m;
    struct buf text = {0};
    tiny_model(&m, false, false);
    tiny_model_save(model, &m);
    transformer_free(&m);
    for (int i = 0; i < 639; i++)
        buf_text(&text, "z");
    scratch_write(file, text.p, text.n);
#define RUN(...)                                                                                   \
    capture_run(cmd_perplexity,                                                                    \
                (const char *[]){"perplexity", "-m", model, "-f", file, __VA_ARGS__, NULL}, &out,  \
                &notes)
    assert_int_equal(RUN("-c", "321"), -1);
    assert_non_null(strstr(err_text(), "320"));
    assert_int_equal(RUN("--chunks", "1"), -1); // chunks of 320, the model's context
    assert_non_null(strstr(err_text(), "639"));
    assert_non_null(strstr(err_text(), "640"));
    assert_int_equal(RUN("-c", "319"), 0);
    assert_int_equal(RUN("-c", "2"), CMD_USAGE);
    assert_int_equal(RUN("-c", "50", "--chunks", "3"), 0);
    assert_non_null(strstr(out.p, "[3]"));
    assert_null(strstr(out.p, "[4]"));
    buf_free(&text);
}

/* A model's log-probabilities are written, and read back as what another is compared with. */
static void another_model_is_compared(void **state)
{
    const char *model = scratch_path(*state, "model.h5"), *file = scratch_path(*state, "a.txt");
    const char *base = scratch_path(*state, "base.kld"), *small = scratch_path(*state, "small.h5");
    struct transformer m;
    struct buf text = {0};
    tiny_model(&m, false, false);
    tiny_model_save(model, &m);
    for (int i = 0; i < 700; i++)
        buf_printf(&text, "%c", (char)('a' + rng_below(1, (uint64_t)i, 26)));
    scratch_write(file, text.p, text.n);
    assert_int_equal(RUN("-c", "100"), 0);
    struct buf plain = {0};
    buf_add(&plain, out.p, out.n);
    assert_int_equal(RUN("-c", "100", "--kl-divergence-base", base), 0);
    assert_string_equal(out.p, plain.p);
    size_t n;
    free(scratch_read(base, &n));
    assert_int_equal(n, 8 + 12 + 700 * 4 + 7 * 49 * (258 + 4) * 2);
#undef RUN
#define RUN(...)                                                                                   \
    capture_run(cmd_perplexity,                                                                    \
                (const char *[]){"perplexity", "-m", model, "--kl-divergence-base", base,          \
                                 __VA_ARGS__, NULL},                                               \
                &out, &notes)
    // with itself: the same up to the file's steps of 16 / 65535
    assert_int_equal(RUN("--kl-divergence"), 0);
    double q, b, kld = 1;
    const char *at = strstr(out.p, "Mean PPL(Q)                   : ");
    assert_non_null(at);
    assert_int_equal(sscanf(at + 32, "%lf", &q), 1);
    at = strstr(out.p, "Mean PPL(base)                : ");
    assert_int_equal(sscanf(at + 32, "%lf", &b), 1);
    assert_true(fabs(q / b - 1) < 2e-4);
    at = strstr(plain.p, "PPL = ");
    assert_int_equal(sscanf(at + 6, "%lf", &b), 1);
    assert_true(fabs(q / b - 1) < 1e-6);
    at = strstr(out.p, "Mean    KLD: ");
    assert_int_equal(sscanf(at + 13, "%lf", &kld), 1);
    assert_true(fabs(kld) < 2e-4);
    assert_non_null(strstr(out.p, "Same top p: 100.000 ±"));
    assert_null(strstr(out.p, "  8  "));
    // the text is the file's, as far as is asked for
    assert_int_equal(RUN("--kl-divergence", "--chunks", "2"), 0);
    assert_null(strstr(out.p, "======"));
    assert_non_null(strstr(notes.p, "98 values"));
    assert_int_equal(RUN("--kl-divergence", "-f", file), CMD_USAGE);
    assert_int_equal(RUN("-c", "100"), CMD_USAGE); // no text
    transformer_free(&m);
    tiny_model(&m, false, true);
    tiny_model_save(small, &m);
    model = small;
    assert_int_equal(RUN("--kl-divergence"), -1);
    assert_non_null(strstr(err_text(), "257"));
    base = file;
    assert_int_equal(RUN("--kl-divergence"), -1);
    assert_non_null(strstr(err_text(), "_logits_"));
    transformer_free(&m);
    buf_free(&text);
    buf_free(&plain);
}

static int teardown(void **state)
{
    buf_free(&out);
    buf_free(&notes);
    return scratch_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_prints_as_llama_perplexity, scratch_setup, teardown),
        cmocka_unit_test_setup_teardown(special_tokens_in_text_are_text, scratch_setup, teardown),
        cmocka_unit_test_setup_teardown(lengths_are_checked, scratch_setup, teardown),
        cmocka_unit_test_setup_teardown(another_model_is_compared, scratch_setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
