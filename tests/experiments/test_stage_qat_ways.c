/* How a stage `qat` stands among others: it continues one, takes bits away in turn, starts from a
   file in blocks; refits on its way; and what the plan said of it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "experiments/metrics.h"
#include "experiments/summary.h"
#include "tests/datasets/scratch.h"
#include "tests/experiments/qat_run.h"
#include "tests/experiments/same_run.h"
#include "tests/experiments/spawn.h"

static const char *folder;

static int setup(void **state)
{
    return qat_run_setup(state, &folder);
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
    qat_run("frozen", "qat.steps=60 qat.save_every=0");
    qat_run("t", "qat.steps=60 qat.save_every=0 qat.refit=10");
    assert_int_equal(metrics_read(qat_run_at("runs/t/02-qat/metrics.jsonl"), refits, &n), 0);
    assert_int_equal(n, 3); // not where the rate is below half
    qat_run("flat", "qat.steps=4 qat.save_every=0 qat.schedule=constant qat.refit=2");
    n = 0;
    assert_int_equal(metrics_read(qat_run_at("runs/flat/02-qat/metrics.jsonl"), refits, &n), 0);
    assert_int_equal(n, 1); // nor behind the last step
    const double frozen = qat_run_course("frozen/02-qat", 51).last;
    const double refitted = qat_run_course("t/02-qat", 51).last;
    if (!(refitted < 1.1 * frozen))
        fail_msg("a divergence of %g, %g without refits", refitted, frozen);
    size_t bytes, same;
    uint8_t *a = qat_run_blocks("runs/frozen/02-qat", &bytes),
            *b = qat_run_blocks("runs/t/02-qat", &same);
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
    qat_run_stages(
        *state, "long.yaml",
        "  - pretrain: {steps: 30, batch_tokens: 512, lr: 3e-3, schedule: wsd, decay: 10,\n"
        "               warmup: 3, name: whole}\n");
    qat_run_stages(
        *state, "t.yaml",
        "  - pretrain: {steps: 20, batch_tokens: 512, lr: 3e-3, schedule: wsd, decay: 0,\n"
        "               warmup: 3}\n"
        "  - pretrain: {name: twin, continues: true, steps: 10, batch_tokens: 512}\n"
        "  - qat: {from: pretrain, continues: true, type: q8_0, steps: 10, batch_tokens: 512,\n"
        "          save_every: 4, keep_last: 9}\n");
    spawn_expect(folder, 0, "run long.yaml name=long");
    spawn_expect(folder, 0, "run t.yaml");
    assert_true(same_run_distance(qat_run_at("runs/long/01-whole"), qat_run_at("runs/t/02-twin")) <=
                0);
    // at 8 bits the blocks are nearly the weights: the fused stage decays as its twin does
    const double before = same_run_state(qat_run_at("runs/t/01-pretrain")).last_valid;
    const double twin = same_run_state(qat_run_at("runs/t/02-twin")).last_valid;
    const double fused = same_run_state(qat_run_at("runs/t/03-qat")).last_valid;
    assert_true(before > twin + 0.05 && fabs(fused - twin) < 5e-3);
    assert_true(isnan(qat_run_course("t/03-qat", 1).last)); // without a teacher
    qat_run_turn_back("runs/t/03-qat", 4);
    spawn_expect(folder, 0, "run t.yaml");
    spawn_says(folder, "qat: going on from step 4");
    same_run(qat_run_at(QAT_RUN_UNBROKEN), qat_run_at("runs/t/03-qat"));
    spawn_expect(folder, 1, "check t.yaml qat.optimizer=lion");
    spawn_says(folder, "the optimizer of 'pretrain' is another one");
    spawn_expect(folder, 1, "check t.yaml qat.from=runs/t/01-pretrain/checkpoint.h5");
    spawn_says(folder, "`from` has to be a stage of this config");
}

/* Fewer bits in turn: the latents go on, the teacher is the model before all of them. */
static void bits_are_taken_in_turn(void **state)
{
    qat_run_stages(
        *state, "t.yaml",
        QAT_RUN_PRETRAIN
        "  - qat: {name: four, type: q4_k, pure: true, steps: 5, batch_tokens: 128}\n"
        "  - qat: {name: three, type: q3_k_s, pure: true, steps: 1, batch_tokens: 128, lr: 0}\n"
        "  - qat: {name: two, type: q2_k, pure: true, steps: 1, batch_tokens: 128, lr: 0}\n");
    qat_run("t", "");
    assert_true(same_run_distance(qat_run_at("runs/t/02-four"), qat_run_at("runs/t/03-three")) <=
                0);
    assert_true(same_run_distance(qat_run_at("runs/t/02-four"), qat_run_at("runs/t/04-two")) <= 0);
    const double four = qat_run_course("t/02-four", 1).first,
                 three = qat_run_course("t/03-three", 1).first;
    const double two = qat_run_course("t/04-two", 1).first; // all of the same batch
    assert_true(four > 0 && three > four && two > three);
}

/* A file that is in blocks is where training in the same blocks starts: all of them stay, though
   scales that are learned want room above them. */
