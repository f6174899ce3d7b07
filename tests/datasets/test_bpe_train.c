#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"
#include "datasets/bpe_train.h"
#include "datasets/bytelevel.h"
#include "tests/datasets/gibberish.h"

enum { PIECES_MOST = 4000, TOKENS_MOST = 600, TEXT_MOST = 64 };

/* The definition, recounting everything before every merge. */
struct naive {
    int n_pieces, n_tokens;
    struct piece_of_tokens {
        int n, id[TEXT_MOST];
    } piece[PIECES_MOST];
    char text[TOKENS_MOST][TEXT_MOST + 1]; /* of each token, byte 0 excluded from the tests */
    int count[TOKENS_MOST][TOKENS_MOST];
};

static int age(int id)
{
    return id < 256 ? (int)bytelevel_code((uint8_t)id) : 1000 + id;
}

static bool older(int a, int b, int c, int d)
{
    return age(a) != age(c) ? age(a) < age(c) : age(b) < age(d);
}

/* One merge; false if no pair occurs twice. */
static bool naive_step(struct naive *v)
{
    int left = -1, right = -1;
    memset(v->count, 0, sizeof v->count);
    for (int k = 0; k < v->n_pieces; k++)
        for (int i = 0; i + 1 < v->piece[k].n; i++)
            v->count[v->piece[k].id[i]][v->piece[k].id[i + 1]]++;
    for (int a = 0; a < v->n_tokens; a++)
        for (int b = 0; b < v->n_tokens; b++) {
            const int more = left < 0 ? 1 : v->count[a][b] - v->count[left][right];
            if (v->count[a][b] > 1 && (more > 0 || (more == 0 && older(a, b, left, right)))) {
                left = a;
                right = b;
            }
        }
    if (left < 0)
        return false;
    char both[2 * TEXT_MOST + 1];
    snprintf(both, sizeof both, "%s%s", v->text[left], v->text[right]);
    int into = 1;
    while (into < v->n_tokens && strcmp(v->text[into], both) != 0)
        into++;
    if (into == v->n_tokens)
        strcpy(v->text[v->n_tokens++], both);
    for (int k = 0; k < v->n_pieces; k++) {
        int n = 0;
        struct piece_of_tokens *p = &v->piece[k];
        for (int i = 0; i < p->n; n++) {
            const bool pair = i + 1 < p->n && p->id[i] == left && p->id[i + 1] == right;
            p->id[n] = pair ? into : p->id[i];
            i += pair ? 2 : 1;
        }
        p->n = n;
    }
    return true;
}

static void naive_init(struct naive *v, const struct pretok *rule, const struct buf *s)
{
    memset(v, 0, sizeof *v);
    v->n_tokens = 256;
    for (int b = 1; b < 256; b++)
        v->text[b][0] = (char)b;
    for (size_t i = 0, len; i < s->n; i += len) {
        len = pretok_next(rule, s->p + i, s->n - i);
        struct piece_of_tokens *p = &v->piece[v->n_pieces++];
        assert_true(len <= TEXT_MOST && v->n_pieces < PIECES_MOST);
        for (size_t k = 0; k < len; k++)
            p->id[p->n++] = (uint8_t)s->p[i + k];
    }
}

static void equals_naive(void **state)
{
    (void)state;
    uint64_t seed = 40;
    struct buf s = {0};
    struct naive *v = malloc(sizeof *v);
    for (int round = 0; round < 12; round++) {
        const int size = 256 + 20 + 10 * round;
        const struct pretok *rule = &pretok_rules[round % 4];
        gibberish_text(&seed, round % 3 == 2 ? GIBBERISH_SCRIPT : GIBBERISH_WORDS, 600, &s);
        naive_init(v, rule, &s);
        while (v->n_tokens < size && naive_step(v))
            ;
        struct bpe_train *b = bpe_train_new(rule->name, size + 1, NULL);
        assert_int_equal(bpe_train_add(b, s.p, s.n), 0);
        struct tokenizer *t = bpe_train_finish(b);
        assert_non_null(t);
        assert_int_equal(tokenizer_vocab_size(t), v->n_tokens + 1);
        assert_int_equal(tokenizer_eot(t), v->n_tokens);
        assert_string_equal(tokenizer_pre(t), rule->name);
        for (int id = 1; id < v->n_tokens; id++) {
            size_t len;
            const char *bytes = tokenizer_bytes(t, id, &len);
            assert_int_equal(len, strlen(v->text[id]));
            assert_memory_equal(bytes, v->text[id], len);
        }
        tokenizer_free(t);
    }
    free(v);
    buf_free(&s);
}

