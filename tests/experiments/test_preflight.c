/* What would end a run later is refused before it begins, by check and run alike: the message names
   the place and the reason, and nothing of the run is there afterwards. */
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
#include "tests/datasets/scratch.h"
#include "tests/experiments/capture.h"
#include "tests/experiments/same_run.h"
#include "tests/experiments/spawn.h"

static const char CONFIG[] =
    "name: t\n"
    "data: {corpus: text.txt, tokenizer: {type: byte}, valid_fraction: 20%}\n"
    "model: {n_layers: 1, d_model: 256, n_heads: 4, d_ff: 256, context: 32}\n"
    "stages:\n"
    "  - pretrain: {steps: 2, batch_tokens: 64}\n"
    "  - finetune: {data: pairs.jsonl, steps: 2, batch_tokens: 64}\n"
    "  - qat: {type: q2_k, steps: 2, batch_tokens: 64}\n"
    "  - export: {type: q2_k}\n"
    "  - evaluate: {compare: [pretrain, pretrain@q4_k, qat, export], reference: pretrain}\n";

/* The same with a tokenizer of its own, whose ids are others; and a model that stages start from.
 */
static const char OTHER[] =
    "name: other\n"
    "data: {corpus: text.txt, tokenizer: {type: bpe, vocab_size: 300}, valid_fraction: 20%}\n"
    "model: {n_layers: 1, d_model: 64, n_heads: 2, d_ff: 64, context: 16}\n"
    "stages:\n"
    "  - pretrain: {steps: 1, batch_tokens: 64}\n";

static const char *folder;

static int setup(void **state)
{
    if (scratch_setup(state))
        return -1;
    folder = scratch_folder(*state);
    same_run_text(scratch_path(*state, "text.txt"), 40, 3);
    scratch_text(scratch_path(*state, "short.txt"), "a few words\n");
    char pairs[4000] = "";
    for (int i = 0; i < 50; i++)
        snprintf(pairs + strlen(pairs), sizeof pairs - strlen(pairs),
                 "{\"prompt\": \"a%d\", \"completion\": \"b\"}\n", i);
    scratch_text(scratch_path(*state, "pairs.jsonl"), pairs);
    *pairs = 0;
    for (int i = 0; i < 50; i++)
        snprintf(pairs + strlen(pairs), sizeof pairs - strlen(pairs),
                 "{\"prompt\": \"%033d\", \"completion\": \"b\"}\n", i);
    scratch_text(scratch_path(*state, "long.jsonl"), pairs);
    scratch_text(scratch_path(*state, "three.jsonl"),
                 "{\"prompt\": \"a\", \"completion\": \"b\"}\n"
                 "{\"prompt\": \"c\", \"completion\": \"d\"}\n"
                 "{\"prompt\": \"e\", \"completion\": \"f\"}\n");
    scratch_text(scratch_path(*state, "few.jsonl"), "{\"prompt\": \"a\", \"completion\": \"b\"}\n"
                                                    "{\"prompt\": \"c\", \"completion\": \"d\"}\n");
    scratch_text(scratch_path(*state, "letter.txt"), "a");
    scratch_text(scratch_path(*state, "torn.jsonl"),
                 "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"a\"");
    scratch_text(scratch_path(*state, "keyless.jsonl"),
                 "{\"question\": \"a\", \"answer\": \"b\"}\n");
    scratch_text(scratch_path(*state, "broken.gguf"), "GGUF and no more");
    scratch_text(scratch_path(*state, "broken.h5"), "no checkpoint");
    scratch_text(scratch_path(*state, "empty.txt"), "\n\n");
    scratch_text(scratch_path(*state, "t.yaml"), CONFIG);
    scratch_text(scratch_path(*state, "other.yaml"), OTHER);
    return chdir(folder);
}

/* A config with one thing wrong, by an override; what is said of it. */
struct broken {
    const char *override, *more, *says;
};

