/* A run's folder: who may go on with it, and what is said of damaged files in it. */
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utime.h>

#include <cmocka.h>

#include "autograd/base/err.h"
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
                             "  d_model: 16\n"
                             "  n_heads: 2\n"
                             "  d_ff: 32\n"
                             "  context: 32\n"
                             "stages:\n"
                             "  - pretrain:\n"
                             "      steps: 12\n"
                             "      batch_tokens: 128\n"
                             "      lr: 1e-2\n"
                             "      eval_every: 4\n"
                             "      save_every: 2\n"
                             "  - evaluate: {}\n";

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

/* A path in the scratch folder, static until the eighth call from now. */
static const char *at(const char *name)
{
    static char paths[8][300];
    static int i;
    char *path = paths[i = (i + 1) % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void remove_summaries(void)
{
    (void)unlink(at("runs/t/01-pretrain/summary.json"));
    (void)unlink(at("runs/t/02-evaluate/summary.json"));
}

static char *output_of(int status, const char *args)
{
    spawn_expect(folder, status, args);
    return spawn_output(folder);
}

/* ---- who may go on ---- */

static void finished_run_says_so(void **state)
{
    (void)state;
    spawn_expect(folder, 0, "run t.yaml");
    char *first = output_of(0, "run t.yaml");
    assert_non_null(strstr(first, "runs/t is finished; --fresh starts over"));
    assert_null(strstr(first, "going on"));
    free(first);
}

static void changed_config_is_refused(void **state)
{
    (void)state;
    spawn_expect(folder, 0, "run t.yaml");
    spawn_expect(folder, 1, "run t.yaml pretrain.lr=2e-2 model.d_ff=48 seed=5");
    spawn_says(folder, "runs/t/config.yaml was started with another config");
    spawn_says(folder, "pretrain.lr: 0.01 -> 0.02\n");
    spawn_says(folder, "model.d_ff: 32 -> 48\n");
    spawn_says(folder, "seed: 1 -> 5\n");
    spawn_says(folder, "--fresh");
    remove_summaries();
    spawn_expect(folder, 0,
                 "run t.yaml threads=1 pretrain.save_every=0 pretrain.keep_last=1 "
                 "pretrain.save_minutes=0");
    // without config.yaml, the checkpoint knows
    remove_summaries();
    assert_int_equal(unlink(at("runs/t/config.yaml")), 0);
    spawn_expect(folder, 1, "run t.yaml pretrain.lr=2e-2");
    spawn_says(folder, "checkpoint-00000012.h5 was started with another config");
}

/* A start that comes to no step locks nothing: with the config mended it goes on, to the same end
   as one that was right at once. */
static void failed_start_locks_nothing(void **state)
{
    (void)state;
    scratch_text(at("short.txt"), "too short\n");
    spawn_expect(folder, 1, "run t.yaml data.corpus=short.txt");
    spawn_expect(folder, 1,
                 "run t.yaml pretrain.sample_every=1 model.d_ff=48 "
                 "pretrain.sample_prompt=a-prompt-that-is-longer-than-the-context-of-32");
    spawn_expect(folder, 0, "run t.yaml");
    spawn_expect(folder, 0, "run t.yaml name=u");
    same_run(at("runs/t/01-pretrain"), at("runs/u/01-pretrain"));
    // a stage that has not begun may change, or come to be
    spawn_expect(folder, 1, "run t.yaml stages.1.tokens=64");
    spawn_says(folder, "was started with another config");
    assert_int_equal(unlink(at("runs/t/02-evaluate/summary.json")), 0);
    spawn_expect(folder, 0, "run t.yaml stages.1.tokens=64");
    spawn_says(folder, "changed where nothing has begun\nevaluate.tokens: 0 -> 64\n");
}

/* What a stage that became longer ends with is what it would have been from the start, where its
   rates say so; the stages behind it run again, what they made moves aside. */
static void finished_runs_become_longer(void **state)
{
    static const char *const exact[] = {
        "pretrain.schedule=constant pretrain.warmup=2",
        "pretrain.schedule=wsd pretrain.decay=0 pretrain.warmup=2 pretrain.optimizer=muon",
    };
    (void)state;
    for (int i = 0; i < 2; i++) {
        char args[300];
        snprintf(args, sizeof args, "run t.yaml name=short%d %s", i, exact[i]);
        spawn_expect(folder, 0, args);
        snprintf(args, sizeof args, "run t.yaml name=short%d %s pretrain.steps=20", i, exact[i]);
        spawn_expect(folder, 0, args);
        spawn_says(folder, "pretrain.steps: 12 -> 20\n");
        spawn_says(folder, "20 steps instead of 12; all of them are as if it had been so long");
        spawn_says(folder, "stage evaluate runs again");
        snprintf(args, sizeof args, "run t.yaml name=long%d %s pretrain.steps=20", i, exact[i]);
        spawn_expect(folder, 0, args);
        struct checkpoint_state state_of[2];
        state_of[0] = same_run_state(at(i ? "runs/short1/01-pretrain" : "runs/short0/01-pretrain"));
        state_of[1] = same_run_state(at(i ? "runs/long1/01-pretrain" : "runs/long0/01-pretrain"));
        assert_int_equal(state_of[0].step, 20);
        assert_true(state_of[0].smooth == state_of[1].smooth &&
                    state_of[0].last_valid == state_of[1].last_valid);
    }
    spawn_expect(folder, 0, "run t.yaml name=e pretrain.epochs=1");
    spawn_expect(folder, 0, "run t.yaml name=e pretrain.epochs=1.5");
    spawn_says(folder, "pretrain.epochs: 1 -> 1.5\n");
    spawn_expect(folder, 0, "run t.yaml name=e pretrain.epochs=1.5");
    spawn_says(folder, "is finished");
    assert_int_equal(access(at("runs/short0/aside-02-evaluate.1/summary.json"), F_OK), 0);
    assert_int_equal(access(at("runs/short0/02-evaluate/summary.json"), F_OK), 0);
}

static void longer_schedules_are_told(void **state)
{
    (void)state;
    spawn_expect(folder, 0, "run t.yaml");
    spawn_expect(folder, 1, "run t.yaml pretrain.steps=11"); // shorter
    spawn_says(folder, "a stage may become longer");
    spawn_expect(folder, 1, "run t.yaml pretrain.steps=20 pretrain.lr=2e-2");
    spawn_expect(folder, 0, "run t.yaml pretrain.steps=20");
    spawn_says(folder, "20 steps instead of 12: from step 12 on it has the longer one's schedule");
    spawn_says(folder, "the last step's was 0.00115)");
    assert_int_equal(same_run_state(at("runs/t/01-pretrain")).step, 20);
    spawn_expect(folder, 0, "run t.yaml pretrain.steps=20");
    spawn_says(folder, "is finished");
    spawn_expect(folder, 1, "run t.yaml"); // 12 again
    spawn_says(folder, "pretrain.steps: 20 -> 12");
}

static void fresh_moves_the_run_aside(void **state)
{
    (void)state;
    spawn_expect(folder, 0, "run t.yaml");
    spawn_expect(folder, 0, "run t.yaml pretrain.lr=2e-2 --fresh");
    spawn_says(folder, "the earlier run is now runs/t.1");
    spawn_expect(folder, 0, "run t.yaml --fresh");
    spawn_says(folder, "the earlier run is now runs/t.2");
    same_run(at("runs/t/01-pretrain"), at("runs/t.1/01-pretrain"));
    assert_true(same_run_distance(at("runs/t/01-pretrain"), at("runs/t.2/01-pretrain")) > 0);
}

static void second_process_is_refused(void **state)
{
    (void)state;
    static const char *const slow[] = {"run", "t.yaml", "pretrain.steps=1000000", NULL};
    const pid_t pid = spawn_start(folder, slow);
    assert_true(spawn_await(pid, at("runs/t/01-pretrain/metrics.jsonl"), "\"step\":1,"));
    spawn_expect(folder, 1, "run t.yaml pretrain.steps=1000000");
    spawn_says(folder, "another process is running it");
    spawn_expect(folder, 1, "run t.yaml pretrain.steps=1000000 --fresh");
    spawn_says(folder, "another process is running it");
    assert_int_equal(access(at("runs/t.1"), F_OK), -1);
    kill(pid, SIGTERM);
    assert_int_equal(spawn_wait(pid), 1);
}

/* (In f32: the stage evaluates in f32 whatever was trained in.) */
static void evaluation_is_the_training_one(void **state)
{
    (void)state;
    struct summary s;
    spawn_expect(folder, 0, "run t.yaml pretrain.precision=f32");
    assert_int_equal(summary_read(&s, at("runs/t/02-evaluate/summary.json")), 0);
    assert_true(s.seconds > 0); // measuring is time at work, too
    assert_int_equal(s.n_rows, 1);
    assert_string_equal(s.row[0].name, "pretrain");
    const struct checkpoint_state trained = same_run_state(at("runs/t/01-pretrain"));
    assert_true(fabs(s.row[0].loss - trained.last_valid) < 1e-5);
    assert_true(fabs(s.row[0].perplexity - exp(trained.last_valid)) < 1e-3);
    assert_true(fabs(s.row[0].bits_per_byte - trained.last_bpb) < 1e-5);
    summary_free(&s);
}

/* ---- damage ---- */

/* Damages a file: at >= 0 flips a byte there (from the end if below 0), else cuts to `size`. */
static void flip(const char *path, long where)
{
    size_t n;
    char *bytes = scratch_read(path, &n);
    const size_t i = where >= 0 ? (size_t)where : n - (size_t)-where;
    assert_true(i < n);
    bytes[i] ^= 0x10;
    scratch_write(path, bytes, n);
    free(bytes);
}

static void damaged_checkpoint_is_passed_over(void **state)
{
    (void)state;
    static const long flips[] = {0, 9, 14, 20, 30, 300, 600, -200000, -40000, -1};
    enum { FLIPS = sizeof flips / sizeof *flips };
    static const char newest[] = "runs/t/01-pretrain/checkpoint-00000012.h5";
    spawn_expect(folder, 0, "run t.yaml name=whole");
    spawn_expect(folder, 0, "run t.yaml");
    size_t n;
    char *good = scratch_read(at(newest), &n);
    for (int i = 0; i < FLIPS + 3; i++) {
        remove_summaries();
        if (i < FLIPS)
            flip(at(newest), flips[i] < -(long)n ? (long)n / 2 : flips[i]);
        else
            assert_int_equal(truncate(at(newest), i == FLIPS       ? 0
                                                  : i == FLIPS + 1 ? 100
                                                                   : (long)n / 2),
                             0);
        spawn_expect(folder, 0, "run t.yaml");
        spawn_says(folder, "warning: not resumed from a damaged checkpoint: "
                           "runs/t/01-pretrain/checkpoint-00000012.h5: ");
        spawn_says(folder, "going on from step 10");
        same_run(at("runs/whole/01-pretrain"), at("runs/t/01-pretrain"));
    }
    // one that is set aside counts no more: keep_last 1 keeps a good one
    remove_summaries();
    flip(at(newest), 700);
    spawn_expect(folder, 0, "run t.yaml pretrain.keep_last=1");
    assert_int_equal(access(at(newest), F_OK), 0);
    free(good);
}

static void no_good_checkpoint_is_no_new_start(void **state)
{
    (void)state;
    spawn_expect(folder, 0, "run t.yaml");
    remove_summaries();
    char path[4096];
    int64_t steps[64];
    const int n = checkpoint_list(at("runs/t/01-pretrain"), steps, 64);
    assert_true(n > 1);
    for (int i = 0; i < n; i++) {
        checkpoint_name(path, at("runs/t/01-pretrain"), steps[i]);
        flip(path, 1000);
    }
    for (int again = 0; again < 2; again++) {
        spawn_expect(folder, 1, "run t.yaml");
        spawn_says(folder, "none of its checkpoints can be used");
        spawn_says(folder, "--fresh");
        assert_int_equal(checkpoint_list(at("runs/t/01-pretrain"), steps, 64), n);
    }
    spawn_expect(folder, 0, "run t.yaml --fresh");
}

/* Nor do a touched text and an emptied cache make it another corpus. */
static void damaged_corpus_is_made_again(void **state)
{
    (void)state;
    char name[300] = "";
    spawn_expect(folder, 0, "run t.yaml name=whole");
    spawn_expect(folder, 0, "run t.yaml");
    assert_int_equal(unlink(at("runs/t/01-pretrain/checkpoint-00000012.h5")), 0);
    remove_summaries();
    DIR *d = opendir(at("data"));
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        if (strstr(e->d_name, ".h5"))
            snprintf(name, sizeof name, "data/%s", e->d_name);
    closedir(d);
    assert_true(*name != 0);
    flip(at(name), 3000);
    spawn_expect(folder, 0, "run t.yaml");
    spawn_says(folder, name);
    same_run(at("runs/whole/01-pretrain"), at("runs/t/01-pretrain"));
    assert_int_equal(unlink(at("runs/t/01-pretrain/checkpoint-00000012.h5")), 0);
    remove_summaries();
    assert_int_equal(unlink(at(name)), 0);
    const struct utimbuf past = {1000000000, 1000000000};
    assert_int_equal(utime(at("text.txt"), &past), 0);
    spawn_expect(folder, 0, "run t.yaml");
    spawn_says(folder, "going on from step 10");
    same_run(at("runs/whole/01-pretrain"), at("runs/t/01-pretrain"));
    // another text is another corpus
    remove_summaries();
    same_run_text(at("text.txt"), 40, 4);
    spawn_expect(folder, 1, "run t.yaml");
    spawn_says(folder, "was made with another corpus");
}

/* The text of a file of the run is replaced, the run refuses with a message that names it. */
static void refuses(const char *file, const char *text, const char *message)
{
    size_t n;
    char *old = scratch_read(at(file), &n);
    scratch_text(at(file), text);
    spawn_expect(folder, 1, "run t.yaml");
    spawn_says(folder, file);
    spawn_says(folder, message);
    scratch_write(at(file), old, n);
    free(old);
}

static void damaged_texts_are_named(void **state)
{
    (void)state;
    static const char metrics[] = "runs/t/01-pretrain/metrics.jsonl";
    spawn_expect(folder, 0, "run t.yaml name=whole");
    spawn_expect(folder, 0, "run t.yaml");
    refuses("runs/t/config.yaml", "", "cannot be read any more");
    refuses("runs/t/config.yaml", "name: [\n", "cannot be read any more");
    refuses("runs/t/01-pretrain/summary.json", "", "remove it");
    refuses("runs/t/01-pretrain/summary.json", "{\"steps\": ", "remove it");
    remove_summaries();
    refuses(metrics, "{\"step\":1,\"loss\":2}\n{\"st\n{\"step\":2,\"loss\":2}\n",
            "metrics.jsonl:2");
    spawn_expect(folder, 0, "run t.yaml");
    same_run(at("runs/whole/01-pretrain"), at("runs/t/01-pretrain"));
    remove_summaries();
    assert_int_equal(unlink(at(metrics)), 0);
    spawn_expect(folder, 0, "run t.yaml");
    spawn_says(folder, "metrics.jsonl is missing");
}

/* One message, no crash, status 1. */
static void fails_cleanly(const char *args, const char *file)
{
    char *output = output_of(1, args);
    int messages = 0;
    for (const char *p = output; (p = strstr(p, "attar: ")); p++)
        messages += p == output || p[-1] == '\n';
    if (messages != 1 || !strstr(output, file))
        fail_msg("`attar %s`:\n%s", args, output);
    free(output);
}

static void other_commands_name_damaged_files(void **state)
{
    (void)state;
    static const char model[] = "runs/t/01-pretrain/checkpoint.h5";
    static const long flips[] = {0, 20, 300, 600, -1};
    spawn_expect(folder, 0, "run t.yaml");
    size_t n;
    char *good = scratch_read(at(model), &n);
    for (int i = 0; i < 7; i++) {
        scratch_write(at(model), good, n);
        if (i < 5)
            flip(at(model), flips[i]);
        else
            assert_int_equal(truncate(at(model), i == 5 ? 0 : (long)n - 1), 0);
        fails_cleanly("generate -m runs/t/01-pretrain/checkpoint.h5 -p the", model);
        fails_cleanly("perplexity -m runs/t/01-pretrain/checkpoint.h5 -f text.txt", model);
        fails_cleanly("inspect runs/t/01-pretrain/checkpoint.h5", model);
    }
    free(good);
    scratch_text(at("runs/t/01-pretrain/summary.json"), "{\"a\":");
    spawn_expect(folder, 0, "report runs/t"); // what can be shown is, with a warning
    spawn_says(folder, "attar: warning: runs/t/01-pretrain/summary.json:1:");
    unlink(at("runs/t/01-pretrain/summary.json"));
    scratch_text(at("runs/t/01-pretrain/metrics.jsonl"), "{\"step\n{\"step\":1,\"loss\":2}\n");
    spawn_expect(folder, 0, "report runs/t");
    spawn_says(folder, "attar: warning: runs/t/01-pretrain/metrics.jsonl:1:");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(finished_run_says_so),
        TEST(changed_config_is_refused),
        TEST(failed_start_locks_nothing),
        TEST(finished_runs_become_longer),
        TEST(longer_schedules_are_told),
        TEST(fresh_moves_the_run_aside),
        TEST(second_process_is_refused),
        TEST(evaluation_is_the_training_one),
        TEST(damaged_checkpoint_is_passed_over),
        TEST(no_good_checkpoint_is_no_new_start),
        TEST(damaged_corpus_is_made_again),
        TEST(damaged_texts_are_named),
        TEST(other_commands_name_damaged_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
