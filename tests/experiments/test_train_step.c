/* What a step does to the weights and what it notes down, against figures computed here. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "experiments/metrics.h"
#include "experiments/summary.h"
#include "optim/schedule.h"
#include "tests/datasets/scratch.h"
#include "tests/experiments/same_run.h"
#include "tests/experiments/spawn.h"

enum { STEPS = 12, BATCH = 4, CONTEXT = 64 };

static const char CONFIG[] =
    "name: t\n"
    "data: {corpus: text.txt, tokenizer: {type: byte}, valid_fraction: 20%}\n"
    "model: {n_layers: 2, d_model: 32, n_heads: 4, d_ff: 64, context: 64}\n"
    "stages:\n"
    "  - pretrain:\n"
    "      steps: 12\n"
    "      batch_tokens: 256\n"
    "      lr: 1e-2\n"
    "      eval_every: 3\n"
    "  - evaluate: {compare: [pretrain]}\n";

static const char *folder;

static int setup(void **state)
{
    if (scratch_setup(state))
        return -1;
    folder = scratch_folder(*state);
    same_run_text(scratch_path(*state, "text.txt"), 60, 7);
    scratch_text(scratch_path(*state, "t.yaml"), CONFIG);
    return 0;
}

static void run(const char *name, const char *overrides)
{
    char args[600];
    snprintf(args, sizeof args, "run t.yaml name=%s %s", name, overrides);
    spawn_expect(folder, 0, args);
}

static void path_of(char path[300], const char *name, const char *file)
{
    snprintf(path, 300, "%s/runs/%s/%s", folder, name, file);
}

static struct checkpoint_state state_of(const char *name)
{
    char path[300];
    path_of(path, name, "01-pretrain");
    return same_run_state(path);
}

static void load(struct transformer *m, const char *name)
{
    struct checkpoint c;
    char path[300];
    path_of(path, name, "01-pretrain/checkpoint.h5");
    if (checkpoint_open(&c, path) || transformer_init(m, &c.dims, STORE_FROZEN) ||
        checkpoint_load(&c, m, false))
        fail_msg("%s", err_text());
    checkpoint_close(&c);
}

/* The norm of the difference of all weights. */
static double moved(const char *from, const char *to)
{
    struct transformer a, b;
    double sum = 0;
    load(&a, from);
    load(&b, to);
    for (size_t i = 0; i < a.store.len; i++)
        sum += pow((double)a.store.latent[i] - b.store.latent[i], 2);
    transformer_free(&a);
    transformer_free(&b);
    return sqrt(sum);
}

struct lines {
    double norm[STEPS], lr[STEPS], valid[STEPS];
    int n, n_valid;
};

static int note(void *arg, int64_t step, const json_t *line)
{
    struct lines *l = arg;
    if (json_object_get(line, "lr")) {
        assert_true(l->n < STEPS && step == l->n + 1);
        l->norm[l->n] = metrics_number(line, "grad_norm");
        l->lr[l->n++] = metrics_number(line, "lr");
    }
    if (json_object_get(line, "valid_loss"))
        l->valid[l->n_valid++] = metrics_number(line, "valid_loss");
    return 0;
}

static struct lines lines_of(const char *name)
{
    struct lines l = {.n = 0};
    char path[300];
    path_of(path, name, "01-pretrain/metrics.jsonl");
    assert_int_equal(metrics_read(path, note, &l), 0);
    return l;
}

#define PLAIN                                                                                      \
    "pretrain.steps=1 pretrain.optimizer=sgd pretrain.momentum=0 pretrain.weight_decay=0 "         \
    "pretrain.schedule=constant pretrain.warmup=0 "

/* Plain gradient descent: the weights move by lr times the mean gradient, or what clipping leaves.
 */
static void gradient_is_a_mean_and_clipped(void **state)
{
    (void)state;
    run("still", PLAIN "pretrain.lr=0");
    run("free", PLAIN "pretrain.lr=0.5 pretrain.grad_clip=0");
    run("loose", PLAIN "pretrain.lr=0.5 pretrain.grad_clip=1000");
    run("tight", PLAIN "pretrain.lr=0.5 pretrain.grad_clip=0.01");
    const double norm = lines_of("free").norm[0];
    assert_true(norm > 0.1 && norm < 100);
    assert_true(fabs(moved("still", "free") / (0.5 * norm) - 1) < 1e-3);
    assert_true(fabs(moved("still", "loose") / (0.5 * norm) - 1) < 1e-3);
    assert_true(fabs(moved("still", "tight") / (0.5 * 0.01) - 1) < 1e-3);
    assert_true(fabs(lines_of("tight").norm[0] / norm - 1) < 1e-6); // before clipping
}

static void every_step_has_its_rate_and_its_samples(void **state)
{
    (void)state;
    const struct schedule s = {
        .kind = SCHEDULE_LINEAR, .lr = 1e-2, .min = 1e-3, .steps = STEPS, .warmup = 3};
    run("rates", "pretrain.schedule=linear pretrain.warmup=3 pretrain.min_lr_ratio=0.1");
    const struct lines l = lines_of("rates");
    assert_int_equal(l.n, STEPS);
    for (int i = 0; i < STEPS; i++)
        assert_true(fabs(l.lr[i] / schedule_lr(&s, i) - 1) < 1e-6);
    const struct checkpoint_state end = state_of("rates");
    assert_int_equal(end.step, STEPS);
    assert_int_equal(end.sample, STEPS * BATCH);
    assert_int_equal(end.tokens, STEPS * BATCH * CONTEXT);
}

/* Nothing is dropped in an evaluation, and the best one is the lowest. */
static void evaluations(void **state)
{
    (void)state;
    struct summary s;
    char path[300];
    run("drop", "model.dropout=0.5");
    const struct lines l = lines_of("drop");
    const struct checkpoint_state end = state_of("drop");
    assert_int_equal(l.n_valid, 4);
    int best = 0;
    for (int i = 1; i < l.n_valid; i++)
        best = l.valid[i] < l.valid[best] ? i : best;
    assert_true(best > 0);
    assert_int_equal(end.best_step, 3 * (best + 1));
    assert_true(end.best_valid == l.valid[best]);
    path_of(path, "drop", "02-evaluate/summary.json");
    assert_int_equal(summary_read(&s, path), 0);
    assert_int_equal(s.n_rows, 1);
    assert_true(fabs(s.row[0].loss - l.valid[3]) < 1e-6);
    summary_free(&s);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(gradient_is_a_mean_and_clipped),
        TEST(every_step_has_its_rate_and_its_samples),
        TEST(evaluations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
