/* The stage `qat` with factors over blocks that stay: it goes on to the bit, learns, and what it
   makes comes out as blocks and an adapter, or merged. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "experiments/summary.h"
#include "tests/datasets/scratch.h"
#include "tests/experiments/qat_run.h"
#include "tests/experiments/same_run.h"
#include "tests/experiments/spawn.h"

#define STAGES                                                                                     \
    QAT_RUN_PRETRAIN                                                                               \
    "  - qat: {type: q2_k, params: lora, lora: {rank: 4, alpha: 8}, steps: 9,\n"                   \
    "          batch_tokens: 128,\n"                                                               \
    "          lr: 2e-3, save_every: 4, keep_last: 9}\n"

static const char *folder;

static int setup(void **state)
{
    if (qat_run_setup(state, &folder))
        return -1;
    qat_run_stages(*state, "t.yaml", STAGES);
    same_run_text(scratch_path(*state, "few.txt"), 8, 3);
    return 0;
}

static void goes_on(const char *options)
{
    qat_run("t", options);
    qat_run_turn_back("runs/t/02-qat", 4);
    qat_run("t", options);
    spawn_says(folder, "qat: going on from step 4");
    same_run(qat_run_at(QAT_RUN_UNBROKEN), qat_run_at("runs/t/02-qat"));
}

static void f32_goes_on(void **state)
{
    (void)state;
    goes_on("qat.precision=f32 qat.teacher=none");
}

static void bf16_goes_on(void **state)
{
    (void)state;
    goes_on("qat.precision=bf16 qat.optimizer=muon qat.lora.targets=attn_v");
}

/* "Final estimate: PPL = 12.3" of the last command. */
static double perplexity(const char *args)
{
    spawn_expect(folder, 0, args);
    char *text = spawn_output(folder);
    const char *line = strstr(text, "PPL = ");
    assert_non_null(line);
    const double x = strtod(line + 6, NULL);
    free(text);
    return x;
}

/* Blocks stay what they were fitted to, whatever the precision; factors move, and that helps. */
static void only_factors_learn(void **state)
{
    static const char block[] = "blocks/blk.0.ffn_up.weight",
                      factor[] = "lora/value/blk.0.ffn_up.weight.lora_b";
    size_t n, k;
    (void)state;
    qat_run("still", "qat.lr=0 qat.precision=f32");
    qat_run("t", "qat.steps=40 qat.teacher=none");
    spawn_says(folder, "in factors of rank 4 over Q2_K");
    void *a = qat_run_dataset("runs/still/02-qat", block, &n),
         *b = qat_run_dataset("runs/t/02-qat", block, &k);
    assert_int_equal(n, k);
    assert_memory_equal(a, b, n);
    float *x = qat_run_dataset("runs/still/02-qat", factor, &n),
          *y = qat_run_dataset("runs/t/02-qat", factor, &k);
    double moved = 0;
    for (size_t i = 0; i < n / sizeof *x; i++) {
        assert_true(x[i] == 0); // what is added is nothing at first
        moved = fmax(moved, fabs((double)y[i]));
    }
    assert_true(moved > 1e-3);
    assert_null(qat_run_dataset("runs/t/02-qat", "weights/blk.0.ffn_up.weight", &n));
    free(a), free(b), free(x), free(y);
    // merged weights of a checkpoint in f32 are what was trained
    const double still = same_run_state(qat_run_at("runs/still/02-qat")).last_valid;
    const double trained = same_run_state(qat_run_at("runs/t/02-qat")).last_valid;
    assert_true(trained < still - 0.01);
}

/* Blocks and adapter compute what the checkpoint does; merged they are rounded, and it says so. */
static void comes_out(void **state)
{
    (void)state;
    qat_run("t", "qat.steps=40 qat.teacher=none qat.type=q4_k_m");
    spawn_expect(folder, 0, "inspect runs/t/02-qat/checkpoint.h5 --tensors");
    spawn_says(folder, "stage          qat");
    spawn_expect(folder, 0, "export runs/t/02-qat m.gguf --modelfile");
    spawn_says(folder, "m-lora.gguf");
    const double own = perplexity("perplexity -m runs/t/02-qat -f few.txt");
    const double both = perplexity("perplexity -m m.gguf --lora m-lora.gguf -f few.txt");
    const double base = perplexity("perplexity -m m.gguf -f few.txt");
    const double none = perplexity("perplexity -m m.gguf --lora-scaled m-lora.gguf:0 -f few.txt");
    assert_true(fabs(both / own - 1) < 3e-3);
    assert_true(base > 1.01 * both);
    assert_true(fabs(none / base - 1) < 1e-5);
    spawn_expect(folder, 0, "export runs/t/02-qat f.gguf --merge --type f32");
    const double merged = perplexity("perplexity -m f.gguf -f few.txt");
    assert_true(fabs(merged / own - 1) < 1e-4);
    spawn_expect(folder, 0, "export runs/t/02-qat r.gguf --merge");
    spawn_says(folder, "merged weights are rounded again, to Q4_K_M");
    const double rounded = perplexity("perplexity -m r.gguf -f few.txt");
    assert_true(rounded < base && fabs(rounded / own - 1) > 1e-5);
    spawn_expect(folder, 1, "export runs/t/02-qat x.gguf --type q8_0");
    spawn_says(folder, "its factors are over weights in Q4_K_M");
    spawn_expect(folder, 1, "export runs/t/01-pretrain x.gguf --merge");
    spawn_says(folder, "has no factors to merge");
}

