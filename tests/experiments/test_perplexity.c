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
#include "experiments/perplexity.h"
#include "tests/experiments/tiny_model.h"

enum { N = 700, MOST = 200 };

struct fixture {
    struct transformer m;
    int32_t token[N];
};

static int setup(void **state)
{
    static struct fixture f;
    tiny_model(&f.m, false, false);
    for (int i = 0; i < N; i++)
        f.token[i] = (int32_t)rng_below(9, (uint64_t)i, 256);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    transformer_free(&f->m);
    return 0;
}

/* -log p of each scored token, one chunk and one position at a time. */
static int naive(struct fixture *f, int c, int chunks, int32_t bos, double *nll)
{
    int n = 0;
    for (int k = 0; k < chunks; k++) {
        int32_t token[TINY_CONTEXT], pos[TINY_CONTEXT];
        struct ctx ctx;
        const struct sequence seq = {.len = c};
        const struct batch batch = {.n = c, .tok = token, .pos = pos, .seqs = &seq, .n_seqs = 1};
        for (int i = 0; i < c; i++) {
            token[i] = i || bos < 0 ? f->token[k * c + i] : bos;
            pos[i] = i;
        }
        assert_int_equal(ctx_init(&ctx, 64 << 20), 0);
        struct tensor *hidden = transformer_forward(&ctx, &f->m, &batch);
        const struct tensor *t = transformer_logits(&ctx, &f->m, hidden, 0, c);
        assert_non_null(t);
        for (int i = c / 2; i <= c - 2; i++) {
            const float *logits = (const float *)t->data + i * f->m.dims.vocab;
            double sum = 0;
            for (int v = 0; v < f->m.dims.vocab; v++)
                sum += exp(logits[v]);
            nll[n++] = log(sum) - logits[token[i + 1]];
        }
        ctx_free(&ctx);
    }
    return n;
}

static void compare(struct fixture *f, int c, int chunks, int32_t bos)
{
    static double nll[N];
    const struct perplexity_args args = {.c = c, .chunks = chunks, .bos = bos};
    const int all = N / c, done = chunks > 0 && chunks < all ? chunks : all;
    const int n = naive(f, c, done, bos, nll);
    struct perplexity p;
    double mean = 0, square = 0, error;
    if (perplexity_run(&p, &f->m, f->token, N, &args, NULL, NULL))
        fail_msg("%s", err_text());
    for (int i = 0; i < n; i++)
        mean += nll[i] / n;
    for (int i = 0; i < n; i++)
        square += (nll[i] - mean) * (nll[i] - mean);
    const double value = perplexity_value(&p, &error), standard = sqrt(square / n / (n - 1));
    assert_int_equal(p.chunks, done);
    assert_int_equal(p.count, n);
    assert_true(fabs(value / exp(mean) - 1) < 1e-5);
    assert_true(fabs(error / (standard * exp(mean)) - 1) < 1e-4);
}

static void it_equals_a_naive_computation(void **state)
{
    struct fixture *f = *state;
    static const int lengths[] = {5, 16, 31, 100, 256, TINY_CONTEXT};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        compare(f, lengths[i], -1, -1);
        compare(f, lengths[i], 2, -1);
        compare(f, lengths[i], 0, 256);
    }
}

struct log {
    double value[MOST];
    int n, stop_at;
};

static int note(void *arg, const struct perplexity *p)
{
    struct log *l = arg;
    double error;
    assert_int_equal(p->chunks, l->n + 1);
    l->value[l->n++] = perplexity_value(p, &error);
    return l->n == l->stop_at ? err("enough") : 0;
}

/* The running values are those of so many chunks. */
static void it_runs_chunk_by_chunk(void **state)
{
    struct fixture *f = *state;
    struct log all = {.n = 0};
    struct perplexity p;
    double error;
    struct perplexity_args args = {.c = 64, .chunks = -1, .bos = -1};
    assert_int_equal(perplexity_run(&p, &f->m, f->token, N, &args, note, &all), 0);
    assert_int_equal(all.n, N / 64);
    for (int k = 1; k <= all.n; k++) {
        args.chunks = k;
        assert_int_equal(perplexity_run(&p, &f->m, f->token, N, &args, NULL, NULL), 0);
        assert_true(fabs(perplexity_value(&p, &error) / all.value[k - 1] - 1) < 1e-6);
    }
    struct log some = {.stop_at = 3};
    args.chunks = -1;
    assert_int_equal(perplexity_run(&p, &f->m, f->token, N, &args, note, &some), -1);
    assert_string_equal(err_text(), "enough");
    assert_int_equal(some.n, 3);
}

