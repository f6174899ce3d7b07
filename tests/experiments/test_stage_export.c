#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "experiments/cmd.h"
#include "experiments/config.h"
#include "experiments/model_gguf.h"
#include "experiments/summary.h"
#include "tests/datasets/scratch.h"
#include "tests/experiments/capture.h"

/* A model of bytes, whose feed-forward rows are no blocks of 256. */
static const char text[] =
    "name: tiny\n"
    "data: {corpus: text.txt, tokenizer: {type: byte}, split_on: none, valid: tail,\n"
    "       valid_fraction: 0.3}\n"
    "model: {arch: llama, n_layers: 2, d_model: 64, n_heads: 2, d_ff: 96, context: 32}\n"
    "stages:\n"
    "  - pretrain: {steps: 2, batch_tokens: 64, precision: f32}\n"
    "  - export: {type: q8_0, tensor_type: ['ffn_down=f16'], name: small}\n"
    "  - evaluate: {reference: pretrain,\n"
    "       compare: [pretrain, pretrain@f32, pretrain@q8_0, runs/tiny/02-small/tiny-Q8_0.gguf]}\n"
    "  - export: {type: q8_0, from: pretrain, name: plain}\n";

static int setup(void **state)
{
    char words[4000];
    if (scratch_setup(state) || chdir(scratch_folder(*state)))
        return -1;
    for (size_t i = 0; i < sizeof words; i++)
        words[i] = (char)('a' + i * i % 25);
    scratch_write("text.txt", words, sizeof words);
    scratch_text("c.yaml", text);
    return 0;
}

static void run(int (*command)(int argc, char **argv), const char *const *argv, struct buf *out)
{
    struct buf notes = {0};
    buf_clear(out);
    if (capture_run(command, argv, out, &notes))
        fail_msg("%s", err_text());
    buf_free(&notes);
}

/* The stage's file is there, of the size that check said, and is the model; evaluate measured what
   such files decode to. */
static void a_run_ends_with_a_file(void **state)
{
    static const char file[] = "runs/tiny/02-small/tiny-Q8_0.gguf";
    (void)state;
    struct buf out = {0};
    struct stat s;
    struct summary sum;
    char size[64];
    run(cmd_check, (const char *[]){"check", "c.yaml", "--tensors", NULL}, &out);
    struct buf check = out;
    out = (struct buf){0};
    run(cmd_run, (const char *[]){"run", "c.yaml", NULL}, &out);
    assert_non_null(strstr(out.p, file));
    assert_int_equal(stat(file, &s), 0);
    snprintf(size, sizeof size, "file size           %lld bytes\n", (long long)s.st_size);
    if (!strstr(check.p, size))
        fail_msg("'%s' is not in\n%s", size, check.p);
    assert_non_null(strstr(check.p, "blk.0.ffn_down.weight               64 x 96      f16 "));
    assert_int_equal(access("runs/tiny/02-small/Modelfile", F_OK), 0);
    struct transformer m;
    struct tokenizer *t;
    if (model_gguf_use(file, &m, &t))
        fail_msg("%s", err_text());
    assert_string_equal(m.blocks[0].ffn_down.weight->used.dt->name, "f16");
    assert_string_equal(m.blocks[0].attn_q.weight->used.dt->name, "q8_0");
    transformer_free(&m);
    tokenizer_free(t);
    assert_int_equal(summary_read(&sum, "runs/tiny/02-small/summary.json"), 0);
    assert_string_equal(sum.kind, "export");
    assert_string_equal(sum.fact[0].value, file);
    summary_free(&sum);
    assert_int_equal(summary_read(&sum, "runs/tiny/03-evaluate/summary.json"), 0);
    assert_int_equal(sum.n_rows, 4);
    assert_true(sum.row[0].loss == sum.row[1].loss); // f32 loses nothing
    assert_true(sum.row[0].loss != sum.row[2].loss);
    assert_true(sum.row[0].loss - sum.row[2].loss < 0.01 &&
                sum.row[2].loss - sum.row[0].loss < 0.01);
    assert_true(sum.row[2].size > 0 && sum.row[1].size > 2 * sum.row[2].size);
    assert_int_equal(sum.row[0].size, 0);
    assert_true(fabs(sum.row[0].kld) < 1e-12 && fabs(sum.row[1].kld) < 1e-12);
    assert_true(sum.row[2].kld > 1e-9 && sum.row[2].kld < 1e-2 && sum.row[2].kld_error > 0);
    // the file itself, multiplied in its blocks
    assert_int_equal(sum.row[3].size, s.st_size);
    assert_true(sum.row[3].kld > 1e-9 && sum.row[3].kld < 1e-2);
    assert_true(fabs(sum.row[3].loss - sum.row[2].loss) < 0.01);
    assert_int_equal(stat("runs/tiny/04-plain/tiny-Q8_0.gguf", &s), 0);
    assert_int_equal(sum.row[2].size, s.st_size);
    summary_free(&sum);
    buf_free(&out);
    buf_free(&check);
}

