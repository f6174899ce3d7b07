#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "compress/codecs/codecs.h"
#include "compress/gguf_meta.h"
#include "experiments/cmd.h"
#include "experiments/export.h"
#include "experiments/model_gguf.h"
#include "tests/datasets/scratch.h"
#include "tests/experiments/capture.h"
#include "tests/experiments/tiny_model.h"

static const struct export_args origin = {
    .origin = {.name = "tiny", .stage = "pretrain", .config_hash = "c0ffee", .steps = 12}};

static void export_as(const struct transformer *m, const struct tokenizer *t,
                      const struct recipe_options *o, const char *path)
{
    struct recipe r;
    struct export_plan p;
    if (recipe_init(&r, o) || export_plan(&p, m, &r, false) || export_write(&p, t, &origin, path))
        fail_msg("%s", err_text());
    export_plan_free(&p);
    recipe_free(&r);
}

static void assert_same_dims(const struct transformer_dims *a, const struct transformer_dims *b)
{
    const size_t layers = (size_t)a->n_layers * sizeof(int);
    assert_int_equal(a->arch, b->arch);
    assert_int_equal(a->n_layers, b->n_layers);
    assert_int_equal(a->d_model, b->d_model);
    assert_int_equal(a->vocab, b->vocab);
    assert_int_equal(a->head_dim, b->head_dim);
    assert_int_equal(a->context, b->context);
    assert_memory_equal(a->n_heads, b->n_heads, layers);
    assert_memory_equal(a->n_kv_heads, b->n_kv_heads, layers);
    assert_memory_equal(a->d_ff, b->d_ff, layers);
    assert_true((float)a->norm_eps == (float)b->norm_eps);
}

/* Do both compute with the same weights? */
static void assert_same_weights(const struct transformer *a, const struct transformer *b)
{
    for (int i = 0; i < a->store.n; i++) {
        const struct param *p = &a->store.p[i], *q = store_find(&b->store, p->name);
        assert_non_null(q);
        if (memcmp(p->latent, q->latent, (size_t)tensor_numel(&p->used) * sizeof(float)) != 0)
            fail_msg("%s differs", p->name);
    }
}

static void assert_arch(const char *path, const char *want)
{
    struct gguf g;
    struct gguf_string arch = {"", 0};
    char key[64];
    assert_int_equal(gguf_open(&g, path), 0);
    assert_int_equal(gguf_meta_text(&g, "general.architecture", &arch), 0);
    assert_int_equal(arch.n, strlen(want));
    assert_memory_equal(arch.s, want, arch.n);
    snprintf(key, sizeof key, "%s.block_count", want);
    assert_non_null(gguf_find(&g, key));
    gguf_close(&g);
}

/* Where layers differ in one of the three, llama becomes deci, with a list of it, and comes back;
   the others are not what llama.cpp would load. */
static void layers_of_different_widths_are_deci(void **state)
{
    const char *path = scratch_path(*state, "m.gguf");
    struct tokenizer *byte = tokenizer_new_byte();
    for (int arch = 0; arch < ARCH_N; arch++)
        for (int what = 0; what < 4; what++) {
            struct transformer m, back;
            struct tokenizer *t;
            struct transformer_dims d;
            tiny_model_even(&m, (enum arch)arch, false);
            d = m.dims;
            transformer_free(&m);
            if (what == 0)
                d.n_heads[1] = 2 * d.n_heads[0];
            else if (what == 1)
                d.n_kv_heads[1] = 2 * d.n_kv_heads[0];
            else if (what == 2)
                d.d_ff[1] = 64;
            assert_int_equal(transformer_init(&m, &d, STORE_FROZEN), 0);
            store_init(&m.store, 5);
            store_project(&m.store);
            assert_int_equal(transformer_even(&m.dims), what == 3);
            if (arch == ARCH_LLAMA) {
                assert_int_equal(export_check(&m.dims), 0);
                export_as(&m, byte, &(struct recipe_options){.type = "F32"}, path);
                assert_arch(path, what == 3 ? "llama" : "deci");
                if (model_gguf_load(path, &back, &t))
                    fail_msg("%s", err_text());
                assert_same_dims(&m.dims, &back.dims);
                assert_same_weights(&m, &back);
                transformer_free(&back);
                tokenizer_free(t);
            } else if (what < 3) {
                struct recipe r;
                struct export_plan p;
                remove(path);
                recipe_init(&r, &(struct recipe_options){.type = "F32"});
                assert_int_equal(export_plan(&p, &m, &r, false), 0);
                assert_int_equal(export_write(&p, byte, &origin, path), -1);
                assert_non_null(strstr(err_text(), arch_rows[arch].name));
                assert_non_null(strstr(err_text(), "one width for all"));
                assert_int_equal(scratch_count(*state), 0);
                export_plan_free(&p);
                recipe_free(&r);
            }
            transformer_free(&m);
        }
    tokenizer_free(byte);
}

