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
#include "autograd/base/utf8.h"
#include "datasets/corpus.h"
#include "datasets/corpus_build.h"
#include "experiments/cmd.h"
#include "experiments/inspect.h"
#include "tests/datasets/scratch.h"
#include "tests/experiments/capture.h"
#include "tests/experiments/tiny_model.h"

static struct buf out, notes;

static int teardown(void **state)
{
    buf_free(&out);
    buf_free(&notes);
    return scratch_teardown(state);
}

static int inspect(const char *file, const char *flag)
{
    return capture_run(cmd_inspect, (const char *[]){"inspect", file, flag, NULL}, &out, &notes);
}

static void assert_shows(const char *text)
{
    if (!strstr(out.p, text))
        fail_msg("'%s' is not in:\n%s", text, out.p);
}

/* No line is too wide, and nothing in it moves the cursor. */
static void assert_tidy(void)
{
    size_t columns = 0;
    assert_int_equal(utf8_valid(out.p, out.n), out.n);
    for (size_t i = 0; i < out.n; i++) {
        const unsigned char c = (unsigned char)out.p[i];
        columns = c == '\n' ? 0 : columns + ((c & 0xc0) != 0x80);
        if (columns > INSPECT_WIDTH)
            fail_msg("too wide:\n%s", out.p);
        assert_true(c == '\n' || (c >= ' ' && c != 0x7f));
    }
}

