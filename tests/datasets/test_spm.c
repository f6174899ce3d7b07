/* SentencePiece's BPE against the plainest way to do it: on texts, looking for the best pair anew
   each time, over the whole text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "autograd/base/utf8.h"
#include "datasets/spm.h"
#include "tests/datasets/gibberish.h"
#include "tests/datasets/pieces_of.h"

enum { MOST = 1000 };

struct span {
    const char *s;
    size_t n;
};

/* The normal piece that s is, or -1. */
static int32_t piece(const struct pieces_of *p, struct span s)
{
    for (size_t id = 0; id < p->parts.n; id++)
        if (p->type[id] == VOCAB_NORMAL && p->token[id].n == s.n &&
            !memcmp(p->token[id].s, s.s, s.n))
            return (int32_t)id;
    return -1;
}

static void plainly(const struct pieces_of *p, const char *text, size_t n, struct tokens *out)
{
    struct buf marked = {0};
    struct span part[MOST];
    size_t k = 0;
    spm_mark(text, n, &marked);
    for (size_t i = 0; i < marked.n; k++) {
        uint32_t code;
        const size_t len = utf8_decode(marked.p + i, marked.n - i, &code);
        assert_true(k < MOST);
        part[k] = (struct span){marked.p + i, len ? len : 1};
        i += len ? len : 1;
    }
    for (;;) {
        size_t best = k;
        float score = 0;
        for (size_t i = 0; i + 1 < k; i++) {
            const int32_t id = piece(p, (struct span){part[i].s, part[i].n + part[i + 1].n});
            if (id >= 0 && (best == k || p->score[id] > score)) {
                best = i;
                score = p->score[id];
            }
        }
        if (best == k)
            break;
        part[best].n += part[best + 1].n;
        memmove(part + best + 1, part + best + 2, (k - best - 2) * sizeof *part);
        k--;
    }
    for (size_t i = 0; i < k; i++) {
        int32_t id = piece(p, part[i]);
        if (id >= 0)
            tokens_add(out, &id, 1);
        for (size_t b = 0; id < 0 && b < part[i].n; b++)
            tokens_add(out, &(int32_t){4 + (unsigned char)part[i].s[b]}, 1);
    }
    buf_free(&marked);
}

static void pairs_are_merged_by_score(void **state)
{
    (void)state;
    static struct pieces_of p;
    uint64_t seed = 5;
    struct buf text = {0}, back = {0};
    struct tokens got = {0}, want = {0};
    int merged = 0;
    for (int round = 0; round < 40; round++) {
        pieces_of(&p, 100 + (uint64_t)round, round % 2);
        struct tokenizer *t = tokenizer_make(&p.parts);
        if (!t)
            fail_msg("%s", err_text());
        for (int i = 0; i < 30; i++) {
            gibberish_text(&seed, (enum gibberish)(i % GIBBERISH_KINDS), 1 + (size_t)i * 5, &text);
            for (size_t c = 0; c < text.n; c++)
                text.p[c] = text.p[c] == '\n' ? ' ' : text.p[c];
            got.n = want.n = 0;
            plainly(&p, text.p, text.n, &want);
            assert_int_equal(tokenizer_encode(t, text.p, text.n, false, &got), 0);
            assert_int_equal(got.n, want.n);
            assert_memory_equal(got.id, want.id, want.n * sizeof *want.id);
            for (size_t k = 0; k < got.n; k++)
                merged += t->vocab.token[got.id[k]].len > 3;
            buf_clear(&back);
            assert_int_equal(tokenizer_decode(t, got.id, got.n, &back), 0);
            assert_int_equal(back.n, text.n);
            assert_memory_equal(back.p, text.p, text.n);
        }
        tokenizer_free(t);
    }
    assert_true(merged > 1000);
    buf_free(&text);
    buf_free(&back);
    tokens_free(&got);
    tokens_free(&want);
}

static void check(const struct tokenizer *t, const char *text, bool special, const int32_t *want,
                  size_t n, const char *decoded)
{
    struct tokens got = {0};
    struct buf back = {0};
    assert_int_equal(tokenizer_encode(t, text, strlen(text), special, &got), 0);
    assert_int_equal(got.n, n);
    assert_memory_equal(got.id, want, n * sizeof *want);
    assert_int_equal(tokenizer_decode(t, got.id, got.n, &back), 0);
    assert_string_equal(back.p, decoded);
    tokens_free(&got);
    buf_free(&back);
}

