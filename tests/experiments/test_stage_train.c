/* Where a stage's model and text come from: fine-tuning, and starting from a checkpoint. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

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
                             "  d_model: 32\n"
                             "  n_heads: 2\n"
                             "  d_ff: 64\n"
                             "  context: 32\n"
                             "stages:\n"
                             "  - pretrain:\n"
                             "      steps: 4\n"
                             "      batch_tokens: 256\n"
                             "      lr: 1e-2\n"
                             "  - finetune:\n"
                             "      data: more.jsonl\n"
                             "      steps: 60\n"
                             "      batch_tokens: 512\n"
                             "      lr: 1e-2\n"
                             "      save_every: 20\n";

static const char FROM[] = "name: next\n"
                           "data:\n"
                           "  corpus: text.txt\n"
                           "  tokenizer: {type: file, path: runs/t/01-pretrain/checkpoint.h5}\n"
                           "  valid_fraction: 20%\n"
                           "stages:\n"
                           "  - pretrain:\n"
                           "      from: runs/t/01-pretrain/checkpoint.h5\n"
                           "      steps: 2\n"
                           "      batch_tokens: 256\n"
                           "      lr: 0\n"
                           "      weight_decay: 0\n"
                           "  - evaluate:\n"
                           "      compare: [pretrain, runs/t/01-pretrain/checkpoint.h5]\n";

static const char *folder;

/* Prompts of random letters, which nothing can learn, and one completion, which anything can: as
   pairs, and as the same text without a mask. */
static void write_pairs(const char *jsonl, const char *txt)
{
    FILE *f = fopen(jsonl, "w"), *g = fopen(txt, "w");
    assert_true(f && g);
    uint32_t x = 1;
    for (int i = 0; i < 400; i++) {
        char prompt[17] = "";
        for (int k = 0; k < 16; k++) {
            x = x * 1664525u + 1013904223u;
            prompt[k] = (char)('a' + (x >> 16) % 26);
        }
        fprintf(f, "{\"prompt\": \"%s\", \"completion\": \" so be it.\"}\n", prompt);
        fprintf(g, "%s so be it.\n\n", prompt);
    }
    assert_int_equal(fclose(f) | fclose(g), 0);
}

