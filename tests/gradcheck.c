#include "tests/gradcheck.h"

#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/rng.h"
#include "tests/trial.h"

enum { ELEMENTS = 48, DIRECTIONS = 3 };

float *gradcheck_normal(uint64_t key, float std, int64_t n)
{
    float *x = malloc((size_t)(n ? n : 1) * sizeof *x);
    rng_normal(key, std, x, (size_t)n);
    return x;
}

double gradcheck_distance(int64_t n, const float *a, const double *b)
{
    double off = 0, all = 0;
    for (int64_t i = 0; i < n; i++) {
        off += (a[i] - b[i]) * (a[i] - b[i]);
        all += b[i] * b[i];
    }
    return off == 0 ? 0 : sqrt(off / all);
}

/* Derivative of L along u [n] in value x [n]: fourth order in the step h. *doubt bounds what
   rounding and the step leave. */
static double slope(struct trial *w, float *x, const float *u, int64_t n, double h, double *doubt)
{
    float *old = malloc((size_t)n * sizeof *old);
    memcpy(old, x, (size_t)n * sizeof *old);
    double at[4], size;
    static const double steps[4] = {1, -1, 2, -2};
    for (int k = 0; k < 4; k++) {
        for (int64_t j = 0; j < n; j++)
            x[j] = (float)(old[j] + steps[k] * h * u[j]);
        at[k] = trial_objective(w, &size);
    }
    memcpy(x, old, (size_t)n * sizeof *old);
    free(old);
    const double near = (at[0] - at[1]) / (2 * h), far = (at[2] - at[3]) / (4 * h);
    *doubt = 2 * 0x1p-23 * size / h + 0.02 * fabs(near - far);
    return (4 * near - far) / 3;
}

static double step_of(const struct gradcheck *c, int i)
{
    const double std = c->in[i].std ? c->in[i].std : 1;
    return std * (c->step ? (double)c->step : 0.03);
}

static void check_elements(struct trial *w, int i, const float *g)
{
    const struct gradcheck *c = w->c;
    const int64_t n = tensor_numel(w->in[i]), most = n < ELEMENTS ? n : ELEMENTS;
    const float one = 1;
    double off = 0, all = 0, doubts = 0;
    for (int64_t k = 0; k < most; k++) {
        const int64_t j = n <= ELEMENTS ? k : (int64_t)rng_below(5, (uint64_t)k, (uint64_t)n);
        const float old = w->value[i][j];
        // the step as it is after rounding to f32
        const double h = (double)(float)(old + (float)step_of(c, i)) - old;
        double doubt;
        const double d = slope(w, w->value[i] + j, &one, 1, h, &doubt);
        if (!(fabs(g[j] - d) <= doubt + 1e-5 * fabs(d)))
            fail_msg("%s: d in[%d][%lld] is %.8g, differences say %.8g +- %.1g", c->name, i,
                     (long long)j, (double)g[j], d, doubt);
        off += (g[j] - d) * (g[j] - d);
        all += d * d;
        doubts += doubt * doubt;
    }
    if (all > 0 && off > 1e-5 * all)
        fail_msg("%s: gradient of in[%d] is off by %.2g of its norm", c->name, i, sqrt(off / all));
    if (all > 0 && doubts > 1e-3 * all)
        fail_msg("%s: in[%d]: this check proves nothing (doubt %.2g of the norm)", c->name, i,
                 sqrt(doubts / all));
}

static void check_directions(struct trial *w, int i, const float *g)
{
    const int64_t n = tensor_numel(w->in[i]);
    for (int k = 0; k < DIRECTIONS; k++) {
        float *u = gradcheck_normal(300 + (uint64_t)(8 * k + i), 1, n);
        double dot = 0, square = 0, doubt;
        for (int64_t j = 0; j < n; j++) {
            dot += (double)g[j] * u[j];
            square += (double)g[j] * g[j];
        }
        const double h = step_of(w->c, i) / sqrt(sqrt((double)n));
        const double d = slope(w, w->value[i], u, n, h, &doubt);
        free(u);
        if (!(fabs(dot - d) <= doubt + 1e-5 * sqrt(square)))
            fail_msg("%s: along a direction of in[%d] the gradient says %.8g, differences %.8g "
                     "+- %.1g",
                     w->c->name, i, dot, d, doubt);
    }
}

