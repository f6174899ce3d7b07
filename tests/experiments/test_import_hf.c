/* Folders that transformers wrote, and what it computes from them (tests/golden/import). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "experiments/checkpoint.h"
#include "experiments/cmd.h"
#include "experiments/import_hf.h"
#include "tests/datasets/scratch.h"
#include "tests/experiments/hf_folder.h"

enum { PATH = 512 };

static const char *const folders[] = {"llama", "llama3", "mistral", "qwen2", "qwen3", "gpt2"};

static void logits_are_those_of_transformers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        struct transformer_dims d;
        struct transformer m;
        struct import_hf_shards s;
        size_t n;
        char *json = scratch_read(hf_golden(folders[i], "config.json"), &n), folder[PATH];
        snprintf(folder, sizeof folder, "tests/golden/import/%s", folders[i]);
        if (import_hf_dims(json, n, &d) || transformer_init(&m, &d, STORE_FROZEN) ||
            import_hf_open(&s, folder) || import_hf_weights(&s, &m))
            fail_msg("%s: %s", folders[i], err_text());
        assert_int_equal(s.n, strcmp(folders[i], "llama3") ? 1 : 3);
        const double off = hf_distance(&m, folders[i]);
        if (!(off < 1e-5))
            fail_msg("%s: logits differ by %g of their norm", folders[i], off);
        import_hf_close(&s);
        transformer_free(&m);
        free(json);
    }
}

/* ---- a whole folder ---- */

static void folders_become_checkpoints(void **state)
{
    struct transformer m;
    struct tokenizer *t;
    const char *folder = hf_copied(*state, "llama3"), *out = scratch_path(*state, "m.h5");
    scratch_text(hf_in(folder, "tokenizer_config.json"),
                 "{\"eos_token\": {\"content\": \"<|endoftext|>\"}, \"add_bos_token\": false, "
                 "\"chat_template\": [{\"name\": \"tool\", \"template\": \"no\"}, "
                 "{\"name\": \"default\", \"template\": \"{{ x }}\"}]}");
    char *argv[] = {"import", (char *)(uintptr_t)folder, (char *)(uintptr_t)out, NULL};
    if (cmd_import(3, argv))
        fail_msg("%s", err_text());
    if (checkpoint_use(out, &m, &t))
        fail_msg("%s", err_text());
    assert_true(hf_distance(&m, "llama3") < 1e-5);
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
        {"{\"weight_map\": {\"a\": \"model-00001-of-00003.safetensors\"}}", " more"},
    };
    const char *folder = hf_copied(*state, "llama3");
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        scratch_text(hf_in(folder, "model.safetensors.index.json"), each[i].index);
        refused(folder, each[i].says);
    }
    remove(hf_in(folder, "model.safetensors.index.json"));
    refused(folder, "neither model.safetensors nor");
    remove(hf_in(folder, "tokenizer.json"));
    refused(folder, "neither tokenizer.json nor tokenizer.model");
    scratch_text(hf_in(folder, "tokenizer.json"), "[]");
    refused(folder, "tokenizer.json: ");
    hf_copy(hf_golden("spm", "tokenizer.model"), hf_in(folder, "tokenizer.model"));
    refused(folder, "360 tokens in the tokenizer, 260 in the model"); // the .model in its place
    scratch_text(hf_in(folder, "tokenizer.json"), "{\"model\": "); // cut off: no reason for another
    refused(folder, "tokenizer.json: line 1");
}

static void shapes_have_to_fit(void **state)
{
    const char *folder = hf_copied(*state, "llama");
    size_t n;
    char *json = scratch_read(hf_in(folder, "config.json"), &n);
    static const struct {
        const char *what, *by, *says;
    } each[] = {
        {"\"intermediate_size\": 48", "\"intermediate_size\": 47", "by config.json blk.0.ffn_gate"},
        {"\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1", "has no place"},
        {"\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3",
         "tensors are missing: 'model.layers.2.input_layernorm.weight', "},
        {"\"vocab_size\": 260", "\"vocab_size\": 16777216", "by config.json token_embd.weight"},
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
        scratch_write(hf_in(folder, "config.json"), b.p, b.n);
        buf_free(&b);
        refused(folder, each[i].says);
    }
    free(json);
}

#define LLAMA                                                                                      \
    "\"model_type\": \"llama\", \"hidden_size\": 32, \"intermediate_size\": 48, "                  \
    "\"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"vocab_size\": 260, "                  \
    "\"max_position_embeddings\": 64"
