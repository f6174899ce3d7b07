/* The stage `qat` of a whole program: it goes on to the bit, and what it makes is in blocks. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "datasets/h5file.h"
#include "experiments/summary.h"
#include "tests/datasets/h5names.h"
#include "tests/datasets/scratch.h"
#include "tests/experiments/qat_run.h"
#include "tests/experiments/same_run.h"
#include "tests/experiments/spawn.h"

static const char *folder;

static int setup(void **state)
{
    return qat_run_setup(state, &folder);
}

static void goes_on_where_it_stopped(const char *options)
{
    qat_run("t", options);
    qat_run_turn_back("runs/t/02-qat", 4);
    qat_run("t", options);
    spawn_says(folder, "qat: going on from step 4");
    same_run(qat_run_at(QAT_RUN_UNBROKEN), qat_run_at("runs/t/02-qat"));
}

static void frozen_scales_go_on(void **state)
{
    (void)state;
    goes_on_where_it_stopped("qat.precision=f32");
}

/* Codes of scales follow their latents: some have moved after 200 steps at the default rate. */
static void learned_scales_learn(void **state)
{
    enum { BLOCK = 84, SCALES = 16 };
    size_t n, same;
    (void)state;
    qat_run("still", "qat.scales=learned qat.lr=0");
    qat_run("t", "qat.scales=learned qat.steps=200 qat.batch_tokens=64 qat.save_every=0");
    uint8_t *a = qat_run_blocks("runs/still/02-qat", &n),
            *b = qat_run_blocks("runs/t/02-qat", &same);
    int moved = 0;
    assert_int_equal(n, same);
    for (size_t i = 0; i < n; i++)
        moved += i % BLOCK < SCALES && (a[i] & 15) != (b[i] & 15);
    assert_true(moved > (int)(n / BLOCK * SCALES / 100));
    for (size_t i = 0; i < n; i++) // d and dmin stay
        assert_true(i % BLOCK < BLOCK - 4 || a[i] == b[i]);
    free(a);
    free(b);
}

/* d and dmin follow their gradients, and codes of scales stay. */
static void super_scales_learn(void **state)
{
    enum { BLOCK = 84, SCALES = 16 };
    size_t n, same;
    (void)state;
    goes_on_where_it_stopped("qat.scales=super");
    qat_run("still", "qat.scales=super qat.lr=0");
    uint8_t *a = qat_run_blocks("runs/still/02-qat", &n),
            *b = qat_run_blocks("runs/t/02-qat", &same);
    int moved = 0;
    assert_int_equal(n, same);
    for (size_t i = 0; i < n; i += BLOCK) {
        assert_memory_equal(a + i, b + i, SCALES);
        moved += memcmp(a + i + BLOCK - 4, b + i + BLOCK - 4, 4) != 0;
    }
    assert_true(moved > (int)(n / BLOCK / 4));
    free(a);
    free(b);
}

static void refits_go_on(void **state)
{
    (void)state;
    goes_on_where_it_stopped("qat.refit=2");
}

static void activations_go_on(void **state)
{
    (void)state;
    goes_on_where_it_stopped("qat.activations=true");
}

static void learned_scales_go_on(void **state)
{
    (void)state;
    goes_on_where_it_stopped("qat.scales=learned qat.scale_lr=20");
    spawn_expect(folder, 0, "export runs/t/02-qat m.gguf");
}

static int note_optim(void *arg, const char *name)
{
    *(int *)arg += !strncmp(name, "optim/", 6);
    return 0;
}

/* The f32 weights of a matrix, [256,256]. */
static void weights_of(const char *stage, float x[256 * 256])
{
    struct h5file *f;
    char path[4096];
    checkpoint_name(path, qat_run_at(stage), -1);
    if (h5file_open(&f, path) ||
        h5file_read(f, "weights/blk.0.ffn_up.weight", H5_F32, 2, (int64_t[]){256, 256}, x))
        fail_msg("%s", err_text());
    h5file_close(f);
}

/* Weights stay, and have no optimizer's states; their scales learn. */
static void scales_alone_learn(void **state)
{
    char path[4096];
    struct h5file *f;
    int states = 0;
    size_t n, same, moved = 0;
    (void)state;
    static const char options[] =
        "qat.params=scales qat.scales=learned qat.scale_lr=20 qat.teacher=none";
    goes_on_where_it_stopped(options);
    static float was[256 * 256], is[256 * 256];
    weights_of("runs/t/01-pretrain", was);
    weights_of("runs/t/02-qat", is);
    assert_memory_equal(was, is, sizeof was);
    checkpoint_name(path, qat_run_at("runs/t/02-qat"), -1);
    if (h5file_open(&f, path) || h5names_each(f, note_optim, &states))
        fail_msg("%s", err_text());
    h5file_close(f);
    assert_int_equal(states, 0);
    qat_run("still", "qat.lr=0 qat.scales=learned");
    uint8_t *a = qat_run_blocks("runs/still/02-qat", &n),
            *b = qat_run_blocks("runs/t/02-qat", &same);
    for (size_t i = 0; i < n; i++)
        moved += i % 84 < 16 && (a[i] & 15) != (b[i] & 15);
    assert_true(moved > 0);
    free(a);
    free(b);
    assert_true(same_run_state(qat_run_at("runs/t/02-qat")).last_valid <
                same_run_state(qat_run_at("runs/still/02-qat")).last_valid - 1e-3);
}