static void check_gradients(struct trial *w)
{
    struct trial_result once, twice;
    assert_true(trial_run(w, &w->ctx, 1, &once));
    assert_true(trial_run(w, &w->ctx, 2, &twice));
    assert_null(w->ctx.tape);
    for (int i = 0; i < GRADCHECK_IN; i++) {
        if (!w->in[i])
            continue;
        const int64_t n = tensor_numel(w->in[i]);
        if (!w->in[i]->needs_grad) {
            assert_null(once.grad[i]);
            continue;
        }
        assert_non_null(once.grad[i]);
        check_elements(w, i, once.grad[i]);
        check_directions(w, i, once.grad[i]);
        double *sum = malloc((size_t)n * sizeof *sum);
        for (int64_t j = 0; j < n; j++)
            sum[j] = 2 * (double)once.grad[i][j];
        const double off = gradcheck_distance(n, twice.grad[i], sum);
        free(sum);
        if (!(off <= 1e-6))
            fail_msg("%s: in[%d]: two uses give %.2g more or less than twice the gradient",
                     w->c->name, i, off);
    }
    trial_result_free(&once);
    trial_result_free(&twice);
}

static void assert_same(const struct trial *w, const struct trial_result *a,
                        const struct trial_result *b, int skip, const char *what)
{
    for (int i = 0; i < NODE_OUT; i++)
        if (a->out[i] && memcmp(a->out[i], b->out[i], (size_t)a->n_out[i] * sizeof(float)))
            fail_msg("%s: out[%d] differs %s", w->c->name, i, what);
    if (memcmp(&a->loss, &b->loss, sizeof a->loss))
        fail_msg("%s: the loss differs %s", w->c->name, what);
    for (int i = 0; i < GRADCHECK_IN; i++) {
        if (!a->grad[i] || i == skip)
            continue;
        assert_non_null(b->grad[i]);
        if (memcmp(a->grad[i], b->grad[i], (size_t)tensor_numel(w->in[i]) * sizeof(float)))
            fail_msg("%s: the gradient of in[%d] differs %s", w->c->name, i, what);
    }
}

/* Inputs that need no gradient get none, and the others the same as before. */
static void check_frozen(struct trial *w)
{
    struct trial_result all, some;
    assert_true(trial_run(w, &w->ctx, 1, &all));
    for (int i = 0; i < GRADCHECK_IN; i++) {
        if (!w->in[i] || !w->in[i]->needs_grad)
            continue;
        w->in[i]->needs_grad = false;
        assert_true(trial_run(w, &w->ctx, 1, &some));
        assert_null(some.grad[i]);
        assert_same(w, &all, &some, i, "when another input is frozen");
        trial_result_free(&some);
        w->in[i]->needs_grad = true;
    }
    trial_result_free(&all);
}

static void check_nothing_recorded(struct trial *w)
{
    struct tensor *out[NODE_OUT];
    struct loss loss = {0};
    trial_load(w, &w->ctx);
    w->ctx.recording = false;
    assert_true(trial_build(w, &w->ctx, out, &loss));
    assert_null(w->ctx.tape);
    for (int i = 0; i < GRADCHECK_IN; i++) // a gradient only where it was beforehand, and zero
        for (int64_t j = 0; w->in[i] && w->in[i]->grad && j < tensor_numel(w->in[i]); j++)
            assert_true(w->grad[i][j] == 0 && w->in[i]->grad == w->grad[i]);
}

