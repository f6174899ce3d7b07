#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "autograd/base/rng.h"
#include "experiments/decode.h"
#include "tests/experiments/tiny_model.h"

static const struct sampler_args greedy = {.temp = 0, .top_p = 1, .repeat_penalty = 1};
static const struct sampler_args warm = {.temp = 1, .top_p = 1, .repeat_penalty = 1, .seed = 3};

struct fixture {
    struct transformer m;
    struct tokenizer *tok;
};

static int setup(void **state)
{
    static struct fixture f;
    tiny_model(&f.m, false, true);
    f.tok = tokenizer_new_byte();
    *state = &f;
    return f.tok ? 0 : -1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    transformer_free(&f->m);
    tokenizer_free(f->tok);
    return 0;
}

static void tokens_of(uint64_t key, int32_t *token, int n)
{
    for (int i = 0; i < n; i++)
        token[i] = (int32_t)rng_below(key, (uint64_t)i, 257);
}

static void open_or_fail(struct decode *d, struct fixture *f, int64_t capacity,
                         const struct sampler_args *args)
{
    if (decode_open(d, &f->m, f->tok, capacity, KVBLOCK_F32, args, NULL))
        fail_msg("%s", err_text());
}

static void assert_close(const float *a, const float *b, int64_t n)
{
    double distance = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        distance += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    if (!(sqrt(distance) <= 1e-5 * sqrt(norm)))
        fail_msg("distance %g of norm %g", sqrt(distance), sqrt(norm));
}

static int append(void *arg, const char *bytes, size_t n)
{
    buf_add(arg, bytes, n);
    return 0;
}

/* Logits behind token [n] without any cache. */
static void whole(struct transformer *m, const int32_t *token, int n, float *logits)
{
    int32_t pos[TINY_CONTEXT];
    struct ctx ctx;
    const struct sequence seq = {.len = n};
    const struct batch batch = {.n = n, .tok = token, .pos = pos, .seqs = &seq, .n_seqs = 1};
    for (int i = 0; i < n; i++)
        pos[i] = i;
    assert_int_equal(ctx_init(&ctx, 64 << 20), 0);
    struct tensor *hidden = transformer_forward(&ctx, m, &batch);
    const struct tensor *t = transformer_logits(&ctx, m, hidden, n - 1, 1);
    assert_non_null(t);
    memcpy(logits, t->data, (size_t)m->dims.vocab * sizeof *logits);
    ctx_free(&ctx);
}

static void prefill_equals_token_by_token_and_no_cache(void **state)
{
    struct fixture *f = *state;
    static float expected[300];
    int32_t token[TINY_CONTEXT];
    tokens_of(1, token, TINY_CONTEXT);
    static const int lengths[] = {1, 2, 31, 255, 256, 257, 300, TINY_CONTEXT};
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
        const int n = lengths[k];
        struct decode once, singly;
        open_or_fail(&once, f, TINY_CONTEXT, &greedy);
        open_or_fail(&singly, f, n, &greedy);
        whole(&f->m, token, n, expected);
        assert_int_equal(decode_feed(&once, token, n), 0);
        for (int i = 0; i < n; i++)
            assert_int_equal(decode_feed(&singly, token + i, 1), 0);
        assert_int_equal(once.kv.len, n);
        assert_close(once.logits, expected, f->m.dims.vocab);
        assert_close(singly.logits, expected, f->m.dims.vocab);
        decode_close(&once);
        decode_close(&singly);
    }
}

static void greedy_text_equals_that_without_a_cache(void **state)
{
    struct fixture *f = *state;
    enum { PROMPT = 9, N = 40 };
    static float logits[300];
    int32_t token[PROMPT + N], naive[PROMPT + N];
    struct buf text = {0};
    tokens_of(2, token, PROMPT);
    memcpy(naive, token, sizeof token);
    for (int i = PROMPT; i < PROMPT + N; i++) {
        int best = 0;
        whole(&f->m, naive, i, logits);
        for (int v = 1; v < 257; v++)
            best = logits[v] > logits[best] ? v : best;
        naive[i] = best;
    }
    struct decode d;
    int64_t made;
    enum decode_end end;
    open_or_fail(&d, f, PROMPT + N, &greedy);
    assert_int_equal(decode_feed(&d, token, PROMPT), 0);
    // in two calls: the second goes on where the first one ended
    assert_int_equal(decode_generate(&d, 7, append, &text, &made, &end), 0);
    assert_int_equal(made, 7);
    assert_int_equal(end, DECODE_COUNT);
    assert_int_equal(decode_generate(&d, N - 7, append, &text, &made, &end), 0);
    int stop = PROMPT;
    while (stop < PROMPT + N && naive[stop] != 256)
        stop++;
    assert_int_equal(d.history.n, stop);
    assert_memory_equal(d.history.id, naive, (size_t)stop * sizeof *naive);
    assert_int_equal(text.n, stop - PROMPT);
    for (int i = PROMPT; i < stop; i++)
        assert_int_equal((unsigned char)text.p[i - PROMPT], naive[i]);
    decode_close(&d);
    buf_free(&text);
}