/* d and dmin alone: not a code changes. */
static void super_scales_alone_learn(void **state)
{
    enum { BLOCK = 84, CODES = BLOCK - 4 };
    size_t n, same, moved = 0;
    (void)state;
    goes_on_where_it_stopped("qat.params=scales qat.scales=super qat.scale_lr=20 qat.teacher=none");
    qat_run("still", "qat.lr=0");
    uint8_t *a = qat_run_blocks("runs/still/02-qat", &n),
            *b = qat_run_blocks("runs/t/02-qat", &same);
    assert_int_equal(n, same);
    for (size_t i = 0; i < n; i += BLOCK) {
        assert_memory_equal(a + i, b + i, CODES);
        moved += memcmp(a + i + CODES, b + i + CODES, 4) != 0;
    }
    assert_true(moved > n / BLOCK / 2);
    free(a);
    free(b);
    assert_true(same_run_state(qat_run_at("runs/t/02-qat")).last_valid <
                same_run_state(qat_run_at("runs/still/02-qat")).last_valid - 1e-4);
}

static void bf16_goes_on(void **state)
{
    (void)state;
    goes_on_where_it_stopped("qat.precision=bf16 qat.ste=plain");
}

/* Weights go into blocks in the middle of the stage, before or after it was stopped. */
static void a_late_start_goes_on(void **state)
{
    (void)state;
    goes_on_where_it_stopped("qat.start=0.7");
    spawn_says(folder, "in blocks of Q2_K from step 7 on");
    qat_run_turn_back("runs/t/02-qat", 8);
    qat_run("t", "qat.start=0.7");
    same_run(qat_run_at(QAT_RUN_UNBROKEN), qat_run_at("runs/t/02-qat"));
}

/* From the table at the end: the lines of progress, where a run is slow, begin with names too. */
static double loss_of(const char *text, const char *name)
{
    const char *line = NULL;
    for (const char *at = text; (at = strstr(at, name)); at++)
        line = at;
    assert_non_null(line);
    return strtod(line + strlen(name), NULL);
}

/* The evaluation, the export, and what is made of the export are of the blocks. */
static void the_blocks_are_the_model(void **state)
{
    qat_run_stages(*state, "t.yaml",
                   QAT_RUN_STAGES
                   "  - evaluate: {compare: [pretrain, qat], reference: pretrain}\n");
    qat_run("t", "qat.teacher=none qat.steps=40 qat.save_every=0");
    char *text = spawn_output(folder);
    const double trained = loss_of(text, "\nqat ");
    assert_true(fabs(trained - same_run_state(qat_run_at("runs/t/02-qat")).last_valid) < 5e-3);
    free(text);
    qat_run("still", "qat.lr=0");
    text = spawn_output(folder);
    const double rounded = loss_of(text, "\nqat ");
    free(text);
    assert_true(trained < rounded - 1e-3); // training answers
    spawn_expect(folder, 0, "export runs/t/02-qat m.gguf");
    spawn_says(folder, "type =   q2_k");
    struct summary sum;
    struct stat file;
    assert_int_equal(summary_read(&sum, qat_run_at("runs/still/03-evaluate/summary.json")), 0);
    assert_int_equal(stat(qat_run_at("m.gguf"), &file), 0);
    assert_true(llabs(sum.row[1].size - (int64_t)file.st_size) <= 64);  // names of the model
    assert_true(fabs(sum.row[0].kld) < 1e-12 && sum.row[1].kld > 1e-3); // two bits tell
    summary_free(&sum);
    spawn_expect(folder, 1, "export runs/t/02-qat m.gguf --pure");
    spawn_says(folder, "written as they are");
    spawn_expect(folder, 0, "export runs/t/02-qat h.gguf --type f16");
    spawn_says(folder, "rounds what they decode to again");
}

/* A teacher brings the model in blocks near the one that it was; a list of stages in blocks has one
   teacher, the model before them. The divergence of one batch says little (it varies fivefold where
   nothing is trained): the same ten batches are compared. */
