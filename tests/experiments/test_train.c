/* The training loop from outside: stopping and going on, threads, damage of the run by its own
   hand, full disks. */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "tests/datasets/scratch.h"
#include "tests/experiments/same_run.h"
#include "tests/experiments/spawn.h"

static const char CONFIG[] = "name: whole\n"
                             "data:\n"
                             "  corpus: text.txt\n"
                             "  tokenizer: {type: byte}\n"
                             "  valid_fraction: 40%\n"
                             "model:\n"
                             "  n_layers: 2\n"
                             "  d_model: 32\n"
                             "  n_heads: 4\n"
                             "  n_kv_heads: 2\n"
                             "  d_ff: 64\n"
                             "  context: 128\n"
                             "stages:\n"
                             "  - pretrain:\n"
                             "      steps: 12\n"
                             "      batch_tokens: 512\n"
                             "      lr: 1e-2\n"
                             "      eval_every: 6\n"
                             "      sample_every: 6\n"
                             "      sample_prompt: the\n"
                             "      sample_tokens: 120\n"
                             "      save_every: 5\n";

#if defined __SANITIZE_ADDRESS__
enum { DOCUMENTS = 60 }; // evaluations are slower then
#else
enum { DOCUMENTS = 300 };
#endif

static const char *folder;

static int setup(void **state)
{
    if (scratch_setup(state))
        return -1;
    folder = scratch_folder(*state);
    same_run_text(scratch_path(*state, "text.txt"), DOCUMENTS, 7);
    scratch_text(scratch_path(*state, "tiny.yaml"), CONFIG);
    return 0;
}

/* "<scratch>/runs/NAME/01-pretrain", static until the fourth call from now. */
static const char *stage(const char *name)
{
    static char paths[4][256];
    static int i;
    char *path = paths[i = (i + 1) % 4];
    snprintf(path, sizeof paths[0], "%s/runs/%s/01-pretrain", folder, name);
    return path;
}

/* `attar run tiny.yaml name=NAME OVERRIDES`, with the status. */
static void run(int status, const char *name, const char *overrides)
{
    char args[1000];
    snprintf(args, sizeof args, "run tiny.yaml name=%s%s%s", name, *overrides ? " " : "",
             overrides);
    spawn_expect(folder, status, args);
}

/* Starts or goes on with the run, and sends the signal when the text appears in its metrics. What
   was left to do of the step then. */
static int stop_at(const char *name, const char *overrides, const char *text, int sig)
{
    char args[1000], metrics[300], *rest = args;
    const char *argv[32] = {0};
    snprintf(args, sizeof args, "run tiny.yaml name=%s%s%s", name, *overrides ? " " : "",
             overrides);
    for (int i = 0; rest && i < 30; i++)
        argv[i] = strsep(&rest, " ");
    snprintf(metrics, sizeof metrics, "%s/metrics.jsonl", stage(name));
    const pid_t pid = spawn_start(folder, argv);
    const int alive = spawn_await(pid, metrics, text);
    if (alive)
        kill(pid, sig);
    const int status = spawn_wait(pid);
    if (status) {
        spawn_says(folder, sig == SIGTERM ? "SIGTERM: saved step" : "SIGINT: saved step");
        spawn_says(folder, "the same command goes on from there");
        assert_int_equal(status, 1);
    }
    return same_run_state(stage(name)).left;
}

static void remove_run(const char *name)
{
    char moved[300], to[320];
    static int n;
    snprintf(moved, sizeof moved, "%s/runs/%s", folder, name);
    snprintf(to, sizeof to, "%s/old-%d", folder, n++);
    (void)rename(moved, to);
}

/* A step's evaluation or sample takes a few milliseconds: several tries may be needed to hit it. */
static void stop_inside(const char *name, const char *overrides, const char *text, int left)
{
    for (int i = 0; i < 20; i++) {
        remove_run(name);
        if (stop_at(name, overrides, text, i % 2 ? SIGINT : SIGTERM) == left)
            return;
    }
    fail_msg("20 signals after %s never came at the right moment", text);
}

