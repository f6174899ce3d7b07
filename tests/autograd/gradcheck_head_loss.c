#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/rng.h"
#include "tests/gradcheck.h"

static bool build(struct ctx *ctx, const void *arg, struct tensor *const in[], struct tensor *out[],
                  struct loss *loss)
{
    (void)out;
    return op_head_loss(ctx, in[0], in[1], arg, loss) == 0;
}

/* Two losses on one hidden state, which also goes on. */
static bool shared(struct ctx *ctx, const void *arg, struct tensor *const in[],
                   struct tensor *out[], struct loss *loss)
{
    struct tensor *h = op_scale(ctx, in[0], 1.5f);
    if (op_head_loss(ctx, h, in[1], arg, loss) || op_head_loss(ctx, h, in[1], arg, loss))
        return false;
    return (out[0] = op_scale(ctx, h, 2)) != NULL;
}

/* log-softmax of h w^T, z [V]; the log-normalizer. */
static double log_softmax(int64_t V, int64_t C, const float *h, const float *w, double *z)
{
    double sum = 0;
    for (int64_t v = 0; v < V; v++) {
        z[v] = 0;
        for (int64_t c = 0; c < C; c++)
            z[v] += (double)h[c] * w[v * C + c];
        sum += exp(z[v]);
    }
    for (int64_t v = 0; v < V; v++)
        z[v] -= log(sum);
    return log(sum);
}

/* Everything in f64 against plain loops. */
static void reference(int64_t N, int64_t V, const struct head_loss_args *given, bool train_w)
{
    enum { C = 12, CT = 7 };
    float *ht = gradcheck_normal(5, 1, N * CT), *wt = gradcheck_normal(6, 1, V * CT);
    struct tensor tht = {&dtype_f32, 2, {N, CT}, ht, NULL, false};
    struct tensor twt = {&dtype_f32, 2, {V, CT}, wt, NULL, false};
    const struct head_voice teacher = {&tht, &twt};
    struct head_loss_args args = *given;
    const struct head_loss_args *a = &args;
    args.teacher = a->kl > 0 ? &teacher : NULL;
    float *h = gradcheck_normal(1, 1, N * C), *w = gradcheck_normal(2, 1, V * C);
    float *dw = calloc((size_t)(V * C), sizeof *dw);
    double *dh = calloc((size_t)(N * C), sizeof *dh), *dv = calloc((size_t)(V * C), sizeof *dv);
    double *z = malloc((size_t)V * sizeof *z), *q = malloc((size_t)V * sizeof *q);
    double total = 0, nll = 0, kl = 0;
    int64_t count = 0;
    for (int64_t n = 0; n < N; n++) {
        double mean = 0, apart = 0;
        const int32_t t = a->target[n];
        const double lse = log_softmax(V, C, h + n * C, w, z), e = a->label_smoothing;
        log_softmax(V, CT, ht + n * CT, wt, q);
        for (int64_t v = 0; v < V; v++) {
            mean -= z[v] / (double)V;
            apart += exp(q[v]) * (q[v] - z[v]);
        }
        if (t < 0)
            continue;
        count++;
        nll -= z[t];
        kl += a->teacher ? apart : 0;
        total += a->weight * (-(1 - e) * z[t] + e * mean + a->z_loss * lse * lse) + a->kl * apart;
        for (int64_t v = 0; v < V; v++) {
            const double g = a->weight * (exp(z[v]) * (1 + 2 * a->z_loss * lse) -
                                          (1 - e) * (v == t) - e / (double)V) +
                             a->kl * (exp(z[v]) - exp(q[v]));
            for (int c = 0; c < C; c++) {
                dh[n * C + c] += g * w[v * C + c];
                dv[v * C + c] += g * h[n * C + c];
            }
        }
    }
    struct tensor th = {&dtype_f32, 2, {N, C}, h, NULL, true};
    struct tensor tw = {&dtype_f32, 2, {V, C}, w, train_w ? dw : NULL, train_w};
    tw.stale = train_w && N % 2; // then what dw holds does not count
    for (int64_t i = 0; i < V * C && tw.stale; i++)
        dw[i] = 5;
    struct loss loss = {.sum = 10, .nll = 20, .kl = 5, .count = 30}; // it adds
    struct ctx ctx;
    assert_int_equal(ctx_init(&ctx, 64 << 20), 0);
    ctx.recording = true;
    assert_int_equal(op_head_loss(&ctx, &th, &tw, a, &loss), 0);
    assert_int_equal(loss.count, 30 + count);
    assert_true(fabs(loss.sum - 10 - total) <= 1e-6 * (10 + fabs(total)));
    assert_true(fabs(loss.nll - 20 - nll) <= 1e-6 * (20 + fabs(nll)));
    assert_true(fabs(loss.kl - 5 - kl) <= 1e-6 * (5 + fabs(kl)));
    assert_true(gradcheck_distance(N * C, th.grad, dh) < 2e-6);
    if (train_w)
        assert_true(gradcheck_distance(V * C, dw, dv) < 2e-6);
    ctx_free(&ctx);
    free(h), free(w), free(dw), free(dh), free(dv), free(z), free(q), free(ht), free(wt);
}

static void chunks(void)
{
    static const int64_t sizes[] = {1, 255, 256, 257, 600};
    static int32_t target[600];
    for (uint64_t i = 0; i < 600; i++)
        target[i] = (int32_t)rng_below(3, i, 48) - (i % 5 == 0 ? 48 : 0);
    target[0] = 3;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        reference(sizes[i], 48, &(struct head_loss_args){target, 0.4f, 0.15f, 1e-2f}, true);
        reference(sizes[i], 48, &(struct head_loss_args){target, 1, 0, 0}, false);
        reference(sizes[i], 48, &(struct head_loss_args){target, 0, .kl = 1}, true);
        reference(sizes[i], 48, &(struct head_loss_args){target, 0.3f, 0.1f, 1e-2f, .kl = 0.7f},
                  i % 2);
    }
}

