#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "compress/codecs/codecs.h"
#include "experiments/model_gguf.h"
#include "tests/datasets/scratch.h"
#include "tests/experiments/tiny_gguf.h"
#include "tests/experiments/tiny_model.h"

enum { N = 24 };

/* logits [N,V] of some tokens, to be freed. */
static float *logits_of(struct transformer *m)
{
    int32_t tok[N], pos[N];
    for (int i = 0; i < N; i++) {
        tok[i] = i * 37 % 257;
        pos[i] = i;
    }
    const struct sequence seq = {.len = N};
    const struct batch b = {.n = N, .tok = tok, .pos = pos, .seqs = &seq, .n_seqs = 1};
    struct ctx ctx;
    assert_int_equal(ctx_init(&ctx, 32 << 20), 0);
    const struct tensor *t = transformer_logits(&ctx, m, transformer_forward(&ctx, m, &b), 0, N);
    if (!t)
        fail_msg("%s", ctx.text);
    float *copy = malloc(tensor_bytes(t));
    memcpy(copy, t->data, tensor_bytes(t));
    ctx_free(&ctx);
    return copy;
}

/* |a - b| / |a| */
static double distance(const float *a, const float *b, size_t n)
{
    double diff = 0, sum = 0;
    for (size_t i = 0; i < n; i++) {
        diff += pow((double)a[i] - (double)b[i], 2);
        sum += pow((double)a[i], 2);
    }
    return sqrt(diff / sum);
}

/* Opens the file, which has to be good, and compares its logits with want [N,V]. */
static void compare(const char *path, const float *want, int V, double most)
{
    struct transformer m;
    struct tokenizer *t;
    if (model_gguf_use(path, &m, &t))
        fail_msg("%s", err_text());
    float *got = logits_of(&m);
    const double d = distance(want, got, (size_t)N * (size_t)V);
    if (!(d <= most))
        fail_msg("%s: logits differ by %g", path, d);
    free(got);
    transformer_free(&m);
    tokenizer_free(t);
}

static void every_architecture_is_opened(void **state)
{
    const char *path = scratch_path(*state, "m.gguf");
    for (int arch = 0; arch < ARCH_N; arch++) {
        struct transformer m, again;
        struct tokenizer *t;
        tiny_model_of(&m, (enum arch)arch, false, arch % 2);
        for (int i = 0; i < m.store.n; i++) // gains that are no ones, biases that are no zeros
            for (int64_t k = 0; m.store.p[i].used.nd == 1 && k < tensor_numel(&m.store.p[i].used);
                 k++)
                m.store.p[i].latent[k] += 0.01f * (float)(k % 17);
        float *want = logits_of(&m);
        tiny_gguf_save(path, &(struct tiny_gguf){.m = &m});
        compare(path, want, m.dims.vocab, 0);
        // decoded: the very weights
        if (model_gguf_load(path, &again, &t))
            fail_msg("%s", err_text());
        assert_memory_equal(again.store.latent, m.store.latent, m.store.len * sizeof(float));
        assert_int_equal(again.dims.tied, m.dims.tied);
        assert_int_equal(again.dims.n_kv_heads[1], 1);
        assert_int_equal(tokenizer_vocab_size(t), 257);
        assert_int_equal(tokenizer_eot(t), 256);
        transformer_free(&again);
        tokenizer_free(t);
        // in other types, vectors too: these become f32 when the file is opened
        tiny_gguf_save(path,
                       &(struct tiny_gguf){.m = &m, .matrices = &dtype_f16, .vectors = &dtype_f16});
        compare(path, want, m.dims.vocab, 1e-2);
        tiny_gguf_save(path, &(struct tiny_gguf){.m = &m,
                                                 .matrices = &dtype_bf16,
                                                 .vectors = &dtype_bf16});
        compare(path, want, m.dims.vocab, 5e-2);
        free(want);
        transformer_free(&m);
    }
}