static const char *const variants[] = {
    "pretrain.micro_batch_tokens=512",
    "pretrain.micro_batch_tokens=128 model.dropout=0.2 data.mask_documents=true",
    ("data.tokenizer.type=bpe data.tokenizer.vocab_size=300 model.dropout=0.1 "
     "pretrain.optimizer=sgd pretrain.micro_batch_tokens=256 pretrain.lr=0.5"),
    "pretrain.optimizer=muon pretrain.ema=0.9 pretrain.eval_every=2",
    "pretrain.optimizer=lion pretrain.ema=0.99 pretrain.ema_warmup=false model.tie_embeddings=true",
};

static void stopped_is_unbroken(void **state)
{
    (void)state;
    for (size_t v = 0; v < sizeof variants / sizeof *variants; v++) {
        char name[3][16], with[2][600];
        for (int i = 0; i < 3; i++)
            snprintf(name[i], sizeof name[i], "v%zu-%d", v, i);
        for (int i = 0; i < 2; i++)
            snprintf(with[i], sizeof with[i], "%s threads=%d", variants[v], i + 1);
        run(0, name[0], with[0]);
        run(0, name[1], with[1]);
        same_run(stage(name[0]), stage(name[1]));
        (void)stop_at(name[2], with[v % 2], "\"step\":3,", SIGTERM);
        (void)stop_at(name[2], with[v % 2], "\"step\":7,", SIGINT);
        run(0, name[2], with[v % 2]);
        same_run(stage(name[0]), stage(name[2]));
    }
}

/* Lines of an evaluation or a sample that was stopped come once, also when that happens twice. */
static void stopped_inside_a_step_is_unbroken(void **state)
{
    (void)state;
    run(0, "whole", "");
    stop_inside("evaluation", "", "\"step\":6,\"loss\"", LEFT_EVALUATION);
    (void)stop_at("evaluation", "", "valid_loss", SIGINT);
    run(0, "evaluation", "");
    same_run(stage("whole"), stage("evaluation"));
    stop_inside("sample", "", "valid_loss", LEFT_SAMPLE);
    run(0, "sample", "");
    same_run(stage("whole"), stage("sample"));
}

static void micro_batches_only_round(void **state)
{
    (void)state;
    run(0, "whole", "pretrain.micro_batch_tokens=512 model.dropout=0.1");
    run(0, "parts", "pretrain.micro_batch_tokens=128 model.dropout=0.1");
    run(0, "other", "pretrain.micro_batch_tokens=512 model.dropout=0.1 seed=2");
    const double parts = same_run_distance(stage("whole"), stage("parts"));
    assert_true(parts < 1e-3);
    assert_true(same_run_distance(stage("whole"), stage("other")) > 1e-2);
    const double loss = same_run_state(stage("whole")).last_valid;
    assert_true(fabs(loss - same_run_state(stage("parts")).last_valid) < 1e-4);
}

/* ---- explosions ---- */

static bool is_finite_checkpoint(const char *path)
{
    struct checkpoint c;
    struct transformer m;
    if (checkpoint_open(&c, path) || transformer_init(&m, &c.dims, STORE_FROZEN) ||
        checkpoint_load(&c, &m, false))
        fail_msg("%s", err_text());
    bool finite = true;
    const int64_t n = store_numel(&m.store);
    for (int64_t i = 0; i < n; i++)
        finite = finite && isfinite(m.store.latent[i]);
    transformer_free(&m);
    checkpoint_close(&c);
    return finite;
}

static void explosion_stops_and_names_a_good_checkpoint(void **state)
{
    (void)state;
    static const char absurd[] = "pretrain.optimizer=sgd pretrain.lr=100 pretrain.grad_clip=0 "
                                 "pretrain.schedule=constant pretrain.warmup=4 "
                                 "pretrain.save_every=1 pretrain.keep_last=20 "
                                 "pretrain.loss_limit=0 pretrain.steps=200 pretrain.eval_every=0";
    char path[4096], message[200];
    int64_t steps[32];
    run(1, "nan", absurd);
    spawn_says(folder, "not finite");
    const int n = checkpoint_list(stage("nan"), steps, 32);
    assert_true(n > 1);
    checkpoint_name(path, stage("nan"), steps[1]);
    assert_true(is_finite_checkpoint(path));
    snprintf(message, sizeof message, "step %lld: ", (long long)steps[0] + 1);
    spawn_says(folder, message);
    snprintf(message, sizeof message, "the last good checkpoint is step %lld, ",
             (long long)steps[1]);
    spawn_says(folder, message);
    spawn_says(folder, strrchr(path, '/'));
    // it says so again, and does not go on as if nothing had been
    run(1, "nan", absurd);
    spawn_says(folder, message);
    run(1, "limit",
        "pretrain.optimizer=sgd pretrain.lr=100 pretrain.grad_clip=0 "
        "pretrain.schedule=constant pretrain.warmup=0 pretrain.loss_limit=0.5");
    spawn_says(folder, "the loss exploded");
    spawn_says(folder, "there is no checkpoint from before it");
}

