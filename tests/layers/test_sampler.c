#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "autograd/base/rng.h"
#include "layers/sampler.h"
#include "tests/golden.h"

enum { V = 61, MANY = 997 };

static const struct sampler_args off = {
    .temp = 1, .top_p = 1, .repeat_penalty = 1, .repeat_last_n = 64, .seed = 7};

static struct sampler make(const struct sampler_args *args, int vocab)
{
    struct sampler s;
    assert_int_equal(sampler_init(&s, args, vocab), 0);
    return s;
}

/* Probabilities [vocab] of what the sampler keeps, 0 for the others. */
static int kept(struct sampler *s, const float *logits, const int32_t *history, int64_t n,
                double *p)
{
    const int count = sampler_filter(s, logits, history, n);
    memset(p, 0, (size_t)s->vocab * sizeof *p);
    for (int i = 0; i < count; i++) {
        assert_true(p[s->candidates[i].id] == 0);
        p[s->candidates[i].id] = s->candidates[i].p;
    }
    return count;
}

/* ---- a second implementation: sorts all of it, one filter after the other ---- */

struct naive {
    int id[MANY];
    double logit[MANY];
    int n;
};

static const struct naive *sorting;

static int naive_order(const void *a, const void *b)
{
    const int x = *(const int *)a, y = *(const int *)b;
    const double p = sorting->logit[x], q = sorting->logit[y];
    return p != q ? (p < q) - (p > q) : (x > y) - (x < y);
}

static void naive_filter(const struct sampler_args *a, int vocab, const float *logits,
                         const int32_t *history, int64_t n, double *p)
{
    static struct naive w;
    w.n = vocab;
    for (int i = 0; i < vocab; i++) {
        bool seen = false;
        for (int64_t j = 0; j < n; j++)
            seen |= history[j] == i && (a->repeat_last_n < 0 || j >= n - a->repeat_last_n);
        w.id[i] = i;
        w.logit[i] = logits[i];
        if (seen)
            w.logit[i] = (float)(logits[i] > 0 ? logits[i] / a->repeat_penalty
                                               : logits[i] * a->repeat_penalty);
    }
    sorting = &w;
    qsort(w.id, (size_t)vocab, sizeof *w.id, naive_order);
    if (a->top_k > 0 && a->top_k < w.n)
        w.n = (int)a->top_k;
    if (a->top_p < 1) {
        double total = 0, sum = 0;
        for (int i = 0; i < w.n; i++)
            total += exp(w.logit[w.id[i]]);
        int i = 0;
        do
            sum += exp(w.logit[w.id[i++]]) / total;
        while (i < w.n && sum < a->top_p);
        w.n = i;
    }
    while (a->min_p > 0 && exp(w.logit[w.id[w.n - 1]] - w.logit[w.id[0]]) < a->min_p)
        w.n--;
    double sum = 0;
    for (int i = 0; i < w.n; i++)
        sum += exp(w.logit[w.id[i]] / a->temp);
    memset(p, 0, (size_t)vocab * sizeof *p);
    for (int i = 0; i < w.n; i++)
        p[w.id[i]] = exp(w.logit[w.id[i]] / a->temp) / sum;
}

static void compare(const struct sampler_args *args, int vocab, const float *logits,
                    const int32_t *history, int64_t n)
{
    static double mine[MANY], naive[MANY];
    struct sampler s = make(args, vocab);
    assert_true(kept(&s, logits, history, n, mine) >= 1);
    naive_filter(args, vocab, logits, history, n, naive);
    for (int i = 0; i < vocab; i++)
        if (fabs(mine[i] - naive[i]) > 1e-9)
            fail_msg("token %d: %.12g, %.12g expected", i, mine[i], naive[i]);
    sampler_free(&s);
}

static void filters_equal_a_naive_sort(void **state)
{
    (void)state;
    static const int64_t top_k[] = {0, -3, 1, 7, 60, 10000};
    static const double top_p[] = {1, 2, 0.9, 0.3, 1e-9, 0};
    static const double min_p[] = {0, -1, 0.01, 0.2, 1};
    static const double temp[] = {1, 0.4, 1.7};
    static const int vocabs[] = {1, 2, V, MANY};
    static float logits[MANY];
    for (unsigned c = 0; c < 6 * 6 * 5 * 3 * 4; c++) {
        struct sampler_args a = off;
        const int vocab = vocabs[c % 4];
        a.top_k = top_k[c / 4 % 6];
        a.top_p = top_p[c / 24 % 6];
        a.min_p = min_p[c / 144 % 5];
        a.temp = temp[c / 720];
        rng_normal(c, c % 3 ? 3 : 0.2f, logits, (size_t)vocab);
        compare(&a, vocab, logits, NULL, 0);
    }
}

