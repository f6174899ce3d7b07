/* Where paths start: in a config at its folder, on the command line at the current one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "experiments/config_parts.h"

static const char TEXT[] = "name: t\n"
                           "data: {corpus: a.txt, tokenizer: {type: file, path: t.json}}\n"
                           "model: {n_layers: 2, d_model: 64, n_heads: 4, d_ff: 128, context: 32}\n"
                           "stages:\n"
                           "  - pretrain: {steps: 10, batch_tokens: 64}\n"
                           "  - finetune: {data: b.jsonl, steps: 10, batch_tokens: 64}\n"
                           "  - qat: {type: q4_k, imatrix: i.gguf, steps: 10, batch_tokens: 64}\n"
                           "  - export: {type: q4_k, imatrix: i.gguf}\n"
                           "  - evaluate: {compare: [x.h5]}\n";

static void parse(struct config *c, const char *folder, int n, const char *const *overrides)
{
    struct mistakes bad = {.file = "c"};
    struct buf out = {0};
    if (config_parse(c, TEXT, strlen(TEXT), folder, n, overrides, &bad)) {
        mistake_print(&bad, SIZE_MAX, &out);
        fail_msg("%s", out.p);
    }
    mistake_free(&bad);
}

static void is_here(const char *path, const char *name)
{
    char want[4200], here[4096];
    assert_non_null(getcwd(here, sizeof here));
    snprintf(want, sizeof want, "%s/%s", here, name);
    assert_string_equal(path, want);
}

static const char *const overrides[] = {"data.corpus=[a.txt, b/*.txt, /c.txt]",
                                        "data.tokenizer.path=t.json",
                                        "finetune.data=b.jsonl",
                                        "qat.imatrix=i.gguf",
                                        "export.imatrix=../i.gguf",
                                        "evaluate.compare=[pretrain, y.h5]"};

static void overrides_start_from_the_current_folder(void **state)
{
    (void)state;
    struct config c;
    parse(&c, "some/where", 6, overrides);
    is_here(c.data.corpus.value[0], "a.txt");
    is_here(c.data.corpus.value[1], "b/*.txt");
    assert_string_equal(c.data.corpus.value[2], "/c.txt");
    is_here(c.data.tokenizer.path, "t.json");
    is_here(c.stages[1].finetune.data, "b.jsonl");
    is_here(c.stages[2].qat.mix.imatrix, "i.gguf");
    is_here(c.stages[3].export.mix.imatrix, "../i.gguf");
    assert_string_equal(c.stages[4].evaluate.compare.value[1], "y.h5"); // models do in any case
    config_free(&c);
}

static void configs_start_from_their_own(void **state)
{
    (void)state;
    static const char *const others[] = {"data.corpus=bible-kjv"};
    struct config c;
    parse(&c, "some/where", 0, NULL);
    assert_string_equal(c.data.corpus.value[0], "a.txt");
    assert_string_equal(c.data.tokenizer.path, "t.json");
    assert_string_equal(c.stages[1].finetune.data, "b.jsonl");
    assert_string_equal(c.stages[2].qat.mix.imatrix, "i.gguf");
    config_free(&c);
    parse(&c, "some/where", 1, others);
    assert_string_equal(c.data.corpus.value[0], "bible-kjv");
    config_free(&c);
    parse(&c, ".", 6, overrides); // the two are one: a config says the same with its paths short
    assert_string_equal(c.data.corpus.value[0], "a.txt");
    config_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(overrides_start_from_the_current_folder),
        cmocka_unit_test(configs_start_from_their_own),
    };
    return cmocka_run_group_tests_name("config_paths", tests, NULL, NULL);
}
