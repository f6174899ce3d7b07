/* What a step does to the weights and what it notes down, against figures computed here. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
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
    "      precision: f32\n"
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
    double norm[STEPS], lr[STEPS], valid[STEPS], unaveraged[STEPS];
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
    if (json_object_get(line, "valid_loss")) {
        l->unaveraged[l->n_valid] = metrics_number(line, "valid_loss_unaveraged");
        l->valid[l->n_valid++] = metrics_number(line, "valid_loss");
    }
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
        .kind = SCHEDULE_LINEAR, .lr = 1e-2, .min = 1e-3, .power = 2, .steps = STEPS, .warmup = 3};
    run("rates", "pretrain.schedule=linear pretrain.warmup=3 pretrain.min_lr_ratio=0.1 "
                 "pretrain.decay_power=2");
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

static double fact(const struct summary *s, const char *name)
{
    for (int64_t i = 0; i < s->n_facts; i++)
        if (!strcmp(s->fact[i].name, name))
            return atof(s->fact[i].value);
    return NAN;
}

/* The largest difference of weights; with_optim: of those that were trained. */
static double apart(const char *a, const char *b, bool with_optim)
{
    struct transformer m[2];
    double most = 0;
    for (int i = 0; i < 2; i++) {
        struct checkpoint c;
        char path[300];
        path_of(path, i ? b : a, "checkpoint.h5");
        if (checkpoint_open(&c, path) || transformer_init(&m[i], &c.dims, STORE_TRAINED) ||
            checkpoint_load(&c, &m[i], with_optim))
            fail_msg("%s", err_text());
        checkpoint_close(&c);
    }
    for (size_t k = 0; k < m[0].store.len; k++)
        most = fmax(most, fabs((double)m[0].store.latent[k] - m[1].store.latent[k]));
    transformer_free(&m[0]);
    transformer_free(&m[1]);
    return most;
}

/* Averaging changes nothing of the training, and its figures are of what comes out of it. */
static void averaged_weights(void **state)
{
    (void)state;
    struct summary s;
    char path[300];
    run("plain", "pretrain.sample_every=3");
    run("ema", "pretrain.sample_every=3 pretrain.ema=0.8");
    assert_true(apart("plain/01-pretrain", "ema/01-pretrain", true) == 0);
    assert_true(apart("plain/01-pretrain", "ema/01-pretrain", false) > 1e-3);
    const struct lines plain = lines_of("plain"), ema = lines_of("ema");
    for (int i = 0; i < 4; i++) {
        assert_true(ema.unaveraged[i] == plain.valid[i] && isnan(plain.unaveraged[i]));
        assert_true(ema.valid[i] != plain.valid[i]);
    }
    const struct checkpoint_state end = state_of("ema");
    assert_true(end.last_valid == ema.valid[3] && end.last_unaveraged == ema.unaveraged[3]);
    assert_int_equal(end.best_step, state_of("plain").best_step);
    path_of(path, "ema", "01-pretrain/summary.json");
    assert_int_equal(summary_read(&s, path), 0);
    assert_true(fabs(s.valid_loss - ema.valid[3]) < 1e-6);
    assert_true(fabs(fact(&s, "validation loss, averaged weights") - ema.valid[3]) < 1e-4);
    assert_true(fabs(fact(&s, "validation loss, weights as trained") - plain.valid[3]) < 1e-4);
    summary_free(&s);
    path_of(path, "ema", "02-evaluate/summary.json");
    assert_int_equal(summary_read(&s, path), 0);
    assert_true(fabs(s.row[0].loss - ema.valid[3]) < 1e-6);
    summary_free(&s);
}

/* A stage that moves nothing ends with what it began with: the average of the stage before. */
static void a_stage_starts_from_the_average(void **state)
{
    scratch_text(
        scratch_path(*state, "t.yaml"),
        "name: t\n"
        "data: {corpus: text.txt, tokenizer: {type: byte}, valid_fraction: 20%}\n"
        "model: {n_layers: 2, d_model: 32, n_heads: 4, d_ff: 64, context: 64}\n"
        "stages:\n"
        "  - pretrain: {steps: 6, batch_tokens: 256, lr: 1e-2, ema: 0.9}\n"
        "  - pretrain: {name: still, from: pretrain, steps: 1, batch_tokens: 256, lr: 0}\n");
    run("two", "seed=1");
    assert_true(apart("two/01-pretrain", "two/02-still", false) == 0);
    assert_true(apart("two/01-pretrain", "two/02-still", true) > 1e-3);
}

/* Muon moves what is its own at lr, AdamW the rest at adam_lr. */
static void two_rates(void **state)
{
    (void)state;
    struct transformer a, b;
    run("still", "pretrain.lr=0 pretrain.steps=1");
    run("muon", "pretrain.optimizer=muon pretrain.steps=1 pretrain.warmup=0 pretrain.lr=1e-3 "
                "pretrain.adam_lr=1e-2 pretrain.weight_decay=0 pretrain.schedule=constant");
    load(&a, "still");
    load(&b, "muon");
    const struct param *p = store_find(&a.store, "output_norm.weight");
    const struct param *q = store_find(&b.store, "output_norm.weight");
    for (int i = 0; i < 32; i++)
        assert_true(fabs(fabs((double)q->latent[i] - p->latent[i]) - 1e-2) < 1e-3);
    p = store_find(&a.store, "blk.1.ffn_up.weight");
    q = store_find(&b.store, "blk.1.ffn_up.weight");
    double sum = 0;
    for (int i = 0; i < 64 * 32; i++)
        sum += pow((double)q->latent[i] - p->latent[i], 2);
    const double rms = sqrt(sum / (64 * 32));
    assert_true(rms > 0.7 * 0.2e-3 && rms < 1.3 * 0.2e-3); // as far as AdamW would, on average
    transformer_free(&a);
    transformer_free(&b);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(gradient_is_a_mean_and_clipped),
        TEST(every_step_has_its_rate_and_its_samples),
        TEST(evaluations),
        TEST(averaged_weights),
        TEST(a_stage_starts_from_the_average),
        TEST(two_rates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