static void blocks_are_read_where_they_lie(void **state)
{
    const char *path = scratch_path(*state, "m.gguf");
    struct transformer tiny, m, mapped;
    struct tokenizer *t;
    tiny_model(&tiny, false, false);
    struct transformer_dims d = tiny.dims;
    d.d_ff[0] = 64;
    d.d_ff[1] = 32;
    d.n_heads[1] = 4;
    d.init_std = 0.05; // attention that is not sharp: errors stay as they are made
    assert_int_equal(transformer_init(&m, &d, STORE_FROZEN), 0);
    store_init(&m.store, 3);
    float *want = logits_of(&m);
    tiny_gguf_save(path, &(struct tiny_gguf){.m = &m, .matrices = codecs_find("q8_0")});
    compare(path, want, d.vocab, 3e-2);
    assert_int_equal(model_gguf_use(path, &mapped, &t), 0);
    assert_null(mapped.store.latent);
    assert_ptr_equal(mapped.token_embd->used.dt, codecs_find("q8_0"));
    assert_ptr_equal(mapped.output_norm.weight->used.dt, &dtype_f32);
    transformer_free(&mapped);
    tokenizer_free(t);
    free(want);
    transformer_free(&m);
    transformer_free(&tiny);
}

static void tied_heads_and_frequencies(void **state)
{
    const char *path = scratch_path(*state, "m.gguf");
    struct transformer m, again;
    struct tokenizer *t;
    tiny_model(&m, false, false);
    struct transformer_dims d = m.dims;
    d.tied = true;
    d.rope.scaling = ROPE_SCALING_TABLE;
    const float divisor[] = {1, 1.5f, 4, 8};
    memcpy(d.rope.divisor, divisor, sizeof divisor);
    assert_int_equal(transformer_init(&again, &d, STORE_FROZEN), 0);
    store_init(&again.store, 8);
    float *want = logits_of(&again);
    struct tiny_gguf g = {.m = &again,
                          .extra = "rope_freqs.weight",
                          .n_extra = 4,
                          .extra_data = divisor};
    tiny_gguf_save(path, &g);
    compare(path, want, d.vocab, 0);
    g.extra = NULL;
    tiny_gguf_save(path, &g);
    struct transformer plain;
    assert_int_equal(model_gguf_use(path, &plain, &t), 0);
    float *other = logits_of(&plain);
    assert_true(distance(want, other, (size_t)N * 257) > 1e-3); // the table counts
    assert_true(plain.dims.tied);
    free(want);
    free(other);
    tokenizer_free(t);
    transformer_free(&plain);
    transformer_free(&again);
    transformer_free(&m);
}

/* ---- one thing wrong ---- */

enum wrong {
    WINDOW = 1,
    WIDE_WINDOW,
    EXPERTS,
    NOT_CAUSAL,
    HALF_ROPE,
    YARN,
    NO_FACTOR,
    VALUES,
    LAYERS,
    NO_KV_HEADS,
    NO_FFN,
    HEADS,
    ODD_HEADS,
    TEXT_LAYERS,
    REAL_LAYERS,
    HEAD_LIST,
    LONG_LIST,
    CONTEXT,
    INF_EPS,
    ARCHITECTURE,
    ARCH_NUMBER,
    LOGITS,
    NEXT,
    FACTOR,
    WIDE_HEADS,
    NO_TOKENS,
    BYTE_TYPES,
    FEW_TYPES,
    FEW_TOKENS,
    MERGE_NUMBERS,
    BAD_MERGE,
    UNKNOWN_PRE,
    UNKNOWN_MODEL,
    SPM_NO_SCORES,
    EOS_BEYOND,
    EOS_TEXT,
    BOS_WANTED,
    SPACE,
    UNSIGNED_TYPES,
    UNKNOWN_KEYS,
    HARMLESS_KEYS,
    VOCAB_SIZE,
};

static void tokens(struct gguf_write *w, size_t n)
{
    gguf_write_texts(w, "tokenizer.ggml.tokens", n);
    for (size_t i = 0; i < n; i++) {
        char text[24];
        snprintf(text, sizeof text, "t%zu", i);
        gguf_write_item(w, text, strlen(text));
    }
}

