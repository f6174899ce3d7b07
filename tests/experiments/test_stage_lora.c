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

#include "autograd/base/err.h"
#include "datasets/h5file.h"
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
                             "      params: lora\n"
                             "      lora: {rank: 4, alpha: 8}\n"
                             "      steps: 9\n"
                             "      batch_tokens: 512\n"
                             "      lr: 2e-3\n"
                             "      save_every: 4\n"
                             "      keep_last: 9\n";

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
    static char paths[4][300];
    static int i;
    char *path = paths[i = (i + 1) % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void goes_on(const char *options)
{
    char args[400], path[4096];
    snprintf(args, sizeof args, "run t.yaml name=whole%s", options);
    spawn_expect(folder, 0, args);
    snprintf(args, sizeof args, "run t.yaml%s", options);
    spawn_expect(folder, 0, args);
    for (int s = 5; s <= 9; s++) {
        checkpoint_name(path, at("runs/t/02-qat"), s);
        remove(path);
    }
    assert_int_equal(remove(at("runs/t/02-qat/summary.json")), 0);
    spawn_expect(folder, 0, args);
    spawn_says(folder, "qat: going on from step 4");
    same_run(at("runs/whole/02-qat"), at("runs/t/02-qat"));
}

static void f32_goes_on(void **state)
{
    (void)state;
    goes_on(" qat.precision=f32 qat.teacher=none");
}

static void bf16_goes_on(void **state)
{
    (void)state;
    goes_on(" qat.precision=bf16 qat.optimizer=muon qat.lora.targets=attn_v");
}

/* Bytes of a dataset in the stage's newest checkpoint, to be freed; NULL: there is none. */
static void *dataset(const char *stage, const char *name, size_t *bytes)
{
    struct h5file *f;
    struct h5shape s;
    char path[4096];
    void *x = NULL;
    checkpoint_name(path, at(stage), -1);
    if (h5file_open(&f, path))
        fail_msg("%s", err_text());
    if (h5file_has(f, name)) {
        if (h5file_shape(f, name, &s))
            fail_msg("%s", err_text());
        *bytes = (size_t)s.n * (s.type == H5_U8 ? 1 : sizeof(float));
        x = malloc(*bytes);
        assert_int_equal(h5file_read(f, name, s.type, s.ndim, s.dim, x), 0);
    }
    h5file_close(f);
    return x;
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
    spawn_expect(folder, 0, "run t.yaml name=still qat.lr=0 qat.precision=f32");
    spawn_expect(folder, 0, "run t.yaml qat.steps=40 qat.teacher=none");
    spawn_says(folder, "in factors of rank 4 over Q2_K");
    void *a = dataset("runs/still/02-qat", block, &n), *b = dataset("runs/t/02-qat", block, &k);
    assert_int_equal(n, k);
    assert_memory_equal(a, b, n);
    float *x = dataset("runs/still/02-qat", factor, &n), *y = dataset("runs/t/02-qat", factor, &k);
    double moved = 0;
    for (size_t i = 0; i < n / sizeof *x; i++) {
        assert_true(x[i] == 0); // what is added is nothing at first
        moved = fmax(moved, fabs((double)y[i]));
    }
    assert_true(moved > 1e-3);
    assert_null(dataset("runs/t/02-qat", "weights/blk.0.ffn_up.weight", &n));
    free(a), free(b), free(x), free(y);
    // merged weights of a checkpoint in f32 are what was trained
    const double still = same_run_state(at("runs/still/02-qat")).last_valid;
    const double trained = same_run_state(at("runs/t/02-qat")).last_valid;
    assert_true(trained < still - 0.01);
}

/* Blocks and adapter compute what the checkpoint does; merged they are rounded, and it says so. */
static void comes_out(void **state)
{
    (void)state;
    spawn_expect(folder, 0, "run t.yaml qat.steps=40 qat.teacher=none qat.type=q4_k_m");
    spawn_expect(folder, 0, "export runs/t/02-qat m.gguf --modelfile");
    spawn_says(folder, "m-lora.gguf");
    const double own = perplexity("perplexity -m runs/t/02-qat -f text.txt");
    const double both = perplexity("perplexity -m m.gguf --lora m-lora.gguf -f text.txt");
    const double base = perplexity("perplexity -m m.gguf -f text.txt");
    const double none = perplexity("perplexity -m m.gguf --lora-scaled m-lora.gguf:0 -f text.txt");
    assert_true(fabs(both / own - 1) < 3e-3);
    assert_true(base > 1.01 * both);
    assert_true(fabs(none / base - 1) < 1e-5);
    spawn_expect(folder, 0, "export runs/t/02-qat f.gguf --merge --type f32");
    const double merged = perplexity("perplexity -m f.gguf -f text.txt");
    assert_true(fabs(merged / own - 1) < 1e-4);
    spawn_expect(folder, 0, "export runs/t/02-qat r.gguf --merge");
    spawn_says(folder, "merged weights are rounded again, to Q4_K_M");
    const double rounded = perplexity("perplexity -m r.gguf -f text.txt");
    assert_true(rounded < base && fabs(rounded / own - 1) > 1e-5);
    spawn_expect(folder, 1, "export runs/t/02-qat x.gguf --type q8_0");
    spawn_says(folder, "its factors are over weights in Q4_K_M");
    spawn_expect(folder, 1, "export runs/t/01-pretrain x.gguf --merge");
    spawn_says(folder, "has no factors to merge");
}

/* Over weights that are in no blocks; and as the stages of a run. */
static void stages(void **state)
{
    char config[1600];
    snprintf(config, sizeof config, "%s%s", CONFIG,
             "  - export: {type: q2_k}\n"
             "  - export: {name: one, from: qat, type: q2_k, merge: true}\n"
             "  - evaluate: {compare: [pretrain, qat, qat@q2_k]}\n");
    scratch_text(scratch_path(*state, "all.yaml"), config);
    spawn_expect(folder, 0, "run all.yaml");
    spawn_says(folder, "adapter runs/t/03-export/t-Q2_K-lora.gguf");
    spawn_says(folder, "merged weights are rounded again");
    spawn_says(folder, "qat@q2_k");
    perplexity("perplexity -m runs/t/03-export/t-Q2_K.gguf --lora "
               "runs/t/03-export/t-Q2_K-lora.gguf -f text.txt");
    perplexity("perplexity -m runs/t/04-one/t-Q2_K.gguf -f text.txt");
    for (int i = 0; i < 3; i++) {
        static const char *const types[] = {"f32", "f16", "bf16"};
        char args[300];
        snprintf(args, sizeof args, "run t.yaml name=%s qat.type=%s qat.steps=2", types[i],
                 types[i]);
        spawn_expect(folder, 0, args);
        snprintf(args, sizeof args, "export runs/%s/02-qat %s.gguf", types[i], types[i]);
        spawn_expect(folder, 0, args);
        snprintf(args, sizeof args, "perplexity -m %s.gguf --lora %s-lora.gguf -f text.txt",
                 types[i], types[i]);
        const double both = perplexity(args);
        snprintf(args, sizeof args, "perplexity -m runs/%s/02-qat -f text.txt", types[i]);
        assert_true(fabs(both / perplexity(args) - 1) < 1e-3);
    }
}

/* What was made is what another stage starts from. */
static void others_go_on_from_it(void **state)
{
    (void)state;
    scratch_text(scratch_path(*state, "next.yaml"),
                 "name: next\n"
                 "data:\n"
                 "  corpus: text.txt\n"
                 "  tokenizer: {type: file, path: runs/t/02-qat/checkpoint.h5}\n"
                 "  valid_fraction: 20%\n"
                 "stages:\n"
                 "  - finetune: {from: runs/t/02-qat/checkpoint.h5, data: text.txt, steps: 1,\n"
                 "               batch_tokens: 512, lr: 0, precision: f32}\n");
    spawn_expect(folder, 0, "run t.yaml qat.precision=f32 qat.steps=30");
    spawn_expect(folder, 0, "run next.yaml");
    const double a = same_run_state(at("runs/t/02-qat")).last_valid;
    const double b = same_run_state(at("runs/next/01-finetune")).last_valid;
    assert_true(isfinite(a) && isfinite(b));
    const double p = perplexity("perplexity -m runs/t/02-qat -f text.txt");
    assert_true(fabs(perplexity("perplexity -m runs/next -f text.txt") / p - 1) < 1e-6);
}

/* A file that is in blocks already: factors are trained over those very blocks. */
static void a_file_in_blocks_is_the_base(void **state)
{
    static const char block[] = "blocks/blk.0.attn_v.weight";
    size_t n, k;
    scratch_text(scratch_path(*state, "file.yaml"),
                 "name: file\n"
                 "data:\n"
                 "  corpus: text.txt\n"
                 "  tokenizer: {type: file, path: m.h5}\n"
                 "  valid_fraction: 20%\n"
                 "stages:\n"
                 "  - qat: {from: m.h5, type: q2_k, params: lora, steps: 2, batch_tokens: 512,\n"
                 "          teacher: none, lr: 1e-2}\n");
    spawn_expect(folder, 0, "run t.yaml qat.params=all qat.lora= qat.steps=20 qat.teacher=none");
    spawn_expect(folder, 0, "export runs/t/02-qat m.gguf");
    spawn_expect(folder, 0, "import m.gguf m.h5");
    spawn_expect(folder, 0, "run file.yaml");
    void *a = dataset("runs/t/02-qat", block, &n), *b = dataset("runs/file/01-qat", block, &k);
    assert_int_equal(n, k);
    assert_memory_equal(a, b, n);
    free(a), free(b);
}

static void mistakes_are_found_first(void **state)
{
    static const struct {
        const char *args, *says;
    } cases[] = {
        {"qat.scales=learned", "scales has no effect with params: lora"},
        {"qat.start=0.5", "start has no effect with params: lora"},
        {"qat.ste=plain", "ste has no effect with params: lora"},
        {"qat.lora.targets=attn_x", "did you mean 'attn_q'?"},
        {"qat.lora.targets=ffn_up,ffn_up", "'ffn_up,ffn_up' is no matrix of a block"},
        {"qat.lora.rank=0", "rank"},
        {"qat.params=all", "lora"},
        {"qat.params=scales", "lora"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char args[200];
        snprintf(args, sizeof args, "check t.yaml %s", cases[i].args);
        spawn_expect(folder, 1, args);
        spawn_says(folder, cases[i].says);
    }
    spawn_expect(folder, 1, "run t.yaml qat.lora.targets=attn_qkv");
    spawn_says(folder, "no matrix 'attn_qkv' in the blocks of llama");
    scratch_text(scratch_path(*state, "x.yaml"), CONFIG);
    char config[1600];
    snprintf(config, sizeof config, "%s%s", CONFIG,
             "  - export: {type: q4_k_m}\n"
             "  - export: {name: b, from: pretrain, type: q2_k, merge: true}\n");
    scratch_text(scratch_path(*state, "x.yaml"), config);
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
    return cmocka_run_group_tests(tests, NULL, NULL);
}
