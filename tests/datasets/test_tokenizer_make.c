#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"
#include "datasets/bpe_train.h"
#include "datasets/tokenizer.h"
#include "tests/datasets/gibberish.h"
#include "tests/datasets/pieces_of.h"

/* ---- written as tokenizer.json and read again ---- */

static void same_ids(const struct tokenizer *t, const struct tokenizer *u, uint64_t seed)
{
    struct tokens a = {0}, b = {0};
    struct buf text = {0};
    for (int i = 0; i < 60; i++) {
        gibberish_text(&seed, (enum gibberish)(i % GIBBERISH_KINDS), 50, &text);
        buf_text(&text, "</s> <unk>\n");
        a.n = b.n = 0;
        assert_int_equal(tokenizer_encode(t, text.p, text.n, i % 2, &a), 0);
        assert_int_equal(tokenizer_encode(u, text.p, text.n, i % 2, &b), 0);
        assert_int_equal(a.n, b.n);
        assert_memory_equal(a.id, b.id, a.n * sizeof *a.id);
    }
    tokens_free(&a);
    tokens_free(&b);
    buf_free(&text);
}

static struct tokenizer *written_and_read(const struct tokenizer *t)
{
    struct buf x = {0}, y = {0};
    assert_int_equal(tokenizer_write(t, &x), 0);
    struct tokenizer *u = tokenizer_parse(x.p, x.n);
    if (!u)
        fail_msg("%s", err_text());
    assert_int_equal(tokenizer_write(u, &y), 0);
    assert_string_equal(x.p, y.p);
    buf_free(&x);
    buf_free(&y);
    same_ids(t, u, 9);
    return u;
}

static void nothing_is_lost_in_json(void **state)
{
    (void)state;
    static struct pieces_of p;
    for (int space = TOKENIZER_NO_SPACE; space <= TOKENIZER_SPACE_UNLESS; space++) {
        pieces_of(&p, 30 + (uint64_t)space, space % 2);
        p.parts.space = (enum tokenizer_space)space;
        p.parts.add_eos = space == 1;
        p.parts.role[TOKENIZER_EOT] = 2;
        p.parts.chat_template = (struct tokenizer_text){"{{ \"a\" }}\n", 10};
        struct tokenizer *t = tokenizer_make(&p.parts);
        if (!t)
            fail_msg("%s", err_text());
        struct tokenizer *u = written_and_read(t);
        assert_int_equal(u->space, space);
        assert_int_equal(u->bos, 1);
        assert_int_equal(u->eot, t->eot);
        assert_int_equal(u->add_eos, t->add_eos);
        assert_string_equal(u->chat_template, "{{ \"a\" }}\n");
        assert_memory_equal(u->role, t->role, sizeof t->role);
        assert_int_equal(u->vocab.n, t->vocab.n);
        for (int32_t id = 0; id < (int32_t)p.parts.n; id++) {
            struct buf text = {0};
            assert_int_equal(u->vocab.token[id].type, p.type[id]);
            tokenizer_text(u, id, &text);
            assert_int_equal(text.n, p.token[id].n);
            assert_memory_equal(text.p, p.token[id].s, text.n);
            assert_true(tokenizer_score(u, id) == p.score[id]);
            buf_free(&text);
        }
        tokenizer_free(t);
        tokenizer_free(u);
    }
}

/* A file that has merges and no scores: what others write. */
static void scores_follow_merges(void **state)
{
    (void)state;
    static const char json[] =
        "{\"added_tokens\": [{\"id\": 0, \"content\": \"<unk>\", \"special\": true}],"
        "\"normalizer\": {\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": "
        "\"\\u2581\"}, \"pre_tokenizer\": null, \"model\": {\"type\": \"BPE\", \"unk_token\": "
        "\"<unk>\", \"fuse_unk\": true, \"byte_fallback\": true, \"vocab\": {\"<unk>\": 0, \"a\": "
        "1,"
        "\"b\": 2, \"ab\": 3, \"ba\": 4, \"aba\": 5}, "
        "\"merges\": [\"b a\", \"a b\", \"a ba\", \"ab a\"]}}";
    struct tokenizer *t = tokenizer_parse(json, strlen(json));
    if (!t)
        fail_msg("%s", err_text());
    struct tokens ids = {0};
    assert_int_equal(tokenizer_encode(t, "abab", 4, false, &ids), 0);
    assert_int_equal(ids.n, 2);
    assert_int_equal(ids.id[0], 5); // ba, a ba, and a b was too late
    assert_int_equal(ids.id[1], 2);
    assert_true(tokenizer_score(t, 4) == 0 && tokenizer_score(t, 3) == -1 &&
                tokenizer_score(t, 5) == -2 && tokenizer_score(t, 1) == -4);
    tokens_free(&ids);
    tokenizer_free(written_and_read(t));
    tokenizer_free(t);
}