static void wrong(struct gguf_write *w, int what)
{
    static const int32_t list[300] = {2, 2, 2};
    static const uint8_t bytes[257];
    static uint32_t ones[257];
    for (int i = 0; i < 257; i++)
        ones[i] = VOCAB_NORMAL;
    switch ((enum wrong)what) {
    case WINDOW:
        gguf_write_u32(w, "llama.attention.sliding_window", TINY_CONTEXT - 1);
        break;
    case WIDE_WINDOW:
        gguf_write_u32(w, "llama.attention.sliding_window", TINY_CONTEXT);
        break;
    case EXPERTS:
        gguf_write_u32(w, "llama.expert_count", 8);
        break;
    case NOT_CAUSAL:
        gguf_write_bool(w, "llama.attention.causal", false);
        break;
    case HALF_ROPE:
        gguf_write_u32(w, "llama.rope.dimension_count", 4);
        break;
    case YARN:
        gguf_write_text(w, "llama.rope.scaling.type", "yarn");
        break;
    case NO_FACTOR:
        gguf_write_f32(w, "llama.rope.scaling.factor", 0);
        break;
    case VALUES:
        gguf_write_u32(w, "llama.attention.value_length", 4);
        break;
    case LAYERS:
        gguf_write_u32(w, "llama.block_count", LAYERS_MAX + 1);
        break;
    case NO_KV_HEADS:
        gguf_write_list(w, "llama.attention.head_count_kv", GGUF_I32, 2, (int32_t[]){2, 0});
        break;
    case NO_FFN:
        gguf_write_list(w, "llama.feed_forward_length", GGUF_I32, 2, (int32_t[]){48, 0});
        break;
    case HEADS:
        gguf_write_u32(w, "llama.attention.head_count", 0);
        break;
    case ODD_HEADS:
        gguf_write_u32(w, "llama.attention.head_count_kv", 3);
        break;
    case TEXT_LAYERS:
        gguf_write_text(w, "llama.block_count", "2");
        break;
    case REAL_LAYERS:
        gguf_write_f32(w, "llama.block_count", 2);
        break;
    case HEAD_LIST:
        gguf_write_list(w, "llama.attention.head_count", GGUF_F32, 2, list);
        break;
    case LONG_LIST:
        gguf_write_list(w, "llama.feed_forward_length", GGUF_I32, 3, list);
        break;
    case CONTEXT:
        gguf_write_u64(w, "llama.context_length", (uint64_t)1 << 40);
        break;
    case INF_EPS:
        gguf_write_f32(w, "llama.attention.layer_norm_rms_epsilon", INFINITY);
        break;
    case ARCHITECTURE:
        gguf_write_text(w, "general.architecture", "mamba");
        break;
    case ARCH_NUMBER:
        gguf_write_u32(w, "general.architecture", 1);
        break;
    case LOGITS:
        gguf_write_f32(w, "llama.logit_scale", 0.5f);
        break;
    case NEXT:
        gguf_write_u32(w, "llama.nextn_predict_layers", 1);
        break;
    case FACTOR:
        gguf_write_f32(w, "llama.rope.scaling.attn_factor", 1.1f);
        break;
    case WIDE_HEADS:
        gguf_write_u32(w, "llama.attention.key_length", 1 << 20);
        break;
    case NO_TOKENS:
        tokens(w, 0);
        break;
    case BYTE_TYPES:
        gguf_write_list(w, "tokenizer.ggml.token_type", GGUF_U8, 257, bytes);
        break;
    case FEW_TYPES:
        gguf_write_list(w, "tokenizer.ggml.token_type", GGUF_I32, 256, list);
        break;
    case FEW_TOKENS:
        tokens(w, 10);
        break;
    case MERGE_NUMBERS:
        gguf_write_list(w, "tokenizer.ggml.merges", GGUF_I32, 3, list);
        break;
    case BAD_MERGE:
        gguf_write_texts(w, "tokenizer.ggml.merges", 1);
        gguf_write_item(w, "a b", 3);
        break;
    case UNKNOWN_PRE:
        gguf_write_text(w, "tokenizer.ggml.pre", "elvish");
        break;
    case UNKNOWN_MODEL:
        gguf_write_text(w, "tokenizer.ggml.model", "rwkv");
        break;
    case SPM_NO_SCORES:
        gguf_write_text(w, "tokenizer.ggml.model", "llama");
        break;
    case EOS_BEYOND:
        gguf_write_u32(w, "tokenizer.ggml.eos_token_id", 257);
        break;
    case EOS_TEXT:
        gguf_write_text(w, "tokenizer.ggml.eos_token_id", "256");
        break;
    case BOS_WANTED:
        gguf_write_bool(w, "tokenizer.ggml.add_bos_token", true);
        break;
    case SPACE:
        gguf_write_bool(w, "tokenizer.ggml.add_space_prefix", true);
        break;
    case UNSIGNED_TYPES:
        gguf_write_list(w, "tokenizer.ggml.token_type", GGUF_U32, 257, ones);
        break;
    case UNKNOWN_KEYS:
        gguf_write_f32(w, "llama.attn_logit_softcapping", 50);
        gguf_write_f32(w, "llama.rope.scaling.yarn_ext_factor", 1);
        break;
    case HARMLESS_KEYS:
        gguf_write_u32(w, "llama.rope.scaling.original_context_length", 64);
        gguf_write_bool(w, "llama.rope.scaling.finetuned", true);
        gguf_write_text(w, "llama.tensor_data_layout", "Meta AI original pth");
        gguf_write_u32(w, "llamas.other", 2);
        break;
    case VOCAB_SIZE:
        gguf_write_u32(w, "llama.vocab_size", 300);
        break;
    }
}

