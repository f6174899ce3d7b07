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
#include <jansson.h>

#include "autograd/base/err.h"
#include "datasets/h5file.h"
#include "experiments/metrics.h"
#include "experiments/summary.h"
#include "tests/datasets/scratch.h"
#include "tests/experiments/same_run.h"
#include "tests/experiments/spawn.h"

static const char CONFIG[] = "name: t\n"
                             "data:\n"
                             "  corpus: text.txt\n"
                             "  tokenizer: {type: byte}\n"
                             "  valid_fraction: 20%\n"
                             "model:\n"
                             "  n_layers: 1\n"
                             "  d_model: 256\n"
                             "  n_heads: 2\n"
                             "  d_ff: 256\n"
                             "  context: 32\n"
                             "stages:\n"
                             "  - pretrain: {steps: 30, batch_tokens: 512, lr: 1e-2}\n"
                             "  - qat:\n"
                             "      type: q2_k\n"
                             "      steps: 9\n"
                             "      batch_tokens: 512\n"
                             "      lr: 5e-4\n"
                             "      save_every: 4\n"
                             "      keep_last: 9\n"
                             "  - evaluate: {compare: [pretrain, qat], reference: pretrain}\n";

static const char *folder;

static int setup(void **state)
{
    if (scratch_setup(state))
        return -1;
    folder = scratch_folder(*state);
    same_run_text(scratch_path(*state, "text.txt"), 40, 3);
    scratch_text(scratch_path(*state, "t.yaml"), CONFIG);
    return 0;
}

