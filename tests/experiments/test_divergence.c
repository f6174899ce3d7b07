#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/rng.h"
#include "experiments/divergence.h"
#include "experiments/logits_file.h"

enum { V = 50, N = 1201 };

struct sample {
    float q[V], base[V];
    uint16_t row[2 * V];
    int32_t next;
};

static void draw(struct sample *s, uint64_t i)
{
    struct logits_file f = {.V = V, .rows = s->row};
    rng_normal(i, 3, s->base, V);
    rng_normal(i + 100000, 0.3f, s->q, V);
    for (int v = 0; v < V; v++)
        s->q[v] += s->base[v];
    s->base[i % V] -= 40; // below what counts
    s->next = (int32_t)rng_below(i, 7, V);
    logits_file_pack(&f, 0, s->base);
}

static void log_softmax(const float *x, double *out)
{
    double sum = 0;
    for (int v = 0; v < V; v++)
        sum += exp(x[v]);
    for (int v = 0; v < V; v++)
        out[v] = x[v] - log(sum);
}

/* By the definitions, on the logits themselves; the file's steps are 16 / 65535 wide. */
static void one_token_is_right(void **state)
{
    const double step = 16.0 / 65535;
    struct sample s;
    (void)state;
    for (uint64_t i = 0; i < 100; i++) {
        double p[V], b[V], kld = 0;
        int top = 0, top_base = 0;
        draw(&s, i);
        log_softmax(s.q, p);
        log_softmax(s.base, b);
        for (int v = 0; v < V; v++) {
            top = p[v] > p[top] ? v : top;
            top_base = b[v] > b[top_base] ? v : top_base;
            kld += b[v] > -16 ? exp(b[v]) * (b[v] - p[v]) : 0;
        }
        const struct divergence_at at = divergence_at(V, s.q, s.row, s.next);
        assert_true(fabs(at.nll + p[s.next]) < 1e-6);
        if (b[s.next] > b[top_base] - 16)
            assert_true(fabs(at.nll_base + b[s.next]) < step);
        assert_true(fabs(at.kld - kld) < 2 * step + 1e-5);
        assert_true(fabs(at.p_diff - (exp(p[s.next]) - exp(b[s.next]))) < step);
        assert_int_equal(at.same_top, top == top_base);
    }
}

static double line_of(const char *text, const char *label, double *error)
{
    const char *at = strstr(text, label);
    double x = NAN;
    if (!at || sscanf(at + strlen(label), "%lf", &x) != 1)
        fail_msg("no %s", label);
    const char *end = strchr(at, '\n'), *plus = strstr(at, "±");
    if (error && plus && plus < end)
        *error = atof(plus + strlen("±"));
    return x;
}