static struct tokenizer *trained(const char *const *document, int n, int vocab_size)
{
    struct bpe_train *b = bpe_train_new("gpt-2", vocab_size, NULL);
    for (int i = 0; i < n; i++)
        assert_int_equal(bpe_train_add(b, document[i], strlen(document[i])), 0);
    struct tokenizer *t = bpe_train_finish(b);
    assert_non_null(t);
    return t;
}

static void order_of_documents_does_not_matter(void **state)
{
    (void)state;
    enum { N = 40 };
    uint64_t seed = 41;
    struct buf text[N] = {{0}};
    const char *forth[N], *back[N];
    for (int i = 0; i < N; i++) {
        gibberish_text(&seed, i % 2 ? GIBBERISH_WORDS : GIBBERISH_SCRIPT, 100, &text[i]);
        forth[i] = back[N - 1 - i] = text[i].p;
    }
    struct tokenizer *a = trained(forth, N, 600), *b = trained(back, N, 600);
    struct buf x = {0}, y = {0};
    assert_int_equal(tokenizer_write(a, &x) | tokenizer_write(b, &y), 0);
    assert_string_equal(x.p, y.p);
    buf_free(&x);
    buf_free(&y);
    tokenizer_free(a);
    tokenizer_free(b);
    for (int i = 0; i < N; i++)
        buf_free(&text[i]);
}

static void small_texts(void **state)
{
    (void)state;
    const char *const text = "low low low lower lower newest newest newest newest widest";
    struct tokenizer *t = trained(&text, 1, 262);
    // (w,e) occurs 6 times; of (l,o) and (s,t), 5 times each, l is the older; of the pairs that are
    // left with 4, (e,we), (n,e), (we,st) and those of the blank, e is the oldest
    static const char *const want[] = {"we", "lo", "st", "ewe"};
    for (int k = 0; k < 4; k++) {
        size_t len;
        const char *bytes = tokenizer_bytes(t, 256 + k, &len);
        assert_int_equal(len, strlen(want[k]));
        assert_memory_equal(bytes, want[k], len);
    }
    tokenizer_free(t);
    const char *const none = "";
    t = trained(&none, 1, 1000);
    assert_int_equal(tokenizer_vocab_size(t), 257);
    assert_string_equal(tokenizer_name(t), "byte");
    tokenizer_free(t);
}

/* One piece without any place to cut, far longer than what is counted at once. */
static void long_piece(void **state)
{
    (void)state;
    enum { N = 100000 };
    char *s = malloc(N + 1);
    memset(s, 'a', N);
    s[N] = 0;
    const char *const text = s;
    struct tokenizer *t = trained(&text, 1, 262);
    size_t len;
    assert_non_null(tokenizer_bytes(t, 260, &len));
    assert_int_equal(len, 32);
    tokenizer_free(t);
    free(s);
}

static void bad_arguments(void **state)
{
    (void)state;
    assert_null(bpe_train_new("gpt-9", 1000, NULL));
    assert_null(bpe_train_new("gpt-2", 256, NULL));
    assert_non_null(strstr(err_text(), "257"));
    static const char *const two[] = {"<a>", "<b>", NULL};
    struct bpe_train *b = bpe_train_new("gpt-2", 258, two);
    assert_non_null(b);
    struct tokenizer *t = bpe_train_finish(b);
    assert_int_equal(tokenizer_find(t, "<a>"), 256);
    assert_int_equal(tokenizer_find(t, "<b>"), 257);
    assert_int_equal(tokenizer_eot(t), -1);
    tokenizer_free(t);
}

/* Every allocation fails once; nothing leaks, nothing crashes. */
static void memory_runs_out(void **state)
{
    (void)state;
    uint64_t seed = 42;
    struct buf s = {0};
    gibberish_text(&seed, GIBBERISH_WORDS, 300, &s);
    bool done = false;
    for (long k = 1; !done; k++) {
        struct tokenizer *t = NULL;
        mem_fail_at(k);
        struct bpe_train *b = bpe_train_new("llama-bpe", 300, NULL);
        if (b && !bpe_train_add(b, s.p, s.n))
            t = bpe_train_finish(b);
        else
            bpe_train_free(b);
        done = t;
        mem_fail_at(0);
        tokenizer_free(t);
        assert_true(k < 2000);
    }
    buf_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_naive),  cmocka_unit_test(order_of_documents_does_not_matter),
        cmocka_unit_test(small_texts),   cmocka_unit_test(long_piece),
        cmocka_unit_test(bad_arguments), cmocka_unit_test(memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