/* ---- full disks ---- */

/* The run goes on to its end, and only then fails; the last good checkpoint is still there, and
   with room again the run ends as if nothing had been. */
static void full_disk_loses_nothing(void **state)
{
    (void)state;
    run(0, "whole", "");
    (void)stop_at("full", "", "\"step\":3,", SIGTERM);
    const int64_t saved = same_run_state(stage("full")).step;
    spawn_limit(300 << 10);
    run(1, "full", "");
    spawn_says(folder, "was not saved: ");
    spawn_says(folder, "The run goes on and tries again");
    spawn_says(folder, "the last checkpoint could not be saved");
    assert_int_equal(same_run_state(stage("full")).step, saved);
    spawn_limit(2500); // not even the lines of metrics.jsonl
    run(1, "full", "");
    spawn_says(folder, "the rest waits in memory");
    assert_int_equal(same_run_state(stage("full")).step, saved);
    spawn_limit(0);
    run(0, "full", "");
    same_run(stage("whole"), stage("full"));
}

/* ---- signals ---- */

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A step of many seconds. */
static pid_t start_slow(const char *name)
{
    char named[64], output[300];
    snprintf(named, sizeof named, "name=%s", name);
    snprintf(output, sizeof output, "%s/output", folder);
    const char *argv[] = {"run",
                          "tiny.yaml",
                          named,
                          "threads=1",
                          "model.d_model=256",
                          "model.d_ff=1024",
                          "pretrain.batch_tokens=256Ki",
                          NULL};
    unlink(output);
    const pid_t pid = spawn_start(folder, argv);
    assert_true(spawn_await(pid, output, "steps of 262144 tokens"));
    nanosleep(&(struct timespec){.tv_nsec = 500000000}, NULL);
    return pid;
}

static void signal_inside_a_big_step_is_heard(void **state)
{
    (void)state;
    const pid_t pid = start_slow("slow");
    const double sent = seconds();
    kill(pid, SIGTERM);
    assert_int_equal(spawn_wait(pid), 1);
    const double took = seconds() - sent;
    spawn_says(folder, "SIGTERM: saved step 0 of 12");
    if (took > 2)
        fail_msg("%.2f s from SIGTERM to the end", took);
}

/* Signals sent at once merge into one: the second has to wait for the first's delivery. */
static void await_delivery(pid_t pid)
{
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    for (int i = 0; i < 100000; i++) {
        FILE *f = fopen(path, "r");
        assert_non_null(f);
        const size_t n = fread(text, 1, sizeof text - 1, f);
        fclose(f);
        text[n] = 0;
        const char *pending = strstr(text, "ShdPnd:");
        if (!pending || !strtoull(pending + 7, NULL, 16))
            return;
    }
}

static void second_interrupt_leaves_at_once(void **state)
{
    (void)state;
    int status = 0;
    // the first one alone may come to its end before the second one is sent
    for (int i = 0; i < 5 && status != 128 + SIGINT; i++) {
        const pid_t pid = start_slow("twice");
        kill(pid, SIGINT);
        await_delivery(pid);
        kill(pid, SIGINT);
        status = spawn_wait(pid);
    }
    assert_int_equal(status, 128 + SIGINT);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(stopped_is_unbroken),
        TEST(stopped_inside_a_step_is_unbroken),
        TEST(micro_batches_only_round),
        TEST(explosion_stops_and_names_a_good_checkpoint),
        TEST(full_disk_loses_nothing),
        TEST(signal_inside_a_big_step_is_heard),
        TEST(second_interrupt_leaves_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