#define MISTRAL(context)                                                                           \
    "\"model_type\": \"mistral\", \"hidden_size\": 32, \"intermediate_size\": 48, "                \
    "\"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": null, "        \
    "\"vocab_size\": 260, \"max_position_embeddings\": " context
#define QWEN2                                                                                      \
    "\"model_type\": \"qwen2\", \"hidden_size\": 32, \"intermediate_size\": 48, "                  \
    "\"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "           \
    "\"vocab_size\": 260, "                                                                        \
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
        {"{" LLAMA ", \"sliding_window\": 8}", "beside model_type 'llama'"},
        {"{" LLAMA ", \"sliding_window\": null}", NULL},
        {"{" QWEN2 ", \"sliding_window\": 8}", NULL}, // not used
        {"{" QWEN2 ", \"sliding_window\": 8, \"use_sliding_window\": true}",
         NULL}, // from layer 28 on
        {"{" QWEN2
         ", \"sliding_window\": 8, \"use_sliding_window\": true, \"max_window_layers\": 1}",
         "sliding window"},
        {"{" QWEN2
         ", \"sliding_window\": 8, \"use_sliding_window\": true, \"max_window_layers\": 0}",
         "sliding window"},
        {"{" QWEN2 ", \"sliding_window\": 64, \"use_sliding_window\": true}", NULL},
        {"{" QWEN2 ", \"sliding_window\": 8, \"use_sliding_window\": true, \"layer_types\": "
         "[\"full_attention\", \"full_attention\"]}",
         NULL},
        {"{" QWEN2 ", \"layer_types\": [\"linear_attention\"]}", "'linear_attention'"},
        {"{" QWEN2 ", \"layer_types\": [\"full_attention\"]}", "no list of 2"},
        {"{" QWEN2 ", \"layer_types\": [\"full_attention\", \"sliding_attention\"]}",
         "there is none"},
        {"{" MISTRAL("64") ", \"sliding_window\": 8}", "'sliding_window' is 8"},
        {"{" MISTRAL("64") ", \"sliding_window\": 8, \"layer_types\": [\"full_attention\", "
                           "\"full_attention\"]}",
         "'sliding_window' is 8"},
        {"{" MISTRAL("64") ", \"sliding_window\": 64}", NULL},
        {"{" MISTRAL("8192") ", \"sliding_window\": null}", NULL},
        {"{" MISTRAL("4096") "}", NULL},
        {"{" MISTRAL("8192") "}", "is 4096 where it is missing"},
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
        {"{" LLAMA ", \"temperature\": NaN, \"pad_token_id\": 1000000000000000019884624838656}",
         NULL},
        {"{" LLAMA ", \"head_dim\": 1000000000000000019884624838656}",
         "'head_dim' is no whole number"},
        {"{" LLAMA ", \"rms_norm_eps\": NaN}", "'rms_norm_eps' is no number"},
        {"{" LLAMA ", \"rope_scaling\": NaN}", "'rope_scaling'"},
        {"{" LLAMA ", \"auto_map\": {\"AutoModelForCausalLM\": \"mine.Mine\"}}", "'auto_map'"},
        {"{" LLAMA ", \"is_causal\": false}", "'is_causal' is false"},
        {"{" LLAMA ", \"rope_interleaved\": true}", "'rope_interleaved' is true"},
        {"{" LLAMA ", \"architectures\": [\"LlamaForCausalLM\"]}", NULL},
        {"{" LLAMA ", \"architectures\": [\"LlamaBidirectionalModel\"]}",
         "'LlamaBidirectionalModel'"},
        {"{" LLAMA ", \"torch_dtype\": \"float16\", \"use_cache\": true, \"pad_token_id\": null}",
         NULL},
        {"{" LLAMA ", \"attn_logit_softcapping\": null}", NULL},
        {"{" LLAMA ", \"attn_logit_softcapping\": 50.0}", "'attn_logit_softcapping': not known"},
        {"{" LLAMA
         ", \"a\": 1, \"b\": 1, \"c\": 1, \"d\": 1, \"e\": 1, \"f\": 1, \"g\": 1, \"h\": 1}",
         "'a', 'b', 'c', 'd', 'e', 'f' and 2 more: not known"},
        {"{" GPT2 ", \"hidden_size\": 32}", NULL},
        {"{" GPT2 ", \"hidden_size\": 64}", "'n_embd' is 32, 'hidden_size' is 64"},
        {"{" GPT2 ", \"hidden_act\": \"relu\"}", "'hidden_act': not known"},
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