static void misuse(void)
{
    static const int32_t high[] = {0, 9, 1}, low[] = {0, 8, -7};
    const struct head_loss_args good = {low, 1, 0, 0}, bad = {high, 1, 0, 0};
    gradcheck_refuses(&(struct gradcheck){"target", {{3, 5}, {9, 5}}, build, &bad}, "target 9");
    gradcheck_refuses(&(struct gradcheck){"width", {{3, 5}, {9, 6}}, build, &good}, "width 5");
    gradcheck_refuses(&(struct gradcheck){"vector", {{3, 5}, {0, 5}}, build, &good}, "head");
    static float other[4 * 5];
    const struct tensor rows = {&dtype_f32, 2, {4, 5}, other, NULL, false};
    const struct head_voice few = {&rows, &rows};
    const struct head_loss_args alien = {low, 1, 0, 0, &few, 1};
    gradcheck_refuses(&(struct gradcheck){"teacher", {{3, 5}, {9, 5}}, build, &alien},
                      "a teacher [4,5]");
    gradcheck_refuses(&(struct gradcheck){"f16",
                                          {{3, 5}, {9, 5, .frozen = true, .dt = &dtype_f16}},
                                          build,
                                          &good},
                      "f16");
}

/* A teacher that is the model itself: no divergence, no gradient. */
static void its_own_teacher(void)
{
    enum { N = 5, C = 8, V = 40 };
    static const int32_t target[N] = {1, 2, 3, -1, 5};
    float *h = gradcheck_normal(1, 3, N * C), *w = gradcheck_normal(2, 3, V * C);
    struct tensor th = {&dtype_f32, 2, {N, C}, h, NULL, true};
    struct tensor tw = {&dtype_f32, 2, {V, C}, w, NULL, false};
    const struct head_voice teacher = {&th, &tw};
    struct ctx ctx;
    struct loss loss = {0};
    assert_int_equal(ctx_init(&ctx, 1 << 20), 0);
    ctx.recording = true;
    const struct head_loss_args args = {target, 0, .teacher = &teacher, .kl = 1};
    assert_int_equal(op_head_loss(&ctx, &th, &tw, &args, &loss), 0);
    assert_true(fabs(loss.kl) < 1e-9 && fabs(loss.sum) < 1e-9 && loss.nll > 1);
    for (int i = 0; i < N * C; i++)
        assert_true(fabsf(((float *)th.grad)[i]) < 1e-5f);
    ctx_free(&ctx);
    free(h), free(w);
}

/* Large logits: finite, and right. */
static void large_logits(void)
{
    const float h[] = {1, 0}, w[] = {1000, 0, -1000, 0, 999, 0};
    static const int32_t target[] = {1};
    struct tensor th = {&dtype_f32, 2, {1, 2}, (void *)(uintptr_t)h, NULL, true};
    struct tensor tw = {&dtype_f32, 2, {3, 2}, (void *)(uintptr_t)w, NULL, false};
    struct ctx ctx;
    struct loss loss = {0};
    assert_int_equal(ctx_init(&ctx, 1 << 20), 0);
    ctx.recording = true;
    assert_int_equal(op_head_loss(&ctx, &th, &tw, &(struct head_loss_args){target, 1, 0, 0}, &loss),
                     0);
    assert_true(fabs(loss.nll - (2000 + log1p(exp(-1)))) < 1e-3);
    const double p = 1 / (1 + exp(-1));
    assert_true(fabs(*(float *)th.grad - (1000 * p + 1000 + 999 * (1 - p))) < 1e-3);
    ctx_free(&ctx);
}

void gradcheck_head_loss(void **state)
{
    (void)state;
    static const int32_t all[] = {0, 8, 3, 3, 5, 1}, some[] = {-1, 8, 3, -100, 5, 1};
    const struct head_loss_args plain = {all, 1, 0, 0}, rich = {some, 0.3f, 0.2f, 0.05f};
    static float teacher_h[6 * 4], teacher_w[9 * 4];
    rng_normal(11, 1, teacher_h, 6 * 4);
    rng_normal(12, 1, teacher_w, 9 * 4);
    const struct tensor th = {&dtype_f32, 2, {6, 4}, teacher_h, NULL, false};
    const struct tensor tw = {&dtype_f32, 2, {9, 4}, teacher_w, NULL, false};
    const struct head_voice teacher = {&th, &tw};
    const struct head_loss_args taught = {some, 0.3f, 0.2f, 0.05f, &teacher, 0.6f};
    const struct gradcheck cases[] = {
        {"head_loss, teacher", {{6, 5}, {9, 5, .param = true}}, build, &taught},
        {"head_loss, teacher, frozen head", {{6, 5}, {9, 5, .frozen = true}}, build, &taught},
        {"head_loss", {{6, 5}, {9, 5, .param = true}}, build, &plain},
        {"head_loss, all options", {{6, 5}, {9, 5, .param = true}}, build, &rich},
        {"head_loss, shared", {{6, 5}, {9, 5, .param = true}}, shared, &rich},
        {"head_loss, frozen head", {{6, 5}, {9, 5, .frozen = true}}, build, &rich},
        {"head_loss, head without memory of its own", {{6, 5}, {9, 5}}, build, &rich},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        gradcheck_run(&cases[i]);
    misuse();
    chunks();
    large_logits();
    its_own_teacher();
}