static const struct broken broken[] = {
    {"data.corpus=missing.txt", NULL, "override 1: corpus: missing.txt: No such file"},
    {"data.corpus=*.none", NULL, "override 1: corpus: *.none: no file matches"},
    {"data.corpus=empty.txt", NULL, "override 1: corpus: there is no text in it"},
    {"data.corpus=short.txt", NULL, "the training part has at most"},
    {"data.tokenizer={type: file, path: missing.json}", NULL, "override 1: tokenizer: "},
    {"finetune.data=missing.jsonl", NULL, "override 1: data: missing.jsonl: No such file"},
    {"finetune.data=torn.jsonl", NULL, "torn.jsonl"},
    {"finetune.data=keyless.jsonl", NULL, "keyless.jsonl"},
    {"finetune.data=empty.txt", NULL, "override 1: data: there is no text in it"},
    {"finetune.data=short.txt", NULL, "override 1: data: the training part has at most"},
    {"finetune.data=three.jsonl", NULL, "override 1: data: the validation part has no pair"},
    {"finetune.data=long.jsonl", NULL,
     "override 1: data: no prompt of the training part leaves room for its completion in a context "
     "of 32 tokens"},
    {"finetune.from=missing.h5", NULL, "override 1: from: missing.h5: No such file"},
    {"finetune.from=broken.h5", NULL, "override 1: from: broken.h5"},
    {"finetune.from=runs/other/01-pretrain/checkpoint.h5", NULL,
     "has another tokenizer than the corpus"},
    {"qat.teacher=missing.h5", NULL, "override 1: teacher: missing.h5: No such file"},
    {"qat.teacher=runs/other/01-pretrain/checkpoint.h5", NULL,
     "has another tokenizer than the corpus"},
    {"qat.imatrix=missing.gguf", NULL, "override 1: imatrix: "},
    {"qat.imatrix=broken.gguf", NULL, "override 1: imatrix: "},
    {"qat.params=lora", "qat.lora={rank: 1000}", "factors of rank 1000"},
    {"qat.params=lora", "qat.lora={targets: attn_qkv}", "there is no matrix 'attn_qkv'"},
    {"export.imatrix=missing.gguf", "export.type=q4_0", "override 1: imatrix: "},
    {"export.pure=true", NULL, "is in blocks, which are written as they are"},
    {"evaluate.compare=missing.h5", NULL, "override 1: compare: missing.h5: No such file"},
    {"evaluate.compare=missing.gguf", NULL, "override 1: compare: missing.gguf: No such file"},
    {"evaluate.compare=broken.gguf", NULL, "override 1: compare: broken.gguf"},
    {"evaluate.reference=missing.gguf", NULL, "override 1: reference: missing.gguf: No such file"},
    {"evaluate.compare=runs/other/01-pretrain/checkpoint.h5", NULL,
     "has another tokenizer than the corpus"},
    {"pretrain.sample_every=1",
     "pretrain.sample_prompt='much longer than a context of 32 tokens can be'",
     "which leaves no room in a context of 32"},
    {"out=text.txt", NULL, "override 1: out: text.txt: Not a directory"},
    {"out=/proc/runs", NULL, "override 1: out: /proc: "},
    {"model.d_ff=1Mi", "model.n_layers=200", "of memory, there are"},
};

static struct buf out, notes;

/* The command refuses; err() says so. */
static void refused(int (*command)(int argc, char **argv), const char *name, const struct broken *b)
{
    const char *const argv[] = {name, "t.yaml", b->override, b->more, NULL};
    if (!capture_run(command, argv, &out, &notes))
        fail_msg("%s takes %s", name, b->override);
    if (!strstr(err_text(), b->says))
        fail_msg("%s of %s says\n%s\nand not '%s'", name, b->override, err_text(), b->says);
    if (!strstr(err_text(), "in the config\n"))
        fail_msg("%s of %s refuses late: %s", name, b->override, err_text());
}

