/* What a message suggests is valid: keys, other people's names for them, and values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "autograd/base/rng.h"
#include "experiments/config_parts.h"
#include "experiments/model.h"

#define SHAPES                                                                                     \
    "name: t\n"                                                                                    \
    "data: {corpus: a.txt, tokenizer: {type: bpe, vocab_size: 512}}\n"                             \
    "model: {n_layers: 2, d_model: 64, n_heads: 4, n_kv_heads: 2, d_ff: 128, context: 32}\n"       \
    "stages:\n"                                                                                    \
    "  - pretrain: {steps: 100, batch_tokens: 64, schedule: wsd}\n"
static const char ONE[] = SHAPES;
static const char ALL[] =
    SHAPES "  - finetune: {data: b.jsonl, steps: 100, batch_tokens: 64}\n"
           "  - qat: {type: q4_k, params: lora, steps: 100, batch_tokens: 64, lora: {rank: 4}}\n"
           "  - export: {type: q4_k}\n"
           "  - evaluate: {}\n";

enum { MOST = 8, TEXT = 160 };

/* Parses ALL or, for sizes, ONE with the overrides; the messages go to `out`. The number of
 * mistakes. */
static int mistakes_in(const char *base, int n, char text[][TEXT], struct buf *out)
{
    const char *overrides[MOST];
    struct mistakes bad = {.file = "c"};
    struct config c;
    for (int i = 0; i < n; i++)
        overrides[i] = text[i];
    config_parse(&c, base, strlen(base), ".", n, overrides, &bad);
    buf_clear(out);
    buf_text(out, "");
    mistake_print(&bad, SIZE_MAX, out);
    const int found = (int)bad.n;
    if (!found) {
        struct transformer_dims d;
        if (model_dims(&c.model, 512, &d))
            fail_msg("%s", err_text());
    }
    mistake_free(&bad);
    config_free(&c);
    return found;
}

static int mistakes(int n, char text[][TEXT], struct buf *out)
{
    return mistakes_in(ALL, n, text, out);
}

/* ---- keys ---- */

static const char *const maps[] = {"",          "data.", "data.tokenizer.", "model.",  "pretrain.",
                                   "finetune.", "qat.",  "qat.lora.",       "export.", "evaluate."};

/* Is it a key there? Overrides of a key that exists give no "unknown key". */
static bool is_key(const char *map, const char *key)
{
    char text[1][TEXT];
    struct buf out = {0};
    snprintf(text[0], TEXT, "%s%s=1", map, key);
    mistakes(1, text, &out);
    const bool known = !strstr(out.p, "unknown key");
    buf_free(&out);
    return known;
}

static void words_of_others_lead_to_keys(void **state)
{
    (void)state;
    const char *ours, *theirs;
    struct buf out = {0};
    int here = 0, n = 0;
    for (int i = 0; (theirs = config_alias(i, &ours)); i++, n++) {
        bool leads = false;
        for (size_t m = 0; m < sizeof maps / sizeof *maps; m++) {
            char text[1][TEXT], meant[TEXT];
            snprintf(text[0], TEXT, "%s%s=1", maps[m], theirs);
            mistakes(1, text, &out);
            if (is_key(maps[m], theirs))
                fail_msg("%s is a key of '%s' itself", theirs, maps[m]);
            if (strstr(out.p, "valid are"))
                fail_msg("%s\n%s", text[0], out.p);
            snprintf(meant, sizeof meant, "did you mean '%s'", ours);
            if (!strstr(out.p, meant))
                continue;
            leads = true;
            here++;
            if (!is_key(maps[m], ours))
                fail_msg("%s\n%s", text[0], out.p);
        }
        if (!leads && !strcmp(ours, "stages"))
            leads = true;
        if (!leads)
            fail_msg("%s leads nowhere: %s is no key of any map", theirs, ours);
    }
    assert_true(n > 100 && here > n);
    buf_free(&out);
}

static void slips_are_put_right(void **state)
{
    (void)state;
    static const struct {
        const char *map, *key, *value;
    } keys[] = {{"", "seed", "3"},
                {"", "threads", "2"},
                {"data.", "valid_fraction", "10%"},
                {"model.", "d_ff", "96"},
                {"model.", "dropout", ".1"},
                {"pretrain.", "warmup", "3"},
                {"qat.lora.", "alpha", "4"},
                {"qat.", "batch_tokens", "128"},
                {"finetune.", "weight_decay", "0"},
                {"evaluate.", "tokens", "5K"}};
    struct buf out = {0};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        for (size_t at = 0; at < strlen(keys[i].key); at++) {
            char text[1][TEXT], wrong[64], *meant;
            snprintf(wrong, sizeof wrong, "%s", keys[i].key);
            memmove(wrong + at, wrong + at + 1, strlen(wrong + at));
            snprintf(text[0], TEXT, "%s%s=%s", keys[i].map, wrong, keys[i].value);
            if (!*wrong || is_key(keys[i].map, wrong) || !mistakes(1, text, &out))
                continue;
            if (!(meant = strstr(out.p, "did you mean '")))
                fail_msg("%s\n%s", text[0], out.p);
            meant += strlen("did you mean '");
            snprintf(text[0], TEXT, "%s%.*s=%s", keys[i].map, (int)strcspn(meant, "'"), meant,
                     keys[i].value);
            if (mistakes(1, text, &out))
                fail_msg("suggested: %s\n%s", text[0], out.p);
        }
    buf_free(&out);
}