/* Keys that change no result change no byte of the file. */
static void what_does_not_count_leaves_the_file(void **state)
{
    (void)state;
    static const char *const ways[][9] = {
        {"run", "c.yaml", "out=a", "evaluate.compare=pretrain", NULL},
        {"run", "c.yaml", "out=b", "evaluate.compare=small", "threads=1",
         "pretrain.recompute=blocks", "pretrain.save_every=1", "pretrain.tensorboard=true", NULL},
    };
    struct buf out = {0};
    size_t n[2];
    char *file[2];
    for (int i = 0; i < 2; i++) {
        char path[100];
        run(cmd_run, ways[i], &out);
        snprintf(path, sizeof path, "%c/tiny/02-small/tiny-Q8_0.gguf", 'a' + i);
        file[i] = scratch_read(path, &n[i]);
    }
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(file[0], file[1], n[0]);
    free(file[0]);
    free(file[1]);
    buf_free(&out);
}

static void assert_mistake(const char *override, const char *part)
{
    struct config c;
    if (!config_read(&c, "c.yaml", 1, &override))
        fail_msg("%s: accepted", override);
    if (!strstr(err_text(), part))
        fail_msg("'%s' is not in '%s'", part, err_text());
    config_free(&c);
}

static void mistakes_are_found_before_anything_runs(void **state)
{
    (void)state;
    assert_mistake("small.type=q4_k_x", "type: there is no type 'q4_k_x'");
    assert_mistake("small.output_tensor_type=q9", "output_tensor_type: ");
    assert_mistake("small.token_embedding_type=q9", "token_embedding_type: ");
    assert_mistake("small.tensor_type=ffn", "REGEX=TYPE");
    assert_mistake("small.from=pretrian", "did you mean 'pretrain'?");
    assert_mistake("small.from=scratch", "only pretrain can start from scratch");
    assert_mistake("evaluate.compare=pretrain@q4_k_x", "there is no type 'q4_k_x'");
    assert_mistake("evaluate.compare=pretrian@q4_k_m", "did you mean 'pretrain'?");
    assert_mistake("evaluate.compare=small@q4_k_m", "a GGUF file is measured as it is");
    assert_mistake("evaluate.reference=small", "makes no model");
    assert_mistake("evaluate.compare=a.gguf@q4_k_m", "a GGUF file is measured as it is");
    assert_mistake("evaluate.reference=pretrian", "did you mean 'pretrain'?");
}

static void names_are_cut_at_the_last_at(void **state)
{
    (void)state;
    const char *type;
    assert_int_equal(config_compare_name("a/b@c.h5@q4_0", &type), 8);
    assert_string_equal(type, "q4_0");
    assert_int_equal(config_compare_name("pretrain", &type), 8);
    assert_null(type);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_run_ends_with_a_file),
        TEST(what_does_not_count_leaves_the_file),
        TEST(mistakes_are_found_before_anything_runs),
        TEST(names_are_cut_at_the_last_at),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