static void check_and_run_refuse_the_same(void **state)
{
    (void)state;
    char first[2000];
    spawn_expect(folder, 0, "run other.yaml");
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        refused(cmd_check, "check", &broken[i]);
        snprintf(first, sizeof first, "%s", err_text());
        refused(cmd_run, "run", &broken[i]);
        // how much of the disk is free changes all the time
        if (!strstr(first, "MB on the disk") && strncmp(first, err_text(), sizeof first - 1))
            fail_msg("%s: check says\n%s\nrun says\n%s", broken[i].override, first, err_text());
        if (!access("runs/t", F_OK))
            fail_msg("%s: there is a run now", broken[i].override);
    }
}

/* Stages that start from a checkpoint of context 16: no model is in the config. */
static const char FROM[] =
    "name: from\n"
    "data: {corpus: text.txt, tokenizer: {type: file, path: %s}, valid_fraction: 20%%}\n"
    "stages:\n"
    "  - finetune: {from: %s, data: pairs.jsonl, steps: 1, batch_tokens: 64}\n"
    "  - qat: {type: q4_0, steps: 1, batch_tokens: 64}\n";

static void the_context_of_a_checkpoint_counts(void **state)
{
    static const struct broken each[] = {
        {"finetune.data=short.txt", NULL,
         "override 1: data: the training part has at most 9 tokens, one sequence of 16 needs 17: "
         "use more text or smaller batch_tokens"},
        {"data.corpus=short.txt", "data.valid_fraction=0",
         "batch_tokens: the training part has at most 14 tokens, one sequence of 16 needs 17"},
        {"finetune.data=few.jsonl",
         "data={corpus: text.txt, tokenizer: {type: file, path: "
         "runs/other/01-pretrain/checkpoint.h5}, valid_fraction: 0, mask_documents: false}",
         "override 1: data: the training part has at most "},
        {"finetune.data=three.jsonl", NULL, "override 1: data: the validation part has no pair"},
        {"data.corpus=letter.txt", NULL, "override 1: corpus: the validation part has no text"},
    };
    static const char path[] = "runs/other/01-pretrain/checkpoint.h5";
    char text[2000];
    (void)state;
    spawn_expect(folder, 0, "run other.yaml");
    snprintf(text, sizeof text, FROM, path, path);
    scratch_text("t.yaml", text);
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        refused(cmd_check, "check", &each[i]);
        refused(cmd_run, "run", &each[i]);
    }
    spawn_expect(folder, 0,
                 "run t.yaml finetune.batch_tokens=8 qat.batch_tokens=8 "
                 "finetune.data=short.txt data.valid_fraction=0");
}

/* What passes runs; then its files may be gone, for it is done. */
static void what_passes_runs(void **state)
{
    (void)state;
    spawn_expect(folder, 0, "check t.yaml");
    spawn_says(folder, "in all\n");
    spawn_says(folder, "this machine has");
    spawn_says(folder, "MB are free");
    char *text = spawn_output(folder);
    assert_null(strstr(text, "blk.0.attn_q.weight"));
    free(text);
    spawn_expect(folder, 0, "check t.yaml --tensors");
    spawn_says(folder, "blk.0.attn_q.weight");
    spawn_expect(folder, 0, "run t.yaml");
    assert_int_equal(unlink("pairs.jsonl") | unlink("text.txt"), 0);
    spawn_expect(folder, 0, "run t.yaml");
    spawn_says(folder, "is finished");
    spawn_expect(folder, 1, "run t.yaml --fresh");
    spawn_says(folder, "text.txt: No such file");
    assert_int_equal(access("runs/t.1", F_OK), -1); // nothing has moved
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(check_and_run_refuse_the_same, setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(the_context_of_a_checkpoint_counts, setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(what_passes_runs, setup, scratch_teardown),
    };
    const int rc = cmocka_run_group_tests(tests, NULL, NULL);
    buf_free(&out);
    buf_free(&notes);
    return rc;
}