/* What is exported as F32 is read back as the same model, for each architecture, tied or not; and
   its tokenizer as the same. */
static void every_architecture_comes_back(void **state)
{
    const char *path = scratch_path(*state, "m.gguf");
    struct tokenizer *byte = tokenizer_new_byte();
    for (int arch = 0; arch < ARCH_N; arch++)
        for (int tied = 0; tied < 2; tied++) {
            struct transformer m, back;
            struct tokenizer *t;
            struct buf first = {0}, second = {0};
            tiny_model_even(&m, (enum arch)arch, tied);
            export_as(&m, byte, &(struct recipe_options){.type = "F32"}, path);
            assert_arch(path, arch_rows[arch].name);
            if (model_gguf_load(path, &back, &t))
                fail_msg("%s: %s", arch_rows[arch].name, err_text());
            assert_same_dims(&m.dims, &back.dims);
            assert_same_weights(&m, &back);
            // gpt2 always has a head of its own
            assert_int_equal(back.dims.tied, tied && arch != ARCH_GPT2);
            if (tied && arch == ARCH_GPT2)
                assert_memory_equal(back.output->latent, back.token_embd->latent,
                                    (size_t)tensor_numel(&m.token_embd->used) * sizeof(float));
            assert_int_equal(tokenizer_write(byte, &first) | tokenizer_write(t, &second), 0);
            assert_int_equal(tokenizer_eot(t), tokenizer_eot(byte));
            assert_int_equal(tokenizer_bos(t), -1);
            for (int id = 0; id < 257; id++) {
                size_t n, k;
                const char *a = tokenizer_bytes(byte, id, &n), *b = tokenizer_bytes(t, id, &k);
                assert_int_equal(n, k);
                assert_memory_equal(a, b, n);
            }
            buf_free(&first);
            buf_free(&second);
            transformer_free(&m);
            transformer_free(&back);
            tokenizer_free(t);
        }
    tokenizer_free(byte);
}

