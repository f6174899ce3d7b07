/* Losses and divergences of logits against sums over probabilities; means over tokens. The stage
   that uses them: test_stage_export.c, test_stage_qat.c. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "autograd/base/rng.h"
#include "experiments/contrast.h"

enum { V = 37, N = 200 };

/* Logits that span up to 2 * width, far from 0. */
static void draw(uint64_t key, float width, float z[V])
{
    for (int v = 0; v < V; v++)
        z[v] = 300 + width * ((float)rng_below(key, (uint64_t)v, 1 << 20) / (1 << 19) - 1);
}

static void softmax(const float *z, double p[V])
{
    double sum = 0;
    for (int v = 0; v < V; v++)
        sum += p[v] = exp((double)z[v] - 300);
    for (int v = 0; v < V; v++)
        p[v] /= sum;
}

static int largest(const double *p)
{
    int top = 0;
    for (int v = 1; v < V; v++)
        top = p[v] > p[top] ? v : top;
    return top;
}

static void divergence_is_over_all_tokens(void **state)
{
    (void)state;
    for (int i = 0; i < N; i++) {
        float z[V], r[V], own[V];
        double p[V], q[V], kl = 0;
        const int target = i % V;
        draw((uint64_t)i, i % 2 ? 9 : 0.1F, z);
        draw((uint64_t)(i + N), i % 3 ? 5 : 0.1F, r);
        softmax(z, p);
        softmax(r, q);
        for (int v = 0; v < V; v++)
            kl += q[v] * log(q[v] / p[v]);
        const struct contrast_at at = contrast_at(V, z, r, target, own);
        assert_true(fabs(at.nll + log(p[target])) < 1e-6);
        assert_true(fabs(at.kl - kl) < 1e-6 * (1 + kl));
        assert_int_equal(at.same_top, largest(p) == largest(q));
        const struct contrast_at same = contrast_at(V, z, z, target, own);
        assert_true(fabs(same.kl) < 1e-12 && same.same_top);
        const struct contrast_at alone = contrast_at(V, z, NULL, target, own);
        assert_true(fabs(alone.nll - at.nll) < 1e-12);
        assert_true(fabs(alone.kl) < 1e-300);
    }
}

static void means_have_errors(void **state)
{
    (void)state;
    const double x[] = {0.5, 0.1, 0.4, 0.2, 0.3};
    struct contrast c = {.count = 5};
    for (int i = 0; i < 5; i++) {
        c.kl += x[i];
        c.kl2 += x[i] * x[i];
    }
    const struct divergence_mean m = contrast_kl(&c); // variance 0.025 of a sample, 0.02 of all
    assert_true(fabs(m.mean - 0.3) < 1e-12);
    assert_true(fabs(m.error - sqrt(0.02 / 4)) < 1e-9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(divergence_is_over_all_tokens),
        cmocka_unit_test(means_have_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
