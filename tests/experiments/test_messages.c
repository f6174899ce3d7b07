/* A newcomer's slips on the command line: each ends with 1, or 2 where the call is wrong, and a
   message that names the place and what to do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "tests/datasets/scratch.h"
#include "tests/experiments/spawn.h"

static const char CONFIG[] =
    "name: t\ndata: {corpus: text.txt, tokenizer: {type: byte}}\n"
    "model: {n_layers: 1, d_model: 32, n_heads: 2, d_ff: 32, context: 32}\n"
    "stages:\n  - pretrain: {steps: 2, batch_tokens: 64}\n";

static const struct {
    const char *call;
    int status;
    const char *text;
} slips[] = {
    {"", 2, "a command is missing"},
    {"runn t.yaml", 2, "did you mean 'run'?"},
    {"confg", 2, "did you mean 'help config'?"},
    {"--hlep", 2, "did you mean '--help'?"},
    {"version", 2, "did you mean '--version'?"},
    {"help config finetun", 2, "did you mean 'finetune'?"},
    {"help config hidden_size", 2, "did you mean 'd_model'?"},
    {"run", 2, "missing CONFIG; usage: attar run CONFIG.yaml"},
    {"run tt.yaml", 1, "tt.yaml: No such file or directory; did you mean t.yaml?"},
    {"run experiments/configs/t.yaml", 1, "there is no folder 'experiments' in the current one, "},
    {"run folder", 1, "folder is a folder: a config is wanted"},
    {"run t.yaml --seed=2", 2, "a key of the config is given without --, as in seed=2"},
    {"run t.yaml seed = 2", 1, "'seed' is not KEY=VALUE"},
    {"run t.yaml lr=1e-3", 1, "unknown key 'lr'; did you mean pretrain.lr?"},
    {"run t.yaml pretrain.from=x.gguf", 1,
     "`attar import x.gguf NAME.h5` makes a checkpoint of it"},
    {"run t.yaml data.corpus=txt.txt", 1, "did you mean text.txt?"},
    {"generate", 2, "missing --model; usage: attar generate -m MODEL"},
    {"generate -m", 2, "-m needs a value"},
    {"generate -m folder -p x", 1, "folder: no checkpoint.h5 in this folder"},
    {"generate -m holder -p x", 1, "did you mean holder/a.gguf?"},
    {"generate -m text.txt -p x", 1,
     "text.txt: no model: neither a checkpoint .h5 nor a GGUF file"},
    {"generate -m t.h5 -p And God", 2, "(text with blanks wants quotes)"},
    {"generate -m t.h5 --temperature 1", 2, "did you mean --temp?"},
    {"generate -m t.h5 -n 10k", 2, "did you mean '10K'?"},
    {"perplexity -m text.txt", 2, "missing --file"},
    {"export text.txt", 2, "missing OUT"},
    {"quantize a.gguf b.gguf", 2, "'b.gguf' stands where the type does"},
    {"quantize a.gguf b.gguf Q4KM", 1, "there is no type 'Q4KM'; did you mean Q4_K_M?"},
    {"quantize folder b.gguf Q4_K_M", 1, "folder: a folder, and a file is wanted"},
    {"import Some/Model m.h5", 1,
     "(nothing is fetched: a model's folder or GGUF file has to be there)"},
    {"import text.txt m.bin", 2, "has to end in .h5"},
    {"inspect text.txt", 1, "no .h5 of this program, no .gguf, .safetensors or tokenizer.json"},
    {"inspect metrics.jsonl", 1, "(a text that begins with { is taken for a tokenizer.json)"},
    {"report folder", 1, "no run: it has no stage folders such as 01-pretrain"},
    {"report run/01-pretrain", 1, "a stage's folder, and a run's is wanted: "},
    {"report runn", 1, "did you mean run?"},
    {"tokenizer trian", 2, "did you mean 'train'?"},
    {"tokenizer train -o t.json text.txt", 2, "missing --vocab-size"},
    {"data bild", 2, "did you mean 'build'?"},
};

static void slips_are_told(void **state)
{
    const char *folder = scratch_folder(*state);
    static const char *const folders[] = {"folder", "holder", "run", "run/01-pretrain"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        assert_int_equal(mkdir(scratch_path(*state, folders[i]), 0777), 0);
    scratch_text(scratch_path(*state, "t.yaml"), CONFIG);
    scratch_text(scratch_path(*state, "text.txt"), "In the beginning\n");
    scratch_text(scratch_path(*state, "metrics.jsonl"), "{\"step\":1}\n{\"step\":2}\n");
    scratch_text(scratch_path(*state, "run/01-pretrain/metrics.jsonl"),
                 "{\"step\":1,\"loss\":2}\n");
    scratch_text(scratch_path(*state, "holder/a.gguf"), "GGUF");
    int wrong = 0;
    for (size_t i = 0; i < sizeof slips / sizeof *slips; i++) {
        const int status = spawn_run(folder, slips[i].call);
        char *said = spawn_output(folder);
        const bool good =
            status == slips[i].status && strstr(said, slips[i].text) && strstr(said, "attar: ");
        if (!good)
            print_error("attar %s: exit status %d, expected %d and '%s'\n%s\n", slips[i].call,
                        status, slips[i].status, slips[i].text, said);
        wrong += !good;
        free(said);
    }
    assert_int_equal(wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(slips_are_told, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests_name("messages", tests, NULL, NULL);
}