/* ---- byte-level BPE ---- */

/* The parts of a tokenizer that was learned; texts live in *store. */
struct taken {
    struct tokenizer_parts parts;
    struct tokenizer_text token[600], merge[600];
    int32_t type[600];
    struct buf store;
};

static void take(struct taken *k, const struct tokenizer *t, const char *pre)
{
    static size_t at[600], end[600], merge_at[600], merge_end[600];
    memset(k, 0, sizeof *k);
    for (int32_t id = 0; id < tokenizer_vocab_size(t); id++) {
        at[id] = k->store.n;
        tokenizer_text(t, id, &k->store);
        end[id] = k->store.n;
        k->type[id] = (int32_t)t->vocab.token[id].type;
    }
    for (size_t i = 0; i < t->bpe.n_merges; i++) {
        merge_at[i] = k->store.n;
        tokenizer_text(t, t->bpe.merge[i].left, &k->store);
        buf_text(&k->store, " ");
        tokenizer_text(t, t->bpe.merge[i].right, &k->store);
        merge_end[i] = k->store.n;
    }
    k->parts = (struct tokenizer_parts){.n = (size_t)tokenizer_vocab_size(t),
                                        .token = k->token,
                                        .type = k->type,
                                        .merge = k->merge,
                                        .n_merges = t->bpe.n_merges,
                                        .pre = pretok_named(pre, strlen(pre)),
                                        .role = {-1, t->eot, -1, -1, -1, -1, -1}};
    for (size_t id = 0; id < k->parts.n; id++)
        k->token[id] = (struct tokenizer_text){k->store.p + at[id], end[id] - at[id]};
    for (size_t i = 0; i < k->parts.n_merges; i++)
        k->merge[i] = (struct tokenizer_text){k->store.p + merge_at[i], merge_end[i] - merge_at[i]};
}

static struct tokenizer *learned(const char *pre)
{
    uint64_t seed = 60;
    struct buf s = {0};
    struct bpe_train *b = bpe_train_new(pre, 400, NULL);
    for (int i = 0; i < 20; i++) {
        gibberish_text(&seed, i % 2 ? GIBBERISH_WORDS : GIBBERISH_SCRIPT, 200, &s);
        assert_int_equal(bpe_train_add(b, s.p, s.n), 0);
    }
    buf_free(&s);
    struct tokenizer *t = bpe_train_finish(b);
    assert_non_null(t);
    return t;
}

static void bytes_are_made_again(void **state)
{
    (void)state;
    static struct taken k;
    static const struct {
        const char *pre, *name;
        bool whole, add_bos;
    } each[] = {{"gpt-2", "gpt-2", false, false},    {"gpt-2", "phi-2", false, false},
                {"llama-bpe", "llama3", true, true}, {"llama-bpe", "dbrx", false, false},
                {"qwen2", "qwen2", false, false},    {"smollm", "starcoder", false, false}};
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        struct tokenizer *t = learned(each[i].pre);
        take(&k, t, each[i].name);
        struct tokenizer *u = tokenizer_make(&k.parts);
        if (!u)
            fail_msg("%s", err_text());
        assert_string_equal(tokenizer_pre(u), each[i].name);
        assert_int_equal(u->bpe.whole != NULL, each[i].whole);
        assert_int_equal(k.parts.pre->add_bos, each[i].add_bos);
        assert_int_equal(u->eot, t->eot);
        same_ids(t, u, 4);
        struct tokenizer *v = written_and_read(u);
        assert_string_equal(tokenizer_pre(v), each[i].name);
        tokenizer_free(t);
        tokenizer_free(u);
        tokenizer_free(v);
        buf_free(&k.store);
    }
}

