/* The windows that the stage `evaluate` reads a text in: those of the model's context, whatever it
   was trained in; a short text is one window. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "experiments/summary.h"
#include "tests/datasets/scratch.h"
#include "tests/experiments/qat_run.h"
#include "tests/experiments/spawn.h"

static const char *folder;

#define MODEL "runs/t/01-pretrain/checkpoint.h5" /* its context is 32 */

static int setup(void **state)
{
    if (qat_run_setup(state, &folder))
        return -1;
    qat_run_stages(*state, "t.yaml", QAT_RUN_PRETRAIN);
    qat_run("t", "");
    return 0;
}

static struct summary_row first_row(const char *name)
{
    struct summary sum;
    if (summary_read(&sum, qat_run_at(name)))
        fail_msg("%s", err_text());
    const struct summary_row row = sum.row[0];
    summary_free(&sum); // the row's name is gone, its figures are not
    return row;
}

/* Training has seen less of the text before a token where its sequences are shorter. */
static void training_is_compared_in_the_same_windows(void **state)
{
    qat_run_next(*state, "next", MODEL,
                 "  - qat: {from: " MODEL ", type: q2_k, steps: 1, batch_tokens: 128, lr: 0,\n"
                 "          precision: f32}\n"
                 "  - evaluate: {compare: [qat]}\n");
    spawn_expect(folder, 0, "run next.yaml name=same");
    spawn_says(folder, "training minus it");
    const struct summary_row same = first_row("runs/same/02-evaluate/summary.json");
    assert_true(fabs(same.trained_loss - same.loss) < 1e-3);
    spawn_expect(folder, 0, "run next.yaml name=short qat.batch_tokens=8");
    spawn_says(folder, "sequences of 8 tokens");
    const struct summary_row shorter = first_row("runs/short/02-evaluate/summary.json");
    assert_true(isnan(shorter.trained_loss));
    assert_true(fabs(shorter.loss - same.loss) < 1e-6); // of the same weights
    assert_int_equal(shorter.tokens, same.tokens);
}

/* 20 tokens are a window of 19, which a reference of a context of 32 can read, too; in windows of
   the model's 512 there would be nothing to compare. */
static void a_short_text_is_one_window(void **state)
{
    char text[201] = "";
    for (int i = 0; i < 200; i++)
        text[i] = (char)('a' + i * i % 25);
    scratch_text(scratch_path(*state, "short.txt"), text);
    qat_run_stages(*state, "long.yaml", "  - pretrain: {steps: 1, batch_tokens: 512}\n");
    spawn_expect(folder, 0, "run long.yaml name=long model.context=512");
    qat_run_next(*state, "next", MODEL,
                 "  - evaluate: {compare: [runs/long/01-pretrain/checkpoint.h5],\n"
                 "               reference: " MODEL "}\n");
    spawn_expect(folder, 1, "run next.yaml");
    spawn_says(folder, "windows of 512 tokens, the reference has a context of 32");
    spawn_expect(folder, 0,
                 "run next.yaml name=one data.corpus=short.txt data.split_on=none data.valid=tail "
                 "data.valid_fraction=10%");
    const struct summary_row row = first_row("runs/one/01-evaluate/summary.json");
    assert_int_equal(row.tokens, 19);
    assert_true(row.kld > 0 && row.loss > 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(training_is_compared_in_the_same_windows),
        TEST(a_short_text_is_one_window),
    };
    return cmocka_run_group_tests(tests, qat_run_pretrain, qat_run_clean);
}