static void text_is_escaped_and_cut(void **state)
{
    (void)state;
    static const struct {
        const char *s;
        size_t n, most;
        const char *want;
    } cases[] = {
        {"plain", 5, 5, "plain"},
        {"plain!", 6, 5, "pl..."},
        {"\x1b[2J", 4, 20, "\\x1b[2J"},
        {"a\nb\tc\rd", 7, 20, "a\\nb\\tc\\rd"},
        {"nul\0!", 5, 20, "nul\\x00!"},
        {"\xff\xfe", 2, 20, "\\xff\\xfe"},
        {"\xc2\x9b", 2, 20, "\\x9b"},
        {"\xe2\x80\xae", 3, 20, "\\u202e"},
        {"\xc3\xa4\xc3\xb6\xc3\xbc", 6, 3, "\xc3\xa4\xc3\xb6\xc3\xbc"},
        {"\xc3\xa4\xc3\xb6\xc3\xbc\xc3\x9f", 8, 3, "..."},
        {"a\x01\x02\x03", 4, 9, "a\\x01..."},
        {"", 0, 3, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf b = {0};
        buf_text(&b, "|");
        inspect_text(&b, cases[i].s, cases[i].n, cases[i].most);
        assert_string_equal(b.p + 1, cases[i].want);
        buf_free(&b);
    }
}

static void bytes_have_units(void **state)
{
    (void)state;
    static const struct {
        double bytes;
        const char *want;
    } cases[] = {{0, "0 B"},        {999, "999 B"},     {1000, "1.0 kB"},   {99949, "99.9 kB"},
                 {99950, "100 kB"}, {999499, "999 kB"}, {999500, "1.0 MB"}, {2.5e9, "2.5 GB"},
                 {3e15, "3000 TB"}, {NAN, "?"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf b = {0};
        inspect_bytes(&b, cases[i].bytes);
        assert_string_equal(b.p, cases[i].want);
        buf_free(&b);
    }
}

static void checkpoints_are_shown(void **state)
{
    struct transformer m;
    const char *path = scratch_path(*state, "model.h5");
    tiny_model(&m, false, true);
    float *gain = m.store.p[1].latent;
    gain[0] = 3;
    gain[1] = -1;
    m.output_norm.weight->latent[4] = NAN;
    tiny_model_save(path, &m);
    transformer_free(&m);
    if (inspect(path, NULL))
        fail_msg("%s", err_text());
    assert_tidy();
    assert_shows("stage          pretrain\n");
    assert_shows("step           12, 3456 tokens in 8 s\n");
    assert_shows("best           2.7500 nats per token (perplexity 15.643) at step 10\n");
    assert_shows("llama, 2 layers, width 32, vocabulary 260, context 320\n");
    assert_shows("heads          4 2\n");
    assert_shows("feed-forward   48 40\n");
    assert_shows("byte, 257 tokens");
    assert_shows("256      <|endoftext|>  control  ends a document\n");
    assert_shows("config hash    c0ffee\n");
    assert_shows("  name: tiny\n");
    assert_null(strstr(out.p, "bits per byte"));
    assert_null(strstr(out.p, "blk.0"));
    assert_int_equal(inspect(path, "--tensors"), 0);
    assert_tidy();
    char line[128];
    // 30 ones, 3 and -1: mean 32 / 32, variance (4 + 4) / 32
    snprintf(line, sizeof line, "%-30s  %15s  %11s %10s %11s %11s\n", "blk.0.attn_norm.weight",
             "32", "1", "0.5", "-1", "3");
    assert_shows(line);
    assert_shows("1 of them are NaN or infinite");
}

/* What architectures differ in is shown. */
static void architectures_are_shown(void **state)
{
    static const struct {
        enum arch arch;
        const char *shown[3];
    } each[] = {
        {ARCH_GPT2, {"gpt2, 2 layers", "positions      learned\n", "blk.1.attn_qkv.bias"}},
        {ARCH_QWEN2, {"qwen2, 2 layers", "base 10000, halves\n", "blk.1.attn_v.bias"}},
        {ARCH_QWEN3, {"qwen3, 2 layers", "base 10000, halves\n", "blk.1.attn_k_norm.weight"}},
        {ARCH_LLAMA, {"llama, 2 layers", "base 10000, adjacent pairs\n", "blk.1.ffn_gate.weight"}},
    };
    const char *path = scratch_path(*state, "model.h5");
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        struct transformer m;
        tiny_model_of(&m, each[i].arch, false, false);
        tiny_model_save(path, &m);
        transformer_free(&m);
        assert_int_equal(inspect(path, "--tensors"), 0);
        assert_tidy();
        for (int k = 0; k < 3; k++)
            assert_shows(each[i].shown[k]);
    }
}

static void tokenizers_are_shown(void **state)
{
    const char *path = scratch_path(*state, "tokenizer.json");
    struct tokenizer *t = tokenizer_new_byte();
    assert_int_equal(tokenizer_save(t, path), 0);
    tokenizer_free(t);
    assert_int_equal(inspect(path, NULL), 0);
    assert_tidy();
    assert_shows("byte, 257 tokens, cut as gpt-2");
    assert_shows("added tokens   1\n");
    assert_int_equal(inspect(path, "--tensors"), -1);
    assert_non_null(strstr(err_text(), "--tensors is for checkpoints"));
}

static void corpora_are_shown(void **state)
{
    const char *file = "a.txt", *text = scratch_path(*state, "a.txt");
    const struct corpus_spec spec = {
        .source = &file,
        .n_sources = 1,
        .valid = SPLIT_TAIL,
        .valid_fraction = 0.5,
        .tokenizer = CORPUS_BYTE,
        .context = 1,
        .base_dir = scratch_folder(*state),
        .cache_dir = scratch_path(*state, "cache"),
    };
    struct buf path = {0};
    scratch_text(text, "one\ntwo\nsix\nten\n");
    if (corpus_build(&spec, NULL, &path) || inspect(path.p, NULL))
        fail_msg("%s", err_text());
    assert_tidy();
    assert_shows("corpus ");
    struct corpus c;
    assert_int_equal(corpus_open(&c, path.p), 0);
    for (int i = 0; i < 2; i++) {
        const long long n = c.part[i].tokens;
        char line[128];
        assert_true(n > 0);
        snprintf(line, sizeof line,
                 "%-14s %lld tokens, 1 documents, %lld bytes of text (1.00 a token)\n",
                 corpus_side_names[i], n, n);
        assert_shows(line);
    }
    corpus_close(&c);
    assert_shows("byte, 257 tokens");
    buf_free(&path);
}

static void number(struct buf *b, uint64_t x, int bytes)
{
    for (int i = 0; i < bytes; i++, x >>= 8)
        buf_add(b, &(char){(char)x}, 1);
}

static void text(struct buf *b, const char *s)
{
    number(b, strlen(s), 8);
    buf_text(b, s);
}

static void gguf_files_are_shown(void **state)
{
    const char *path = scratch_path(*state, "a.gguf");
    const char *name = "a.name.that.is.as.long.as.names.can.be.in.a.file.of.this.kind..";
    struct buf b = {0};
    buf_text(&b, "GGUF");
    number(&b, 3, 4);
    number(&b, 2, 8);
    number(&b, 3, 8);
    text(&b, "a.key.that.is.rather.long.as.some.vendors.keys.happen.to.be");
    number(&b, 8, 4);
    text(&b, "a value with \x1b[31mcolour and no end: 0123456789012345678901234567890123456789");
    text(&b, "words");
    number(&b, 9, 4);
    number(&b, 8, 4);
    number(&b, 2, 8);
    text(&b, "one");
    text(&b, "\xff");
    text(&b, "numbers");
    number(&b, 9, 4);
    number(&b, 5, 4);
    number(&b, 100, 8);
    for (int i = 0; i < 100; i++)
        number(&b, (uint32_t)-i, 4);
    text(&b, name);
    number(&b, 4, 4);
    number(&b, 256, 8);
    for (int i = 0; i < 3; i++)
        number(&b, 1, 8);
    number(&b, 14, 4);
    number(&b, 0, 8);
    text(&b, "later");
    number(&b, 1, 4);
    number(&b, 7, 8);
    number(&b, 0x4001, 4);
    number(&b, 224, 8);
    for (size_t end = (b.n + 31) / 32 * 32 + 240; b.n < end;)
        number(&b, 0, 1);
    scratch_write(path, b.p, b.n);
    if (inspect(path, NULL))
        fail_msg("%s", err_text());
    assert_tidy();
    assert_shows("version 3");
    assert_shows("6.562 per element\n"); // of the type that is known
    assert_shows("a.key.that.is.rather.long.as.some.vendo...");
    assert_shows("a value with \\x1b[31m");
    assert_shows("string x 2       [\"one\", \"\\xff\"]\n");
    assert_shows("i32 x 100        [0, -1, -2, -3");
    assert_shows("256 x 1 x 1 x 1  Q6_K         210 B\n");
    assert_shows("7  #16385           ?\n");
    buf_free(&b);
}

static void safetensors_files_are_shown(void **state)
{
    static const char header[] =
        "{\"__metadata__\":{\"format\":\"pt\\u001b\"},"
        "\"model.embed\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[0,12]},"
        "\"s\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[12,16]}}";
    const char *path = scratch_path(*state, "a.safetensors");
    struct buf b = {0};
    number(&b, sizeof header - 1, 8);
    buf_text(&b, header);
    number(&b, 0, 16);
    scratch_write(path, b.p, b.n);
    if (inspect(path, NULL))
        fail_msg("%s", err_text());
    assert_tidy();
    assert_shows("tensors        2 with 7 elements\n");
    assert_shows("  format: pt\\x1b\n");
    assert_shows("2 x 3  BF16          12 B\n");
    assert_shows("one number  F32            4 B\n");
    buf_free(&b);
}

static void hugging_face_folders_are_shown(void **state)
{
    (void)state;
    if (inspect("tests/golden/import/llama3", NULL))
        fail_msg("%s", err_text());
    assert_tidy();
    assert_shows("in 3 files, 20 tensors with 23840 elements\n");
    assert_shows("llama, 2 layers, width 32, vocabulary 260 (tied), context 64\n");
    assert_shows("llama3 scaling\n");
    assert_shows("tokenizer      cannot be used\n  tests/golden/import/llama3: neither tokenizer");
    assert_shows("model.embed_tokens.weight");
    assert_shows("260 x 32  BF16");
    assert_int_equal(inspect("tests/golden/import/llama3", "--tensors"), -1);
    assert_non_null(strstr(err_text(), "always listed"));
}

/* A model that cannot be used is shown all the same, with the reason. */
static void unknown_models_are_shown(void **state)
{
    struct buf path = {0};
    size_t n;
    char *weights = scratch_read("tests/golden/import/qwen2/model.safetensors", &n);
    buf_printf(&path, "%s/model.safetensors", scratch_folder(*state));
    scratch_write(path.p, weights, n);
    buf_clear(&path);
    buf_printf(&path, "%s/config.json", scratch_folder(*state));
    scratch_text(path.p, "{\"model_type\": \"mamba\"}");
    if (inspect(scratch_folder(*state), NULL))
        fail_msg("%s", err_text());
    assert_tidy();
    assert_shows("model          cannot be used\n");
    assert_shows("mamba");
    assert_shows("model.layers.1.self_attn.q_proj.bias");
    free(weights);
    buf_free(&path);
}

static void other_files_are_refused(void **state)
{
    const char *path = scratch_path(*state, "other");
    static const char *const bytes[] = {"", "GGU", "hello", "\x89HDF\r\n\x1a\n", "{\"a\": 1}"};
    for (size_t i = 0; i < sizeof bytes / sizeof *bytes; i++) {
        scratch_text(path, bytes[i]);
        assert_int_equal(inspect(path, NULL), -1);
        assert_non_null(strstr(err_text(), path));
        assert_int_equal(out.n, 0);
    }
    assert_int_equal(inspect(scratch_path(*state, "none"), NULL), -1);
    assert_int_equal(inspect(path, "--all"), CMD_USAGE);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, scratch_setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(text_is_escaped_and_cut),        TEST(bytes_have_units),
        TEST(checkpoints_are_shown),          TEST(architectures_are_shown),
        TEST(tokenizers_are_shown),           TEST(corpora_are_shown),
        TEST(gguf_files_are_shown),           TEST(safetensors_files_are_shown),
        TEST(hugging_face_folders_are_shown), TEST(unknown_models_are_shown),
        TEST(other_files_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