/* A path in the scratch folder, static until the fourth call from now. */
static const char *at(const char *name)
{
    static char paths[4][600];
    static int i;
    char *path = paths[i = (i + 1) % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

/* Steps behind `step` never were. */
static void turn_back(const char *stage, int step)
{
    char path[4096];
    for (int s = step + 1; s <= 20; s++) {
        checkpoint_name(path, at(stage), s);
        remove(path);
    }
    snprintf(path, sizeof path, "%s/summary.json", at(stage));
    assert_int_equal(remove(path), 0);
}

static void goes_on_where_it_stopped(const char *options)
{
    char args[400];
    snprintf(args, sizeof args, "run t.yaml name=whole%s", options);
    spawn_expect(folder, 0, args);
    snprintf(args, sizeof args, "run t.yaml name=t%s", options);
    spawn_expect(folder, 0, args);
    turn_back("runs/t/02-qat", 4);
    spawn_expect(folder, 0, args);
    spawn_says(folder, "qat: going on from step 4");
    same_run(at("runs/whole/02-qat"), at("runs/t/02-qat"));
}

static void frozen_scales_go_on(void **state)
{
    (void)state;
    goes_on_where_it_stopped(" qat.precision=f32");
}

/* Blocks of a matrix in Q2_K, to be freed. */
static uint8_t *blocks_of(const char *stage, size_t *bytes)
{
    static const char name[] = "blocks/blk.0.ffn_up.weight";
    struct h5file *f;
    struct h5shape s;
    char path[4096];
    checkpoint_name(path, at(stage), -1);
    if (h5file_open(&f, path) || h5file_shape(f, name, &s))
        fail_msg("%s", err_text());
    uint8_t *x = malloc((size_t)s.n);
    assert_int_equal(h5file_read(f, name, H5_U8, s.ndim, s.dim, x), 0);
    h5file_close(f);
    *bytes = (size_t)s.n;
    return x;
}

/* Codes of scales follow their latents: some have moved after 200 steps at the default rate. */
static void learned_scales_learn(void **state)
{
    enum { BLOCK = 84, SCALES = 16 };
    size_t n, same;
    (void)state;
    spawn_expect(folder, 0, "run t.yaml name=still qat.scales=learned qat.lr=0");
    spawn_expect(folder, 0, "run t.yaml qat.scales=learned qat.steps=200 qat.save_every=0");
    uint8_t *a = blocks_of("runs/still/02-qat", &n), *b = blocks_of("runs/t/02-qat", &same);
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

static void refits_go_on(void **state)
{
    (void)state;
    goes_on_where_it_stopped(" qat.refit=2");
}

static void activations_go_on(void **state)
{
    (void)state;
    goes_on_where_it_stopped(" qat.activations=true");
}

static void learned_scales_go_on(void **state)
{
    (void)state;
    goes_on_where_it_stopped(" qat.scales=learned qat.scale_lr=20");
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
    checkpoint_name(path, at(stage), -1);
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
        " qat.params=scales qat.scales=learned qat.scale_lr=20 qat.teacher=none";
    goes_on_where_it_stopped(options);
    static float was[256 * 256], is[256 * 256];
    weights_of("runs/t/01-pretrain", was);
    weights_of("runs/t/02-qat", is);
    assert_memory_equal(was, is, sizeof was);
    checkpoint_name(path, at("runs/t/02-qat"), -1);
    if (h5file_open(&f, path) || h5file_each(f, note_optim, &states))
        fail_msg("%s", err_text());
    h5file_close(f);
    assert_int_equal(states, 0);
    spawn_expect(folder, 0, "run t.yaml name=still qat.lr=0 qat.scales=learned");
    uint8_t *a = blocks_of("runs/still/02-qat", &n), *b = blocks_of("runs/t/02-qat", &same);
    for (size_t i = 0; i < n; i++)
        moved += i % 84 < 16 && (a[i] & 15) != (b[i] & 15);
    assert_true(moved > 0);
    free(a);
    free(b);
    assert_true(same_run_state(at("runs/t/02-qat")).last_valid <
                same_run_state(at("runs/still/02-qat")).last_valid - 1e-3);
}

static void bf16_goes_on(void **state)
{
    (void)state;
    goes_on_where_it_stopped(" qat.precision=bf16 qat.ste=plain");
}

/* Weights go into blocks in the middle of the stage, before or after it was stopped. */
static void a_late_start_goes_on(void **state)
{
    (void)state;
    goes_on_where_it_stopped(" qat.start=0.7");
    spawn_says(folder, "in blocks of Q2_K from step 7 on");
    turn_back("runs/t/02-qat", 8);
    spawn_expect(folder, 0, "run t.yaml name=t qat.start=0.7");
    same_run(at("runs/whole/02-qat"), at("runs/t/02-qat"));
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
    (void)state;
    spawn_expect(folder, 0, "run t.yaml qat.teacher=none qat.steps=40 qat.save_every=0");
    char *text = spawn_output(folder);
    const double pretrained = loss_of(text, "\npretrain "), trained = loss_of(text, "\nqat ");
    assert_true(fabs(trained - same_run_state(at("runs/t/02-qat")).last_valid) < 5e-3);
    free(text);
    spawn_expect(folder, 0, "run t.yaml name=still qat.lr=0");
    text = spawn_output(folder);
    const double rounded = loss_of(text, "\nqat ");
    free(text);
    assert_true(rounded > pretrained + 1e-3); // two bits tell
    assert_true(trained < rounded - 1e-3);    // and training answers
    spawn_expect(folder, 0, "export runs/t/02-qat m.gguf");
    spawn_says(folder, "type =   q2_k");
    struct summary sum;
    struct stat file;
    assert_int_equal(summary_read(&sum, at("runs/still/03-evaluate/summary.json")), 0);
    assert_int_equal(stat(at("m.gguf"), &file), 0);
    assert_true(llabs(sum.row[1].size - (int64_t)file.st_size) <= 64); // names of the model
    assert_true(fabs(sum.row[0].kld) < 1e-12 && sum.row[1].kld > 1e-3);
    summary_free(&sum);
    spawn_expect(folder, 1, "export runs/t/02-qat m.gguf --pure");
    spawn_says(folder, "written as they are");
    spawn_expect(folder, 0, "export runs/t/02-qat h.gguf --type f16");
    spawn_says(folder, "rounds what they decode to again");
}

/* The divergence of the first step, and of the last ones together. */
struct course {
    int64_t from;
    double first, last;
};

static int divergence(void *arg, int64_t step, const json_t *line)
{
    struct course *c = arg;
    const double kl = metrics_number(line, "kl");
    if (!isnan(kl) && step == 1)
        c->first = kl;
    if (!isnan(kl) && step >= c->from)
        c->last = kl + (isnan(c->last) ? 0 : c->last);
    return 0;
}

static struct course course(const char *stage, int64_t from)
{
    struct course c = {from, NAN, NAN};
    char path[300];
    snprintf(path, sizeof path, "runs/%s/metrics.jsonl", stage);
    assert_int_equal(metrics_read(at(path), divergence, &c), 0);
    return c;
}

/* A teacher brings the model in blocks near the one that it was; a list of stages in blocks has one
   teacher, the model before them. The divergence of one batch says little (it varies fivefold where
   nothing is trained): the same ten batches are compared. */
static void a_teacher_is_followed(void **state)
{
    (void)state;
    char config[1500];
    snprintf(config, sizeof config, "%s", CONFIG);
    char *end = strstr(config, "  - evaluate");
    assert_non_null(end);
    snprintf(end, sizeof config - (size_t)(end - config),
             "  - qat: {name: on, type: q2_k, steps: 1, batch_tokens: 512, lr: 0}\n");
    scratch_text(scratch_path(*state, "chain.yaml"), config);
    spawn_expect(folder, 0, "run chain.yaml qat.steps=60 qat.save_every=0");
    spawn_expect(folder, 0, "run t.yaml name=still qat.steps=60 qat.save_every=0 qat.lr=0");
    const double led = course("t/02-qat", 51).last, still = course("still/02-qat", 51).last;
    if (!(led > 0 && led < 0.5 * still))
        fail_msg("a divergence of %g, %g where nothing is trained", led, still);
    spawn_expect(folder, 0, "run chain.yaml name=alone qat.teacher=none on.teacher=none");
    assert_true(isnan(course("alone/02-qat", 1).last));
    spawn_expect(folder, 0,
                 "run chain.yaml name=given qat.teacher=runs/t/01-pretrain/checkpoint.h5 "
                 "on.teacher=runs/t/01-pretrain/checkpoint.h5 qat.steps=60 qat.save_every=0");
    const double chain = course("t/03-on", 1).first, given = course("given/03-on", 1).first;
    assert_true(chain > 0 && fabs(given - chain) <= 0);
}

/* What a config of other stages does to a run, in turn. */
static void stages(void **state, const char *name, const char *text)
{
    char config[1500];
    snprintf(config, sizeof config, "%s", CONFIG);
    char *end = strstr(config, "stages:\n");
    assert_non_null(end);
    snprintf(end, sizeof config - (size_t)(end - config), "stages:\n%s", text);
    scratch_text(scratch_path(*state, name), config);
}

static int refits(void *arg, int64_t step, const json_t *line)
{
    const char *event = json_string_value(json_object_get(line, "event"));
    (void)step;
    *(int *)arg += event && !strcmp(event, "refit");
    return 0;
}

/* Refits in the course of training leave it where it would be without them, or better. */
static void refits_do_not_throw_back(void **state)
{
    int n = 0;
    (void)state;
    // (refits in steps that hardly move weights any more are not made good)
    spawn_expect(folder, 0,
                 "run t.yaml name=frozen qat.steps=60 qat.save_every=0 qat.lr=3e-3 "
                 "qat.min_lr_ratio=0.1");
    spawn_expect(folder, 0,
                 "run t.yaml name=t qat.steps=60 qat.save_every=0 qat.lr=3e-3 "
                 "qat.min_lr_ratio=0.1 qat.refit=10");
    assert_int_equal(metrics_read(at("runs/t/02-qat/metrics.jsonl"), refits, &n), 0);
    assert_int_equal(n, 5); // not behind the last step
    const double frozen = course("frozen/02-qat", 51).last;
    const double refitted = course("t/02-qat", 51).last;
    if (!(refitted < 1.1 * frozen))
        fail_msg("a divergence of %g, %g without refits", refitted, frozen);
    size_t bytes, same;
    uint8_t *a = blocks_of("runs/frozen/02-qat", &bytes), *b = blocks_of("runs/t/02-qat", &same);
    int moved = 0;
    for (size_t i = 0; i < bytes; i++)
        moved += i % 84 < 16 && a[i] != b[i]; // scales and mins
    assert_true(moved > 0);
    free(a);
    free(b);
}

/* A stage that continues another is what that would have become: moments, text and rate. */
static void a_stage_continues(void **state)
{
    stages(state, "long.yaml",
           "  - pretrain: {steps: 30, batch_tokens: 512, lr: 1e-2, schedule: wsd, decay: 10,\n"
           "               warmup: 3, name: whole}\n");
    stages(state, "t.yaml",
           "  - pretrain: {steps: 20, batch_tokens: 512, lr: 1e-2, schedule: wsd, decay: 0,\n"
           "               warmup: 3}\n"
           "  - pretrain: {name: twin, continues: true, steps: 10, batch_tokens: 512}\n"
           "  - qat: {from: pretrain, continues: true, type: q8_0, steps: 10, batch_tokens: 512,\n"
           "          save_every: 4, keep_last: 9}\n");
    spawn_expect(folder, 0, "run long.yaml name=long");
    spawn_expect(folder, 0, "run t.yaml name=t");
    assert_true(same_run_distance(at("runs/long/01-whole"), at("runs/t/02-twin")) <= 0);
    // at 8 bits the blocks are nearly the weights: the fused stage decays as its twin does
    const double twin = same_run_state(at("runs/t/02-twin")).last_valid;
    const double fused = same_run_state(at("runs/t/03-qat")).last_valid;
    assert_true(fabs(fused - twin) < 5e-3 &&
                isnan(course("t/03-qat", 1).last)); // without a teacher
    turn_back("runs/t/03-qat", 4);
    spawn_expect(folder, 0, "run t.yaml name=t");
    spawn_says(folder, "qat: going on from step 4");
    spawn_expect(folder, 0, "run t.yaml name=again");
    same_run(at("runs/again/03-qat"), at("runs/t/03-qat"));
    spawn_expect(folder, 1, "check t.yaml qat.optimizer=lion");
    spawn_says(folder, "the optimizer of 'pretrain' is another one");
    spawn_expect(folder, 1, "check t.yaml qat.from=runs/t/01-pretrain/checkpoint.h5");
    spawn_says(folder, "`from` has to be a stage of this config");
}

/* Fewer bits in turn: the latents go on, the teacher is the model before all of them. */
static void bits_are_taken_in_turn(void **state)
{
    stages(state, "t.yaml",
           "  - pretrain: {steps: 30, batch_tokens: 512, lr: 1e-2}\n"
           "  - qat: {name: four, type: q4_k, pure: true, steps: 5, batch_tokens: 512}\n"
           "  - qat: {name: three, type: q3_k_s, pure: true, steps: 1, batch_tokens: 512, lr: 0}\n"
           "  - qat: {name: two, type: q2_k, pure: true, steps: 1, batch_tokens: 512, lr: 0}\n");
    spawn_expect(folder, 0, "run t.yaml name=t");
    assert_true(same_run_distance(at("runs/t/02-four"), at("runs/t/03-three")) <= 0);
    assert_true(same_run_distance(at("runs/t/02-four"), at("runs/t/04-two")) <= 0);
    const double four = course("t/02-four", 1).first, three = course("t/03-three", 1).first;
    const double two = course("t/04-two", 1).first; // all of the same batch
    assert_true(four > 0 && three > four && two > three);
}

/* A file that is in blocks is where training in the same blocks starts: all of them stay, though
   scales that are learned want room above them. */
static void a_file_in_blocks_is_the_start(void **state)
{
    size_t n[3];
    spawn_expect(folder, 0, "run t.yaml");
    spawn_expect(folder, 0, "export runs/t/02-qat m.gguf");
    spawn_expect(folder, 0, "import m.gguf m.h5");
    spawn_says(folder, "m.h5, in blocks of Q2_K");
    scratch_text(scratch_path(*state, "next.yaml"),
                 "name: next\n"
                 "data:\n"
                 "  corpus: text.txt\n"
                 "  tokenizer: {type: file, path: m.gguf}\n"
                 "  valid_fraction: 20%\n"
                 "stages:\n"
                 "  - qat: {from: m.h5, type: q2_k, steps: 1, batch_tokens: 512, lr: 0,\n"
                 "          teacher: none, scales: learned}\n"
                 "  - qat: {name: other, from: m.h5, type: q4_k_s, pure: true, steps: 1,\n"
                 "          batch_tokens: 512, lr: 0, teacher: none}\n");
    spawn_expect(folder, 0, "run next.yaml");
    spawn_expect(folder, 0, "run next.yaml"); // a config that was resolved is one
    uint8_t *a = blocks_of("runs/t/02-qat", &n[0]), *b = blocks_of("runs/next/01-qat", &n[1]);
    uint8_t *c = blocks_of("runs/next/02-other", &n[2]);
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(a, b, n[0]);
    assert_int_equal(n[2], n[0] / 84 * 144);
    free(a);
    free(b);
    free(c);
    spawn_expect(folder, 0, "export m.h5 again.gguf");
    spawn_says(folder, "type =   q2_k");
}

/* What a line says behind `key`. */
static double number_behind(const char *text, const char *key)
{
    const char *line = strstr(text, key);
    if (!line)
        fail_msg("no '%s' in: %s", key, text);
    return strtod(line + strlen(key), NULL);
}

static double fact(const struct summary *s, const char *name)
{
    for (int64_t i = 0; i < s->n_facts; i++)
        if (!strcmp(s->fact[i].name, name))
            return strtod(s->fact[i].value, NULL);
    fail_msg("no fact '%s'", name);
    return NAN;
}

/* `attar check` foretells the file and the memory to the byte. */
static void the_plan_comes_true(void **state)
{
    static const char *const options[] = {
        "qat.precision=f32", "qat.precision=bf16",
        "qat.precision=bf16 qat.scales=learned qat.activations=true"};
    char args[300];
    (void)state;
    for (int i = 0; i < 3; i++) {
        snprintf(args, sizeof args, "check t.yaml %s", options[i]);
        spawn_expect(folder, 0, args);
        char *plan = spawn_output(folder);
        const char *qat = strstr(plan, "stage 2: qat");
        assert_non_null(qat);
        snprintf(args, sizeof args, "run t.yaml name=m%d qat.steps=2 %s", i, options[i]);
        spawn_expect(folder, 0, args);
        snprintf(args, sizeof args, "runs/m%d/02-qat/summary.json", i);
        struct summary sum;
        assert_int_equal(summary_read(&sum, at(args)), 0);
        static const char *const key[][2] = {{"blocks ", "blocks bytes"},
                                             {"decode to ", "decoded bytes"},
                                             {"learned scales ", "scales bytes"}};
        const char *memory = strstr(qat, "memory of qat");
        assert_non_null(memory);
        for (int k = 0; k < 3; k++) {
            const bool none = (k == 1 && i > 0) || (k == 2 && i < 2);
            const double want = none ? 0 : number_behind(memory, key[k][0]);
            assert_true(fabs(fact(&sum, key[k][1]) - want) <= 0 && (none || want > 0));
        }
        const char *arena = strstr(qat, "recompute: none");
        assert_non_null(arena);
        assert_true(fabs(fact(&sum, "arena bytes") - number_behind(arena, "arena ")) <= 0);
        snprintf(args, sizeof args, "export runs/m%d/02-qat m%d.gguf", i, i);
        spawn_expect(folder, 0, args);
        snprintf(args, sizeof args, "m%d.gguf", i);
        struct stat s;
        assert_int_equal(stat(at(args), &s), 0);
        assert_true(fabs((double)s.st_size - number_behind(qat, "file size ")) <= 0);
        summary_free(&sum);
        free(plan);
    }
}

/* The next stage starts from the weights that were rounded if it rounds them, too. */
static void a_stage_may_follow(void **state)
{
    (void)state;
    scratch_text(scratch_path(*state, "next.yaml"),
                 "name: next\n"
                 "data:\n"
                 "  corpus: text.txt\n"
                 "  tokenizer: {type: file, path: runs/t/02-qat/checkpoint.h5}\n"
                 "  valid_fraction: 20%\n"
                 "stages:\n"
                 "  - qat: {from: runs/t/02-qat/checkpoint.h5, type: q2_k, steps: 1,\n"
                 "          batch_tokens: 512, lr: 0}\n");
    spawn_expect(folder, 0, "run t.yaml");
    spawn_expect(folder, 0, "run next.yaml");
    assert_true(same_run_distance(at("runs/t/02-qat"), at("runs/next/01-qat")) <= 0);
}

static void mistakes_are_found_first(void **state)
{
    (void)state;
    spawn_expect(folder, 1, "check t.yaml qat.type=q2_m");
    spawn_says(folder, "there is no type 'q2_m'");
    spawn_expect(folder, 1, "check t.yaml qat.type=f16");
    spawn_says(folder, "F16 has no blocks to train in");
    spawn_expect(folder, 1, "check t.yaml qat.params=scales");
    spawn_says(folder, "params: scales trains nothing but scales: give scales: learned");
    spawn_expect(folder, 1, "check t.yaml qat.params=scales qat.scales=learned qat.start=0.5");
    spawn_says(folder, "start has no effect with params: scales");
    spawn_expect(folder, 1, "check t.yaml qat.params=scales qat.weight_decay=0.1");
    spawn_says(folder, "weight_decay has no effect: weights are not trained (params)");
    spawn_expect(folder, 1, "check t.yaml qat.ema=0.9");
    spawn_says(folder, "an average of weights in blocks is in no blocks");
    spawn_expect(folder, 1, "check t.yaml qat.scales=learned qat.refit=10");
    spawn_says(folder, "refit");
    spawn_expect(folder, 1, "check t.yaml qat.teacher=yes");
    spawn_says(folder, "teacher: 'yes' is neither true nor none");
    spawn_expect(folder, 1, "check t.yaml qat.teacher=none qat.kl_weight=0.5");
    spawn_says(folder, "kl_weight has no effect: there is no teacher");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(frozen_scales_go_on),
        TEST(learned_scales_go_on),
        TEST(learned_scales_learn),
        TEST(scales_alone_learn),
        TEST(bf16_goes_on),
        TEST(a_late_start_goes_on),
        TEST(a_teacher_is_followed),
        TEST(the_blocks_are_the_model),
        TEST(a_stage_may_follow),
        TEST(refits_go_on),
        TEST(activations_go_on),
        TEST(refits_do_not_throw_back),
        TEST(a_stage_continues),
        TEST(bits_are_taken_in_turn),
        TEST(a_file_in_blocks_is_the_start),
        TEST(the_plan_comes_true),
        TEST(mistakes_are_found_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