static void rope_scalings_come_back(void **state)
{
    const char *path = scratch_path(*state, "m.gguf");
    struct tokenizer *byte = tokenizer_new_byte(), *t;
    struct transformer m, back;
    static const struct rope_args scalings[] = {
        {.base = 5e5, .scaling = ROPE_SCALING_LINEAR, .factor = 4},
        {.base = 5e5,
         .scaling = ROPE_SCALING_LLAMA3,
         .factor = 8,
         .low_freq = 1,
         .high_freq = 4,
         .original_context = 64},
    };
    for (size_t i = 0; i < 2; i++) {
        tiny_model_with(&m, ARCH_LLAMA, false);
        m.dims.rope.base = scalings[i].base;
        m.rope.args.scaling = m.dims.rope.scaling = scalings[i].scaling;
        m.rope.args.base = scalings[i].base;
        m.rope.args.factor = m.dims.rope.factor = scalings[i].factor;
        m.rope.args.low_freq = scalings[i].low_freq;
        m.rope.args.high_freq = scalings[i].high_freq;
        m.rope.args.original_context = scalings[i].original_context;
        export_as(&m, byte, &(struct recipe_options){.type = "F32"}, path);
        if (model_gguf_load(path, &back, &t))
            fail_msg("%s", err_text());
        for (int k = 0; k < m.dims.head_dim / 2; k++) {
            const double want = rope_frequency(&m.rope.args, k);
            assert_true(fabs(rope_frequency(&back.rope.args, k) - want) < 1e-7 * want);
        }
        transformer_free(&m);
        transformer_free(&back);
        tokenizer_free(t);
    }
    tiny_model_even(&m, ARCH_QWEN2, false); // llama.cpp has no such thing for it
    m.rope.args.scaling = ROPE_SCALING_LLAMA3;
    struct recipe r;
    struct export_plan p;
    assert_int_equal(recipe_init(&r, &(struct recipe_options){.type = "F16"}), 0);
    assert_int_equal(export_plan(&p, &m, &r, false), -1);
    assert_non_null(strstr(err_text(), "rope_scaling"));
    recipe_free(&r);
    transformer_free(&m);
    tokenizer_free(byte);
}

/* What a file decodes to is what export_round_trip() computes with, to the bit. */
static void the_round_trip_is_the_file(void **state)
{
    static const char *const types[] = {"F16", "BF16", "Q8_0", "Q4_K_M", "Q2_K", "TQ2_0"};
    const char *path = scratch_path(*state, "m.gguf");
    struct tokenizer *byte = tokenizer_new_byte(), *t;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        for (int arch = 0; arch < ARCH_N; arch++) {
            struct transformer m, back;
            struct recipe r;
            assert_int_equal(recipe_init(&r, &(struct recipe_options){.type = types[i]}), 0);
            tiny_model_even(&m, (enum arch)arch, true);
            export_as(&m, byte, &(struct recipe_options){.type = types[i]}, path);
            if (model_gguf_load(path, &back, &t) || export_round_trip(&m, &r, NULL))
                fail_msg("%s", err_text());
            assert_same_weights(&m, &back);
            transformer_free(&m);
            transformer_free(&back);
            tokenizer_free(t);
            recipe_free(&r);
        }
    tokenizer_free(byte);
}

/* Ids without a token are of a kind that no text becomes, each with a name of its own. */
static void a_padded_vocabulary_is_filled(void **state)
{
    const char *path = scratch_path(*state, "m.gguf");
    struct tokenizer *byte = tokenizer_new_byte();
    struct transformer m;
    struct gguf g;
    tiny_model(&m, false, true); // 260 rows
    export_as(&m, byte, &(struct recipe_options){.type = "F32"}, path);
    assert_int_equal(gguf_open(&g, path), 0);
    const struct gguf_pair *tokens = gguf_find(&g, "tokenizer.ggml.tokens"),
                           *types = gguf_find(&g, "tokenizer.ggml.token_type");
    assert_int_equal(tokens->n, 260);
    assert_int_equal(types->n, 260);
    struct cursor c = {.base = tokens->data, .size = tokens->bytes},
                  k = {.base = types->data, .size = types->bytes};
    for (int id = 0; id < 260; id++) {
        char number[32], want[32];
        const struct gguf_string s = gguf_text(tokens, &c, number);
        const uint32_t type = cursor_u32(&k);
        snprintf(want, sizeof want, "[PAD%d]", id);
        assert_int_equal(type, id < 256 ? 1 : id == 256 ? 3 : 5);
        assert_int_equal(s.n == strlen(want) && !memcmp(s.s, want, s.n), id > 256);
    }
    gguf_close(&g);
    transformer_free(&m);
    tokenizer_free(byte);
}

static uint64_t u64_of(const struct gguf *g, const char *key)
{
    const struct gguf_pair *p = gguf_find(g, key);
    char number[32];
    assert_non_null(p);
    struct cursor c = {.base = p->data, .size = p->bytes};
    const struct gguf_string s = gguf_text(p, &c, number);
    number[s.n] = 0;
    return strtoull(number, NULL, 10);
}