/* Chunks longer than a pass are read in pieces, on the cache: as if at once. */
static void long_chunks_come_in_pieces(void **state)
{
    enum { LONG = 2500 };
    struct fixture *f = *state;
    static int32_t token[2 * LONG], pos[LONG];
    const struct perplexity_args args = {.c = LONG, .chunks = 1, .bos = -1};
    struct transformer m;
    struct perplexity p;
    struct ctx ctx;
    double error, nll = 0;
    struct transformer_dims dims = f->m.dims;
    dims.context = LONG;
    assert_int_equal(transformer_init(&m, &dims, STORE_FROZEN), 0);
    store_init(&m.store, 5);
    store_project(&m.store);
    for (int i = 0; i < 2 * LONG; i++) {
        token[i] = (int32_t)rng_below(8, (uint64_t)i, 256);
        pos[i % LONG] = i % LONG;
    }
    assert_int_equal(perplexity_run(&p, &m, token, (int64_t)2 * LONG, &args, NULL, NULL), 0);
    const struct sequence seq = {.len = LONG};
    const struct batch batch = {.n = LONG, .tok = token, .pos = pos, .seqs = &seq, .n_seqs = 1};
    assert_int_equal(ctx_init(&ctx, 256 << 20), 0);
    struct tensor *hidden = transformer_forward(&ctx, &m, &batch);
    const struct tensor *t = transformer_logits(&ctx, &m, hidden, 0, LONG);
    assert_non_null(t);
    for (int i = LONG / 2; i <= LONG - 2; i++) {
        const float *logits = (const float *)t->data + i * m.dims.vocab;
        double sum = 0;
        for (int v = 0; v < m.dims.vocab; v++)
            sum += exp(logits[v]);
        nll += log(sum) - logits[token[i + 1]];
    }
    assert_int_equal(p.count, LONG - LONG / 2 - 1);
    assert_true(fabs(perplexity_value(&p, &error) / exp(nll / (double)p.count) - 1) < 1e-5);
    ctx_free(&ctx);
    transformer_free(&m);
}

static void what_cannot_be_is_refused(void **state)
{
    struct fixture *f = *state;
    struct perplexity p;
    struct perplexity_args args = {.c = TINY_CONTEXT + 1, .chunks = -1, .bos = -1};
    assert_int_equal(perplexity_run(&p, &f->m, f->token, N, &args, NULL, NULL), -1);
    assert_non_null(strstr(err_text(), "321"));
    assert_non_null(strstr(err_text(), "320"));
    args.c = 3;
    assert_int_equal(perplexity_run(&p, &f->m, f->token, N, &args, NULL, NULL), -1);
    args.c = 256;
    assert_int_equal(perplexity_run(&p, &f->m, f->token, 511, &args, NULL, NULL), -1);
    assert_non_null(strstr(err_text(), "511"));
    assert_non_null(strstr(err_text(), "512"));
    assert_int_equal(perplexity_run(&p, &f->m, f->token, 512, &args, NULL, NULL), 0);
    f->token[3] = 257;
    assert_int_equal(perplexity_run(&p, &f->m, f->token, N, &args, NULL, NULL), -1);
    assert_non_null(strstr(err_text(), "257"));
    const volatile sig_atomic_t stop = 1;
    f->token[3] = 1;
    args.stop = &stop;
    assert_int_equal(perplexity_run(&p, &f->m, f->token, N, &args, NULL, NULL), -1);
}

/* A sure model has perplexity 1 and no error to tell; a uniform one that of its vocabulary. */
static void known_models_have_known_values(void **state)
{
    struct fixture *f = *state;
    const struct perplexity_args args = {.c = 32, .chunks = -1, .bos = -1};
    struct perplexity p;
    double error;
    memset(f->m.output->latent, 0, (size_t)tensor_numel(&f->m.output->used) * sizeof(float));
    store_project(&f->m.store);
    assert_int_equal(perplexity_run(&p, &f->m, f->token, N, &args, NULL, NULL), 0);
    assert_true(fabs(perplexity_value(&p, &error) - 257) < 1e-9);
    tiny_model_always(&f->m, 'x');
    for (int i = 0; i < N; i++)
        f->token[i] = 'x';
    assert_int_equal(perplexity_run(&p, &f->m, f->token, N, &args, NULL, NULL), 0);
    assert_true(fabs(perplexity_value(&p, &error) - 1) < 1e-6);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(it_equals_a_naive_computation),  TEST(it_runs_chunk_by_chunk),
        TEST(long_chunks_come_in_pieces),     TEST(what_cannot_be_is_refused),
        TEST(known_models_have_known_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
