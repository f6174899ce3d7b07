/* Folders that transformers wrote, and what it computes from them (tests/golden/import). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "experiments/checkpoint.h"
#include "experiments/cmd.h"
#include "experiments/import_hf.h"
#include "tests/datasets/scratch.h"

enum { N = 24, ROWS = 3, PATH = 512 };

static const char *const folders[] = {"llama", "llama3", "mistral", "qwen2", "qwen3", "gpt2"};

static const char *golden(const char *folder, const char *file)
{
    static char path[PATH];
    snprintf(path, sizeof path, "tests/golden/import/%s/%s", folder, file);
    return path;
}

/* Relative distance of the logits of m from those of the folder. */
static double distance(struct transformer *m, const char *folder)
{
    static const int row[ROWS] = {5, 14, 23};
    int32_t tok[N], pos[N];
    size_t bytes;
    const float *want = (void *)scratch_read(golden(folder, "logits.f32"), &bytes);
    for (int i = 0; i < N; i++) {
        tok[i] = (37 * i + 11) % 250;
        pos[i] = i;
    }
    const struct sequence seq = {.len = N};
    const struct batch b = {.n = N, .tok = tok, .pos = pos, .seqs = &seq, .n_seqs = 1};
    struct ctx ctx;
    assert_int_equal(ctx_init(&ctx, 32 << 20), 0);
    const struct tensor *t = transformer_logits(&ctx, m, transformer_forward(&ctx, m, &b), 0, N);
    if (!t)
        fail_msg("%s", ctx.text);
    const int64_t V = m->dims.vocab;
    assert_int_equal(bytes, ROWS * (size_t)V * sizeof *want);
    double diff = 0, sum = 0;
    for (int r = 0; r < ROWS; r++)
        for (int64_t v = 0; v < V; v++) {
            const double x = (double)want[r * V + v];
            diff += pow(x - (double)((const float *)t->data)[row[r] * V + v], 2);
            sum += x * x;
        }
    ctx_free(&ctx);
    free((void *)want);
    return sqrt(diff / sum);
}

static void logits_are_those_of_transformers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        struct transformer_dims d;
        struct transformer m;
        struct import_hf_shards s;
        size_t n;
        char *json = scratch_read(golden(folders[i], "config.json"), &n), folder[PATH];
        snprintf(folder, sizeof folder, "tests/golden/import/%s", folders[i]);
        if (import_hf_dims(json, n, &d) || transformer_init(&m, &d, STORE_FROZEN) ||
            import_hf_open(&s, folder) || import_hf_weights(&s, &m))
            fail_msg("%s: %s", folders[i], err_text());
        assert_int_equal(s.n, strcmp(folders[i], "llama3") ? 1 : 3);
        const double off = distance(&m, folders[i]);
        if (!(off < 1e-5))
            fail_msg("%s: logits differ by %g of their norm", folders[i], off);
        import_hf_close(&s);
        transformer_free(&m);
        free(json);
    }
}

/* ---- a whole folder ---- */

static void copy(const char *from, const char *to)
{
    size_t n;
    char *bytes = scratch_read(from, &n);
    scratch_write(to, bytes, n);
    free(bytes);
}

/* The golden folder in the scratch folder, with a tokenizer of bytes. */
static const char *copied(void *state, const char *name)
{
    static const char *const files[] = {"config.json",
                                        "model.safetensors",
                                        "model.safetensors.index.json",
                                        "model-00001-of-00003.safetensors",
                                        "model-00002-of-00003.safetensors",
                                        "model-00003-of-00003.safetensors"};
    const char *folder = scratch_path(state, name);
    char path[PATH];
    assert_int_equal(mkdir(folder, 0777), 0);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct stat st;
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        if (!stat(golden(name, files[i]), &st))
            copy(golden(name, files[i]), path);
    }
    struct tokenizer *t = tokenizer_new_byte();
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    assert_int_equal(tokenizer_save(t, path), 0);
    tokenizer_free(t);
    return folder;
}

static const char *in(const char *folder, const char *file)
{
    static char path[PATH];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    return path;
}

