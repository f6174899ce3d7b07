/* What a text becomes: pairs as `generate` would read their prompts, special tokens where they are
   to be parsed, and the identity that follows from it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "datasets/corpus.h"
#include "datasets/corpus_build.h"
#include "datasets/corpus_peek.h"
#include "tests/datasets/scratch.h"

enum { EOT = 256, BOS = 257 };

static const char *file; /* of the corpora to come */
static struct buf said;  /* on stderr by the last one */
static int context;      /* that text, but not pairs, has to fill */

/* A corpus of the text, with or without a BOS in its tokenizer of bytes. */
static void make(void *state, const char *text, enum corpus_special special, bool bos,
                 const char *prompt_key, struct corpus *c)
{
    struct buf json = {0}, path = {0};
    struct tokenizer *t = tokenizer_new_byte();
    assert_int_equal(vocab_set(&t->vocab, BOS, "<s>", 3, VOCAB_CONTROL), 0);
    t->bos = t->role[TOKENIZER_BOS] = bos ? BOS : -1;
    assert_int_equal(tokenizer_write(t, &json), 0);
    tokenizer_free(t);
    scratch_text(scratch_path(state, file), text);
    const struct corpus_spec spec = {
        .source = &file,
        .n_sources = 1,
        .prompt_key = prompt_key,
        .completion_key = prompt_key ? "completion" : NULL,
        .parse_special = special,
        .tokenizer = CORPUS_JSON,
        .context = context,
        .tokenizer_json = json.p,
        .n_tokenizer_json = json.n,
        .base_dir = scratch_folder(state),
        .cache_dir = scratch_path(state, "cache"),
    };
    FILE *aside = tmpfile();
    const int saved = dup(2);
    dup2(fileno(aside), 2);
    const int rc = corpus_build(&spec, NULL, &path);
    dup2(saved, 2);
    close(saved);
    char block[4096];
    rewind(aside);
    buf_clear(&said);
    buf_add(&said, block, fread(block, 1, sizeof block, aside));
    buf_text(&said, "");
    fclose(aside);
    if (rc || corpus_open(c, path.p))
        fail_msg("%s", err_text());
    buf_free(&path);
    buf_free(&json);
}

/* Bytes as they are, "|" for the end of a document, "<" for BOS, "_" in front of what is not to be
   predicted. */
static void is(const struct corpus *c, const char *want)
{
    const int64_t n = c->part[0].tokens;
    int32_t *t = malloc((size_t)n * sizeof *t);
    uint8_t *mask = malloc((size_t)n);
    struct buf b = {0};
    assert_int_equal(corpus_read(c, CORPUS_TRAIN, 0, n, t), 0);
    assert_int_equal(corpus_read_mask(c, CORPUS_TRAIN, 0, n, mask), 0);
    for (int64_t i = 0; i < n; i++)
        buf_printf(&b, "%s%c", mask[i] ? "" : "_",
                   t[i] == EOT   ? '|'
                   : t[i] == BOS ? '<'
                                 : (char)t[i]);
    assert_string_equal(b.p, want);
    buf_free(&b);
    free(t);
    free(mask);
}

static void becomes(void *state, const char *text, enum corpus_special special, bool bos,
                    const char *want)
{
    struct corpus c;
    make(state, text, special, bos, NULL, &c);
    is(&c, want);
    corpus_close(&c);
}

#define PAIR(p, c) "{\"prompt\": \"" p "\", \"completion\": \"" c "\"}\n"

/* A prompt is what `generate` makes of it; the end comes once. */
static void a_pair_is_what_is_asked(void **state)
{
    file = "a.jsonl";
    context = 1000;
    becomes(*state, PAIR("Q<|endoftext|>", "a") PAIR("R", "b<|endoftext|>"), CORPUS_SPECIAL_PAIRS,
            false, "_Q_|a|_Rb|");
    becomes(*state, PAIR("Q", "a") PAIR("", "b"), CORPUS_SPECIAL_PAIRS, false, "_Qa|_|b|");
    becomes(*state, PAIR("Q", "a") PAIR("", "b"), CORPUS_SPECIAL_PAIRS, true, "_<_Qa|_<b|");
    becomes(*state, PAIR("Q", "a") PAIR("", "b"), CORPUS_SPECIAL_NONE, true, "_<_Qa|_<b|");
    becomes(*state, PAIR("<s>", "a"), CORPUS_SPECIAL_NONE, false, "_<_s_>a|");
    assert_non_null(strstr(said.p, "spells out special tokens in 1 places (the first is <s>)"));
    // text beside them stays text, unless all is to be parsed
    becomes(*state, PAIR("Q", "<s>") "{\"text\": \"x<s>\"}\n", CORPUS_SPECIAL_PAIRS, false,
            "_Q<|x<s>");
    assert_non_null(strstr(said.p, "in 1 places"));
    becomes(*state, PAIR("Q", "<s>") "{\"text\": \"x<s>\"}\n", CORPUS_SPECIAL_ALL, false, "_Q<|x<");
    assert_string_equal(said.p, "");
}