/* ---- what is malformed ---- */

static void refused(const struct tokenizer_parts *p, const char *says)
{
    const struct tokenizer *t = tokenizer_make(p);
    assert_null(t);
    if (!strstr(err_text(), says))
        fail_msg("'%s' does not say '%s'", err_text(), says);
}

static void malformed_pieces_are_refused(void **state)
{
    (void)state;
    static struct pieces_of p, good;
    static char big[SPM_TOKEN + 2];
    pieces_of(&good, 3, false);
    const size_t last = good.parts.n - 2; // the one behind is unused
    struct tokenizer_parts parts = good.parts;
    parts.n = 0;
    refused(&parts, "0 tokens");
    p = good;
    p.parts.token = p.token, p.parts.type = p.type, p.parts.score = p.score;
    p.type[last] = 7;
    refused(&p.parts, "unknown type 7");
    p.type[last] = VOCAB_BYTE;
    refused(&p.parts, "is of type byte");
    p.type[last] = VOCAB_NORMAL;
    p.type[10] = VOCAB_CONTROL;
    refused(&p.parts, "not of type byte");
    p.type[10] = VOCAB_BYTE;
    p.score[last] = NAN;
    refused(&p.parts, "score");
    p.score[last] = -1;
    p.token[last] = p.token[last - 1];
    refused(&p.parts, "are the same");
    memset(big, 'x', sizeof big);
    p.token[last] = (struct tokenizer_text){big, SPM_TOKEN + 1};
    refused(&p.parts, "at most 512");
    p.token[last].n--;
    p.parts.role[TOKENIZER_EOT] = (int32_t)p.parts.n;
    refused(&p.parts, "special token eot");
    p.token[5].n = 0; // a gap
    p.parts.role[TOKENIZER_EOT] = 5;
    refused(&p.parts, "special token eot");
    p.parts.role[TOKENIZER_EOT] = 2;
    p.token[last] = (struct tokenizer_text){"\xff\xfe", 2}; // no text becomes it: unused
    struct tokenizer *t = tokenizer_make(&p.parts);
    assert_non_null(t);
    assert_int_equal(t->vocab.token[last].type, VOCAB_UNUSED);
    assert_int_equal(t->vocab.token[5].type, VOCAB_HOLE);
    tokenizer_free(t);
}

static void malformed_merges_are_refused(void **state)
{
    (void)state;
    static struct taken k;
    static const struct {
        const char *merge, *says;
    } bad[] = {{"ab", "merge 3: has no space"},  {"", "has no space"},
               {" a", "not all of the two"},     {"a ", "not all of the two"},
               {"a \x01", "not all of the two"}, {"\xc5\xbf z", "not all of the two"},
               {"a \xff", "not all of the two"}, {"zz zz", "merge 3: not all of the two"}};
    struct tokenizer *t = learned("gpt-2");
    take(&k, t, "gpt-2");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        k.merge[3] = (struct tokenizer_text){bad[i].merge, strlen(bad[i].merge)};
        refused(&k.parts, bad[i].says);
    }
    k.parts.n_merges = 3;
    k.type[7] = VOCAB_BYTE;
    refused(&k.parts, "no bytes apart");
    tokenizer_free(t);
    buf_free(&k.store);
}

static void memory_may_be_short(void **state)
{
    (void)state;
    static struct pieces_of p;
    pieces_of(&p, 8, false);
    struct tokenizer *t = NULL;
    long k = 1;
    for (; !t; k++) {
        mem_fail_at(k);
        t = tokenizer_make(&p.parts);
        mem_fail_at(0);
        if (!t)
            assert_non_null(strstr(err_text(), "out of memory"));
    }
    assert_true(k > 20);
    tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_lost_in_json),
        cmocka_unit_test(scores_follow_merges),
        cmocka_unit_test(bytes_are_made_again),
        cmocka_unit_test(malformed_pieces_are_refused),
        cmocka_unit_test(malformed_merges_are_refused),
        cmocka_unit_test(memory_may_be_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