/* Over weights that are in no blocks; and as the stages of a run. */
static void stages(void **state)
{
    qat_run_stages(*state, "t.yaml",
                   STAGES
                   "  - export: {type: q2_k}\n"
                   "  - export: {name: one, from: qat, type: q2_k, merge: true}\n"
                   "  - evaluate: {compare: [qat, export, qat@q2_k, one], reference: qat}\n");
    qat_run("t", "qat.teacher=none qat.steps=40");
    spawn_says(folder, "adapter runs/t/03-export/t-Q2_K-lora.gguf");
    spawn_says(folder, "merged weights are rounded again");
    struct summary sum; // both files are measured, one of them with its adapter
    assert_int_equal(summary_read(&sum, qat_run_at("runs/t/05-evaluate/summary.json")), 0);
    const double files = sum.row[1].kld, merged = sum.row[2].kld, one = sum.row[3].kld;
    if (!(files > 0 && merged > 3 * files && fabs(one - merged) < 0.1 * merged))
        fail_msg("divergences of %g, merged %g, its file %g", files, merged, one);
    assert_true(fabs(sum.row[0].kld) < 1e-12);
    summary_free(&sum);
    perplexity("perplexity -m runs/t/03-export/t-Q2_K.gguf --lora "
               "runs/t/03-export/t-Q2_K-lora.gguf -f few.txt");
    perplexity("perplexity -m runs/t/04-one/t-Q2_K.gguf -f few.txt");
    qat_run_stages(*state, "t.yaml", STAGES);
    for (int i = 0; i < 3; i++) {
        static const char *const types[] = {"f32", "f16", "bf16"};
        char args[300];
        snprintf(args, sizeof args, "qat.type=%s qat.steps=2", types[i]);
        qat_run(types[i], args);
        snprintf(args, sizeof args, "export runs/%s/02-qat %s.gguf", types[i], types[i]);
        spawn_expect(folder, 0, args);
        snprintf(args, sizeof args, "perplexity -m %s.gguf --lora %s-lora.gguf -f few.txt",
                 types[i], types[i]);
        const double both = perplexity(args);
        snprintf(args, sizeof args, "perplexity -m runs/%s/02-qat -f few.txt", types[i]);
        assert_true(fabs(both / perplexity(args) - 1) < 1e-3);
    }
}

/* What was made is what another stage starts from. */
static void others_go_on_from_it(void **state)
{
    (void)state;
    qat_run_next(*state, "next", "runs/t/02-qat/checkpoint.h5",
                 "  - finetune: {from: runs/t/02-qat/checkpoint.h5, data: text.txt, steps: 1,\n"
                 "               batch_tokens: 128, lr: 0, precision: f32}\n");
    qat_run("t", "qat.precision=f32 qat.steps=30");
    spawn_expect(folder, 0, "run next.yaml");
    const double a = same_run_state(qat_run_at("runs/t/02-qat")).last_valid;
    const double b = same_run_state(qat_run_at("runs/next/01-finetune")).last_valid;
    assert_true(isfinite(a) && isfinite(b));
    const double p = perplexity("perplexity -m runs/t/02-qat -f few.txt");
    assert_true(fabs(perplexity("perplexity -m runs/next -f few.txt") / p - 1) < 1e-6);
}

/* A file that is in blocks already: factors are trained over those very blocks. */
static void a_file_in_blocks_is_the_base(void **state)
{
    static const char block[] = "blocks/blk.0.attn_v.weight";
    size_t n, k;
    qat_run_next(*state, "file", "m.h5",
                 "  - qat: {from: m.h5, type: q2_k, params: lora, steps: 2, batch_tokens: 128,\n"
                 "          teacher: none, lr: 1e-2}\n");
    qat_run("t", "qat.params=all qat.lora= qat.steps=20 qat.teacher=none");
    spawn_expect(folder, 0, "export runs/t/02-qat m.gguf");
    spawn_expect(folder, 0, "import m.gguf m.h5");
    spawn_expect(folder, 0, "run file.yaml");
    void *a = qat_run_dataset("runs/t/02-qat", block, &n),
         *b = qat_run_dataset("runs/file/01-qat", block, &k);
    assert_int_equal(n, k);
    assert_memory_equal(a, b, n);
    free(a), free(b);
}

static void mistakes_are_found_first(void **state)
{
    qat_run_refused("qat.scales=learned", "scales has no effect with params: lora");
    qat_run_refused("qat.start=0.5", "start has no effect with params: lora");
    qat_run_refused("qat.ste=plain", "ste has no effect with params: lora");
    qat_run_refused("qat.lora.targets=attn_x", "did you mean 'attn_q'?");
    qat_run_refused("qat.lora.targets=ffn_up,ffn_up", "'ffn_up,ffn_up' is no matrix of a block");
    qat_run_refused("qat.lora.rank=0", "rank");
    qat_run_refused("qat.params=all", "lora");
    qat_run_refused("qat.params=scales", "lora");
    spawn_expect(folder, 1, "run t.yaml qat.lora.targets=attn_qkv");
    spawn_says(folder, "no matrix 'attn_qkv' in the blocks of llama");
    qat_run_stages(*state, "x.yaml",
                   STAGES "  - export: {type: q4_k_m}\n"
                          "  - export: {name: b, from: pretrain, type: q2_k, merge: true}\n");
    spawn_expect(folder, 1, "check x.yaml");
    spawn_says(folder, "the factors of 'qat' are over weights in Q2_K");
    spawn_says(folder, "merge: 'pretrain' has no factors");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(f32_goes_on),
        TEST(bf16_goes_on),
        TEST(only_factors_learn),
        TEST(comes_out),
        TEST(stages),
        TEST(others_go_on_from_it),
        TEST(mistakes_are_found_first),
        TEST(a_file_in_blocks_is_the_base),
    };
    return cmocka_run_group_tests(tests, qat_run_pretrain, qat_run_clean);
}