static int setup(void **state)
{
    if (scratch_setup(state))
        return -1;
    folder = scratch_folder(*state);
    same_run_text(scratch_path(*state, "text.txt"), 40, 3);
    write_pairs(scratch_path(*state, "more.jsonl"), scratch_path(*state, "more.txt"));
    scratch_text(scratch_path(*state, "t.yaml"), CONFIG);
    scratch_text(scratch_path(*state, "from.yaml"), FROM);
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

static void only_completions_are_learnt(void **state)
{
    (void)state;
    spawn_expect(folder, 0, "run t.yaml");
    const struct checkpoint_state pairs = same_run_state(at("runs/t/02-finetune"));
    // 10 bytes and the end of the text, all of them certain but for what the prompt's end is
    assert_true(pairs.last_valid < 0.3);
    assert_true(fabs(pairs.last_bpb - pairs.last_valid * 11 / 10 / log(2)) < 0.01);
    spawn_expect(folder, 0, "run t.yaml name=text finetune.data=more.txt");
    // 16 of 27 or 28 tokens are random: ln(26) nats each
    const double loss = same_run_state(at("runs/text/02-finetune")).last_valid;
    const double least = 16.0 / 28 * log(26);
    assert_true(loss > least - 0.1 && loss < least + 0.6);
    // the same shape as the pretrained one, but no longer the same weights
    assert_true(same_run_distance(at("runs/t/01-pretrain"), at("runs/t/02-finetune")) > 1e-3);
}

static void finetuning_goes_on_where_it_stopped(void **state)
{
    (void)state;
    char path[4096];
    spawn_expect(folder, 0, "run t.yaml name=whole");
    spawn_expect(folder, 0, "run t.yaml");
    same_run(at("runs/whole/02-finetune"), at("runs/t/02-finetune"));
    checkpoint_name(path, at("runs/t/02-finetune"), 60);
    assert_int_equal(remove(path), 0);
    assert_int_equal(remove(at("runs/t/02-finetune/summary.json")), 0);
    spawn_expect(folder, 0, "run t.yaml");
    spawn_says(folder, "finetune: going on from step 40");
    same_run(at("runs/whole/02-finetune"), at("runs/t/02-finetune"));
}

static void a_checkpoint_is_a_start(void **state)
{
    (void)state;
    spawn_expect(folder, 0, "run t.yaml");
    spawn_expect(folder, 0, "run from.yaml");
    assert_true(same_run_distance(at("runs/t/01-pretrain"), at("runs/next/01-pretrain")) == 0);
    const struct checkpoint_state was = same_run_state(at("runs/t/01-pretrain"));
    const struct checkpoint_state now = same_run_state(at("runs/next/01-pretrain"));
    assert_true(fabs(was.last_valid - now.last_valid) < 1e-5);
    assert_int_equal(now.step, 2);
    assert_int_equal(now.tokens, 512);
    spawn_expect(folder, 1,
                 "run from.yaml name=other data.tokenizer.type=bpe data.tokenizer.path= "
                 "data.tokenizer.vocab_size=300");
    spawn_says(folder, "has another tokenizer than the corpus");
    spawn_expect(folder, 1, "run from.yaml name=third pretrain.from=runs/none.h5");
    spawn_says(folder, "runs/none.h5: No such file");
}

/* Fourteen prompts of three letters, each with a word of its own. */
static const char *const words[] = {"apple", "bread", "cloud", "delta", "eagle", "flame", "grape",
                                    "honey", "igloo", "jewel", "knife", "lemon", "mango", "night"};
enum { WORDS = sizeof words / sizeof *words };

static void write_words(void)
{
    FILE *pairs = fopen(at("more.jsonl"), "w"), *prompts = fopen(at("prompts.jsonl"), "w");
    assert_true(pairs && prompts);
    for (int i = 0; i < WORDS; i++) {
        fprintf(pairs, "{\"prompt\": \"%c%c:\", \"completion\": \" %s\"}\n", 'a' + i, 'b' + i,
                words[i]);
        fprintf(prompts, "{\"prompt\": \"%c%c:\"}\n", 'a' + i, 'b' + i);
    }
    assert_int_equal(fclose(pairs) | fclose(prompts), 0);
}

/* Pairs learn nothing of those beside them: a prompt alone is answered as it was learnt. */
static void each_prompt_has_its_answer(void **state)
{
    (void)state;
    write_words();
    spawn_expect(
        folder, 0,
        "run t.yaml model.n_layers=2 model.d_model=64 model.n_heads=4 model.d_ff=128 "
        "model.context=64 finetune.batch_tokens=256 finetune.steps=120 finetune.precision=f32 "
        "data.valid_fraction=0");
    spawn_expect(folder, 0, "generate -m runs/t -n 12 --temp 0 --prompts prompts.jsonl");
    for (int i = 0; i < WORDS; i++) {
        char line[100];
        snprintf(line, sizeof line, "\"index\": %d, \"sample\": 0, \"text\": \" %s\"", i, words[i]);
        spawn_says(folder, line);
    }
}

/* A prompt longer than several batches is left out, and said; where documents are joined its
   batches are skipped. */
static void a_prompt_longer_than_batches(void **state)
{
    (void)state;
    FILE *f = fopen(at("more.jsonl"), "w");
    assert_non_null(f);
    for (int i = 0; i < 80; i++)
        fprintf(f, "{\"prompt\": \"%0*d\", \"completion\": \" so\"}\n", i == 9 ? 2000 : 4, i);
    assert_int_equal(fclose(f), 0);
    spawn_expect(folder, 0, "run t.yaml data.valid_fraction=0 finetune.batch_tokens=64");
    spawn_says(folder, "finetune: 1 of 80 pairs of the train part are left out: in a context of 32 "
                       "tokens nothing of their completion is to be predicted (the first is number "
                       "10, of 2004 tokens)");
    spawn_expect(folder, 0,
                 "run t.yaml name=joined data.valid_fraction=0 data.mask_documents=false "
                 "finetune.batch_tokens=64");
    spawn_says(folder, "no token of the batch has a target: it is skipped");
    spawn_expect(folder, 1, "run t.yaml name=none data.valid_fraction=0 model.context=2");
    spawn_says(folder,
               "no prompt of the training part leaves room for its completion in a context of "
               "2 tokens");
}

/* A model's context may be longer than what it is tuned on: sequences are as long as a batch, or a
   part of one. */
static void batches_may_be_shorter_than_the_context(void **state)
{
    (void)state;
    write_words();
    spawn_expect(folder, 0,
                 "run t.yaml model.context=256 finetune.steps=1 finetune.batch_tokens=512");
    scratch_text(at("short.yaml"),
                 "name: short\n"
                 "data: {corpus: text.txt, valid_fraction: 0,\n"
                 "       tokenizer: {type: file, path: runs/t/01-pretrain/"
                 "checkpoint.h5}}\n"
                 "stages:\n"
                 "  - finetune: {from: runs/t/01-pretrain/checkpoint.h5,\n"
                 "               data: more.jsonl, epochs: 2, batch_tokens: 64}\n");
    spawn_expect(folder, 0, "run short.yaml");
    spawn_says(folder,
               "sequences of 64 tokens, as its batches are smaller than the model's context "
               "of 256");
    spawn_says(folder, " 6 steps of 64 tokens"); // 14 pairs of 10 tokens: 6, 6 and 2 in a window
    spawn_expect(folder, 0, "check short.yaml");
    spawn_says(folder, "64 tokens: 1 sequences of 64, 64 tokens at once");
    spawn_expect(folder, 0,
                 "run short.yaml name=parts finetune.batch_tokens=256 "
                 "finetune.micro_batch_tokens=32");
    spawn_says(folder, "sequences of 32 tokens");
}

/* What can only fail hours later is looked at before the first step. */
static void a_prompt_that_is_too_long_is_refused_at_once(void **state)
{
    (void)state;
    spawn_expect(folder, 1,
                 "run t.yaml pretrain.sample_every=4 "
                 "pretrain.sample_prompt=abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz");
    spawn_says(folder, "sample_prompt: ");
    spawn_says(folder, "52 tokens");
    int64_t steps[4];
    assert_int_equal(checkpoint_list(at("runs/t/01-pretrain"), steps, 4), 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(only_completions_are_learnt),
        TEST(finetuning_goes_on_where_it_stopped),
        TEST(each_prompt_has_its_answer),
        TEST(a_prompt_longer_than_batches),
        TEST(batches_may_be_shorter_than_the_context),
        TEST(a_checkpoint_is_a_start),
        TEST(a_prompt_that_is_too_long_is_refused_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