/* As transformers 5.23 resolves them: base, factor and original context. */
static void rope_settings_are_those_of_transformers(void **state)
{
    (void)state;
    static const char linear[] = "{\"rope_type\": \"linear\", \"factor\": 4}";
    static const char llama3[] =
        "{\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1, "
        "\"high_freq_factor\": 4%s}";
    static const struct {
        const char *scaling, *parameters, *rest, *says; /* NULL: the key is not there; it is good */
        double base, factor, original;
        enum rope_scaling kind;
    } each[] = {
        {NULL, NULL, "", NULL, 10000, 0, 0, ROPE_SCALING_NONE},
        {NULL, NULL, ", \"rope_theta\": 500", NULL, 500, 0, 0, ROPE_SCALING_NONE},
        {NULL, NULL, ", \"rope_theta\": null", "'rope_theta' is null", 0, 0, 0, ROPE_SCALING_NONE},
        // the older key wins where it says something
        {linear, "{\"rope_type\": \"default\"}", "", NULL, 10000, 4, 0, ROPE_SCALING_LINEAR},
        {"{}", linear, "", NULL, 10000, 4, 0, ROPE_SCALING_LINEAR},
        {"null", linear, "", NULL, 10000, 4, 0, ROPE_SCALING_LINEAR},
        {linear, "{\"rope_theta\": 500}", "", NULL, 10000, 4, 0, ROPE_SCALING_LINEAR},
        {"{\"type\": \"yarn\", \"factor\": 4}", "{\"rope_type\": \"default\"}", "",
         "'rope_scaling': the type is 'yarn'", 0, 0, 0, ROPE_SCALING_NONE},
        // its own base before the config's
        {"{\"rope_type\": \"default\", \"rope_theta\": 500}", NULL, "", NULL, 500, 0, 0,
         ROPE_SCALING_NONE},
        {"{\"rope_type\": \"default\", \"rope_theta\": 500}", NULL, ", \"rope_theta\": 70", NULL,
         500, 0, 0, ROPE_SCALING_NONE},
        {NULL, "{\"rope_type\": \"default\"}", ", \"rope_theta\": 70", NULL, 70, 0, 0,
         ROPE_SCALING_NONE},
        {"{\"rope_type\": \"linear\", \"type\": \"llama3\", \"factor\": 2}", NULL, "", NULL, 10000,
         2, 0, ROPE_SCALING_LINEAR},
        // where the original context is said
        {NULL, "L", "", NULL, 10000, 8, 64, ROPE_SCALING_LLAMA3},
        {NULL, "L, \"original_max_position_embeddings\": 32", "", NULL, 10000, 8, 32,
         ROPE_SCALING_LLAMA3},
        {NULL, "L, \"original_max_position_embeddings\": 32",
         ", \"original_max_position_embeddings\": 16", NULL, 10000, 8, 16, ROPE_SCALING_LLAMA3},
        {NULL, "{\"rope_type\": \"default\", \"beta_fast\": 32}", "",
         "'rope_parameters': 'beta_fast': not known", 0, 0, 0, ROPE_SCALING_NONE},
        {NULL, "{\"full_attention\": {}}", "", "'full_attention': not known", 0, 0, 0,
         ROPE_SCALING_NONE},
        {NULL, "{\"rope_type\": null}", "", "'rope_type' is no text", 0, 0, 0, ROPE_SCALING_NONE},
    };
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        struct buf b = {0};
        struct transformer_dims d;
        buf_printf(&b, "{%s%s", LLAMA, each[i].rest);
        if (each[i].scaling)
            buf_printf(&b, ", \"rope_scaling\": %s", each[i].scaling);
        if (each[i].parameters && *each[i].parameters == 'L') {
            buf_text(&b, ", \"rope_parameters\": ");
            buf_printf(&b, llama3, each[i].parameters + 1);
        } else if (each[i].parameters) {
            buf_printf(&b, ", \"rope_parameters\": %s", each[i].parameters);
        }
        buf_text(&b, "}");
        const int rc = import_hf_dims(b.p, b.n, &d);
        if (!each[i].says != !rc || (rc && !strstr(err_text(), each[i].says)))
            fail_msg("%s: %s", b.p, rc ? err_text() : "");
        if (!rc && (d.rope.base != each[i].base || d.rope.factor != each[i].factor ||
                    d.rope.original_context != each[i].original || d.rope.scaling != each[i].kind))
            fail_msg("%s: base %g, factor %g, context %g", b.p, d.rope.base, d.rope.factor,
                     d.rope.original_context);
        buf_free(&b);
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
        cmocka_unit_test(rope_settings_are_those_of_transformers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