static void a_teacher_is_followed(void **state)
{
    (void)state;
    qat_run("still", "qat.steps=60 qat.save_every=0 qat.lr=0");
    qat_run_stages(*state, "t.yaml",
                   QAT_RUN_STAGES
                   "  - qat: {name: on, type: q2_k, steps: 1, batch_tokens: 128, lr: 0}\n");
    qat_run("t", "qat.steps=60 qat.save_every=0");
    const double led = qat_run_course("t/02-qat", 51).last,
                 still = qat_run_course("still/02-qat", 51).last;
    if (!(led > 0 && led < 0.5 * still))
        fail_msg("a divergence of %g, %g where nothing is trained", led, still);
    qat_run("alone", "qat.teacher=none on.teacher=none");
    assert_true(isnan(qat_run_course("alone/02-qat", 1).last));
    qat_run("chain", "");
    qat_run("given", "qat.teacher=runs/t/01-pretrain/checkpoint.h5 "
                     "on.teacher=runs/t/01-pretrain/checkpoint.h5");
    const double chain = qat_run_course("chain/03-on", 1).first,
                 given = qat_run_course("given/03-on", 1).first;
    assert_true(chain > 0 && fabs(given - chain) <= 0);
}

/* With a kl_weight of a half the weights go half the way of either loss. */
static void the_loss_is_a_mix(void **state)
{
    enum { N = 256 * 256 };
    static float start[N], kl[N], ce[N], mix[N];
    static const char *const arms[][2] = {{"kl", "qat.kl_weight=1"},
                                          {"ce", "qat.teacher=none"},
                                          {"mix", "qat.kl_weight=0.5"}};
    char args[400];
    double most = 0, off = 0, apart = 0;
    (void)state;
    for (int i = 0; i < 3; i++) {
        snprintf(args, sizeof args,
                 "%s qat.steps=1 qat.optimizer=sgd qat.momentum=0 qat.nesterov=false "
                 "qat.weight_decay=0 qat.grad_clip=0 qat.lr=0.1 qat.schedule=constant qat.warmup=0 "
                 "qat.precision=f32",
                 arms[i][1]);
        qat_run(arms[i][0], args);
    }
    weights_of("runs/kl/01-pretrain", start);
    weights_of("runs/kl/02-qat", kl);
    weights_of("runs/ce/02-qat", ce);
    weights_of("runs/mix/02-qat", mix);
    for (int i = 0; i < N; i++) {
        const double a = (double)kl[i] - (double)start[i], b = (double)ce[i] - (double)start[i];
        const double c = (double)mix[i] - (double)start[i];
        most = fmax(most, fmax(fabs(a), fabs(b)));
        apart = fmax(apart, fabs(a - b));
        off = fmax(off, fabs(c - (a + b) / 2));
    }
    if (!(off < 1e-3 * most && apart > 0.1 * most))
        fail_msg("%g from the middle of what is %g apart", off, apart);
}

/* The next stage starts from the weights that were rounded if it rounds them, too. */
static void a_stage_may_follow(void **state)
{
    (void)state;
    qat_run_next(*state, "next", "runs/t/02-qat/checkpoint.h5",
                 "  - qat: {from: runs/t/02-qat/checkpoint.h5, type: q2_k, steps: 1,\n"
                 "          batch_tokens: 128, lr: 0}\n");
    qat_run("t", "");
    spawn_expect(folder, 0, "run next.yaml");
    assert_true(same_run_distance(qat_run_at("runs/t/02-qat"), qat_run_at("runs/next/01-qat")) <=
                0);
}

static void mistakes_are_found_first(void **state)
{
    (void)state;
    qat_run_refused("qat.type=q2_m", "there is no type 'q2_m'");
    qat_run_refused("qat.type=f16", "F16 has no blocks to train in");
    qat_run_refused("qat.params=scales",
                    "params: scales trains nothing but scales: give scales: learned");
    qat_run_refused("qat.params=scales qat.scales=learned qat.start=0.5",
                    "start has no effect with params: scales");
    qat_run_refused("qat.params=scales qat.scales=super qat.weight_decay=0.1",
                    "weight_decay has no effect: weights are not trained (params)");
    qat_run_refused("qat.ema=0.9", "an average of weights in blocks is in no blocks");
    qat_run_refused("qat.scales=learned qat.refit=10", "refit");
    qat_run_refused("qat.teacher=yes", "teacher: 'yes' is neither true nor none");
    qat_run_refused("qat.teacher=none qat.kl_weight=0.5",
                    "kl_weight has no effect: there is no teacher");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(frozen_scales_go_on),
        TEST(learned_scales_go_on),
        TEST(learned_scales_learn),
        TEST(super_scales_learn),
        TEST(scales_alone_learn),
        TEST(super_scales_alone_learn),
        TEST(bf16_goes_on),
        TEST(a_late_start_goes_on),
        TEST(a_teacher_is_followed),
        TEST(the_blocks_are_the_model),
        TEST(a_stage_may_follow),
        TEST(refits_go_on),
        TEST(the_loss_is_a_mix),
        TEST(activations_go_on),
        TEST(mistakes_are_found_first),
    };
    return cmocka_run_group_tests(tests, qat_run_pretrain, qat_run_clean);
}