static void folders_become_checkpoints(void **state)
{
    struct transformer m;
    struct tokenizer *t;
    const char *folder = copied(*state, "llama3"), *out = scratch_path(*state, "m.h5");
    scratch_text(in(folder, "tokenizer_config.json"),
                 "{\"eos_token\": {\"content\": \"<|endoftext|>\"}, \"add_bos_token\": false, "
                 "\"chat_template\": [{\"name\": \"tool\", \"template\": \"no\"}, "
                 "{\"name\": \"default\", \"template\": \"{{ x }}\"}]}");
    char *argv[] = {"import", (char *)(uintptr_t)folder, (char *)(uintptr_t)out, NULL};
    if (cmd_import(3, argv))
        fail_msg("%s", err_text());
    if (checkpoint_use(out, &m, &t))
        fail_msg("%s", err_text());
    assert_true(distance(&m, "llama3") < 1e-5);
    assert_int_equal(m.dims.rope.scaling, ROPE_SCALING_LLAMA3);
    assert_true(m.dims.tied);
    assert_int_equal(t->role[TOKENIZER_EOS], 256);
    assert_string_equal(t->chat_template, "{{ x }}");
    transformer_free(&m);
    tokenizer_free(t);
    char *two[] = {"import", (char *)(uintptr_t)folder, NULL};
    assert_int_equal(cmd_import(2, two), CMD_USAGE);
    argv[1] = (char *)(uintptr_t)out;
    assert_int_equal(cmd_import(3, argv), -1);
    assert_non_null(strstr(err_text(), "neither a GGUF file nor a folder"));
}

/* ---- malformed ---- */

static void refused(const char *folder, const char *says)
{
    struct transformer m;
    struct tokenizer *t;
    assert_int_equal(import_hf(folder, &m, &t), -1);
    assert_null(t);
    if (!strstr(err_text(), says))
        fail_msg("'%s' does not say '%s'", err_text(), says);
}

static void folders_that_lead_astray(void **state)
{
    static const struct {
        const char *index, *says;
    } each[] = {
        {"{\"weight_map\": {\"a\": \"../x.safetensors\"}}", "no name of a .safetensors file"},
        {"{\"weight_map\": {\"a\": \"/etc/x.safetensors\"}}", "no name of a .safetensors file"},
        {"{\"weight_map\": {\"a\": \"sub/x.safetensors\"}}", "no name of a .safetensors file"},
        {"{\"weight_map\": {\"a\": \".x.safetensors\"}}", "no name of a .safetensors file"},
        {"{\"weight_map\": {\"a\": \"model.bin\"}}", "no name of a .safetensors file"},
        {"{\"weight_map\": {\"a\": 7}}", "'a' has no file's name"},
        {"{\"weight_map\": []}", "no object, or empty"},
        {"{}", "no object, or empty"},
        {"{\"weight_map\": {\"a\": \"gone.safetensors\"}}", "gone.safetensors: No such file"},
        {"{", "line 1"},
        {"{\"weight_map\": {\"a\": \"model-00001-of-00003.safetensors\"}}", "the files hold"},
    };
    const char *folder = copied(*state, "llama3");
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        scratch_text(in(folder, "model.safetensors.index.json"), each[i].index);
        refused(folder, each[i].says);
    }
    remove(in(folder, "model.safetensors.index.json"));
    refused(folder, "neither model.safetensors nor");
    remove(in(folder, "tokenizer.json"));
    refused(folder, "neither tokenizer.json nor tokenizer.model");
    scratch_text(in(folder, "tokenizer.json"), "[]");
    refused(folder, "tokenizer.json: ");
    copy(golden("spm", "tokenizer.model"), in(folder, "tokenizer.model"));
    refused(folder, "360 tokens in the tokenizer, 260 in the model"); // the .model in its place
}

static void shapes_have_to_fit(void **state)
{
    const char *folder = copied(*state, "llama");
    size_t n;
    char *json = scratch_read(in(folder, "config.json"), &n);
    static const struct {
        const char *what, *by, *says;
    } each[] = {
        {"\"intermediate_size\": 48", "\"intermediate_size\": 47", "by config.json blk.0.ffn_gate"},
        {"\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1", "has no place"},
        {"\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", "the files hold"},
        {"\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true", NULL},
        {"\"vocab_size\": 260", "\"vocab_size\": 16777216", "the files hold"},
        {"\"vocab_size\": 260", "\"vocab_size\": 256", "257 tokens in the tokenizer"},
        {"\"num_key_value_heads\": 2", "\"num_key_value_heads\": 1", "attn_k"},
    };
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        const char *at = strstr(json, each[i].what);
        struct buf b = {0};
        assert_non_null(at);
        buf_add(&b, json, (size_t)(at - json));
        buf_text(&b, each[i].by);
        buf_text(&b, at + strlen(each[i].what));
        scratch_write(in(folder, "config.json"), b.p, b.n);
        buf_free(&b);
        if (each[i].says) {
            refused(folder, each[i].says);
            continue;
        }
        struct transformer m; // tied: the head in the file is not looked at
        struct tokenizer *t;
        assert_int_equal(import_hf(folder, &m, &t), 0);
        transformer_free(&m);
        tokenizer_free(t);
    }
    free(json);
}

#define LLAMA                                                                                      \
    "\"model_type\": \"llama\", \"hidden_size\": 32, \"intermediate_size\": 48, "                  \
    "\"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"vocab_size\": 260, "                  \
    "\"max_position_embeddings\": 64"
