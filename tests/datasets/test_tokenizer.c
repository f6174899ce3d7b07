#include <pthread.h>
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

static struct tokenizer *trained(const char *pre, int vocab_size)
{
    static const char *const specials[] = {"<|endoftext|>", "<|im_start|>", "<|im_start|>x", NULL};
    uint64_t seed = 50;
    struct buf s = {0};
    struct bpe_train *b = bpe_train_new(pre, vocab_size, specials);
    for (int i = 0; i < 50; i++) {
        gibberish_text(&seed, i % 2 ? GIBBERISH_WORDS : GIBBERISH_SCRIPT, 200, &s);
        assert_int_equal(bpe_train_add(b, s.p, s.n), 0);
    }
    buf_free(&s);
    struct tokenizer *t = bpe_train_finish(b);
    assert_non_null(t);
    return t;
}

static void check_ids(const struct tokenizer *t, const char *s, bool special, const int32_t *want,
                      size_t n)
{
    struct tokens got = {0};
    assert_int_equal(tokenizer_encode(t, s, strlen(s), special, &got), 0);
    assert_int_equal(got.n, n);
    assert_memory_equal(got.id, want, n * sizeof *want);
    tokens_free(&got);
}

static void bytes(void **state)
{
    (void)state;
    struct tokenizer *t = tokenizer_new_byte();
    assert_int_equal(tokenizer_vocab_size(t), 257);
    assert_int_equal(tokenizer_eot(t), 256);
    assert_int_equal(tokenizer_bos(t), -1);
    assert_string_equal(tokenizer_name(t), "byte");
    assert_string_equal(tokenizer_pre(t), "gpt-2");
    check_ids(t, "a\xff<|endoftext|>!", true, (const int32_t[]){'a', 255, 256, '!'}, 4);
    check_ids(t, "\xc3\xa9<|", true, (const int32_t[]){0xc3, 0xa9, '<', '|'}, 4);
    struct tokens got = {0};
    assert_int_equal(tokenizer_encode(t, "<|endoftext|>", 13, false, &got), 0);
    assert_int_equal(got.n, 13);
    assert_int_equal(tokenizer_encode(t, NULL, 0, false, &got), 0);
    assert_int_equal(got.n, 13);
    tokens_free(&got);
    tokenizer_free(t);
}

static void round_trip(const struct tokenizer *t, uint64_t seed)
{
    struct buf s = {0}, back = {0};
    struct tokens ids = {0};
    for (int round = 0; round < 400; round++) {
        gibberish_text(&seed, (enum gibberish)(round % GIBBERISH_KINDS), 60, &s);
        if (round % 7 == 0)
            buf_text(&s, "<|endoftext|>");
        ids.n = 0;
        buf_clear(&back);
        assert_int_equal(tokenizer_encode(t, s.p, s.n, round % 2, &ids), 0);
        assert_int_equal(tokenizer_decode(t, ids.id, ids.n, &back), 0);
        assert_int_equal(back.n, s.n);
        assert_memory_equal(back.p, s.p, s.n);
        assert_true(ids.n <= s.n);
    }
    buf_free(&s);
    buf_free(&back);
    tokens_free(&ids);
}

static void any_bytes_round_trip(void **state)
{
    (void)state;
    struct tokenizer *t = tokenizer_new_byte();
    round_trip(t, 51);
    tokenizer_free(t);
    for (const struct pretok *r = pretok_rules; r->name; r++) {
        t = trained(r->name, 700);
        round_trip(t, 52);
        tokenizer_free(t);
    }
}

static void added_tokens(void **state)
{
    (void)state;
    struct tokenizer *t = trained("gpt-2", 400);
    const int eot = tokenizer_eot(t), im = tokenizer_find(t, "<|im_start|>"),
              longer = tokenizer_find(t, "<|im_start|>x");
    assert_int_equal(eot, 397);
    assert_int_equal(im, 398);
    assert_int_equal(longer, 399);
    assert_int_equal(tokenizer_find(t, "<|im"), -1);
    // the longest wins; a beginning of one is text
    check_ids(t, "<|im_start|>x<|im_start|><|endoftext|>", true, (const int32_t[]){longer, im, eot},
              3);
    struct tokens got = {0};
    assert_int_equal(tokenizer_encode(t, "<<|im_start|", 12, true, &got), 0);
    for (size_t i = 0; i < got.n; i++)
        assert_true(got.id[i] < eot);
    got.n = 0;
    assert_int_equal(tokenizer_encode(t, "<|endoftext|>", 13, false, &got), 0);
    for (size_t i = 0; i < got.n; i++)
        assert_true(got.id[i] < eot);
    tokens_free(&got);
    tokenizer_free(t);
}