static void keys_are_those_that_llama_cpp_reads(void **state)
{
    const char *path = scratch_path(*state, "m.gguf");
    struct tokenizer *byte = tokenizer_new_byte();
    struct transformer m;
    struct gguf g;
    tiny_model_even(&m, ARCH_QWEN3, false);
    export_as(&m, byte, &(struct recipe_options){.type = "F16"}, path);
    assert_int_equal(gguf_open(&g, path), 0);
    static const struct {
        const char *key;
        enum gguf_kind kind;
    } want[] = {
        {"general.architecture", GGUF_TEXT},
        {"general.name", GGUF_TEXT},
        {"general.file_type", GGUF_U32},
        {"general.quantization_version", GGUF_U32},
        {"qwen3.vocab_size", GGUF_U32},
        {"qwen3.context_length", GGUF_U32},
        {"qwen3.embedding_length", GGUF_U32},
        {"qwen3.block_count", GGUF_U32},
        {"qwen3.attention.key_length", GGUF_U32},
        {"qwen3.attention.layer_norm_rms_epsilon", GGUF_F32},
        {"qwen3.rope.freq_base", GGUF_F32},
        {"qwen3.rope.dimension_count", GGUF_U32},
        {"tokenizer.ggml.model", GGUF_TEXT},
        {"tokenizer.ggml.pre", GGUF_TEXT},
        {"tokenizer.ggml.tokens", GGUF_TEXT},
        {"tokenizer.ggml.token_type", GGUF_I32},
        {"tokenizer.ggml.merges", GGUF_TEXT},
        {"tokenizer.ggml.bos_token_id", GGUF_U32},
        {"tokenizer.ggml.eos_token_id", GGUF_U32},
        {"tokenizer.ggml.add_bos_token", GGUF_BOOL},
        {"attar.config_hash", GGUF_TEXT},
        {"attar.steps", GGUF_U64},
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        const struct gguf_pair *p = gguf_find(&g, want[i].key);
        if (!p || p->kind != want[i].kind)
            fail_msg("%s", want[i].key);
    }
    assert_int_equal(u64_of(&g, "general.file_type"), 1);
    assert_int_equal(u64_of(&g, "general.quantization_version"), 2);
    assert_int_equal(u64_of(&g, "tokenizer.ggml.eos_token_id"), 256);
    assert_int_equal(u64_of(&g, "attar.steps"), 12);
    assert_false(gguf_find(&g, "qwen3.attention.head_count")->list);
    assert_false(gguf_find(&g, "qwen3.feed_forward_length")->list);
    for (size_t i = 0; i < g.n_tensors; i++) {
        const struct gguf_tensor *t = &g.tensor[i];
        assert_int_equal(t->type_id, t->nd == 1 ? 0 : 1); // norms stay F32
    }
    gguf_close(&g);
    transformer_free(&m);
    tokenizer_free(byte);
}

/* ---- the command ---- */

static int command(const char *const *argv, struct buf *out, struct buf *notes)
{
    buf_clear(out);
    buf_clear(notes);
    return capture_run(cmd_export, argv, out, notes);
}