#define QWEN2                                                                                      \
    "\"model_type\": \"qwen2\", \"hidden_size\": 32, \"intermediate_size\": 48, "                  \
    "\"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"vocab_size\": 260, "                  \
    "\"max_position_embeddings\": 64"
#define GPT2                                                                                       \
    "\"model_type\": \"gpt2\", \"n_embd\": 32, \"n_layer\": 2, \"n_head\": 4, "                    \
    "\"vocab_size\": 260, \"n_positions\": 64"

static void configs(void **state)
{
    (void)state;
    static const struct {
        const char *json, *says; /* NULL: it is good */
    } each[] = {
        {"{" LLAMA "}", NULL},
        {"{" GPT2 "}", NULL},
        {"{" LLAMA ", \"sliding_window\": 8}", NULL}, // llama has none
        {"{" QWEN2 ", \"sliding_window\": 8}", NULL}, // not used
        {"{" QWEN2 ", \"sliding_window\": 8, \"use_sliding_window\": true}", "sliding window"},
        {"{" QWEN2 ", \"sliding_window\": 64, \"use_sliding_window\": true}", NULL},
        {"{" QWEN2 ", \"sliding_window\": 8, \"use_sliding_window\": true, \"layer_types\": "
         "[\"full_attention\"]}",
         NULL},
        {"{" QWEN2 ", \"layer_types\": [\"linear_attention\"]}", "'linear_attention'"},
        {"", "line"},
        {"[]", "'model_type' is ''"},
        {"{}", "'model_type' is ''"},
        {"{\"model_type\": 7}", "'model_type' is ''"},
        {"{\"model_type\": \"gemma3\"}", "'gemma3'"},
        {"{\"model_type\": \"llama\"}", "'num_attention_heads' is missing"},
        {"{" LLAMA ", \"vocab_size\": 1}", "duplicate"},
        {"{" LLAMA ", \"num_key_value_heads\": 3}", "over 3 kv heads"},
        {"{" LLAMA ", \"num_key_value_heads\": \"2\"}", "no whole number"},
        {"{" LLAMA ", \"num_key_value_heads\": 0}", "no whole number"},
        {"{" LLAMA ", \"head_dim\": 1e9}", "no whole number"},
        {"{" LLAMA ", \"head_dim\": 7}", "even size"},
        {"{" LLAMA ", \"rms_norm_eps\": \"x\"}", "'rms_norm_eps' is no number"},
        {"{" LLAMA ", \"rope_theta\": 0}", "rope base"},
        {"{" LLAMA ", \"hidden_act\": \"gelu\"}", "'hidden_act' is 'gelu'"},
        {"{" LLAMA ", \"attention_bias\": true}", "'attention_bias' is true"},
        {"{" LLAMA ", \"mlp_bias\": 1}", "neither true nor false"},
        {"{" LLAMA ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}}", NULL},
        {"{" LLAMA ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 0}}", "factor 0"},
        {"{" LLAMA ", \"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 2}}", "'yarn'"},
        {"{" LLAMA ", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 2}}",
         "llama3 with"},
        {"{" LLAMA ", \"rope_scaling\": \"linear\"}", "is no object"},
        {"{" LLAMA ", \"rope_parameters\": {\"partial_rotary_factor\": 0.5}}", "a part of each"},
        {"{" LLAMA ", \"quantization_config\": {}}", "quantized already"},
        {"{" LLAMA ", \"num_experts\": 8}", "experts"},
        {"{" GPT2 ", \"n_inner\": null}", NULL},
        {"{" GPT2 ", \"activation_function\": \"relu\"}", "'relu'"},
        {"{" GPT2 ", \"scale_attn_by_inverse_layer_idx\": true}", "inverse_layer_idx' is true"},
        {"{\"model_type\": \"gpt2\", \"n_embd\": 30, \"n_layer\": 2, \"n_head\": 4, "
         "\"vocab_size\": 260, \"n_positions\": 64}",
         "no whole heads"},
    };
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        struct transformer_dims d;
        const int rc = import_hf_dims(each[i].json, strlen(each[i].json), &d);
        if (!each[i].says && rc)
            fail_msg("%s: %s", each[i].json, err_text());
        if (each[i].says && (!rc || !strstr(err_text(), each[i].says)))
            fail_msg("%s: '%s' does not say '%s'", each[i].json, rc ? err_text() : "",
                     each[i].says);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_those_of_transformers),
        cmocka_unit_test_setup_teardown(folders_become_checkpoints, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(folders_that_lead_astray, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(shapes_have_to_fit, scratch_setup, scratch_teardown),
        cmocka_unit_test(configs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