/* Texts end with a token by its role, and by its name, as long as it is one added to the others. */
static void ends_of_texts(void **state)
{
    (void)state;
    const char *const added[] = {"<|endoftext|>", "<|im_end|>", "<|end|>", "<|im_start|>", NULL};
    struct bpe_train *b = bpe_train_new("gpt-2", 300, added);
    struct tokenizer *t = NULL;
    assert_non_null(b);
    assert_int_equal(bpe_train_add(b, "</s> </s> </s> </s>", 19), 0);
    assert_non_null(t = bpe_train_finish(b));
    t->eot = t->role[TOKENIZER_EOS] = tokenizer_find(t, "<|im_end|>");
    for (int i = 0; added[i]; i++)
        assert_int_equal(tokenizer_ends(t, tokenizer_find(t, added[i])), i < 3);
    for (int32_t id = 0; id < tokenizer_vocab_size(t); id++) {
        size_t n;
        const char *s = tokenizer_bytes(t, id, &n);
        if (n == 4 && !memcmp(s, "</s>", n))
            assert_false(tokenizer_ends(t, id)); // a merge that looks like it
    }
    t->role[TOKENIZER_EOT] = 'q';
    assert_true(tokenizer_ends(t, 'q') && !tokenizer_ends(t, 'r'));
    tokenizer_free(t);
}

static void ids_that_are_none(void **state)
{
    (void)state;
    struct tokenizer *t = tokenizer_new_byte();
    struct buf out = {0};
    size_t len;
    assert_null(tokenizer_bytes(t, -1, &len));
    assert_null(tokenizer_bytes(t, 257, &len));
    assert_int_equal(tokenizer_decode(t, (const int32_t[]){65, 257}, 2, &out), -1);
    assert_non_null(strstr(err_text(), "257"));
    tokenizer_text(t, ' ', &out);
    tokenizer_text(t, 256, &out);
    assert_string_equal(out.p, "A\xc4\xa0<|endoftext|>");
    buf_free(&out);
    tokenizer_free(t);
}

struct job {
    const struct tokenizer *t;
    const struct buf *s;
    const struct tokens *want;
    int failures;
};

static void *encode_often(void *arg)
{
    struct job *j = arg;
    for (int i = 0; i < 20; i++) {
        struct tokens got = {0};
        j->failures += tokenizer_encode(j->t, j->s->p, j->s->n, false, &got) != 0 ||
                       got.n != j->want->n ||
                       memcmp(got.id, j->want->id, got.n * sizeof *got.id) != 0;
        tokens_free(&got);
    }
    return NULL;
}

static void threads_share_it(void **state)
{
    (void)state;
    struct tokenizer *t = trained("llama-bpe", 800);
    uint64_t seed = 53;
    struct buf s = {0};
    struct tokens want = {0};
    gibberish_text(&seed, GIBBERISH_WORDS, 5000, &s);
    assert_int_equal(tokenizer_encode(t, s.p, s.n, false, &want), 0);
    pthread_t thread[4];
    struct job job[4];
    for (int i = 0; i < 4; i++) {
        job[i] = (struct job){t, &s, &want, 0};
        assert_int_equal(pthread_create(&thread[i], NULL, encode_often, &job[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(thread[i], NULL);
        assert_int_equal(job[i].failures, 0);
    }
    tokens_free(&want);
    buf_free(&s);
    tokenizer_free(t);
}

static void memory_runs_out(void **state)
{
    (void)state;
    struct tokenizer *t = NULL;
    for (long k = 1; !t; k++) {
        mem_fail_at(k);
        t = tokenizer_new_byte();
        mem_fail_at(0);
        assert_true(k < 100);
    }
    tokenizer_free(t);
    char s[500];
    memset(s, 'a', sizeof s);
    int rc = -1;
    for (long k = 1; rc; k++) {
        // a fresh one each time: what it keeps for the next text would hide failures
        t = trained("gpt-2", 300);
        struct tokens got = {0};
        assert_int_equal(tokens_add(&got, (const int32_t[]){7}, 1), 0);
        mem_fail_at(k);
        rc = tokenizer_encode(t, s, sizeof s, true, &got);
        mem_fail_at(0);
        if (rc)
            assert_int_equal(got.n, 1);
        assert_int_equal(got.id[0], 7);
        tokens_free(&got);
        tokenizer_free(t);
        assert_true(k < 100);
    }
}

static void ids_mean_the_same(void **state)
{
    (void)state;
    struct tokenizer *t[] = {tokenizer_new_byte(), tokenizer_new_byte(), trained("gpt-2", 300),
                             trained("gpt-2", 301), trained("qwen2", 300)};
    assert_true(tokenizer_same_ids(t[0], t[1]) && tokenizer_same_ids(t[2], t[2]));
    assert_false(tokenizer_same_ids(t[0], t[2]) || tokenizer_same_ids(t[2], t[0]));
    assert_false(tokenizer_same_ids(t[2], t[3]) || tokenizer_same_ids(t[3], t[2]));
    assert_false(tokenizer_same_ids(t[2], t[4])); // as many, learnt from other pieces
    for (int i = 0; i < 5; i++)
        tokenizer_free(t[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes),
        cmocka_unit_test(any_bytes_round_trip),
        cmocka_unit_test(added_tokens),
        cmocka_unit_test(ends_of_texts),
        cmocka_unit_test(ids_that_are_none),
        cmocka_unit_test(ids_mean_the_same),
        cmocka_unit_test(threads_share_it),
        cmocka_unit_test(memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