/* a b ab and space-a behind 260 others; x is only a part of "xa". */
static void small(struct pieces_of *p)
{
    pieces_of(p, 1, false);
    p->parts.n = 260;
    pieces_of_add(p, "a", 1, -9, VOCAB_NORMAL);            // 260
    pieces_of_add(p, "b", 1, -9, VOCAB_NORMAL);            // 261
    pieces_of_add(p, "\xe2\x96\x81", 3, -9, VOCAB_NORMAL); // 262
    pieces_of_add(p, "ab", 2, -2, VOCAB_NORMAL);           // 263
    pieces_of_add(p,
                  "\xe2\x96\x81"
                  "a",
                  4, -1, VOCAB_NORMAL);           // 264
    pieces_of_add(p, "xa", 2, -3, VOCAB_NORMAL);  // 265
    pieces_of_add(p, "aaa", 3, -1, VOCAB_NORMAL); // 266: no pair makes it
}

#define IDS(...) (const int32_t[]){__VA_ARGS__}, sizeof(int32_t[]){__VA_ARGS__} / sizeof(int32_t)

/* A completion goes on in the middle of a run: it is not given the space that starts one. */
static void text_that_goes_on(void **state)
{
    (void)state;
    static const enum tokenizer_space spaces[] = {TOKENIZER_SPACE_EACH, TOKENIZER_SPACE_FIRST,
                                                  TOKENIZER_SPACE_UNLESS, TOKENIZER_NO_SPACE};
    static struct pieces_of p;
    small(&p);
    for (int i = 0; i < 4; i++) {
        struct tokens got = {0};
        p.parts.space = spaces[i];
        struct tokenizer *t = tokenizer_make(&p.parts);
        assert_non_null(t);
        assert_int_equal(tokenizer_encode(t, "b", 1, true, &got), 0);
        const size_t prompt = got.n;
        assert_int_equal(tokenizer_encode_on(t, "ab", 2, true, &got), 0);
        assert_int_equal(got.n, prompt + 1);
        assert_int_equal(got.id[prompt], 263);
        // behind a control token a run starts
        assert_int_equal(tokens_add(&got, &(int32_t){2}, 1), 0);
        assert_int_equal(tokenizer_encode_on(t, "ab", 2, true, &got), 0);
        const bool space = i == 0 || i == 2;
        assert_int_equal(got.n, prompt + (space ? 4 : 3));
        assert_int_equal(got.id[prompt + 2], space ? 264 : 263);
        tokens_free(&got);
        tokenizer_free(t);
    }
}

static void spaces_and_added_tokens(void **state)
{
    (void)state;
    static struct pieces_of p;
    small(&p);
    struct tokenizer *t = tokenizer_make(&p.parts);
    assert_non_null(t);
    assert_string_equal(tokenizer_name(t), "spm");
    assert_int_equal(tokenizer_bos(t), 1);
    assert_int_equal(tokenizer_eot(t), 2);
    assert_true(tokenizer_ends(t, 2) && !tokenizer_ends(t, 1));
    check(t, "ab ab", false, IDS(263, 264, 261), "ab ab");
    check(t,
          "ab\xe2\x96\x81"
          "ab",
          false, IDS(263, 264, 261), "ab ab"); // U+2581 is a space
    check(t, "xab x", false, IDS(4 + 'x', 263, 262, 4 + 'x'), "xab x");
    check(t, "xaa", false, IDS(265, 260), "xaa");
    check(t, "aaa", false, IDS(260, 260, 260), "aaa");
    check(t, "a\nb</s>", true, IDS(260, 3, 261, 2), "a\nb</s>");
    check(t, "</s>", false, IDS(4 + '<', 4 + '/', 4 + 's', 4 + '>'), "</s>");
    tokenizer_free(t);
    p.parts.space = TOKENIZER_SPACE_EACH;
    t = tokenizer_make(&p.parts);
    check(t, "ab", false, IDS(264, 261), "ab");
    check(t, " ab", false, IDS(262, 264, 261), " ab");
    check(t, "a\na", false, IDS(264, 3, 264), "a\na");
    check(t, "<s>a", true, IDS(1, 264), "<s>a");
    tokenizer_free(t);
    p.parts.space = TOKENIZER_SPACE_FIRST;
    t = tokenizer_make(&p.parts);
    check(t, "a\na", false, IDS(264, 3, 260), "a\na");
    check(t, " a", false, IDS(264), "a"); // as Hugging Face's Metaspace: no second one
    tokenizer_free(t);
    p.parts.space = TOKENIZER_SPACE_UNLESS;
    t = tokenizer_make(&p.parts);
    check(t, "a\na", false, IDS(264, 3, 264), "a\na");
    check(t, "a\n a", false, IDS(264, 3, 264), "a\na");
    tokenizer_free(t);
}

