/* What `attar check` adds up. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "experiments/cmd.h"
#include "tests/datasets/scratch.h"
#include "tests/experiments/capture.h"
#include "tests/experiments/same_run.h"

/* Evaluations of this text take seconds anywhere. */
static const char config[] =
    "name: t\n"
    "data: {corpus: text.txt, tokenizer: {type: byte}, valid_fraction: 50%}\n"
    "model: {n_layers: 12, d_model: 1024, n_heads: 8, d_ff: 4096, context: 64}\n"
    "stages:\n"
    "  - pretrain: {steps: 1, batch_tokens: 64, precision: f32, eval_tokens: 64}\n"
    "  - evaluate: {compare: [pretrain]}\n"
    "  - evaluate: {name: beside, compare: [pretrain@q8_0], reference: pretrain}\n"
    "  - evaluate: {name: part, compare: [pretrain@f16], tokens: 64}\n"
    "  - evaluate: {name: later, compare: [runs/t/01-pretrain/checkpoint.h5]}\n";

static int setup(void **state)
{
    if (scratch_setup(state))
        return -1;
    same_run_text(scratch_path(*state, "text.txt"), 3000, 3);
    scratch_text(scratch_path(*state, "t.yaml"), config);
    return 0;
}

/* Seconds behind the text, which is in the other: m:ss or h:mm:ss. */
static double seconds_behind(const char *text, const char *label)
{
    char *at = strstr(text, label);
    double sum = 0;
    if (!at)
        fail_msg("'%s' is not in\n%s", label, text);
    for (at += strlen(label);; at++) {
        sum = 60 * sum + (double)strtol(at, &at, 10);
        if (*at != ':')
            return sum;
    }
}

/* A model that is compared takes its time, with a reference twice that, less for a part of the
   text; one that the run will make is not known yet. The sum has them all. */
static void evaluations_count(void **state)
{
    struct buf out = {0}, notes = {0};
    const char *path = scratch_path(*state, "t.yaml");
    if (capture_run(cmd_check, (const char *[]){"check", path, NULL}, &out, &notes))
        fail_msg("%s", err_text());
    const double alone = seconds_behind(out.p, "evaluates           pretrain, about "),
                 beside = seconds_behind(out.p, "evaluates           pretrain@q8_0, about "),
                 part = seconds_behind(out.p, "evaluates           pretrain@f16, about "),
                 training = seconds_behind(out.p, "  time                ") +
                            seconds_behind(out.p, " steps and ");
    assert_true(alone > 20 && part < alone / 10);
    assert_true(beside > 1.4 * alone); // rates of some shapes are those of near ones
    assert_non_null(strstr(out.p, "01-pretrain/checkpoint.h5, which is not there yet\n"));
    const double all = seconds_behind(out.p, "in all\n  time                about ");
    assert_true(fabs(all - training - alone - beside - part) <= 3); // each is rounded
    assert_non_null(strstr(out.p, "evaluation, and what is not known yet, without samples"));
    buf_free(&out);
    buf_free(&notes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(evaluations_count, setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
