/* SIGKILL at random moments: of building the corpus, steps, evaluations, samples, saves. The run
   always goes on and ends as the unbroken one. Environment: KILLS (5), THREADS (2), SEED (the
   clock's). */
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

#include "experiments/summary.h"
#include "tests/datasets/gibberish.h"
#include "tests/datasets/scratch.h"
#include "tests/experiments/same_run.h"
#include "tests/experiments/spawn.h"

static const char CONFIG[] = "name: killed\n"
                             "data:\n"
                             "  corpus: text.txt\n"
                             "  tokenizer: {type: bpe, vocab_size: 320}\n"
                             "  valid_fraction: 20%\n"
                             "model:\n"
                             "  n_layers: 2\n"
                             "  d_model: 32\n"
                             "  n_heads: 4\n"
                             "  n_kv_heads: 2\n"
                             "  d_ff: 64\n"
                             "  context: 64\n"
                             "  dropout: 0.1\n"
                             "stages:\n"
                             "  - pretrain:\n"
                             "      steps: 40\n"
                             "      batch_tokens: 512\n"
                             "      micro_batch_tokens: 256\n"
                             "      lr: 1e-2\n"
                             "      eval_every: 7\n"
                             "      sample_every: 9\n"
                             "      sample_prompt: the king\n"
                             "      sample_tokens: 40\n"
                             "      save_every: 2\n"
                             "  - finetune:\n"
                             "      data: more.txt\n"
                             "      steps: 12\n"
                             "      batch_tokens: 512\n"
                             "      lr: 1e-3\n"
                             "      save_every: 1\n"
                             "  - evaluate:\n"
                             "      compare: [pretrain, finetune]\n";

static const char *folder;

static int setup(void **state)
{
    if (scratch_setup(state))
        return -1;
    folder = scratch_folder(*state);
    same_run_text(scratch_path(*state, "text.txt"), 300, 7);
    same_run_text(scratch_path(*state, "more.txt"), 100, 8);
    scratch_text(scratch_path(*state, "kill.yaml"), CONFIG);
    return 0;
}

static uint64_t number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A path in the scratch folder, static until the fourth call from now. */
static const char *at(const char *name)
{
    static char paths[4][300];
    static int i;
    char *path = paths[i = (i + 1) % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void must_be_as_unbroken(void)
{
    struct summary a, b;
    same_run(at("runs/whole/01-pretrain"), at("runs/killed/01-pretrain"));
    same_run(at("runs/whole/02-finetune"), at("runs/killed/02-finetune"));
    assert_int_equal(summary_read(&a, at("runs/whole/03-evaluate/summary.json")), 0);
    assert_int_equal(summary_read(&b, at("runs/killed/03-evaluate/summary.json")), 0);
    assert_int_equal(a.n_rows, 2);
    assert_int_equal(b.n_rows, 2);
    for (int i = 0; i < 2; i++)
        assert_memory_equal(&a.row[i].loss, &b.row[i].loss, sizeof(double));
    summary_free(&a);
    summary_free(&b);
}

static void empty_cache(void)
{
    static int n;
    char old[32];
    snprintf(old, sizeof old, "old-data-%d", n++);
    (void)rename(at("data"), at(old));
}

/* What was under way, by what is there. */
static int where(void)
{
    return access(at("runs/killed/01-pretrain/metrics.jsonl"), F_OK)  ? 0
           : access(at("runs/killed/01-pretrain/summary.json"), F_OK) ? 1
           : access(at("runs/killed/02-finetune/summary.json"), F_OK) ? 2
                                                                      : 3;
}

/* Starts the run and kills it after `delay` seconds; false: it had come to its end. */
static bool kill_after(double delay, const char *threads)
{
    const char *argv[] = {"run", "kill.yaml", threads, NULL};
    const struct timespec t = {.tv_sec = (time_t)delay,
                               .tv_nsec = (long)((delay - (double)(time_t)delay) * 1e9)};
    const pid_t pid = spawn_start(folder, argv);
    nanosleep(&t, NULL);
    kill(pid, SIGKILL);
    const int status = spawn_wait(pid);
    char *said = spawn_output(folder);
    if ((status && status != 128 + SIGKILL) || strstr(said, "warning"))
        fail_msg("exit status %d after a kill:\n%s", status, said);
    free(said);
    return status != 0;
}

static void killed_is_unbroken(void **state)
{
    (void)state;
    const uint64_t kills = number("KILLS", 5), seed = number("SEED", (uint64_t)time(NULL));
    uint64_t rng = seed * 2 + 1, killed = 0, ended = 0, hit[4] = {0};
    char threads[32], args[64], done[32];
    snprintf(threads, sizeof threads, "threads=%d", (int)number("THREADS", 2));
    snprintf(args, sizeof args, "run kill.yaml name=whole %s", threads);
    const double began = seconds();
    spawn_expect(folder, 0, args);
    const double whole = seconds() - began;
    print_message("%d kills, %s, SEED=%llu, unbroken in %.2f s\n", (int)kills, threads,
                  (unsigned long long)seed, whole);
    for (uint64_t i = 0; killed < kills && i < 40 * kills + 40; i++) {
        // the cache goes at times, so that kills also hit the making of a corpus
        if (i % 4 == 0)
            empty_cache();
        const double share = (double)gibberish_below(&rng, 1 << 20) / (1 << 20);
        if (kill_after(share * whole * 0.7, threads)) {
            killed++;
            hit[where()]++;
            continue;
        }
        must_be_as_unbroken();
        ended++;
        snprintf(done, sizeof done, "done-%d", (int)ended);
        assert_int_equal(rename(at("runs/killed"), at(done)), 0);
    }
    assert_int_equal(killed, kills);
    snprintf(args, sizeof args, "run kill.yaml %s", threads);
    spawn_expect(folder, 0, args);
    must_be_as_unbroken();
    print_message("killed before the first step %d, in pretrain %d, finetune %d, evaluate %d; "
                  "came to its end %d times in between\n",
                  (int)hit[0], (int)hit[1], (int)hit[2], (int)hit[3], (int)ended);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(killed_is_unbroken, setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