static void a_seed_gives_one_text(void **state)
{
    struct fixture *f = *state;
    struct sampler_args other = warm;
    struct buf a = {0}, b = {0}, c = {0};
    other.seed = 4;
    assert_int_equal(decode_sample(&f->m, f->tok, "abc", 100, &warm, NULL, &a), 0);
    assert_int_equal(decode_sample(&f->m, f->tok, "abc", 100, &warm, NULL, &b), 0);
    assert_int_equal(decode_sample(&f->m, f->tok, "abc", 100, &other, NULL, &c), 0);
    assert_true(a.n > 20 && a.n == b.n && !memcmp(a.p, b.p, a.n));
    assert_false(a.n == c.n && !memcmp(a.p, c.p, a.n));
    buf_free(&a);
    buf_free(&b);
    buf_free(&c);
}

static void the_context_is_the_limit(void **state)
{
    struct fixture *f = *state;
    int32_t token[TINY_CONTEXT + 1];
    struct decode d;
    struct buf text = {0};
    int64_t made;
    enum decode_end end;
    tiny_model_always(&f->m, 'x');
    tokens_of(3, token, TINY_CONTEXT + 1);
    assert_int_equal(decode_open(&d, &f->m, f->tok, TINY_CONTEXT + 1, KVBLOCK_F32, &warm, NULL),
                     -1);
    open_or_fail(&d, f, TINY_CONTEXT, &warm);
    assert_int_equal(decode_feed(&d, token, TINY_CONTEXT + 1), -1);
    assert_non_null(strstr(err_text(), "321"));
    assert_int_equal(decode_feed(&d, token, TINY_CONTEXT - 3), 0);
    assert_int_equal(decode_generate(&d, -1, append, &text, &made, &end), 0);
    assert_int_equal(end, DECODE_FULL);
    assert_int_equal(made, 4); // three that are read, and the one that the last of them gives
    assert_int_equal(d.kv.len, TINY_CONTEXT);
    assert_int_equal(text.n, 4);
    assert_memory_equal(text.p, "xxxx", 4);
    decode_close(&d);
    buf_clear(&text);
    assert_int_equal(decode_sample(&f->m, f->tok, "ab", -1, &warm, NULL, &text), 0);
    assert_int_equal(text.n, TINY_CONTEXT - 2 + 1);
    buf_clear(&text);
    assert_int_equal(decode_sample(&f->m, f->tok, "ab", INT64_MAX, &warm, NULL, &text), 0);
    assert_int_equal(text.n, TINY_CONTEXT - 2 + 1);
    buf_free(&text);
}

static void end_of_text_ends_it(void **state)
{
    struct fixture *f = *state;
    struct decode d;
    struct buf text = {0};
    int64_t made;
    enum decode_end end;
    tiny_model_always(&f->m, 256);
    open_or_fail(&d, f, 20, &warm);
    assert_int_equal(decode_feed(&d, (int32_t[]){'a'}, 1), 0);
    assert_int_equal(decode_generate(&d, -1, append, &text, &made, &end), 0);
    assert_int_equal(end, DECODE_EOT);
    assert_int_equal(made, 0);
    assert_int_equal(text.n, 0);
    decode_close(&d);
}

/* The tokenizer has 257 tokens, the model 260: the others have no bytes and are never drawn. */
static void ids_without_a_token_are_not_drawn(void **state)
{
    struct fixture *f = *state;
    struct buf text = {0};
    tiny_model_always(&f->m, 258);
    assert_int_equal(decode_sample(&f->m, f->tok, "a", 50, &greedy, NULL, &text), 0);
    assert_int_equal(text.n, 50);
    buf_free(&text);
}

/* Tokens that steer a model are no text. */
static void control_tokens_are_not_printed(void **state)
{
    struct fixture *f = *state;
    struct decode d;
    struct buf text = {0};
    int64_t made;
    enum decode_end end;
    assert_int_equal(vocab_set(&f->tok->vocab, 257, "<|turn|>", 8, VOCAB_CONTROL), 0);
    tiny_model_always(&f->m, 257);
    open_or_fail(&d, f, 20, &greedy);
    assert_int_equal(decode_feed(&d, (int32_t[]){'a'}, 1), 0);
    assert_int_equal(decode_generate(&d, 5, append, &text, &made, &end), 0);
    assert_int_equal(made, 5);
    for (int i = 1; i < 6; i++)
        assert_int_equal(d.history.id[i], 257);
    assert_int_equal(text.n, 0);
    decode_close(&d);
    buf_free(&text);
}