static void the_command_exports_a_checkpoint(void **state)
{
    const char *from = scratch_path(*state, "checkpoint.h5"),
               *to = scratch_path(*state, "model.gguf"),
               *modelfile = scratch_path(*state, "Modelfile");
    struct buf out = {0}, notes = {0};
    struct transformer m, back;
    struct tokenizer *t;
    tiny_model(&m, true, false);
    tiny_model_save(from, &m);
    const char *const argv[] = {"export",        from,           to,
                                "--type",        "bf16",         "--modelfile",
                                "--tensor-type", "ffn_down=f32", NULL};
    if (command(argv, &out, &notes))
        fail_msg("%s", err_text());
    assert_non_null(strstr(out.p, "converting to bf16"));
    assert_non_null(strstr(out.p, "quant size"));
    if (model_gguf_load(to, &back, &t))
        fail_msg("%s", err_text());
    assert_memory_equal(back.blocks[1].ffn_down.weight->latent, m.blocks[1].ffn_down.weight->latent,
                        32 * 40 * sizeof(float));
    size_t n;
    char *text = scratch_read(modelfile, &n);
    text = realloc(text, n + 1);
    text[n] = 0;
    assert_non_null(strstr(text, "FROM ./model.gguf\n"));
    assert_non_null(strstr(text, "PARAMETER num_ctx 320\n"));
    assert_non_null(strstr(text, "PARAMETER stop \"<|endoftext|>\"\n"));
    free(text);
    transformer_free(&back);
    tokenizer_free(t);
    const char *const again[] = {"export", to, from, NULL};
    assert_int_equal(command(again, &out, &notes), -1);
    assert_non_null(strstr(err_text(), "attar quantize"));
    const char *const onto[] = {"export", from, scratch_folder(*state), NULL};
    assert_int_equal(command(onto, &out, &notes), -1);
    assert_non_null(strstr(err_text(), "is a folder: the name of a file is wanted"));
    const char *const wrong[] = {"export", from, to, "--type", "q4_k_n", NULL};
    assert_int_equal(command(wrong, &out, &notes), -1);
    assert_non_null(strstr(err_text(), "did you mean"));
    transformer_free(&m);
    buf_free(&out);
    buf_free(&notes);
}

static void a_full_disk_leaves_nothing(void **state)
{
    const char *from = scratch_path(*state, "checkpoint.h5"),
               *to = scratch_path(*state, "model.gguf");
    struct buf out = {0}, notes = {0};
    struct transformer m;
    struct rlimit old;
    tiny_model(&m, true, false);
    tiny_model_save(from, &m);
    transformer_free(&m);
    const int before = scratch_count(*state);
    const char *const argv[] = {"export", from, to, NULL};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    for (rlim_t room = 1000; room < 60000; room += 9000) {
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &(struct rlimit){room, old.rlim_max}), 0);
        const int rc = command(argv, &out, &notes);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        assert_int_equal(rc, -1);
        assert_int_equal(scratch_count(*state), before);
    }
    assert_int_equal(command(argv, &out, &notes), 0);
    buf_free(&out);
    buf_free(&notes);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

static int warnings;

static void count_warning(void)
{
    warnings++;
}

/* Where GGUF cannot say how text is cut into tokens, that is said. */
static void what_is_lost_of_a_tokenizer_is_said(void **state)
{
    const char *path = scratch_path(*state, "m.gguf");
    void (*const before)(void) = err_before_warning;
    struct tokenizer *byte = tokenizer_new_byte(), *t;
    struct transformer m;
    struct buf json = {0};
    tiny_model_with(&m, ARCH_LLAMA, false);
    byte->nfc = byte->vocab.token[256].normalized = true;
    assert_int_equal(tokenizer_write(byte, &json), 0);
    t = tokenizer_parse(json.p, json.n);
    assert_non_null(t);
    err_before_warning = count_warning;
    warnings = 0;
    export_as(&m, t, &(struct recipe_options){.type = "F32"}, path);
    assert_int_equal(warnings, 1);
    t->vocab.token[256].normalized = false;
    t->behind.n = 0;
    export_as(&m, t, &(struct recipe_options){.type = "F32"}, path);
    assert_int_equal(warnings, 1);
    err_before_warning = before;
    buf_free(&json);
    tokenizer_free(t);
    tokenizer_free(byte);
    transformer_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_lost_of_a_tokenizer_is_said, scratch_setup,
                                        scratch_teardown),
        TEST(layers_of_different_widths_are_deci),
        TEST(every_architecture_comes_back),
        TEST(rope_scalings_come_back),
        TEST(the_round_trip_is_the_file),
        TEST(a_padded_vocabulary_is_filled),
        TEST(keys_are_those_that_llama_cpp_reads),
        TEST(the_command_exports_a_checkpoint),
        TEST(a_full_disk_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