static void check_null_and_failed(struct trial *w)
{
    struct ctx *ctx = &w->ctx;
    for (int i = 0; i < GRADCHECK_IN; i++) {
        struct tensor *out[NODE_OUT] = {0}, *const old = w->in[i];
        struct loss loss = {0};
        if (!old || w->c->in[i].optional)
            continue;
        trial_load(w, ctx);
        ctx->recording = true;
        w->in[i] = NULL;
        assert_false(w->c->build(ctx, w->c->arg, w->in, out, &loss));
        w->in[i] = old;
        assert_false(ctx->failed);
        for (int k = 0; k < NODE_OUT; k++)
            assert_null(out[k]);
        assert_true(loss.count == 0 && loss.sum == 0);
    }
    struct tensor *out[NODE_OUT] = {0};
    struct loss loss = {0};
    trial_load(w, ctx);
    ctx->recording = true;
    ctx_fail(ctx, "%s", "first");
    const size_t lo = ctx->arena.lo, hi = ctx->arena.hi;
    assert_false(w->c->build(ctx, w->c->arg, w->in, out, &loss));
    assert_string_equal(ctx->text, "first");
    assert_true(ctx->arena.lo == lo && ctx->arena.hi == hi && loss.count == 0);
    for (int k = 0; k < NODE_OUT; k++)
        assert_null(out[k]);
}

static size_t peak_in(struct trial *w, size_t bytes, bool *ok)
{
    struct ctx ctx;
    assert_int_equal(ctx_init(&ctx, bytes), 0);
    *ok = trial_run(w, &ctx, 1, NULL);
    if (!*ok)
        assert_non_null(strstr(ctx.text, "arena is full"));
    const size_t peak = ctx.arena.peak;
    ctx_free(&ctx);
    return peak;
}

static void check_memory(struct trial *w)
{
    const int old = omp_get_max_threads();
    for (int threads = 1; threads <= 2; threads++) {
        bool ok;
        omp_set_num_threads(threads);
        const size_t foretold = peak_in(w, 0, &ok);
        assert_true(ok);
        assert_int_equal(peak_in(w, TRIAL_ARENA, &ok), foretold);
        assert_true(ok);
        assert_int_equal(peak_in(w, foretold, &ok), foretold);
        assert_true(ok);
        for (size_t k = 1; k <= 24; k++) {
            const size_t less = k == 24 ? foretold - ARENA_ALIGN : foretold * k / 24 / 64 * 64;
            if (less > 0 && less < foretold) {
                peak_in(w, less, &ok);
                assert_false(ok);
            }
        }
    }
    omp_set_num_threads(old);
}

static void check_threads(struct trial *w)
{
    const int old = omp_get_max_threads();
    struct trial_result one, more;
    omp_set_num_threads(1);
    assert_true(trial_run(w, &w->ctx, 1, &one));
    for (int threads = 2; threads <= 3; threads++) {
        omp_set_num_threads(threads);
        assert_true(trial_run(w, &w->ctx, 1, &more));
        assert_same(w, &one, &more, -1, "with more threads");
        trial_result_free(&more);
    }
    trial_result_free(&one);
    omp_set_num_threads(old);
}

void gradcheck_run(const struct gradcheck *c)
{
    struct trial w;
    trial_init(&w, c);
    check_gradients(&w);
    check_frozen(&w);
    check_nothing_recorded(&w);
    check_null_and_failed(&w);
    check_memory(&w);
    check_threads(&w);
    trial_free(&w);
}

void gradcheck_refuses(const struct gradcheck *c, const char *part)
{
    struct trial w;
    struct tensor *out[NODE_OUT];
    struct loss loss = {0};
    trial_init(&w, c);
    trial_load(&w, &w.ctx);
    w.ctx.recording = true;
    assert_false(trial_build(&w, &w.ctx, out, &loss));
    if (!strstr(w.ctx.text, part))
        fail_msg("%s: \"%s\" does not speak of \"%s\"", c->name, w.ctx.text, part);
    for (int i = 0; i < NODE_OUT; i++)
        assert_null(out[i]);
    assert_true(loss.count == 0 && loss.sum == 0);
    trial_free(&w);
}