static void prompts_start_where_a_text_does(void **state)
{
    struct fixture *f = *state;
    struct tokens t = {0};
    assert_int_equal(decode_prompt(f->tok, "", 0, &t), 0);
    assert_int_equal(t.n, 1);
    assert_int_equal(t.id[0], 256);
    t.n = 0;
    assert_int_equal(decode_prompt(f->tok, "hi<|endoftext|>", 15, &t), 0);
    assert_int_equal(t.n, 3);
    assert_int_equal(t.id[0], 'h');
    assert_int_equal(t.id[2], 256);
    t.n = 0;
    f->tok->bos = 256;
    assert_int_equal(decode_prompt(f->tok, "hi", 2, &t), 0);
    assert_int_equal(t.n, 3);
    assert_int_equal(t.id[0], 256);
    t.n = 0;
    assert_int_equal(decode_prompt(f->tok, "", 0, &t), 0);
    assert_int_equal(t.n, 1);
    tokens_free(&t);
}

static volatile sig_atomic_t flag;

static int stop_after_three(void *arg, const char *bytes, size_t n)
{
    struct buf *text = arg;
    buf_add(text, bytes, n);
    flag = text->n == 3;
    return 0;
}

static void stop_ends_it_cleanly(void **state)
{
    struct fixture *f = *state;
    struct decode d;
    struct buf text = {0};
    int64_t made;
    enum decode_end end;
    tiny_model_always(&f->m, 'x');
    flag = 1;
    assert_int_equal(decode_sample(&f->m, f->tok, "abc", 10, &warm, &flag, &text), 0);
    assert_int_equal(text.n, 0);
    flag = 0;
    assert_int_equal(decode_open(&d, &f->m, f->tok, 100, KVBLOCK_F32, &warm, &flag), 0);
    assert_int_equal(decode_feed(&d, (int32_t[]){'a', 'b'}, 2), 0);
    assert_int_equal(decode_generate(&d, -1, stop_after_three, &text, &made, &end), 0);
    assert_int_equal(end, DECODE_STOPPED);
    assert_int_equal(made, 3);
    flag = 0; // and it can go on
    assert_int_equal(decode_generate(&d, 5, append, &text, &made, &end), 0);
    assert_int_equal(end, DECODE_COUNT);
    assert_string_equal(text.p, "xxxxxxxx");
    decode_close(&d);
    buf_free(&text);
}

static int refuse(void *arg, const char *bytes, size_t n)
{
    (void)arg, (void)bytes, (void)n;
    return err("no more paper");
}

static void errors_end_it(void **state)
{
    struct fixture *f = *state;
    struct decode d;
    int64_t made;
    enum decode_end end;
    open_or_fail(&d, f, 10, &greedy);
    assert_int_equal(decode_feed(&d, (int32_t[]){260}, 1), -1);
    assert_int_equal(decode_feed(&d, (int32_t[]){-1}, 1), -1);
    assert_int_equal(decode_feed(&d, (int32_t[]){'a'}, 1), 0);
    tiny_model_always(&f->m, 'x');
    assert_int_equal(decode_generate(&d, 2, refuse, NULL, &made, &end), -1);
    assert_string_equal(err_text(), "no more paper");
    f->m.output_norm.weight->latent[0] = NAN;
    store_project(&f->m.store);
    struct buf text = {0};
    assert_int_equal(decode_sample(&f->m, f->tok, "a", 3, &warm, NULL, &text), -1);
    assert_non_null(strstr(err_text(), "nan"));
    decode_close(&d);
}

/* As training samples: the model has gradients, which stay as they are. */
static void a_model_in_training_can_write(void **state)
{
    struct fixture *f = *state;
    struct transformer m;
    struct buf a = {0}, b = {0};
    tiny_model(&m, true, true);
    for (size_t i = 0; i < m.store.len; i++)
        m.store.grad[i] = (float)i;
    assert_int_equal(decode_sample(&f->m, f->tok, "Tell me", 60, &warm, NULL, &a), 0);
    assert_int_equal(decode_sample(&m, f->tok, "Tell me", 60, &warm, NULL, &b), 0);
    assert_true(a.n && a.n == b.n && !memcmp(a.p, b.p, a.n));
    for (size_t i = 0; i < m.store.len; i++)
        assert_true(m.store.grad[i] == (float)i);
    transformer_free(&m);
    buf_free(&a);
    buf_free(&b);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(prefill_equals_token_by_token_and_no_cache),
        TEST(greedy_text_equals_that_without_a_cache),
        TEST(a_seed_gives_one_text),
        TEST(the_context_is_the_limit),
        TEST(end_of_text_ends_it),
        TEST(ids_without_a_token_are_not_drawn),
        TEST(control_tokens_are_not_printed),
        TEST(prompts_start_where_a_text_does),
        TEST(stop_ends_it_cleanly),
        TEST(errors_end_it),
        TEST(a_model_in_training_can_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