static void what_is_wrong_is_said(void **state)
{
    static const struct {
        enum wrong wrong;
        const char *skip, *says; /* NULL: nothing, the file is good */
    } each[] = {
        {0, NULL, NULL},
        {0, "general.architecture", "'general.architecture' is missing"},
        {0, "llama.block_count", "'llama.block_count' is missing"},
        {0, "llama.context_length", "'llama.context_length' is missing"},
        {0, "llama.embedding_length", "'llama.embedding_length' is missing"},
        {0, "llama.feed_forward_length", "'llama.feed_forward_length' is missing"},
        {0, "llama.attention.head_count", "'llama.attention.head_count' is missing"},
        {0, "llama.attention.layer_norm_rms_epsilon", "rms_epsilon' is missing"},
        {0, "llama.attention.head_count_kv", "blk.0.attn_k.weight' is 32 x 16"},
        {0, "llama.attention.key_length", NULL}, // 32 / 4
        {0, "tokenizer.ggml.model", "'tokenizer.ggml.model' is missing"},
        {0, "tokenizer.ggml.pre", NULL}, // "default"
        {0, "tokenizer.ggml.tokens", "tokens' is missing"},
        {0, "tokenizer.ggml.merges", "merges' is missing"},
        {0, "blk.1.ffn_up.weight", "tensor 'blk.1.ffn_up.weight' is missing"},
        {0, "token_embd.weight", "tensor 'token_embd.weight' is missing"},
        {0, "output_norm.weight", "tensor 'output_norm.weight' is missing"},
        {WINDOW, NULL, "sliding window shorter than the context"},
        {WIDE_WINDOW, NULL, NULL},
        {EXPERTS, NULL, "experts"},
        {NOT_CAUSAL, NULL, "only causal"},
        {HALF_ROPE, NULL, "turning a part"},
        {YARN, NULL, "'yarn'; none and linear"},
        {NO_FACTOR, NULL, "by the factor 0"},
        {VALUES, "llama.attention.value_length", "is 4, keys have 8"},
        {LAYERS, "llama.block_count", "513 layers"},
        {HEADS, "llama.attention.head_count", "layer 0 has no attention (0 heads)"},
        {NO_KV_HEADS, "llama.attention.head_count_kv", "layer 1 has linear attention"},
        {NO_FFN, "llama.feed_forward_length", "layer 1 has no feed-forward half"},
        {ODD_HEADS, "llama.attention.head_count_kv", "over 3 kv heads"},
        {TEXT_LAYERS, "llama.block_count", "is string, a whole number"},
        {REAL_LAYERS, "llama.block_count", "is f32, a whole number"},
        {HEAD_LIST, "llama.attention.head_count", "is a list of f32"},
        {LONG_LIST, "llama.feed_forward_length", "list of 3, 2 are expected"},
        {CONTEXT, "llama.context_length", "not from 1 to 16777216"},
        {INF_EPS, "llama.attention.layer_norm_rms_epsilon", "is inf"},
        {ARCHITECTURE, "general.architecture", "'mamba' is not supported"},
        {ARCH_NUMBER, "general.architecture", "is u32, a text"},
        {LOGITS, NULL, "a scale on logits"},
        {NEXT, NULL, "prediction of further tokens"},
        {FACTOR, NULL, "a factor on attention"},
        {WIDE_HEADS, "llama.attention.key_length", "keys have 1048576"},
        {NO_TOKENS, "tokenizer.ggml.tokens", "missing or empty"},
        {BYTE_TYPES, "tokenizer.ggml.token_type", "is a list of u8, a list of i32"},
        {FEW_TYPES, "tokenizer.ggml.token_type", "list of 256, 257 are expected"},
        {FEW_TOKENS, "tokenizer.ggml.tokens", "list of 257, 10 are expected"},
        {MERGE_NUMBERS, "tokenizer.ggml.merges", "is a list of i32, a list of string"},
        {BAD_MERGE, "tokenizer.ggml.merges", "merge 0: not all of the two"},
        {UNKNOWN_PRE, "tokenizer.ggml.pre", "unknown pre-tokenizer 'elvish'"},
        {UNKNOWN_MODEL, "tokenizer.ggml.model", "'rwkv' is not supported"},
        {SPM_NO_SCORES, "tokenizer.ggml.model", "scores' is missing"},
        {EOS_BEYOND, "tokenizer.ggml.eos_token_id", "there are 257 tokens"},
        {EOS_TEXT, "tokenizer.ggml.eos_token_id", "is string"},
        {BOS_WANTED, NULL, "BOS is wanted"},
        {SPACE, NULL, "a space in front of text"},
        {UNSIGNED_TYPES, "tokenizer.ggml.token_type", NULL},
        {UNKNOWN_KEYS, NULL,
         "metadata 'llama.attn_logit_softcapping', 'llama.rope.scaling.yarn_ext_factor': not"},
        {HARMLESS_KEYS, NULL, NULL},
        {VOCAB_SIZE, "llama.vocab_size", "'llama.vocab_size' is 300"},
    };
    const char *path = scratch_path(*state, "m.gguf");
    struct transformer m, got;
    struct tokenizer *t;
    tiny_model(&m, false, false);
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        tiny_gguf_save(path, &(struct tiny_gguf){.m = &m,
                                                 .skip = each[i].skip,
                                                 .more = each[i].wrong ? wrong : NULL,
                                                 .arg = (int)each[i].wrong});
        const int rc = model_gguf_use(path, &got, &t);
        if (each[i].says && (!rc || !strstr(err_text(), each[i].says)))
            fail_msg("%zu: '%s' does not say '%s'", i, rc ? err_text() : "", each[i].says);
        if (!each[i].says && rc)
            fail_msg("%zu: %s", i, err_text());
        if (rc) {
            assert_null(t);
            assert_int_equal(model_gguf_load(path, &got, &t), -1);
            continue;
        }
        const bool unnamed = each[i].skip && !strcmp(each[i].skip, "tokenizer.ggml.pre");
        assert_string_equal(tokenizer_pre(t), unnamed ? "default" : "gpt-2");
        transformer_free(&got);
        tokenizer_free(t);
    }
    transformer_free(&m);
}

static void other_files_are_none(void **state)
{
    struct transformer m;
    struct tokenizer *t;
    const char *path = scratch_path(*state, "x");
    scratch_text(path, "GGU");
    assert_false(model_gguf_is(path));
    assert_false(model_gguf_is(scratch_path(*state, "none")));
    scratch_text(path, "GGUF");
    assert_true(model_gguf_is(path));
    assert_int_equal(model_gguf_use(path, &m, &t), -1);
    assert_non_null(strstr(err_text(), "x: byte 4"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_architecture_is_opened, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(blocks_are_read_where_they_lie, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(tied_heads_and_frequencies, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(what_is_wrong_is_said, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(other_files_are_none, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