/* What is said to belong elsewhere does, and overrides at the top are told the config's own stages.
 */
static void places_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *override, *message;
    } each[] = {
        {"lr=1e-3", "unknown key 'lr'; did you mean pretrain.lr, finetune.lr, qat.lr?"},
        {"learning_rate=1",
         "unknown key 'learning_rate'; did you mean pretrain.lr, finetune.lr, qat.lr?"},
        {"vocab_size=512",
         "unknown key 'vocab_size'; it belongs into data.tokenizer (with type: bpe)"},
        {"hidden_size=3",
         "unknown key 'hidden_size'; here it is called d_model, and belongs into model"},
        {"finetune.lora={rank: 8}",
         "unknown key 'lora' in finetune; it belongs into a stage qat (with params: lora)"},
        {"pretrain.type=q4_k", "unknown key 'type' in pretrain; it belongs into data.tokenizer"},
        {"export.seed=4", "unknown key 'seed' in export; it belongs into the top of the config"},
        {"model.lr=4",
         "unknown key 'lr' in model; it belongs into a stage pretrain, finetune, qat"},
    };
    struct buf out = {0};
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        char text[1][TEXT];
        snprintf(text[0], TEXT, "%s", each[i].override);
        assert_int_equal(mistakes(1, text, &out), 1);
        if (!strstr(out.p, each[i].message))
            fail_msg("%s\n%s", text[0], out.p);
    }
    buf_free(&out);
}

/* What an override makes useless in the file is taken out by the override that the message names.
 */
static void what_is_useless_can_be_taken_out(void **state)
{
    (void)state;
    struct buf out = {0};
    char text[2][TEXT];
    static const char with_decay[] =
        SHAPES "  - pretrain: {name: more, steps: 5, batch_tokens: 64, "
               "schedule: wsd, decay: 10%}\n";
    snprintf(text[0], TEXT, "more.schedule=cosine");
    assert_int_equal(mistakes_in(with_decay, 1, text, &out), 1);
    const char *at = strstr(out.p, "; `");
    if (!at || !strstr(at, "=` behind it takes it out)"))
        fail_msg("%s", out.p);
    snprintf(text[1], TEXT, "%.*s", (int)strcspn(at + 3, "`"), at + 3);
    assert_string_equal(text[1], "more.decay=");
    assert_int_equal(mistakes_in(with_decay, 2, text, &out), 0);
    snprintf(text[0], TEXT, "data.tokenizer.type=byte"); // in a map inside another
    assert_int_equal(mistakes_in(with_decay, 1, text, &out), 1);
    assert_non_null(at = strstr(out.p, "; `"));
    snprintf(text[1], TEXT, "%.*s", (int)strcspn(at + 3, "`"), at + 3);
    assert_string_equal(text[1], "data.tokenizer.vocab_size=");
    assert_int_equal(mistakes_in(with_decay, 2, text, &out), 0);
    buf_free(&out);
}

/* ---- values ---- */

static const struct {
    const char *map, *key;
    int64_t most; /* of random values */
} numbers[] = {{"model.", "d_model", 300},         {"model.", "n_heads", 12},
               {"model.", "n_kv_heads", 12},       {"model.", "head_dim", 80},
               {"pretrain.", "batch_tokens", 700}, {"pretrain.", "micro_batch_tokens", 700},
               {"model.", "context", 90}};
enum { NUMBERS = sizeof numbers / sizeof *numbers };

/* The key that a message is about, "... d_model: 99 makes ...": an index, or -1. */
static int about(const char *line)
{
    for (int i = 0; i < NUMBERS; i++) {
        char start[64];
        snprintf(start, sizeof start, ": %s: ", numbers[i].key);
        if (strstr(line, start))
            return i;
    }
    return -1;
}

/* The value that the line suggests (the first or, if `second`, the other): false if there is none.
 */
static bool suggested(const char *line, bool second, char value[64])
{
    static const char *const starts[] = {"the nearest are ", "the nearest is ", "the least is ",
                                         "did you mean '"};
    const char *at = NULL;
    for (int i = 0; i < 4 && !at; i++)
        if ((at = strstr(line, starts[i])))
            at += strlen(starts[i]);
    if (!at && (at = strstr(line, " would do"))) {
        while (at > line && at[-1] != ' ')
            at--;
    }
    const char *other = at ? strstr(at, " and ") : NULL;
    if (second && other && other < at + strcspn(at, "\n"))
        at = other + 5;
    if (!at)
        return false;
    snprintf(value, 64, "%.*s", (int)strcspn(at, " ,\n'"), at);
    return true;
}