static void ties_keep_the_lower_ids(void **state)
{
    (void)state;
    float logits[V];
    double p[V];
    struct sampler_args a = off;
    a.top_k = 5;
    for (int i = 0; i < V; i++)
        logits[i] = 2 * (float)(i % 3);
    compare(&a, V, logits, NULL, 0);
    struct sampler s = make(&a, V);
    assert_int_equal(kept(&s, logits, NULL, 0, p), 5);
    for (int i = 0; i < 5; i++)
        assert_true(p[3 * i + 2] == 0.2);
    sampler_free(&s);
}

static void repetition_is_penalized_once(void **state)
{
    (void)state;
    float logits[V];
    int32_t history[200];
    rng_normal(3, 2, logits, V);
    for (int i = 0; i < 200; i++)
        history[i] = (i * i + i / 7) % 23;
    static const int64_t last[] = {0, 1, 5, 64, 199, 200, 1000, -1};
    static const double by[] = {1, 1.3, 0.6, 4};
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 4; j++) {
            struct sampler_args a = off;
            a.repeat_last_n = last[i];
            a.repeat_penalty = by[j];
            compare(&a, V, logits, history, 200);
            a.top_k = 9;
            a.min_p = 0.02;
            compare(&a, V, logits, history, 200);
        }
    const float huge[] = {3e38f, -3e38f};
    struct sampler_args a = off;
    a.repeat_penalty = 0.01;
    struct sampler s = make(&a, 2);
    assert_int_equal(sampler_filter(&s, huge, (int32_t[]){0, 1, -1, 2}, 4), 2);
    sampler_free(&s);
}

/* The probabilities that transformers' filters leave. */
static void filters_equal_golden_probabilities(void **state)
{
    (void)state;
    struct golden *g = golden_open("sampler");
    const struct golden_array *logits = golden_read(g, "logits");
    const int cases = golden_children(g, "/") - 1;
    static float got[MANY];
    assert_true(cases > 5 && logits->dim[1] == V && logits->n <= MANY);
    for (int c = 0; c < cases; c++) {
        char at[32], name[48];
        snprintf(at, sizeof at, "case%02d", c);
        snprintf(name, sizeof name, "%s/probs", at);
        struct sampler_args a = off;
        a.temp = golden_number(g, at, "temperature");
        a.top_k = (int64_t)golden_number(g, at, "top_k");
        a.top_p = golden_number(g, at, "top_p");
        a.min_p = golden_number(g, at, "min_p");
        struct sampler s = make(&a, V);
        for (int64_t row = 0; row < logits->n; row += V) {
            double p[V];
            kept(&s, logits->f + row, NULL, 0, p);
            for (int i = 0; i < V; i++)
                got[row + i] = (float)p[i];
        }
        golden_compare(g, name, got, logits->n, 1e-6);
        sampler_free(&s);
    }
    golden_close(g);
}

static void greedy_takes_the_lowest_of_equals(void **state)
{
    (void)state;
    float logits[V];
    struct sampler_args a = off;
    a.temp = 0;
    struct sampler s = make(&a, V);
    for (int first = 0; first < V; first++) {
        for (int i = 0; i < V; i++)
            logits[i] = i >= first && (i - first) % 4 == 0 ? 1.5f : -(float)(i % 5);
        assert_int_equal(sampler_pick(&s, logits, NULL, 0, 0), first);
    }
    sampler_free(&s);
    a.temp = -1;
    a.repeat_penalty = 2;
    s = make(&a, V);
    assert_int_equal(sampler_pick(&s, logits, (int32_t[]){V - 1}, 1, 0), V - 1);
    logits[4] = 1.2f;
    assert_int_equal(sampler_pick(&s, logits, (int32_t[]){V - 1}, 1, 0), 4);
    sampler_free(&s);
}