static void a_file_in_blocks_is_the_start(void **state)
{
    size_t n[3];
    qat_run("t", "");
    spawn_expect(folder, 0, "export runs/t/02-qat m.gguf");
    spawn_expect(folder, 0, "import m.gguf m.h5");
    spawn_says(folder, "m.h5, in blocks of Q2_K");
    qat_run_next(*state, "next", "m.gguf",
                 "  - qat: {from: m.h5, type: q2_k, steps: 1, batch_tokens: 128, lr: 0,\n"
                 "          teacher: none, scales: learned}\n"
                 "  - qat: {name: other, from: m.h5, type: q4_k_s, pure: true, steps: 1,\n"
                 "          batch_tokens: 128, lr: 0, teacher: none}\n");
    spawn_expect(folder, 0, "run next.yaml");
    spawn_expect(folder, 0, "run next.yaml"); // a config that was resolved is one
    uint8_t *a = qat_run_blocks("runs/t/02-qat", &n[0]),
            *b = qat_run_blocks("runs/next/01-qat", &n[1]);
    uint8_t *c = qat_run_blocks("runs/next/02-other", &n[2]);
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
        "qat.precision=bf16 qat.scales=learned qat.activations=true",
        "qat.precision=bf16 qat.scales=super"};
    char args[300];
    (void)state;
    for (int i = 0; i < 4; i++) {
        snprintf(args, sizeof args, "check t.yaml %s", options[i]);
        spawn_expect(folder, 0, args);
        char *plan = spawn_output(folder);
        const char *qat = strstr(plan, "stage 2: qat");
        assert_non_null(qat);
        char name[8];
        snprintf(name, sizeof name, "m%d", i);
        snprintf(args, sizeof args, "qat.steps=2 %s", options[i]);
        qat_run(name, args);
        snprintf(args, sizeof args, "runs/m%d/02-qat/summary.json", i);
        struct summary sum;
        assert_int_equal(summary_read(&sum, qat_run_at(args)), 0);
        static const char *const key[][2] = {{"blocks ", "blocks bytes"},
                                             {"decode to ", "decoded bytes"},
                                             {"learned scales ", "scales bytes"}};
        const char *memory = strstr(qat, "memory   ");
        assert_non_null(memory);
        for (int k = 0; k < 3; k++) {
            const bool none = (k == 1 && i > 0) || (k == 2 && i < 2);
            const double want = none ? 0 : number_behind(memory, key[k][0]);
            assert_true(fabs(fact(&sum, key[k][1]) - want) <= 0 && (none || want > 0));
        }
        const char *arena = strstr(qat, "recompute: none");
        assert_non_null(arena);
        assert_true(fabs(fact(&sum, "memory bytes") - number_behind(arena, "in all ")) <= 0);
        assert_true(fabs(fact(&sum, "FLOPs a step") - number_behind(arena, "training; ")) <= 0);
        assert_true(fabs(fact(&sum, "arena bytes") - number_behind(arena, "arena ")) <= 0);
        snprintf(args, sizeof args, "export runs/m%d/02-qat m%d.gguf", i, i);
        spawn_expect(folder, 0, args);
        snprintf(args, sizeof args, "m%d.gguf", i);
        struct stat s;
        assert_int_equal(stat(qat_run_at(args), &s), 0);
        assert_true(fabs((double)s.st_size - number_behind(qat, "file size ")) <= 0);
        summary_free(&sum);
        free(plan);
    }
}

/* A stage's file is measured by the stage's name, and held against what training saw: no other
   weights, but products in bf16 there and of bytes here. */
static void the_file_is_measured(void **state)
{
    struct summary sum;
    struct stat s;
    qat_run_stages(*state, "t.yaml",
                   QAT_RUN_PRETRAIN
                   "  - qat: {type: q3_k_m, steps: 9, batch_tokens: 128, lr: 5e-4}\n"
                   "  - export: {type: q3_k_m}\n"
                   "  - export: {name: again, from: qat, type: q2_k}\n"
                   "  - evaluate: {compare: [pretrain, qat, export, again], reference: qat}\n"
                   "  - evaluate: {name: part, compare: [export], tokens: 64}\n");
    qat_run("t", "");
    spawn_says(folder, "training minus it");
    assert_int_equal(summary_read(&sum, qat_run_at("runs/t/05-evaluate/summary.json")), 0);
    assert_int_equal(stat(qat_run_at("runs/t/03-export/t-Q3_K_M.gguf"), &s), 0);
    const struct summary_row *trained = &sum.row[1], *file = &sum.row[2], *other = &sum.row[3];
    assert_true(file->size == (int64_t)s.st_size && file->size == trained->size);
    assert_true(isnan(sum.row[0].trained_loss)); // was not in blocks
    assert_true(fabs(file->trained_loss - same_run_state(qat_run_at("runs/t/02-qat")).last_valid) <=
                1e-6);
    assert_true(fabs(file->trained_loss - file->loss) < 5e-3);
    assert_true(fabs(trained->trained_loss - trained->loss) < 5e-3);
    assert_true(file->kld > 0 && other->kld > 10 * file->kld && other->trained_loss > 0);
    summary_free(&sum);
    assert_int_equal(summary_read(&sum, qat_run_at("runs/t/06-part/summary.json")), 0);
    assert_true(isnan(sum.row[0].trained_loss)); // of other text
    summary_free(&sum);
    spawn_expect(folder, 1, "check t.yaml evaluate.compare=export@q2_k");
    spawn_says(folder, "a GGUF file is measured as it is");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(refits_do_not_throw_back), TEST(a_stage_continues),
        TEST(bits_are_taken_in_turn),   TEST(a_file_in_blocks_is_the_start),
        TEST(the_plan_comes_true),      TEST(the_file_is_measured),
    };
    return cmocka_run_group_tests(tests, qat_run_pretrain, qat_run_clean);
}