/* Follows suggestions until there is nothing left to say: at most one for each value that was
 * wrong. */
static void follow(int n, char text[][TEXT], bool second, struct buf *out)
{
    char first[2 * TEXT + 2], value[64];
    snprintf(first, sizeof first, "%.*s %.*s", TEXT, text[0], TEXT, n > 1 ? text[1] : "");
    for (int round = 0; round < 4; round++) {
        if (!mistakes_in(ONE, n, text, out))
            return;
        out->p[strcspn(out->p, "\n")] = 0; // the first of the messages
        const int key = about(out->p);
        if (key < 0 || !suggested(out->p, second, value))
            fail_msg("%s: nothing is suggested:\n%s", first, out->p);
        int k = 0;
        const size_t m = strlen(numbers[key].map);
        while (k < n && !(!strncmp(text[k], numbers[key].map, m) &&
                          !strncmp(text[k] + m, numbers[key].key, strlen(numbers[key].key)) &&
                          text[k][m + strlen(numbers[key].key)] == '='))
            k++;
        assert_true(k < MOST);
        n += k == n;
        snprintf(text[k], TEXT, "%s%s=%s", numbers[key].map, numbers[key].key, value);
    }
    if (mistakes_in(ONE, n, text, out))
        fail_msg("%s: after four suggestions (%s)\n%s", first, text[n - 1], out->p);
}

static void suggested_sizes_pass(void **state)
{
    (void)state;
    struct buf out = {0};
    uint32_t r[4];
    int wrong = 0;
    for (uint64_t i = 0; i < 3000; i++) {
        char text[MOST][TEXT];
        rng_block(14, 0, i, r);
        const int a = (int)(r[0] % NUMBERS), b = (int)(r[1] % NUMBERS), n = a == b ? 1 : 2;
        snprintf(text[0], TEXT, "%s%s=%lld", numbers[a].map, numbers[a].key,
                 (long long)(2 + r[2] % (uint64_t)numbers[a].most));
        snprintf(text[1], TEXT, "%s%s=%lld", numbers[b].map, numbers[b].key,
                 (long long)(2 + r[3] % (uint64_t)numbers[b].most));
        if (!mistakes_in(ONE, n, text, &out))
            continue;
        wrong++;
        follow(n, text, i % 2, &out);
    }
    assert_true(wrong > 1000);
    buf_free(&out);
}

static void suggested_texts_pass(void **state)
{
    (void)state;
    static const char *const each[] = {"pretrain.steps=2k",
                                       "pretrain.steps=2kB",
                                       "pretrain.steps=1,000",
                                       "pretrain.steps=1_000_000",
                                       "pretrain.batch_tokens=8ki",
                                       "pretrain.batch_tokens=8KiB",
                                       "pretrain.steps=007",
                                       "pretrain.lr=1.",
                                       "pretrain.warmup=.05",
                                       "pretrain.min_lr_ratio=50",
                                       "data.valid_fraction=5",
                                       "pretrain.optimizer=AdamW",
                                       "pretrain.optimizer=adam",
                                       "pretrain.schedule=Cosine",
                                       "pretrain.precision=fp32",
                                       "pretrain.tensorboard=yes",
                                       "pretrain.tensorboard=1",
                                       "pretrain.tensorboard=FALSE",
                                       "model.arch=Llama",
                                       "data.tokenizer.type=BPE",
                                       "seed=1 000",
                                       "pretrain.steps=1.5m",
                                       "pretrain.steps=10 k",
                                       "pretrain.decay=.1"};
    struct buf out = {0};
    char value[64];
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        char text[1][TEXT];
        snprintf(text[0], TEXT, "%s", each[i]);
        if (mistakes(1, text, &out) != 1 || !suggested(out.p, false, value))
            fail_msg("%s\n%s", each[i], out.p);
        snprintf(text[0], TEXT, "%.*s=%s", (int)strcspn(each[i], "="), each[i], value);
        if (mistakes(1, text, &out))
            fail_msg("%s: suggested: %s\n%s", each[i], text[0], out.p);
    }
    static const char *const none[] = {"pretrain.steps=many", "pretrain.steps=-2k",
                                       "pretrain.lr=1e3k",    "model.n_layers=2k",
                                       "pretrain.steps=1,00", "seed=0x10"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) { // nothing that would be refused again
        char text[1][TEXT];
        snprintf(text[0], TEXT, "%s", none[i]);
        if (!mistakes(1, text, &out) || strstr(out.p, "did you mean"))
            fail_msg("%s\n%s", none[i], out.p);
    }
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_of_others_lead_to_keys),
        cmocka_unit_test(slips_are_put_right),
        cmocka_unit_test(places_are_named),
        cmocka_unit_test(what_is_useless_can_be_taken_out),
        cmocka_unit_test(suggested_sizes_pass),
        cmocka_unit_test(suggested_texts_pass),
    };
    return cmocka_run_group_tests_name("config_unknown", tests, NULL, NULL);
}