/* Of pairs with one score the first is merged, in pieces of any length. */
static void ties_go_left(void **state)
{
    (void)state;
    static struct pieces_of p;
    small(&p);
    pieces_of_add(&p, "bb", 2, -4, VOCAB_NORMAL); // 267
    struct tokenizer *t = tokenizer_make(&p.parts);
    assert_non_null(t);
    for (int n = 3; n < 200; n += 2) {
        char text[200] = {0};
        int32_t want[100];
        memset(text, 'b', (size_t)n);
        for (int i = 0; i < n / 2; i++)
            want[i] = 267;
        want[n / 2] = 261;
        check(t, text, false, want, (size_t)n / 2 + 1, text);
    }
    tokenizer_free(t);
}

static void runs_without_bytes_are_unknown(void **state)
{
    (void)state;
    static struct pieces_of p;
    memset(&p, 0, sizeof p);
    p.parts = (struct tokenizer_parts){.spm = true,
                                       .token = p.token,
                                       .score = p.score,
                                       .type = p.type,
                                       .role = {-1, -1, -1, -1, 0, -1, -1}};
    pieces_of_add(&p, "<unk>", 5, 0, VOCAB_UNKNOWN);
    pieces_of_add(&p, "a", 1, -1, VOCAB_NORMAL);
    pieces_of_add(&p, "xy", 2, -1, VOCAB_NORMAL);
    struct tokenizer *t = tokenizer_make(&p.parts);
    assert_non_null(t);
    check(t, "axya", false, IDS(1, 2, 1), "axya");
    check(t,
          "a\xc3\xa9\xc3\xa9"
          "a",
          false, IDS(1, 0, 1), "a<unk>a");
    check(t, "axa", false, IDS(1, 0, 1), "a<unk>a");
    tokenizer_free(t);
}

static void cuts_cross_no_token(void **state)
{
    (void)state;
    static struct pieces_of p;
    small(&p);
    struct tokenizer *t = tokenizer_make(&p.parts);
    assert_int_equal(spm_next(&t->chars, "ab ab", 5), 2);
    assert_int_equal(spm_next(&t->chars, " ab", 3), 3);
    assert_int_equal(spm_next(&t->chars, "bb", 2), 1);
    tokenizer_free(t);
    pieces_of_add(&p, "b\xe2\x96\x81", 4, -7, VOCAB_NORMAL);
    t = tokenizer_make(&p.parts);
    assert_int_equal(spm_next(&t->chars, "ab ab", 5), 5);
    assert_int_equal(spm_next(&t->chars, "aa ab", 5), 2);
    tokenizer_free(t);
}

static void names_of_bytes(void **state)
{
    (void)state;
    char name[8];
    for (int b = 0; b < 256; b++) {
        spm_byte_name((uint8_t)b, name);
        assert_int_equal(spm_byte(name, 6), b);
    }
    static const char *const none[] = {"<0x0a>", "<0x0A", "<0X0A>", "<0x0G>", "(0x0A>", "<0x0A)"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        assert_int_equal(spm_byte(none[i], strlen(none[i])), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_are_merged_by_score),
        cmocka_unit_test(spaces_and_added_tokens),
        cmocka_unit_test(text_that_goes_on),
        cmocka_unit_test(ties_go_left),
        cmocka_unit_test(runs_without_bytes_are_unknown),
        cmocka_unit_test(cuts_cross_no_token),
        cmocka_unit_test(names_of_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