/* Pearson's statistic of 20,000 draws from 8 tokens: below 29 but for one seed in 7,000. */
static void draws_follow_the_probabilities(void **state)
{
    (void)state;
    enum { N = 20000, TOKENS = 8 };
    float logits[TOKENS];
    double p[TOKENS], chi = 0, pairs = 0;
    int count[TOKENS] = {0}, previous = -1;
    rng_normal(11, 1, logits, TOKENS);
    struct sampler s = make(&off, TOKENS);
    kept(&s, logits, NULL, 0, p);
    double same = 0;
    for (int i = 0; i < TOKENS; i++)
        same += p[i] * p[i];
    for (int i = 0; i < N; i++) {
        const int id = sampler_pick(&s, logits, NULL, 0, (uint64_t)i);
        count[id]++;
        pairs += id == previous;
        previous = id;
    }
    for (int i = 0; i < TOKENS; i++)
        chi += (count[i] - N * p[i]) * (count[i] - N * p[i]) / (N * p[i]);
    assert_true(chi < 29);
    assert_true(fabs(pairs - N * same) < 4 * sqrt(N * same));
    sampler_free(&s);
}

static void draws_depend_on_seed_stream_and_length_alone(void **state)
{
    (void)state;
    float logits[V];
    int32_t history[64] = {0};
    rng_normal(5, 0.3f, logits, V);
    struct sampler_args a = off;
    struct sampler s = make(&a, V), again = make(&a, V);
    a.seed = 8;
    struct sampler other = make(&a, V);
    int by_seed = 0, by_stream = 0, by_length = 0;
    for (int n = 0; n < 64; n++) {
        const int32_t id = sampler_pick(&s, logits, history, n, 3);
        assert_int_equal(sampler_pick(&again, logits, history, n, 3), id);
        assert_int_equal(sampler_pick(&s, logits, history, n, 3), id);
        by_seed += sampler_pick(&other, logits, history, n, 3) == id;
        by_stream += sampler_pick(&s, logits, history, n, 4) == id;
        by_length += sampler_pick(&s, logits, history, n ? 0 : 1, 3) == id;
    }
    assert_true(by_seed < 16 && by_stream < 16 && by_length < 16);
    sampler_free(&s);
    sampler_free(&again);
    sampler_free(&other);
}

static void what_is_no_probability_is_an_error(void **state)
{
    (void)state;
    float logits[V] = {0};
    double p[V];
    struct sampler s = make(&off, V);
    logits[40] = NAN;
    assert_int_equal(sampler_pick(&s, logits, NULL, 0, 0), -1);
    assert_non_null(strstr(err_text(), "40"));
    logits[40] = INFINITY;
    assert_int_equal(sampler_pick(&s, logits, NULL, 0, 0), -1);
    for (int i = 0; i < V; i++)
        logits[i] = -INFINITY;
    assert_int_equal(sampler_pick(&s, logits, NULL, 0, 0), -1);
    logits[9] = -1e30f;
    assert_int_equal(kept(&s, logits, NULL, 0, p), 1);
    assert_true(p[9] == 1);
    assert_int_equal(sampler_pick(&s, logits, NULL, 0, 0), 9);
    sampler_free(&s);
}

static void bad_arguments_are_refused(void **state)
{
    (void)state;
    const struct sampler_args bad[] = {
        {.temp = NAN, .top_p = 1, .repeat_penalty = 1},
        {.temp = INFINITY, .top_p = 1, .repeat_penalty = 1},
        {.temp = 1, .top_p = NAN, .repeat_penalty = 1},
        {.temp = 1, .top_p = 1, .min_p = 1.5, .repeat_penalty = 1},
        {.temp = 1, .top_p = 1, .repeat_penalty = 0},
        {.temp = 1, .top_p = 1, .repeat_penalty = 1, .repeat_last_n = -2},
    };
    struct sampler s;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(sampler_init(&s, &bad[i], V), -1);
    assert_int_equal(sampler_init(&s, &off, 0), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(filters_equal_a_naive_sort),
        cmocka_unit_test(ties_keep_the_lower_ids),
        cmocka_unit_test(repetition_is_penalized_once),
        cmocka_unit_test(filters_equal_golden_probabilities),
        cmocka_unit_test(greedy_takes_the_lowest_of_equals),
        cmocka_unit_test(draws_follow_the_probabilities),
        cmocka_unit_test(draws_depend_on_seed_stream_and_length_alone),
        cmocka_unit_test(what_is_no_probability_is_an_error),
        cmocka_unit_test(bad_arguments_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