static void near(double got, double want, double most)
{
    if (!(fabs(got - want) <= most))
        fail_msg("%.9g instead of %.9g", got, want);
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Two-pass means, deviations and a covariance, where the table has sums of squares. */
static void statistics_are_right(void **state)
{
    static struct divergence_at at[N];
    static double kld[N], diff[N];
    struct divergence d = {0};
    struct buf out = {0};
    struct sample s;
    double q = 0, b = 0, k = 0, p = 0, square = 0, same = 0, error = 0;
    (void)state;
    for (int i = 0; i < N; i++) {
        draw(&s, (uint64_t)i);
        at[i] = divergence_at(V, s.q, s.row, s.next);
        q += at[i].nll / N;
        b += at[i].nll_base / N;
        k += at[i].kld / N;
        p += at[i].p_diff / N;
        square += at[i].p_diff * at[i].p_diff / N;
        same += at[i].same_top;
        kld[i] = at[i].kld;
        diff[i] = at[i].p_diff;
    }
    double var_q = 0, var_b = 0, cov = 0, var_k = 0, var_p = 0, var_s = 0;
    for (int i = 0; i < N; i++) {
        var_q += (at[i].nll - q) * (at[i].nll - q) / N / (N - 1);
        var_b += (at[i].nll_base - b) * (at[i].nll_base - b) / N / (N - 1);
        cov += (at[i].nll - q) * (at[i].nll_base - b) / N / (N - 1);
        var_k += (kld[i] - k) * (kld[i] - k) / N / (N - 1);
        var_p += (diff[i] - p) * (diff[i] - p) / N / (N - 1);
        var_s += pow(diff[i] * diff[i] - square, 2) / N / (N - 1);
    }
    assert_int_equal(divergence_add(&d, at, 700), 0);
    assert_int_equal(divergence_add(&d, at + 700, N - 700), 0);
    divergence_heading(&out);
    divergence_line(&d, 7, &out);
    divergence_table(&d, &out);
    const char *t = out.p;
    near(line_of(t, "Mean PPL(Q)                   : ", &error), exp(q), 2e-6);
    near(error, exp(q) * sqrt(var_q), 2e-6);
    near(line_of(t, "Mean PPL(base)                : ", &error), exp(b), 2e-6);
    near(error, exp(b) * sqrt(var_b), 2e-6);
    near(line_of(t, "Cor(ln(PPL(Q)), ln(PPL(base))): ", NULL), 100 * cov / sqrt(var_q * var_b),
         0.006);
    const double ratio_error = sqrt(var_q + var_b - 2 * cov);
    near(line_of(t, "Mean ln(PPL(Q)/PPL(base))     : ", &error), q - b, 1e-6);
    near(error, ratio_error, 1e-6);
    near(line_of(t, "Mean PPL(Q)/PPL(base)         : ", &error), exp(q - b), 1e-6);
    near(error, exp(q - b) * ratio_error, 1e-6);
    near(line_of(t, "Mean PPL(Q)-PPL(base)         : ", &error), exp(q) - exp(b), 2e-6);
    near(error, sqrt(exp(2 * q) * var_q + exp(2 * b) * var_b - 2 * exp(q + b) * cov), 2e-6);
    near(line_of(t, "Mean    KLD: ", &error), k, 1e-6);
    near(error, sqrt(var_k), 1e-6);
    near(line_of(t, "Mean    Δp: ", &error), 100 * p, 6e-4);
    near(error, 100 * sqrt(var_p), 6e-4);
    near(line_of(t, "RMS Δp    : ", &error), 100 * sqrt(square), 6e-4);
    near(error, 100 * 0.5 / sqrt(square) * sqrt(var_s), 6e-4);
    near(line_of(t, "Same top p: ", &error), 100 * same / N, 6e-4);
    near(error, 100 * sqrt(same / N * (1 - same / N) / (N - 1)), 6e-4);
    qsort(kld, N, sizeof *kld, ascending);
    qsort(diff, N, sizeof *diff, ascending);
    near(line_of(t, "Maximum KLD: ", NULL), kld[N - 1], 1e-6);
    near(line_of(t, "99.9%   KLD: ", NULL), kld[1198] + 0.8 * (kld[1199] - kld[1198]), 1e-6);
    near(line_of(t, "95.0%   KLD: ", NULL), kld[1140], 1e-6);
    near(line_of(t, "Median  KLD: ", NULL), kld[600], 1e-6);
    near(line_of(t, "10.0%   KLD: ", NULL), kld[120], 1e-6);
    near(line_of(t, "Minimum KLD: ", NULL), kld[0], 1e-6);
    near(line_of(t, "75.0%   Δp: ", NULL), 100 * diff[900], 6e-4);
    near(line_of(t, " 5.0%   Δp: ", NULL), 100 * diff[60], 6e-4);
    near(line_of(t, "Minimum Δp: ", NULL), 100 * diff[0], 6e-4);
    // the running table
    double value[5];
    const char *line = strstr(t, "\n   7    ");
    assert_non_null(line);
    assert_int_equal(sscanf(line, "%*d %lf ± %*f %lf ± %*f %lf ± %*f %lf ± %*f %% %lf", &value[0],
                            &value[1], &value[2], &value[3], &value[4]),
                     5);
    near(value[0], exp(q), 1e-4);
    near(value[1], q - b, 1e-5);
    near(value[2], k, 1e-5);
    near(value[3], 100 * sqrt(square), 1e-3);
    near(value[4], 100 * same / N, 1e-3);
    divergence_free(&d);
    buf_free(&out);
}

static void percentiles_lie_between(void **state)
{
    const float x[] = {1, 2, 4, 8};
    (void)state;
    assert_true(divergence_percentile(x, 4, 0) == 1);
    assert_true(divergence_percentile(x, 4, 1) == 8);
    assert_true(divergence_percentile(x, 4, 0.5) == 3);
    assert_true(divergence_percentile(x, 1, 0.5) == 1);
    near(divergence_percentile(x, 4, 0.9), 4 + 0.7 * 4, 1e-9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_token_is_right),
        cmocka_unit_test(statistics_are_right),
        cmocka_unit_test(percentiles_lie_between),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