static void plain_text_is_text(void **state)
{
    file = "a.txt";
    becomes(*state, "x<s>\n\ny<|endoftext|><s>z", CORPUS_SPECIAL_PAIRS, true,
            "x<s>|y<|endoftext|><s>z");
    assert_non_null(strstr(said.p, "in 3 places (the first is <s>)"));
    becomes(*state, "x<s>\n\ny<|endoftext|><s>z", CORPUS_SPECIAL_ALL, true, "x<|y|<z");
    assert_string_equal(said.p, "");
    becomes(*state, "nothing < | >", CORPUS_SPECIAL_PAIRS, true, "nothing < | >");
    assert_string_equal(said.p, "");
}

/* Keys that a stage names come first; by themselves, `text` does. */
static void a_line_may_be_either(void **state)
{
    struct corpus c;
    const char *line = "{\"text\": \"all\", \"prompt\": \"Q\", \"completion\": \"a\"}\n";
    file = "a.jsonl";
    becomes(*state, line, CORPUS_SPECIAL_PAIRS, false, "all");
    make(*state, line, CORPUS_SPECIAL_PAIRS, false, "prompt", &c);
    is(&c, "_Qa|");
    corpus_close(&c);
}

static void empty_completions_are_counted(void **state)
{
    file = "a.jsonl";
    becomes(*state, PAIR("Q", "a") PAIR("R", "") PAIR("S", " ") PAIR("", ""), CORPUS_SPECIAL_PAIRS,
            false, "_Qa|_S |");
    assert_non_null(strstr(said.p, "2 pairs are left out: their completion is empty"));
}

/* The content's identity changes where the tokens do: a run whose corpus is made anew under other
   rules goes on only if they make no difference. The first two are what attar made before there
   were any rules. */
static void identity(void **state)
{
    static const struct {
        const char *file, *text;
        bool bos;
        enum corpus_special special;
        int same; /* index of the row whose content it has; itself: of no row before */
    } row[] = {
        {"a.txt", "x", false, CORPUS_SPECIAL_NONE, 0},
        {"a.txt", "x", false, CORPUS_SPECIAL_PAIRS, 0},
        {"a.txt", "x", false, CORPUS_SPECIAL_ALL, 0},
        {"a.txt", "x<s>", false, CORPUS_SPECIAL_PAIRS, 3},
        {"a.txt", "x<s>", false, CORPUS_SPECIAL_ALL, 4},
        {"a.jsonl", PAIR("Q", "a"), false, CORPUS_SPECIAL_NONE, 5},
        {"a.jsonl", PAIR("Q", "a"), false, CORPUS_SPECIAL_PAIRS, 5},
        {"a.jsonl", PAIR("Q", "a<s>"), false, CORPUS_SPECIAL_NONE, 7},
        {"a.jsonl", PAIR("Q", "a<s>"), false, CORPUS_SPECIAL_PAIRS, 8},
        {"a.jsonl", PAIR("Q", "a<s>"), false, CORPUS_SPECIAL_ALL, 8},
        {"a.jsonl", PAIR("", "a"), false, CORPUS_SPECIAL_NONE, 10},
        {"a.jsonl", PAIR("", "a"), true, CORPUS_SPECIAL_NONE, 11},
    };
    enum { ROWS = sizeof row / sizeof *row };
    char hash[ROWS][CORPUS_HEX];
    for (int i = 0; i < ROWS; i++) {
        struct corpus c;
        file = row[i].file;
        make(*state, row[i].text, row[i].special, row[i].bos, NULL, &c);
        strcpy(hash[i], corpus_hash(&c));
        corpus_close(&c);
        for (int k = 0; k < i; k++)
            assert_int_equal(!strcmp(hash[k], hash[i]), row[k].same == row[i].same);
    }
}

/* What attar 42218f5 made of them: the same content then and now. */
static void old_corpora_stay_valid(void **state)
{
    static const struct {
        const char *file, *text, *content;
    } row[] = {
        {"a.txt", "one two three\n\nfour five six\n\nseven\n", "6e77c9c9c4e221bec616452547947527"},
        {"a.jsonl", PAIR("Q1", "a1") "{\"text\": \"plain\"}\n" PAIR("Q2", "a2"),
         "f332fe162b35a03ec82edb2ce4e65e59"},
    };
    for (int i = 0; i < 2; i++) {
        struct corpus c;
        struct buf path = {0};
        const char *source = row[i].file;
        scratch_text(scratch_path(*state, source), row[i].text);
        const struct corpus_spec spec = {
            .source = &source,
            .n_sources = 1,
            .seed = 1,
            .parse_special = CORPUS_SPECIAL_PAIRS,
            .base_dir = scratch_folder(*state),
            .cache_dir = scratch_path(*state, "cache"),
        };
        if (corpus_build(&spec, NULL, &path) || corpus_open(&c, path.p))
            fail_msg("%s", err_text());
        assert_string_equal(corpus_hash(&c), row[i].content);
        assert_true(corpus_peek_pairs(&spec) == (i == 1));
        corpus_close(&c);
        buf_free(&path);
    }
}

static int teardown(void **state)
{
    context = 0;
    buf_free(&said);
    return scratch_teardown(state);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, scratch_setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_pair_is_what_is_asked),       TEST(plain_text_is_text), TEST(a_line_may_be_either),
        TEST(empty_completions_are_counted), TEST(identity),           TEST(old_corpora_stay_valid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
